"""What is known of a format before anything is done with it: its names, and where its work is done."""

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
    """A format by its name; what it does is done by a `Format` that is imported when it is first used.

    Attributes:
        name: how users call it, for example ``labelme``; small letters.
        suffix: what follows the image's stem in the name of a rendered file beside it, for example ``.labelme.json``.
        place: ``module:Class`` of the `Format`, which is made without arguments.
        title: how its tool is called in prose; the name if empty.
        tool_suffix: what the tool itself looks for beside an image, for example ``.json``; `suffix` if empty.
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
        """How its tool is called in prose."""
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
