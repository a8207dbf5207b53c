"""Annotations as Pascal VOC's XML, beside an image as ``x.voc.xml``.

Source: the development kit of VOC 2012 for the elements and their order, ``libs/pascal_voc_io.py`` of labelImg 1.8.6
for what a reader demands. Every object has a ``bndbox`` in whole pixels, counted from 0 as the house format does, and
not cut at the picture's edges. A rotated box has its ``robndbox`` behind the upright box around it: readers of VOC see
the latter, which is counted as a loss.

Coordinates and size are those of the turned picture, as labelImg shows photos and as the house format has them. All
else is roLabelImg's format (`imgsyncfs.formats.rolabelimg`), whose reader reads these files; by its content a file is
recognized as roLabelImg's, by the name ``x.voc.xml`` as one of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from imgsyncfs.annotations.house_format import Annotation, LabelledObject, RotatedBox
from imgsyncfs.formats.ascii_json import encode_ascii_json
from imgsyncfs.formats.contract import ImageInfo, Rendered
from imgsyncfs.formats.originals import PlacedObject, embedded_object, embedded_remainder, placed_objects, shown_size
from imgsyncfs.formats.remarks import count_losses
from imgsyncfs.formats.rolabelimg import RolabelimgFormat, header_to_xml, reason_hidden, remainder_to_xml
from imgsyncfs.formats.rolabelimg_boxes import box_to_xml, enclosing_edges, render_boxes
from imgsyncfs.formats.stored_frame import StoredFrame

_TOOL = "Pascal VOC"
_TURNED = ("rotated boxes", "readers of Pascal VOC see the upright boxes around them; they stand beside, as robndbox")
_TOO_LARGE = ("rotated boxes", "their corners lie beyond the largest number")


class VocFormat(RolabelimgFormat):
    """Pascal VOC's XML."""

    def render(self, annotation: Annotation, image: ImageInfo) -> Rendered:
        """Write an annotation; see `Format.render`."""
        placed = placed_objects(annotation)
        size = shown_size(annotation, image)
        elements: list[str] = []
        hidden: list[PlacedObject] = []
        reasons: list[tuple[str, str]] = []
        items = [each.item for each in placed]
        for each, box, around in zip(placed, render_boxes(items, StoredFrame()), _enclosing(items), strict=True):
            if box is None or around is None:
                hidden.append(each)
                reasons.append(reason_hidden(each.item, _TOOL) if box is None else _TOO_LARGE)
                continue
            embedded = encode_ascii_json(embedded_object(each)).decode("ascii")
            elements.append(box_to_xml(box, embedded, around=around))
            if isinstance(each.item, RotatedBox):
                reasons.append(_TURNED)
        header = header_to_xml(annotation, image, size, file_name=image.file_name)
        remainder = remainder_to_xml(embedded_remainder(annotation, hidden, size))
        losses = count_losses(annotation.labels, reasons, _TOOL, shows_classifications=False)
        return Rendered("".join([header, *elements, *remainder, "</annotation>\n"]).encode(), losses)

    def reattached(self, content: bytes, original: Annotation, image: ImageInfo) -> bytes:
        """Put back what a tool dropped; see `Format.reattached`."""
        return super().reattached(content, original, replace(image, orientation=1))


def _enclosing(items: Sequence[LabelledObject]) -> list[tuple[int, ...] | None]:
    """The upright boxes around rotated ones; empty for other objects, None beyond the largest number."""
    boxes = [(item.x, item.y, item.w, item.h, item.a) for item in items if isinstance(item, RotatedBox)]
    edges = iter(enclosing_edges(boxes))
    return [next(edges) if isinstance(item, RotatedBox) else () for item in items]
