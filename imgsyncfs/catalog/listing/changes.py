"""What differs between two listings of a dataset: which files came, went, or have new content.

Whole columns are compared at once. Stems are walked one by one only between the first and the last that differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from imgsyncfs.catalog.listing.columns import Column, TextTable
from imgsyncfs.catalog.listing.files import FileTable
from imgsyncfs.catalog.listing.table import HAS_ANNOTATION, Listing


@dataclass(frozen=True)
class FileChanges:
    """What happened to the files of one kind.

    Attributes:
        added: stems of files that only the new listing has.
        removed: stems of files that only the old listing has.
        changed: stems of files whose content differs.
        added_indices: their indices in the new listing.
        removed_indices: their indices in the old listing.
        changed_indices: (index in the old listing, index in the new listing).
    """

    added: tuple[bytes, ...] = ()
    removed: tuple[bytes, ...] = ()
    changed: tuple[bytes, ...] = ()
    added_indices: tuple[int, ...] = ()
    removed_indices: tuple[int, ...] = ()
    changed_indices: tuple[tuple[int, int], ...] = ()

    @property
    def indices_before(self) -> list[int]:
        """Indices in the old listing of the files that are no longer what they were."""
        return [*self.removed_indices, *(old for old, _ in self.changed_indices)]

    @property
    def indices_after(self) -> list[int]:
        """Indices in the new listing of the files that were not what they are."""
        return [*self.added_indices, *(new for _, new in self.changed_indices)]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


@dataclass(frozen=True)
class Changes:
    """What differs between two listings.

    Attributes:
        images: changed if the extension or the content differs.
        annotations: changed if the content differs, or anything else that siblings are rendered from: the image's
            extension, height, width, depth or orientation, and whether there are siblings at all.
    """

    images: FileChanges
    annotations: FileChanges

    def __bool__(self) -> bool:
        return bool(self.images or self.annotations)


def changed(old: Listing, new: Listing) -> Changes:
    """Compare two listings of the same dataset.

    Where both know a file's MD5, that and the length decide whether its content is the same. Else blob, offset and etag
    must be the same as well; between two catalogs, a blob without an etag may be another one of the same name.

    Args:
        old: what was.
        new: what is.

    Returns:
        The differences, in the order of the stems.
    """
    both = _compare(old, new)
    images = _file_changes(old, new, (np.arange(len(old)), np.arange(len(new))), (both.old, both.new), both.same_images)
    there = both.annotated_before & both.annotated_now
    annotations = _file_changes(
        old,
        new,
        (np.flatnonzero(_annotated(old)), np.flatnonzero(_annotated(new))),
        (both.old[there], both.new[there]),
        both.same_annotations[there],
    )
    return Changes(images, annotations)


def unchanged(old: Listing, new: Listing) -> tuple[tuple[Column, Column], tuple[Column, Column]]:
    """The files that are what they were; see `changed`. An annotation that neither listing has counts as one of them.

    Args:
        old: what was.
        new: what is.

    Returns:
        For images, then for annotations: (indices in the old listing, indices in the new one), both shape (n,).
    """
    both = _compare(old, new)
    same_annotations = (both.annotated_before & both.annotated_now & both.same_annotations) | ~(
        both.annotated_before | both.annotated_now
    )
    return (
        (both.old[both.same_images], both.new[both.same_images]),
        (both.old[same_annotations], both.new[same_annotations]),
    )


@dataclass(frozen=True)
class _Common:
    """The stems that two listings have, and what is the same of each; all columns are of shape (n,)."""

    old: Column
    new: Column
    same_images: Column
    annotated_before: Column
    annotated_now: Column
    same_annotations: Column


def _compare(old: Listing, new: Listing) -> _Common:
    same_catalog = old.catalog_id == new.catalog_id
    old_indices, new_indices = _common_stems(old.stems, new.stems)
    same_ext = _texts_of(old)[old.columns["ext"][old_indices]] == _texts_of(new)[new.columns["ext"][new_indices]]
    same_rendering = same_ext.copy()
    for name in ("height", "width", "depth", "orientation", "flags"):
        same_rendering &= old.columns[name][old_indices] == new.columns[name][new_indices]
    same_images = same_ext & _same_content(old.images, new.images, old_indices, new_indices, same_catalog=same_catalog)
    annotated_before, annotated_now = _annotated(old)[old_indices], _annotated(new)[new_indices]
    there = annotated_before & annotated_now
    same_annotations = np.zeros(len(there), np.bool_)
    same_annotations[there] = same_rendering[there] & _same_content(
        old.annotations, new.annotations, old_indices[there], new_indices[there], same_catalog=same_catalog
    )
    return _Common(old_indices, new_indices, same_images, annotated_before, annotated_now, same_annotations)


def _annotated(listing: Listing) -> Column:
    """Whether each image has an annotation."""
    return np.asarray((listing.columns["flags"] & HAS_ANNOTATION) != 0)


def _file_changes(
    old: Listing, new: Listing, there: tuple[Column, Column], common: tuple[Column, Column], same: Column
) -> FileChanges:
    old_changed, new_changed = (indices[~same].tolist() for indices in common)
    removed = np.setdiff1d(there[0], common[0], assume_unique=True).tolist()
    added = np.setdiff1d(there[1], common[1], assume_unique=True).tolist()
    return FileChanges(
        added=tuple(new.stem(index) for index in added),
        removed=tuple(old.stem(index) for index in removed),
        changed=tuple(old.stem(index) for index in old_changed),
        added_indices=tuple(added),
        removed_indices=tuple(removed),
        changed_indices=tuple(zip(old_changed, new_changed, strict=True)),
    )


def _texts_of(listing: Listing) -> Column:
    """The extensions, to be indexed by whole columns."""
    return np.array([*listing.facts.exts, ""], dtype=object)


def _same_content(
    old: FileTable, new: FileTable, old_indices: Column, new_indices: Column, *, same_catalog: bool
) -> Column:
    """Whether files hold the same bytes, shape (n,)."""
    before = {name: column[old_indices] for name, column in old.columns.items() if name != "order"}
    after = {name: column[new_indices] for name, column in new.columns.items() if name != "order"}
    same: Column = before["byte_count"] == after["byte_count"]
    same &= (before["md5_upper"] == after["md5_upper"]) & (before["md5_lower"] == after["md5_lower"])
    unsure = same & (before["md5_upper"] == 0) & (before["md5_lower"] == 0)
    if bool(unsure.any()):
        # The template depends on stem, digest and blob alone: the same template means the same blob here.
        same_blob = before["blob_offset"] == after["blob_offset"]
        for name in ("blob", "etag"):
            same_blob &= _same_texts(old.texts[name], new.texts[name], before[name], after[name])
        if not same_catalog:
            same_blob &= np.array([bool(etag) for etag in new.texts["etag"].texts()], np.bool_)[after["etag"]]
        same &= ~unsure | same_blob
    return same


def _same_texts(old: TextTable, new: TextTable, old_ids: Column, new_ids: Column) -> Column:
    if old.equals(new):
        return np.asarray(old_ids == new_ids)
    numbers: Mapping[bytes, int] = {new[number]: number for number in range(len(new))}
    # The id one beyond the texts, of a file that is not there, is never compared.
    in_new = np.array([*(numbers.get(old[number], -1) for number in range(len(old))), -1], np.int64)
    return np.asarray(in_new[old_ids] == new_ids)


def _common_stems(old: TextTable, new: TextTable) -> tuple[Column, Column]:
    """The indices of the stems that both have, in both, in rising order."""
    if old.equals(new):
        both = np.arange(len(old))
        return both, both
    head = _common_head(old, new)
    tail = _common_tail(old, new, min(len(old), len(new)) - head)
    places = {new[index]: index for index in range(head, len(new) - tail)}
    pairs = [(index, places.get(old[index], -1)) for index in range(head, len(old) - tail)]
    middle = np.array([pair for pair in pairs if pair[1] >= 0], np.int64).reshape(-1, 2)
    return (
        np.concatenate((np.arange(head), middle[:, 0], np.arange(len(old) - tail, len(old)))),
        np.concatenate((np.arange(head), middle[:, 1], np.arange(len(new) - tail, len(new)))),
    )


def _common_head(old: TextTable, new: TextTable) -> int:
    """How many texts at the beginning are the same."""
    texts = min(len(old), len(new))
    ends_differ = np.flatnonzero(old.ends[:texts] != new.ends[:texts])
    texts = int(ends_differ[0]) if len(ends_differ) else texts
    length = int(old.ends[texts - 1]) if texts else 0
    differ = np.flatnonzero(old.content[:length] != new.content[:length])
    return int(np.searchsorted(old.ends[:texts], differ[0], side="right")) if len(differ) else texts


def _common_tail(old: TextTable, new: TextTable, most: int) -> int:
    """How many texts at the end are the same, `most` at most."""
    if most <= 0:
        return 0
    # Where each text begins, counted from the end.
    starts = [
        len(table.content) - np.concatenate((np.zeros(1, np.int64), table.ends.astype(np.int64)[:-1]))[::-1][:most]
        for table in (old, new)
    ]
    starts_differ = np.flatnonzero(starts[0] != starts[1])
    texts = int(starts_differ[0]) if len(starts_differ) else most
    length = int(starts[0][texts - 1]) if texts else 0
    if not length:
        return texts
    differ = np.flatnonzero(old.content[-length:][::-1] != new.content[-length:][::-1])
    return int(np.searchsorted(starts[0][:texts], differ[0], side="right")) if len(differ) else texts
