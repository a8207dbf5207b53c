"""Shared by publishing a folder and indexing a container: the dataset's row, the change of the catalog, the summary.

The catalog is changed in one transaction, and only if anything differs: until then a mount sees the old revision whole,
afterwards the new one whole.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from imgsyncfs.catalog.labels import can_be_kept, dataset_labels
from imgsyncfs.catalog.naming import parse_dataset_name
from imgsyncfs.catalog.rows import AnnotationRow, DatasetLabelsRow, DatasetRow, ImageRow
from imgsyncfs.errors import CatalogError, PublishError, printable
from imgsyncfs.tools.tally import KindCount, KindTally, described

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from imgsyncfs.annotations.label_counts import LabelCount
    from imgsyncfs.catalog import Catalog
    from imgsyncfs.formats.registry import Change
    from imgsyncfs.tools.pairing import LeftOut
    from imgsyncfs.tools.publish.findings import AnnotationFacts, CheckedImage, PairFindings
    from imgsyncfs.workers.progress import Progress

DEFAULT_LABEL_VERSION = "1.0.0"
_IMAGE_TYPES = {"fisheye": "fisheye360"}
"""The catalog's name of an image type where it differs from the one in the id."""

_NAMED_IN_ERROR = 5
"""How many files an error names when all of them were left out."""


@dataclass(frozen=True)
class DatasetOptions:
    """A publisher's statements about a dataset. None keeps the catalog's, or means the default.

    Attributes:
        label_version: the labelling standard of the annotations; by default ``1.0.0``.
        image_type: by default from the dataset id, where ``fisheye`` means ``fisheye360``.
        label_type: by default from the dataset id.
        classes: by default the classes in the annotations, in the order in which they first appear.
        projects: by default none.
        note: by default empty.
    """

    label_version: str | None = None
    image_type: str | None = None
    label_type: Sequence[str] | None = None
    classes: Sequence[str] | None = None
    projects: Sequence[str] | None = None
    note: str | None = None


@dataclass(frozen=True)
class PublishSummary:
    """The result of publishing or indexing.

    Attributes:
        images: how many the dataset has now.
        annotations: how many it has now, of this label version.
        byte_count: length of all of them together.
        uploaded_bytes: how much of it was uploaded this time.
        revision: the dataset's revision now.
        changed: False if the catalog already said all this.
        removed: names of images that were in the dataset and are not any more.
        left_out: files that were not published.
        warnings: what is odd about files that were.
        changes: what is no longer of the kind that it was, and labels that no trainer sees, counted by kind.
        file_changes: the same for each annotation file that has such, by its name.
    """

    images: int
    annotations: int
    byte_count: int
    uploaded_bytes: int
    revision: int
    changed: bool
    removed: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    warnings: tuple[str, ...]
    changes: tuple[KindCount, ...] = ()
    file_changes: Mapping[str, tuple[Change, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Published:
    """A dataset in the catalog before it is published again; empty if it is new.

    Attributes:
        dataset_id: the dataset's id.
        label_version: the label version that is being published.
        dataset: its row, or None.
        images: its images by name.
        annotations: its annotations of this label version by name.
        compared: the annotations that new ones are compared with: these or, where there are none yet, those of the
            label version that the dataset has.
        extent_digests: MD5 of each of its large files to the digests of its extents.
        orientations: name of each of its images that is turned to be shown, to EXIF's number of its orientation.
        labels: what its annotations of this label version say together; None if the catalog does not know.
    """

    dataset_id: str
    label_version: str
    dataset: DatasetRow | None
    images: Mapping[str, ImageRow]
    annotations: Mapping[str, AnnotationRow]
    compared: Mapping[str, AnnotationRow]
    extent_digests: Mapping[str, str]
    orientations: Mapping[str, int]
    labels: DatasetLabelsRow | None = None


def dataset_store(catalog: Catalog, dataset_id: str) -> str:
    """Return the URL of the store that a dataset is published to: its own if it has one, else the catalog's.

    Raises:
        NamingError: a new dataset id that breaks the grammar.
    """
    dataset = catalog.dataset(dataset_id)
    if dataset is not None:
        return dataset.store
    parse_dataset_name(dataset_id)
    return catalog.default_store()


def read_published(catalog: Catalog, dataset_id: str, label_version: str | None) -> Published:
    """Read what a catalog says about a dataset now.

    Args:
        catalog: the catalog.
        dataset_id: the dataset's id.
        label_version: the one that will be published; None means the dataset's own, or the default.

    Raises:
        NamingError: a new dataset id that breaks the grammar.
    """
    dataset = catalog.dataset(dataset_id)
    if dataset is None:
        parse_dataset_name(dataset_id)
        return Published(dataset_id, label_version or DEFAULT_LABEL_VERSION, None, {}, {}, {}, {}, {})
    version = label_version or dataset.label_version
    images = {row.name: row for row in catalog.images(dataset_id)}
    annotations = {row.name: row for row in catalog.annotations(dataset_id, version)}
    compared = annotations or {row.name: row for row in catalog.annotations(dataset_id, dataset.label_version)}
    return Published(
        dataset_id,
        version,
        dataset,
        images,
        annotations,
        compared,
        catalog.extent_digests(dataset_id),
        catalog.image_orientations(dataset_id),
        {row.label_version: row for row in catalog.dataset_labels(dataset_id)}.get(version),
    )


def _known_digests(findings: Iterable[PairFindings]) -> dict[str, str]:
    """MD5 of each large file in some findings to the digests of its extents."""
    digests: dict[str, str] = {}
    for found in findings:
        if found.image is not None:
            digests[found.image.md5] = found.image.extents
            if found.annotation is not None:
                digests[found.annotation.facts.md5] = found.annotation.facts.extents
    return {md5: extents for md5, extents in digests.items() if md5 and extents}


def _orientations(images: Sequence[ImageRow], findings: Iterable[PairFindings]) -> dict[str, int]:
    """Name of each image that is turned to be shown, to EXIF's number of its orientation; see `record`."""
    checked = (found.image.facts for found in findings if found.image is not None)
    pairs = zip(images, checked, strict=True)
    return {image.name: facts.orientation for image, facts in pairs if facts.orientation != 1}


def _labels(images: Sequence[ImageRow], findings: Iterable[PairFindings]) -> dict[str, tuple[LabelCount, ...]]:
    """Name of each image that has an annotation, to what that says; see `record`."""
    checked = (found.annotation for found in findings if found.image is not None)
    pairs = zip(images, checked, strict=True)
    return {image.name: annotation.facts.labels for image, annotation in pairs if annotation is not None}


def image_row(
    stem: str, ext: str, image: CheckedImage, *, position: int, modified_at: int, blob: str = "", etag: str = ""
) -> ImageRow:
    """The catalog's row of an image that is checked; see `imgsyncfs.catalog.rows.ImageRow`."""
    return ImageRow(
        name=stem,
        ext=ext,
        height=image.facts.height,
        width=image.facts.width,
        depth=image.facts.depth,
        byte_count=image.byte_count,
        md5=image.md5,
        blob=blob,
        blob_offset=0,
        position=position,
        etag=etag,
        modified_at=modified_at,
    )


def annotation_row(
    stem: str, facts: AnnotationFacts, *, modified_at: int, blob: str = "", etag: str = ""
) -> AnnotationRow:
    """The catalog's row of an annotation that is checked; see `imgsyncfs.catalog.rows.AnnotationRow`."""
    return AnnotationRow(
        name=stem,
        label_checked=facts.label_checked,
        object_count=facts.object_count,
        byte_count=facts.byte_count,
        md5=facts.md5,
        blob=blob,
        blob_offset=0,
        etag=etag,
        modified_at=modified_at,
    )


def changed_at(file_time: int, row: ImageRow | AnnotationRow | None) -> int:
    """Return when a file's content changed, for a file that is not what its catalog row says.

    The file's own time, but never in the future, and always after the row's: tools tell new content by a new time.

    Args:
        file_time: when the file was last written, Unix seconds.
        row: the catalog's row of it, or None.
    """
    now = int(time.time())
    return max(min(file_time, now), 0 if row is None else row.modified_at + 1)


def check_first(catalog: Catalog, dataset_id: str, options: DatasetOptions, *, store_url: str) -> None:
    """Find out whether a dataset can be written into a catalog, before anything is uploaded.

    Args:
        catalog: where it will be written.
        dataset_id: the dataset's id.
        options: what is said about it.
        store_url: where its blobs will lie.

    Raises:
        CatalogError: it cannot; the message says why.
    """
    listed = {"label_type": options.label_type, "classes": options.classes, "projects": options.projects}
    for column, items in listed.items():
        for item in items or ():
            if "," in item:
                raise CatalogError(
                    f"The dataset {dataset_id} cannot be published: {item!r} in the column {column} holds a comma, "
                    "which separates values there; rename it."
                )
    catalog.check_writable(
        {
            "dataset_id": dataset_id,
            "label_version": options.label_version or "",
            "image_type": options.image_type or "",
            "label_type": ",".join(options.label_type or ()),
            "store": store_url,
        }
    )


def record(
    catalog: Catalog,
    published: Published,
    options: DatasetOptions,
    *,
    store_url: str,
    images: Sequence[ImageRow],
    annotations: Sequence[AnnotationRow],
    findings: Sequence[PairFindings],
    uploaded_bytes: int,
    left_out: Sequence[LeftOut],
    warnings: Sequence[str] = (),
    progress: Progress,
) -> PublishSummary:
    """Write a dataset into the catalog, unless it says the same already.

    Args:
        catalog: is changed in one transaction.
        published: what it said before.
        options: what the one who publishes says about the dataset.
        store_url: where the blobs lie.
        images: the dataset's images, in its order.
        annotations: its annotations of the label version.
        findings: about them, in the same order, and about those that are left out.
        uploaded_bytes: for the summary.
        left_out: for the summary, beside those of the findings; likewise the warnings.
        warnings: for the summary.
        progress: in rows written.

    Returns:
        What came of it.

    Raises:
        PublishError: there is no image at all.
    """
    every_left_out = [*left_out, *(entry for found in findings for entry in found.left_out)]
    in_order = tuple(sorted(every_left_out, key=lambda entry: entry.path))
    if not images:
        named = "".join(f"; {entry.path}: {entry.reason}" for entry in in_order[:_NAMED_IN_ERROR])
        raise PublishError(
            f"Nothing was published as {published.dataset_id}, because it would have no image: "
            f"{len(in_order)} files were left out{named}."
        )
    annotated = [found.annotation.facts for found in findings if found.annotation is not None]
    classes = list(dict.fromkeys(name for facts in annotated for name in facts.classes))
    extent_digests, orientations = _known_digests(findings), _orientations(images, findings)
    labels = _labels(images, findings)
    listed = tuple(name for name in classes if _can_be_listed(name))
    row = _dataset_row(published, options, listed, len(images), store_url)
    changed = not (
        _says_the_same(published, row, images, annotations, extent_digests, orientations)
        and published.labels == dataset_labels(row.dataset_id, row.label_version, labels.values())
    )
    revision = row.revision
    if changed:
        progress.phase("Writing the catalog", len(images) + len(annotations), "rows")
        revision = catalog.replace_dataset(
            row,
            images,
            annotations,
            extent_digests=extent_digests,
            orientations=orientations,
            labels=labels,
            progress=progress.advance,
        )
        # A catalog without this version's additions cannot say all of it, and may say the rest already.
        changed = published.dataset is None or revision != published.dataset.revision
    names = {image.name for image in images}
    tally, file_changes = KindTally(), {}
    for found in findings:
        if found.annotation is not None and found.changes:
            tally.add(printable(found.annotation.name), found.changes)
            file_changes[found.annotation.name] = found.changes
    return PublishSummary(
        images=len(images),
        annotations=len(annotations),
        byte_count=sum(file.byte_count for files in (images, annotations) for file in files),
        uploaded_bytes=uploaded_bytes,
        revision=revision,
        changed=changed,
        removed=tuple(sorted(name for name in published.images if name not in names)),
        left_out=in_order,
        warnings=(
            *warnings,
            *(warning for found in findings for warning in found.warnings),
            *_unnamed_types(row, annotated),
            *_unlisted_classes(row, annotated),
            *_unkept_labels(annotated),
            *(
                f"the class {name!r} is not listed in the column classes, which takes no commas or control characters"
                for name in classes
                if not _can_be_listed(name) and options.classes is None and published.dataset is None
            ),
        ),
        changes=tally.counts(),
        file_changes=file_changes,
    )


def refuse_changes(dataset_id: str, findings: Iterable[PairFindings]) -> None:
    """Refuse what is no longer of the kind that it was, and labels that no trainer sees.

    Raises:
        PublishError: there are such; it names the files.
    """
    lines = [
        f"{found.annotation.name}: {described(harmful)}"
        for found in findings
        if found.annotation is not None and (harmful := [change for change in found.changes if not change.is_harmless])
    ]
    if lines:
        more = f"; and {len(lines) - _NAMED_IN_ERROR} more files" if len(lines) > _NAMED_IN_ERROR else ""
        raise PublishError(
            f"Nothing was published as {dataset_id}, because a strict publish takes no labels that change their kind "
            f"or that no trainer sees: {'; '.join(lines[:_NAMED_IN_ERROR])}{more}. Correct these labels, or publish "
            "without being strict."
        )


def _unnamed_types(row: DatasetRow, annotated: Sequence[AnnotationFacts]) -> Iterator[str]:
    """Warn of types of labels that a dataset's row does not name: who looks for datasets by it does not find them."""
    counts = Counter(name for facts in annotated for name in facts.label_types if name not in row.label_type)
    if counts:
        named = ", ".join(row.label_type) or "nothing"
        found = ", ".join(f"{name} ({count:,})" for name, count in counts.items())
        complete = ",".join([*row.label_type, *counts])
        yield (
            f"the dataset's label_type says {named}, and annotations hold other labels as well: {found}; if they "
            f"belong there, publish it with the label type {complete}"
        )


def _unlisted_classes(row: DatasetRow, annotated: Sequence[AnnotationFacts]) -> Iterator[str]:
    """Warn of classes of objects that a dataset's row does not list: their numbers change when others come."""
    counts = Counter(
        label.label_value
        for facts in annotated
        for label in facts.labels
        if label.object_count and label.label_value not in row.classes and _can_be_listed(label.label_value)
    )
    if counts:
        found = ", ".join(f"{name} ({count:,})" for name, count in sorted(counts.items()))
        complete = ",".join([*row.classes, *sorted(counts)])
        listed = ", ".join(row.classes) or "none"
        yield (
            f"the dataset's classes ({listed}) do not list all that annotations have: {found}; trainers' layouts "
            f"number these after the listed ones, by name, and so otherwise when another comes; to keep their numbers, "
            f"publish it with the classes {complete}"
        )


def _unkept_labels(annotated: Sequence[AnnotationFacts]) -> Iterator[str]:
    """Warn of labels that no catalog takes: nobody finds images by them."""
    counts = Counter(label[:2] for facts in annotated for label in facts.labels if not can_be_kept(label))
    for (name, value), count in counts.items():
        shown = f"{name}: {value}" if name else value
        yield (
            f"the label {shown!r:.60} of {count:,} annotations cannot be found in the catalog, and trainers' layouts "
            "do not show it: it is too long, or holds a character that no database takes"
        )


def _can_be_listed(class_name: str) -> bool:
    """Tell whether a class can stand in the catalog's column, which is text joined by commas."""
    return "," not in class_name and class_name.isprintable() and bool(class_name.strip())


def _dataset_row(
    published: Published, options: DatasetOptions, classes_seen: tuple[str, ...], size: int, store_url: str
) -> DatasetRow:
    dataset = published.dataset
    if dataset is None:
        name = parse_dataset_name(published.dataset_id)
        dataset = DatasetRow(
            dataset_id=published.dataset_id,
            label_version=published.label_version,
            image_type=_IMAGE_TYPES.get(name.image_type, name.image_type),
            classes=classes_seen,
            projects=(),
            label_type=name.label_types,
            size=0,
            note="",
            store=store_url,
            revision=0,
            updated_at=0,
        )
    return replace(
        dataset,
        label_version=published.label_version,
        image_type=dataset.image_type if options.image_type is None else options.image_type,
        classes=dataset.classes or classes_seen if options.classes is None else tuple(options.classes),
        projects=dataset.projects if options.projects is None else tuple(options.projects),
        label_type=dataset.label_type if options.label_type is None else tuple(options.label_type),
        note=dataset.note if options.note is None else options.note,
        size=size,
        store=store_url,
        updated_at=int(time.time()),
    )


def _says_the_same(
    published: Published,
    row: DatasetRow,
    images: Sequence[ImageRow],
    annotations: Sequence[AnnotationRow],
    extent_digests: Mapping[str, str],
    orientations: Mapping[str, int],
) -> bool:
    return (
        published.dataset is not None
        and replace(row, updated_at=published.dataset.updated_at) == published.dataset
        and {image.name: image for image in images} == published.images
        and {annotation.name: annotation for annotation in annotations} == published.annotations
        and extent_digests.items() <= published.extent_digests.items()
        and orientations == published.orientations
    )
