"""Images with their annotations drawn into them, for people to look at."""

from __future__ import annotations

from imgsyncfs.library.views.contract import View
from imgsyncfs.pictures.kinds import DrawnPicture, PictureKind


class PreviewView(View):
    """A picture for each image, and nothing beside."""

    name = "preview"
    has_labels = False

    @property
    def picture(self) -> PictureKind:
        """Annotations drawn into images."""
        return DrawnPicture()
