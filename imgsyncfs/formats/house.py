"""The house format as a `Format`, so that `convert` and `preview` treat it like the others."""

from __future__ import annotations

from imgsyncfs.annotations.house_format import Annotation, dump_annotation, is_annotation, parse_annotation
from imgsyncfs.formats.contract import Format, ImageInfo, Rendered


class HouseFormat(Format):
    """The house annotation: shows everything and names no image."""

    def render(self, annotation: Annotation, image: ImageInfo) -> Rendered:  # noqa: ARG002 - names no image
        """Write an annotation; see `Format.render`."""
        return Rendered(dump_annotation(annotation))

    def parse(self, content: bytes, *, label_checked: int = 1) -> Annotation:  # noqa: ARG002 - the file tells
        """Read an annotation; see `Format.parse`."""
        return parse_annotation(content)

    def recognizes(self, content: bytes) -> bool:
        """Recognize a house annotation."""
        return is_annotation(content)
