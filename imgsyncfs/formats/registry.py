"""The annotation formats: house annotation to a tool's file and back.

One module per format, each with a `Format`; `FORMATS` lists them. What a format cannot say travels along in it, so
that nothing is lost on the way there and back: `imgsyncfs.formats.originals` says how.

A format's module is imported when the format is first used: with numpy, Pillow and lxml behind them they take 0.2 s,
and most commands render nothing.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING

from imgsyncfs.errors import FormatError
from imgsyncfs.formats.contract import Format, ImageInfo, Loss, Rendered

if TYPE_CHECKING:
    from imgsyncfs.annotations.house_format import Annotation

__all__ = ["FORMATS", "Format", "ImageInfo", "Loss", "Rendered", "get_format"]


@dataclass(frozen=True)
class _KnownFormat:
    """A format by its name; what it does is done by its module. For the methods see `Format`.

    Attributes:
        name: how users call it.
        suffix: what follows the image's stem in a rendered file's name.
        place: ``module:Class``, in this package.
    """

    name: str
    suffix: str
    place: str

    @cached_property
    def _format(self) -> Format:
        module, _, attribute = self.place.partition(":")
        made: Format = getattr(importlib.import_module(f"{__package__}.{module}"), attribute)()
        return made

    def render(self, annotation: Annotation, image: ImageInfo) -> Rendered:
        """Write an annotation."""
        return self._format.render(annotation, image)

    def parse(self, content: bytes, *, label_checked: int = 1) -> Annotation:
        """Read an annotation back."""
        return self._format.parse(content, label_checked=label_checked)

    def recognizes(self, content: bytes) -> bool:
        """Tell a file of this format from others, cheaply."""
        return self._format.recognizes(content)


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        known.name: known
        for known in (
            _KnownFormat("labelme", ".labelme.json", "labelme:LabelmeFormat"),
            _KnownFormat("rolabelimg", ".xml", "rolabelimg:RolabelimgFormat"),
        )
    }
)

# How the users' earlier tools called them.
_OTHER_NAMES = MappingProxyType(
    {"labelme_json": "labelme", "rolabelimg_xml": "rolabelimg", "rolabelme_xml": "rolabelimg"}
)


def get_format(name: str) -> Format:
    """Find a format by its name.

    Args:
        name: a key of `FORMATS`, or one of the older names labelme_json, rolabelimg_xml, rolabelme_xml; in any case.

    Returns:
        The format.

    Raises:
        FormatError: there is none; the message lists those there are, near ones first.
    """
    wanted = name.strip().lower()
    found = FORMATS.get(_OTHER_NAMES.get(wanted, wanted))
    if found is not None:
        return found
    near = difflib.get_close_matches(wanted, FORMATS, n=len(FORMATS))
    known = [*near, *(other for other in FORMATS if other not in near)]
    raise FormatError(f"There is no annotation format {name!r}; use one of {', '.join(known)}.")
