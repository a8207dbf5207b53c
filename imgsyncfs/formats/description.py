"""The description of a format, which needs no import of the format's own module."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from imgsyncfs.formats.contract import Format, ImageInfo, ImageReference, Rendered

if TYPE_CHECKING:
    from imgsyncfs.annotations.house_format import Annotation


@dataclass(frozen=True)
class FormatDescription(Format):
    """Names and abilities of a format; the `Format` that does the work is imported when it is first used.

    Attributes:
        name: the name for users, for example ``labelme``; small letters.
        suffix: follows the image's stem in the name of a rendered file, for example ``.labelme.json``.
        place: ``module:Class`` of the `Format`; the class takes no arguments.
        title: the tool's name in prose; `name` if empty.
        tool_suffix: the suffix that the tool itself looks for, for example ``.json``; `suffix` if empty.
        aliases: other names that users may give; small letters.
        is_readable: whether files can be read back: then `publish` and `convert` take them.
        can_publish_in_place: whether a file can be catalogued as it is, because it is a house annotation as well.
    """

    name: str
    suffix: str
    place: str
    title: str = ""
    tool_suffix: str = ""
    aliases: tuple[str, ...] = ()
    is_readable: bool = False
    can_publish_in_place: bool = False

    @property
    def shown_title(self) -> str:
        """The tool's name in prose."""
        return self.title or self.name

    @property
    def view_suffix(self) -> str:
        """What follows an image's stem where the tool looks for its file."""
        return self.tool_suffix or self.suffix

    @cached_property
    def _format(self) -> Format:
        module, _, attribute = self.place.partition(":")
        made: Format = getattr(importlib.import_module(module), attribute)()
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

    def image_reference(self, content: bytes) -> ImageReference:
        """Read what a file says of its image."""
        return self._format.image_reference(content)

    def reattached(self, content: bytes, original: Annotation, image: ImageInfo) -> bytes:
        """Put back what a tool dropped from a file."""
        return self._format.reattached(content, original, image)
