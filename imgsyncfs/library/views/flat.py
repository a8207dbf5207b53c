"""Views that have images and annotations side by side in one directory."""

from __future__ import annotations

from dataclasses import dataclass

from imgsyncfs.formats.contract import FormatDescription
from imgsyncfs.library.views.contract import View


@dataclass(frozen=True)
class FlatView(View):
    """Images, and beside each one its annotation.

    Attributes:
        name: how users call it.
        format: of the annotations; None for house annotations.
    """

    name: str
    format: FormatDescription | None = None

    @property
    def target(self) -> FormatDescription | None:
        """The format, with the suffix that its tool looks for."""
        return self.format.in_view() if self.format is not None else None
