"""Check an image and its annotation before they are published: read, decode, convert what is not in the house format.

The findings are plain values, so that a journal can keep them: a publish that is run again reads no file that has not
changed since.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from imgsyncfs.annotations.house_format import Annotation, dump_annotation, is_annotation, parse_annotation
from imgsyncfs.blob_layout import WHOLE_BLOB_BYTES, cut_into_extents, extent_digests
from imgsyncfs.errors import AnnotationError, PublishError
from imgsyncfs.formats.registry import HOUSE_SUFFIX, READABLE, ImageInfo
from imgsyncfs.tools.annotation_facts import (
    AnnotationFacts,
    annotation_facts_from_json,
    describe_annotation,
    size_warnings,
)
from imgsyncfs.tools.convert.conversion import completed
from imgsyncfs.tools.images import ImageFacts, check_image
from imgsyncfs.tools.pairing import LeftOut, printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from imgsyncfs.tools.publish.folder_scan import FoundPair

HOUSE = "house"
CHECK_VERSION = 1
"""Goes up when the same files would be judged otherwise: findings kept by a journal then count no more."""

LARGE_CHECK_VERSION = 2
"""As `CHECK_VERSION`, for pairs with a file that may be fetched in several extents."""


@dataclass(frozen=True, slots=True)
class CheckedImage:
    """An image that can be published.

    Attributes:
        byte_count: length of the file.
        md5: its digest, in hexadecimal.
        facts: what the image is.
        extents: `imgsyncfs.blob_layout.extent_digests` of it; ``""`` if nobody read all of it.
    """

    byte_count: int
    md5: str
    facts: ImageFacts
    extents: str = ""


@dataclass(frozen=True, slots=True)
class CheckedAnnotation:
    """An annotation that can be published.

    Attributes:
        name: the file that it comes from.
        format_name: `HOUSE`, or the name of the format that it is converted from.
        facts: what the annotation is, after the conversion.
    """

    name: str
    format_name: str
    facts: AnnotationFacts


@dataclass(frozen=True, slots=True)
class PairFindings:
    """What the check of an image and its annotations found.

    Attributes:
        image: None if it is left out; then nothing of the pair is published.
        annotation: None if there is none.
        left_out: files of this pair that are not published.
        warnings: what is odd about files that are.
    """

    image: CheckedImage | None
    annotation: CheckedAnnotation | None = None
    left_out: tuple[LeftOut, ...] = ()
    warnings: tuple[str, ...] = ()


def check_pair(folder: Path, pair: FoundPair, *, dataset_id: str) -> PairFindings:
    """Read an image and its annotations and judge them.

    Args:
        folder: where they lie.
        pair: which they are.
        dataset_id: rendered siblings name it.

    Returns:
        The findings. An image is left out if it cannot be decoded, or if its annotation cannot be read: an image that
        silently lost its labels would be worse than one that is missing.
    """
    names = (pair.image.name, *pair.names.annotations)
    try:
        content = read_file(folder / pair.image.name)
        facts = check_image(content)
    except PublishError as error:
        return unusable(names, {pair.image.name: str(error)})
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    image = CheckedImage(len(content), digest, facts, extent_digests(cut_into_extents(content), len(content)))
    if not pair.annotations:
        return PairFindings(image)
    name = pair.annotations[0].name
    try:
        annotation, annotation_content, format_name = _house_annotation(folder / name, facts, pair.names.ext)
    except (PublishError, AnnotationError) as error:
        reasons = {name: str(error), pair.image.name: f"its annotation {printable(name)} cannot be used: {error}"}
        return unusable(names, reasons)
    info = ImageInfo(dataset_id, pair.names.stem, pair.names.ext, facts.height, facts.width, facts.depth)
    return PairFindings(
        image,
        CheckedAnnotation(name, format_name, describe_annotation(annotation, annotation_content)),
        left_out=_differing_siblings(folder, pair, annotation, info),
        warnings=size_warnings(annotation, facts, printable(name)),
    )


def read_annotation(path: Path, format_name: str, image: ImageFacts, ext: str) -> bytes:
    """Return the bytes of an annotation that is published: those of the file, or what it is converted to.

    Args:
        path: the file.
        format_name: `HOUSE`, or the format that it is converted from.
        image: its image.
        ext: the image's extension, without the dot.

    Raises:
        PublishError: the file cannot be read any more.
        AnnotationError: it does not parse any more.
    """
    return read_file(path) if format_name == HOUSE else _house_annotation(path, image, ext)[1]


def unusable(names: Sequence[str], reasons: Mapping[str, str]) -> PairFindings:
    """Return findings that leave out an image and all that goes with it.

    Args:
        names: its file and those of its annotations.
        reasons: why, for those at fault; the others are left out because the image is.
    """
    return PairFindings(
        None, left_out=tuple(LeftOut(printable(name), reasons.get(name, "its image is left out")) for name in names)
    )


def journal_key(pair: FoundPair, *, dataset_id: str) -> str:
    """Return what a journal keeps the findings under: it changes whenever a file of the pair does."""
    files = (pair.image, *pair.annotations)
    # A house annotation may be twice as long as the file that it is converted from; hardly eight times.
    is_large = max(file.byte_count for file in files) > WHOLE_BLOB_BYTES // 8
    version = LARGE_CHECK_VERSION if is_large else CHECK_VERSION
    return " ".join((f"pair-{version}", dataset_id, *(file.fingerprint for file in files)))


def findings_from_json(document: Mapping[str, Any]) -> PairFindings:
    """Make findings again from what a journal made of `dataclasses.asdict` of them."""
    image, annotation = document["image"], document["annotation"]
    return PairFindings(
        image=None if image is None else CheckedImage(**{**image, "facts": ImageFacts(**image["facts"])}),
        annotation=None
        if annotation is None
        else CheckedAnnotation(**{**annotation, "facts": annotation_facts_from_json(annotation["facts"])}),
        left_out=tuple(LeftOut(**entry) for entry in document["left_out"]),
        warnings=tuple(document["warnings"]),
    )


def _house_annotation(path: Path, image: ImageFacts, ext: str) -> tuple[Annotation, bytes, str]:
    """Read an annotation file of any format; returns the annotation, its house JSON, and the name of its format."""
    content = read_file(path)
    if path.name.endswith(HOUSE_SUFFIX) and is_annotation(content):
        return parse_annotation(content), content, HOUSE
    for name, known in READABLE.items():
        if known.recognizes(content):
            info = ImageInfo("", path.stem, ext, image.height, image.width, image.depth)
            annotation = completed(known.parse(content), info)
            return annotation, dump_annotation(annotation), name
    raise AnnotationError("it is neither a house annotation (it has no anno_version) nor of a format that is known")


def _differing_siblings(folder: Path, pair: FoundPair, annotation: Annotation, info: ImageInfo) -> tuple[LeftOut, ...]:
    """Find the annotations beside the published one that say something else than it renders to."""
    left_out = []
    chosen = printable(pair.annotations[0].name)
    for file in pair.annotations[1:]:
        fitting = [known for known in READABLE.values() if file.name.endswith(known.suffix)]
        known = max(fitting, key=lambda known: len(known.suffix))
        # A folder copied out of a mount bears the name of the dataset it came from.
        datasets = dict.fromkeys((info.dataset, folder.absolute().name))
        try:
            content = read_file(folder / file.name)
            same = any(known.render(annotation, replace(info, dataset=name)).content == content for name in datasets)
            reason = f"{chosen} is published and says something else; remove the one of the two that is out of date"
        except (PublishError, AnnotationError) as error:
            same, reason = False, f"{chosen} is published, and this cannot be compared with it: {error}"
        if not same:
            left_out.append(LeftOut(printable(file.name), reason))
    return tuple(left_out)


def read_file(path: Path) -> bytes:
    """Read a file whole.

    Raises:
        PublishError: it cannot be read; the message is the reason alone, to be read after the file's name.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise PublishError(f"it cannot be read ({error.strerror}); check its rights and the disk") from error
