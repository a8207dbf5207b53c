"""What the check of images and their annotations found, before they are published.

The findings are plain values, so that a journal can keep them: a publish that is run again reads no file that has not
changed since.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from imgsyncfs.annotations.house_format import Annotation, ClassificationLabel, ObjectLabel, RegressionLabel
from imgsyncfs.annotations.label_counts import LabelCount, count_labels
from imgsyncfs.blob_layout import cut_into_extents, extent_digests
from imgsyncfs.errors import printable
from imgsyncfs.formats.registry import Change
from imgsyncfs.pictures.images import ImageFacts
from imgsyncfs.tools.pairing import LeftOut
from imgsyncfs.workers.threads import map_in_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from imgsyncfs.tools.publish.journal import Journal
    from imgsyncfs.workers.progress import Progress

Pair = TypeVar("Pair")

CHECK_VERSION = 10
"""Goes up when the same files would be judged otherwise: findings kept by a journal then count no more."""

LARGE_CHECK_VERSION = 11
"""As `CHECK_VERSION`, for pairs with a file that may be fetched in several extents."""


@dataclass(frozen=True, slots=True)
class AnnotationFacts:
    """Facts about a house annotation.

    Attributes:
        byte_count: length of the JSON.
        md5: its digest, in hexadecimal.
        label_checked: 1 if a person has checked the labels, else 0.
        object_count: number of objects, classifications, values and unknown labels.
        classes: classes of the objects and names of the classifications, each once, in the order of the file.
        label_types: types of the labels that hold something, each once; unknown ones are not among them.
        extents: `imgsyncfs.blob_layout.extent_digests` of the JSON.
        labels: what it says, for the catalog.
    """

    byte_count: int
    md5: str
    label_checked: int
    object_count: int
    classes: tuple[str, ...]
    extents: str = ""
    label_types: tuple[str, ...] = ()
    labels: tuple[LabelCount, ...] = ()


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
        name: the file that it comes from, or the entry of a document.
        facts: what the annotation is, after the conversion.
    """

    name: str
    facts: AnnotationFacts


@dataclass(frozen=True, slots=True)
class PairFindings:
    """What the check of an image and its annotations found.

    Attributes:
        image: None if it is left out; then nothing of the pair is published.
        annotation: None if there is none.
        left_out: files of this pair that are not published.
        warnings: what is odd about files that are.
        changes: what is not of the kind that it was in the annotation, and labels in it that no trainer sees.
        compared: names the content of the catalog's annotation that this one was compared with; empty without one.
    """

    image: CheckedImage | None
    annotation: CheckedAnnotation | None = None
    left_out: tuple[LeftOut, ...] = ()
    warnings: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    compared: str = ""


def describe_annotation(annotation: Annotation, content: bytes) -> AnnotationFacts:
    """Describe an annotation whose JSON is `content`."""
    classes: dict[str, None] = {}
    label_types: dict[str, None] = {}
    for label in annotation.labels:
        if isinstance(label, ObjectLabel):
            classes.update((item.class_name, None) for item in label.objects)
            if label.objects:
                label_types[label.label_type] = None
        elif isinstance(label, ClassificationLabel):
            # A flag of labelme's has no name beside its text.
            if name := label.label_name.strip() or label.label.strip():
                classes[name] = None
            label_types["clf"] = None
        elif isinstance(label, RegressionLabel):
            label_types["reg"] = None
    return AnnotationFacts(
        byte_count=len(content),
        md5=hashlib.md5(content, usedforsecurity=False).hexdigest(),
        label_checked=annotation.label_checked,
        object_count=annotation.object_count,
        classes=tuple(classes),
        extents=extent_digests(cut_into_extents(content), len(content)),
        label_types=tuple(label_types),
        labels=count_labels(annotation),
    )


def unusable(names: Sequence[str], reasons: Mapping[str, str]) -> PairFindings:
    """Return findings that leave out an image and all that goes with it.

    Args:
        names: its file and those of its annotations.
        reasons: why, for those at fault; the others are left out because the image is.
    """
    return PairFindings(
        None, left_out=tuple(LeftOut(printable(name), reasons.get(name, "its image is left out")) for name in names)
    )


def check_all(
    pairs: Sequence[Pair],
    check: Callable[[Pair], PairFindings],
    *,
    key: Callable[[Pair], str],
    still_holds: Callable[[Pair, PairFindings], bool] = lambda _, __: True,
    journal: Journal | None,
    progress: Progress,
    threads: int,
) -> Iterator[PairFindings]:
    """Check every pair that the journal does not know, in several threads.

    Args:
        pairs: images with their annotations.
        check: looks at one.
        key: what the journal keeps the findings about one under: it changes whenever a file of the pair does.
        still_holds: says of kept findings whether they would be found again.
        journal: keeps the findings about images that can be published.
        progress: in images; the caller begins the phase.
        threads: how many.

    Returns:
        The findings about each pair, in their order.
    """

    def find(pair: Pair) -> PairFindings:
        name = key(pair)
        document = journal.get(name) if journal is not None else None
        known = None if document is None else _findings_from_json(document)
        if known is not None and still_holds(pair, known):
            return known
        findings = check(pair)
        # What cannot be used is looked at again each time: a network disk may have been the cause.
        if journal is not None and findings.image is not None:
            journal.put(name, asdict(findings))
        return findings

    for findings in map_in_order(find, pairs, threads=threads):
        progress.advance(1)
        yield findings


def _findings_from_json(document: Mapping[str, Any]) -> PairFindings:
    """Make findings again from what a journal made of `dataclasses.asdict` of them."""
    image, annotation = document["image"], document["annotation"]
    if image is not None:
        image = CheckedImage(**{**image, "facts": ImageFacts(**image["facts"])})
    if annotation is not None:
        known = annotation["facts"]
        lists = {name: tuple(known[name]) for name in ("classes", "label_types")}
        facts = AnnotationFacts(**{**known, **lists, "labels": tuple(LabelCount(*label) for label in known["labels"])})
        annotation = CheckedAnnotation(**{**annotation, "facts": facts})
    left_out = tuple(LeftOut(**entry) for entry in document["left_out"])
    changes = tuple(Change(**entry) for entry in document["changes"])
    return PairFindings(image, annotation, left_out, tuple(document["warnings"]), changes, document["compared"])
