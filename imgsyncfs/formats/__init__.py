"""The annotation formats: house annotation to a tool's file and back.

One module per format, each with a `Format`; `FORMATS` lists them. What a format cannot say travels along in it, so
that nothing is lost on the way there and back: `imgsyncfs.formats.originals` says how.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from imgsyncfs.errors import FormatError
from imgsyncfs.formats.contract import Format, ImageInfo, Loss, Rendered
from imgsyncfs.formats.labelme import LabelmeFormat
from imgsyncfs.formats.rolabelimg import RolabelimgFormat

__all__ = ["FORMATS", "Format", "ImageInfo", "Loss", "Rendered", "get_format"]

FORMATS: Mapping[str, Format] = MappingProxyType({"labelme": LabelmeFormat(), "rolabelimg": RolabelimgFormat()})

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
