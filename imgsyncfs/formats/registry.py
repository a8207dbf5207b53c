"""The annotation formats: the only place that lists them.

A format is a module with a `Format`, and a `FormatDescription` of it in `_OWN`, or under the entry point group
`ENTRY_POINTS` of another package. What a format cannot say is embedded in its file, so that nothing is lost on
the way there and back: `imgsyncfs.formats.originals` says how.

A format's module is imported when the format is first used: with numpy, Pillow and lxml behind them they take 0.2 s,
and most commands render nothing. An entry point's module is imported at once, so it holds the description alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from types import MappingProxyType

from imgsyncfs.errors import ConfigurationError, FormatError
from imgsyncfs.formats.contract import (
    Change,
    Format,
    FormatDescription,
    ImageInfo,
    ImageReference,
    Loss,
    Reading,
    Rendered,
)
from imgsyncfs.settings.entry_points import with_entry_points
from imgsyncfs.settings.values import did_you_mean

__all__ = [
    "CONVERTIBLE",
    "DEFAULT_SIBLINGS",
    "FORMATS",
    "HOUSE",
    "HOUSE_SUFFIX",
    "NUMBERED_FORMATS",
    "READABLE",
    "Change",
    "Format",
    "FormatDescription",
    "ImageInfo",
    "ImageReference",
    "Loss",
    "Reading",
    "Rendered",
    "get_format",
    "recognize_format",
]

ENTRY_POINTS = "imgsyncfs.formats"

HOUSE = "imagesynchronizer"
"""The house format's name among the formats that can be converted to."""

HOUSE_SUFFIX = ".json"
"""Follows the image's stem in the name of a house annotation."""

_HOUSE_FORMAT = FormatDescription(
    HOUSE, HOUSE_SUFFIX, "imgsyncfs.formats.house:HouseFormat", is_readable=True, can_publish_in_place=True
)

_OWN = (
    FormatDescription(
        "labelme",
        ".labelme.json",
        "imgsyncfs.formats.labelme:LabelmeFormat",
        tool_suffix=".json",
        aliases=("labelme_json",),
        is_readable=True,
    ),
    FormatDescription(
        "rolabelimg",
        ".xml",
        "imgsyncfs.formats.rolabelimg:RolabelimgFormat",
        title="roLabelImg",
        aliases=("rolabelimg_xml", "rolabelme_xml"),
        is_readable=True,
        is_in_stored_pixels=True,
    ),
    FormatDescription(
        "xanylabeling",
        ".xanylabeling.json",
        "imgsyncfs.formats.xanylabeling:XanylabelingFormat",
        title="X-AnyLabeling",
        tool_suffix=".json",
        aliases=("x-anylabeling",),
        is_readable=True,
        resembles="labelme",
    ),
    FormatDescription(
        "voc",
        ".voc.xml",
        "imgsyncfs.formats.voc:VocFormat",
        title="Pascal VOC",
        tool_suffix=".xml",
        aliases=("pascal_voc", "pascalvoc"),
        is_readable=True,
    ),
    FormatDescription(
        "dota",
        ".dota.txt",
        "imgsyncfs.formats.dota:DotaFormat",
        title="DOTA",
        tool_suffix=".txt",
        is_readable=True,
    ),
)

_RESERVED_NAMES = frozenset({HOUSE, "none", "plain"})
"""Words that mean something else where a format's name is given."""


def _check(described: FormatDescription, known: Mapping[str, FormatDescription]) -> None:
    names = {described.name, *described.aliases}
    taken = {*_RESERVED_NAMES, *known, *(alias for other in known.values() for alias in other.aliases)}
    for name in sorted(names):
        if name in taken:
            raise ConfigurationError(f"the name {name!r} is taken; choose another")
        if not name or name != name.strip().lower() or any(mark in name for mark in ",:"):
            raise ConfigurationError(
                f"the name {name!r} is not in small letters without spaces, commas and colons; change it"
            )
    if described.suffix in {HOUSE_SUFFIX, *(other.suffix for other in known.values())}:
        raise ConfigurationError(f"the suffix {described.suffix!r} is taken; choose another")
    for suffix in (described.suffix, described.view_suffix):
        if not suffix.startswith(".") or suffix != suffix.lower() or "/" in suffix or suffix.endswith("."):
            raise ConfigurationError(f"the suffix {suffix!r} is not like '.name' in small letters; change it")


FORMATS: Mapping[str, FormatDescription] = MappingProxyType(
    with_entry_points(
        ENTRY_POINTS,
        {own.name: own for own in _OWN},
        noun="format",
        kind=FormatDescription,
        name_of=attrgetter("name"),
        check=_check,
    )
)

READABLE: Mapping[str, FormatDescription] = MappingProxyType(
    {name: known for name, known in FORMATS.items() if known.is_readable}
)
"""The formats of `FORMATS` whose files can be read back."""

CONVERTIBLE: Mapping[str, FormatDescription] = MappingProxyType({**FORMATS, HOUSE: _HOUSE_FORMAT})
"""What annotations are converted between: `FORMATS` and the house format."""

NUMBERED_FORMATS: Mapping[str, FormatDescription] = MappingProxyType(
    {
        name: FormatDescription(name, f".{name}.txt", f"imgsyncfs.formats.yolo:{place}", title, tool_suffix=".txt")
        for name, place, title in (
            ("yolo", "YoloFormat", "YOLO"),
            ("yolo-obb", "YoloObbFormat", "YOLO's oriented boxes"),
            ("yolo-seg", "YoloSegFormat", "YOLO's outlines"),
        )
    }
)
"""Formats with numbers in place of classes, for those who know a dataset's (`ImageInfo.classes`); not among `FORMATS`,
since a single file does not know them."""

_BY_CONTENT = tuple(sorted(READABLE.values(), key=lambda known: not known.resembles))
"""The readable formats in the order in which they are asked whether a file is theirs."""

DEFAULT_SIBLINGS = ("labelme", "rolabelimg")
"""The siblings of each image by default: each one more is an entry for every image, which every listing reads."""

_OTHER_NAMES = MappingProxyType({alias: name for name, known in FORMATS.items() for alias in known.aliases})


def get_format(name: str, *, among: Mapping[str, FormatDescription] = FORMATS, purpose: str = "") -> FormatDescription:
    """Find a format by its name.

    Args:
        name: a key of `among`, or one of a format's aliases; in any case.
        among: `FORMATS` or `CONVERTIBLE`.
        purpose: what the format is for, for example ``to convert to``; shown in the message.

    Returns:
        The format.

    Raises:
        FormatError: there is none; the message lists the known ones, similar names first.
    """
    wanted = name.strip().lower()
    found = among.get(_OTHER_NAMES.get(wanted, wanted))
    if found is not None:
        return found
    hint = did_you_mean(wanted, among)
    raise FormatError(f"There is no annotation format {name!r}{purpose and ' '}{purpose}; {hint}")


def recognize_format(content: bytes, *, file_name: str = "") -> FormatDescription | None:
    """Find out which format a file is of, by its content; it may still be damaged.

    Args:
        content: the whole file.
        file_name: its name, if it says anything: where it has a format's own suffix, that format is asked first.

    Returns:
        The format, a key of `CONVERTIBLE`; None if it is unknown.
    """
    named = sorted(
        (known for known in READABLE.values() if file_name.lower().endswith(known.suffix)),
        key=lambda known: -len(known.suffix),
    )
    # An empty file says nothing by itself.
    asked = (_HOUSE_FORMAT, *named, *(_BY_CONTENT if content.strip() else ()))
    return next((known for known in asked if known.recognizes(content)), None)
