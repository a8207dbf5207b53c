"""Read annotations that were published before catalogs kept what annotations say, and have it kept.

A dataset is read whole and then written in one transaction, so whoever is interrupted goes on with the datasets that
are left. Annotations in a pack are read with few requests: they are taken in the order in which they lie there.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imgsyncfs.annotations.label_counts import LabelCount, count_labels
from imgsyncfs.errors import AnnotationError, ConfigurationError, StoreError, printable
from imgsyncfs.tools.publish.catalogued import CataloguedAnnotations
from imgsyncfs.workers.threads import map_in_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from imgsyncfs.catalog import Catalog, DatasetRow
    from imgsyncfs.catalog.rows import AnnotationRow
    from imgsyncfs.stores.contract import Store
    from imgsyncfs.workers.progress import Progress

READING_THREADS = 16
"""Annotations that are blobs of their own mostly wait for the server."""

_NAMED = 3
"""How many annotations that cannot be read are named of a dataset."""


@dataclass(frozen=True)
class SurveySummary:
    """What came of reading annotations.

    Attributes:
        datasets: how many are known now.
        annotations: how many were read.
        unreadable: a sentence for each dataset with annotations of which nothing is known, since they cannot be read.
        left: a sentence for each dataset that is as it was before.
    """

    datasets: int
    annotations: int
    unreadable: tuple[str, ...]
    left: tuple[str, ...]


@dataclass(frozen=True)
class _Said:
    """What the annotations of a dataset say."""

    labels: dict[str, tuple[LabelCount, ...]]
    unreadable: dict[str, str]


def survey(
    catalog: Catalog, rows: Iterable[DatasetRow], *, open_store: Callable[[str], Store], progress: Progress
) -> SurveySummary:
    """Read the annotations of datasets, and keep what they say in the catalog; each becomes a new revision.

    Args:
        catalog: is written, once for each dataset.
        rows: the datasets, of `imgsyncfs.catalog.Catalog.unlabelled_datasets`.
        open_store: opens a store by its URL, or raises `StoreError` or `ConfigurationError` if it may not be read.
        progress: in images.

    Returns:
        What came of it. A dataset whose store cannot be read, and one none of whose annotations can be, is left.

    Raises:
        CatalogError: the catalog cannot be read or written.
    """
    rows = list(rows)
    progress.phase("Reading annotations", sum(row.size for row in rows), "images")
    datasets = annotations = 0
    unreadable, left = [], []
    stores: dict[str, Store] = {}
    with ExitStack() as stack:
        for row in rows:
            try:
                if row.store not in stores:
                    stores[row.store] = stack.enter_context(closing(open_store(row.store)))
                said = _read(catalog, row, stores[row.store])
            except (StoreError, ConfigurationError) as error:
                left.append(f"{row.dataset_id}: {error}")
                continue
            finally:
                progress.advance(row.size)
            some = [f"{printable(name)}.json: {reason}" for name, reason in [*said.unreadable.items()][:_NAMED]]
            if said.unreadable and not said.labels:
                left.append(f"{row.dataset_id}: no annotation can be read ({'; '.join(some)})")
                continue
            if said.unreadable:
                unreadable.append(f"{row.dataset_id}: {len(said.unreadable):,} ({'; '.join(some)})")
            # Whoever has published it meanwhile has seen to it.
            if catalog.set_labels(row, said.labels) is not None:
                datasets += 1
                annotations += len(said.labels)
    return SurveySummary(datasets, annotations, tuple(unreadable), tuple(left))


def _read(catalog: Catalog, row: DatasetRow, store: Store) -> _Said:
    annotations = {found.name: found for found in catalog.annotations(row.dataset_id, row.label_version)}
    catalogued = CataloguedAnnotations(store, annotations)

    def look_at(annotation: AnnotationRow) -> tuple[LabelCount, ...] | AnnotationError:
        try:
            found = catalogued.read(annotation.name)
        except AnnotationError as error:
            return error
        return count_labels(found[0]) if found is not None else ()

    in_order = sorted(annotations.values(), key=lambda each: (each.blob, each.blob_offset))
    said = _Said({}, {})
    # A million annotations say the same few things.
    known: dict[tuple[LabelCount, ...], tuple[LabelCount, ...]] = {}
    found = map_in_order(look_at, in_order, threads=READING_THREADS)
    for annotation, labels in zip(in_order, found, strict=True):
        if isinstance(labels, AnnotationError):
            said.unreadable[annotation.name] = str(labels)
        else:
            said.labels[annotation.name] = known.setdefault(labels, labels)
    return said
