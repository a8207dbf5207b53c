"""DOTA's layout: ``<split>/images`` and ``<split>/labelTxt``, for mmrotate and others that read rotated boxes."""

from __future__ import annotations

from imgsyncfs.formats.contract import FormatDescription
from imgsyncfs.formats.registry import FORMATS
from imgsyncfs.library.views.split import SplitView


class DotaView(SplitView):
    """DOTA's text beside the images of each split."""

    name = "dota"
    labels_name = b"labelTxt"

    @property
    def target(self) -> FormatDescription:
        """DOTA's text, as ``x.txt``."""
        return FORMATS["dota"].in_view()
