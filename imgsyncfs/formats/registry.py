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
        suffix: what follows the image's stem in the name of a file that stands beside others.
        own_suffix: what follows it where the tool itself looks for its file.
        tool: how its people write it.
        place: ``module:Class``, in this package.
        aliases: how the users' earlier tools called it.
    """

    name: str
    suffix: str
    own_suffix: str
    tool: str
    place: str
    aliases: tuple[str, ...] = ()

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
            _KnownFormat("labelme", ".labelme.json", ".json", "labelme", "labelme:LabelmeFormat", ("labelme_json",)),
            _KnownFormat(
                "rolabelimg",
                ".xml",
                ".xml",
                "roLabelImg",
                "rolabelimg:RolabelimgFormat",
                ("rolabelimg_xml", "rolabelme_xml"),
            ),
        )
    }
)

ANNOTATION_SUFFIXES = (".json", *(known.suffix for known in FORMATS.values()))
"""What an annotation's name ends in, in the order in which they are believed; the house format's comes first."""

FORMAT_NAMES = ",".join(FORMATS)
"""As options take them and show them."""


def get_format(name: str) -> Format:
    """Find a format by its name.

    Args:
        name: a key of `FORMATS`, or one of a format's aliases; in any case.

    Returns:
        The format.

    Raises:
        FormatError: there is none; the message lists those there are, near ones first.
    """
    wanted = name.strip().lower()
    found = next((known for known in FORMATS.values() if wanted in (known.name, *known.aliases)), None)
    if found is not None:
        return found
    near = difflib.get_close_matches(wanted, FORMATS, n=len(FORMATS))
    known = [*near, *(other for other in FORMATS if other not in near)]
    raise FormatError(f"There is no annotation format {name!r}; use one of {', '.join(known)}.")
