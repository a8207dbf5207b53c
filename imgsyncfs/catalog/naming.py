"""The grammar of dataset ids, and which file names can be published and shown.

A dataset id is ``source_name_imtype_labeltype``, for example ``original_20200207_fisheye_rbbox``. This module knows
nothing of catalogs or files: it tells what is wrong with a name, and leaves what to do about it to its callers.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass

from imgsyncfs.errors import NamingError

SOURCES = ("original", "opensource")
IMAGE_TYPES = ("rgb", "dvs", "fisheye", "dewarp")
LABEL_TYPES = ("bbox", "seg", "clf", "rbbox", "poly", "reg")

# Linux allows 255 bytes in a file name.
LONGEST_FILE_NAME_BYTES = 255
LONGEST_DATASET_ID = 199

_GRAMMAR = "source_name_imtype_labeltype, for example original_20200207_fisheye_rbbox"
_NAME_PART = re.compile(r"[A-Za-z0-9-]+", re.ASCII)
_DATE = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})", re.ASCII)


@dataclass(frozen=True)
class DatasetName:
    """A dataset id, taken apart; ``str()`` puts it together again.

    Attributes:
        source: one of `SOURCES`.
        name: for ``original`` one or several dates ``YYYYMMDD`` joined by ``&``, else a free name.
        image_type: one of `IMAGE_TYPES`.
        label_types: one or several of `LABEL_TYPES`, in the order of the id.
    """

    source: str
    name: str
    image_type: str
    label_types: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.source}_{self.name}_{self.image_type}_{'&'.join(self.label_types)}"


def parse_dataset_name(dataset_id: str) -> DatasetName:
    """Take a dataset id apart, for example ``opensource_imdbwiki&affectnet_rgb_clf&reg``.

    Raises:
        NamingError: it breaks the grammar; the message says which part is wrong and what is allowed there.
    """
    parts = dataset_id.split("_")
    if len(parts) != 4:
        raise _fault(dataset_id, f"it has {len(parts)} parts between underscores instead of 4; write {_GRAMMAR}")
    if len(dataset_id) > LONGEST_DATASET_ID:
        raise _fault(dataset_id, f"it has {len(dataset_id)} characters; shorten it to {LONGEST_DATASET_ID}")
    source, name, image_type, label_type = parts
    if source not in SOURCES:
        raise _fault(dataset_id, f"the source {source!r} is unknown; use one of {', '.join(SOURCES)}")
    _check_name(dataset_id, source, name)
    if image_type not in IMAGE_TYPES:
        raise _fault(dataset_id, f"the image type {image_type!r} is unknown; use one of {', '.join(IMAGE_TYPES)}")
    label_types = tuple(label_type.split("&"))
    for one in label_types:
        if one not in LABEL_TYPES:
            allowed = f"use one or several of {', '.join(LABEL_TYPES)}, joined by '&'"
            raise _fault(dataset_id, f"the label type {one!r} is unknown; {allowed}")
    if len(set(label_types)) < len(label_types):
        raise _fault(dataset_id, f"the label type {label_type!r} names one type twice; name each once")
    return DatasetName(source, name, image_type, label_types)


def file_name_fault(name: str) -> str | None:
    """Say why a name from a catalog cannot be shown as an entry of a directory at all.

    A newline is allowed here: file systems allow it, and catalogs made by others may hold it.

    Args:
        name: a single file name, without a directory.

    Returns:
        The reason, to be read after the name; None if the name can be shown.
    """
    if not name:
        return "it is empty; give it a name"
    if name in {".", ".."}:
        return f"{name!r} means a directory; rename it"
    if "/" in name:
        return "it holds a '/', which separates directories; rename it"
    if "\0" in name:
        return "it holds a NUL character, which no file name can; rename it"
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        return "it is not valid UTF-8; rename it"
    if length > LONGEST_FILE_NAME_BYTES:
        return f"it is {length} bytes long; shorten it to {LONGEST_FILE_NAME_BYTES}"
    return None


def _check_name(dataset_id: str, source: str, name: str) -> None:
    for part in name.split("&"):
        if not _NAME_PART.fullmatch(part):
            allowed = "use letters, digits and '-', and '&' between two names"
            raise _fault(dataset_id, f"the name {name!r} is not allowed; {allowed}")
        if source == "original" and not _is_date(part):
            allowed = "an original dataset is named by its date YYYYMMDD, or several joined by '&'"
            raise _fault(dataset_id, f"the name {part!r} is no date; {allowed}")


def _is_date(text: str) -> bool:
    match = _DATE.fullmatch(text)
    if match is None:
        return False
    year, month, day = (int(group) for group in match.groups())
    try:
        dt.date(year, month, day)
    except ValueError:
        return False
    return True


def _fault(dataset_id: str, reason: str) -> NamingError:
    return NamingError(f"The dataset id {dataset_id!r} breaks the grammar: {reason}.")
