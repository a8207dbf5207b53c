"""Pair the images of a folder or container with their annotations, by name alone.

An image `x.jpg` goes with `x.json`, and with `x` and the suffix of each format that can be read back. A file that
goes with no image is left out, with the reason.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imgsyncfs.catalog.naming import LONGEST_FILE_NAME_BYTES, file_name_fault
from imgsyncfs.errors import printable
from imgsyncfs.formats.registry import DEFAULT_SIBLINGS, FORMATS, HOUSE_SUFFIX, READABLE
from imgsyncfs.pictures.images import IMAGE_EXTENSIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ANNOTATION_SUFFIXES = (HOUSE_SUFFIX, *(known.suffix for known in READABLE.values()))
"""Suffixes of annotation files, the most trusted first."""

ORIGINALS_FOLDER = "ImageSynchronizer_annotation"
"""Where a folder that was converted for labelme in place keeps its house annotations. The users' name for it."""


_SUFFIXES = (HOUSE_SUFFIX, *(known.suffix for known in FORMATS.values()))

LONGEST_STEM_BYTES = LONGEST_FILE_NAME_BYTES - max(len(FORMATS[name].suffix) for name in DEFAULT_SIBLINGS)
"""The longest sibling that an image has by default still fits into a directory; a longer one is not there."""

# The file beside "a.labelme" that ends in ".json" would have the name of a file beside "a".
_RESERVED_ENDINGS = tuple(
    longer.removesuffix(shorter)
    for longer in _SUFFIXES
    for shorter in _SUFFIXES
    if longer != shorter and longer.endswith(shorter)
)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file that is not published.

    Attributes:
        path: its name below the folder or container, fit to be printed.
        reason: why, and what to do about it.
    """

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class PairedNames:
    """An image and the annotations beside it.

    Attributes:
        stem: the image's name without its extension.
        ext: the extension without the dot, in the letter case it has.
        annotations: file names, in the order of `ANNOTATION_SUFFIXES`; none, one or several.
    """

    stem: str
    ext: str
    annotations: tuple[str, ...]

    @property
    def image(self) -> str:
        """The image's file name."""
        return f"{self.stem}.{self.ext}"


def annotation_suffix(name: str) -> str:
    """Return which of `ANNOTATION_SUFFIXES` a name ends in, the longest if several; empty if none.

    Capitals count as small letters: files from Windows and from cameras end in ``.JSON``.
    """
    small = name.lower()
    return max((suffix for suffix in ANNOTATION_SUFFIXES if small.endswith(suffix)), key=len, default="")


def pair_names(names: Iterable[str]) -> tuple[list[PairedNames], list[LeftOut]]:
    """Sort file names into images with their annotations, and others.

    Args:
        names: the plain names of the files of one folder, each once.

    Returns:
        The images by stem, in the order of their characters; and the files that go with none.
    """
    images: defaultdict[str, list[str]] = defaultdict(list)
    annotations: defaultdict[str, list[str]] = defaultdict(list)
    left_out = []
    for name in sorted(names):
        stem, dot, ext = name.rpartition(".")
        suffix = annotation_suffix(name)
        if dot and ext.lower() in IMAGE_EXTENSIONS:
            images[stem].append(name)
        elif suffix:
            annotations[name[: -len(suffix)]].append(name)
        else:
            left_out.append(LeftOut(printable(name), _other_reason()))
    pairs = []
    for stem, candidates in sorted(images.items()):
        fault = stem_fault(stem)
        beside = annotations.pop(stem, [])
        if fault is not None or len(candidates) > 1:
            listed = ", ".join(map(printable, candidates))
            reason = fault or f"several images have this stem ({listed}); keep one, or rename them"
            left_out += [LeftOut(printable(name), reason) for name in candidates]
            left_out += [LeftOut(printable(name), "its image is left out") for name in beside]
        else:
            kept, others = _one_of_each(beside)
            pairs.append(PairedNames(stem, candidates[0].rpartition(".")[2], kept))
            left_out += others
    for orphans in annotations.values():
        reason = "there is no image of this name; put the image beside it, or remove it"
        left_out += [LeftOut(printable(name), reason) for name in orphans]
    return pairs, sorted(left_out, key=lambda entry: entry.path)


def _one_of_each(beside: Iterable[str]) -> tuple[tuple[str, ...], list[LeftOut]]:
    """The annotation files of one image, by trust, and those that differ from one of them in capitals only."""
    kept: dict[str, str] = {}
    others = []
    # Those in small letters first.
    for name in sorted(beside, key=lambda name: (not name.endswith(annotation_suffix(name)), name)):
        suffix = annotation_suffix(name)
        if suffix in kept:
            others.append(LeftOut(printable(name), f"{printable(kept[suffix])} counts; remove one of the two"))
        kept.setdefault(suffix, name)
    return tuple([kept[suffix] for suffix in ANNOTATION_SUFFIXES if suffix in kept]), others


def stem_fault(stem: str) -> str | None:
    """Say why an image with this file stem cannot be published.

    Args:
        stem: the file name without its extension, as Python decodes it (bytes that are not UTF-8 are surrogates).

    Returns:
        The reason, to be read after the name; None if the stem is fine.
    """
    fault = file_name_fault(stem)
    if fault is not None:
        return fault
    if stem.startswith("."):
        return "it starts with a dot, which hides the file; rename it"
    for ending in _RESERVED_ENDINGS:
        if stem.endswith(ending):
            return f"it ends in {ending!r}, which is kept for the rendered annotations; rename it"
    if stem.endswith(" "):
        return "it ends in a space before its extension, which SQL Server does not tell from none; rename it"
    if any(unicodedata.category(character) == "Cc" for character in stem):
        return "it holds a control character such as a newline; rename it"
    length = len(stem.encode())
    if length > LONGEST_STEM_BYTES:
        return f"it is {length} bytes long without its extension; shorten it to {LONGEST_STEM_BYTES}"
    return None


def image_names(stem: str, likely: str | None) -> Iterator[str]:
    """The names that the image of a stem may have, the likeliest first.

    Args:
        stem: the image's name without its extension.
        likely: an extension to try first, without the dot.
    """
    for ext in dict.fromkeys([likely, *IMAGE_EXTENSIONS] if likely else IMAGE_EXTENSIONS):
        for spelling in dict.fromkeys((ext, ext.lower(), ext.upper(), ext.capitalize())):
            yield f"{stem}.{spelling}"


def _other_reason() -> str:
    return f"it is neither an image ({', '.join(IMAGE_EXTENSIONS)}) nor an annotation"
