"""Selections in the catalog: kept, read, and asked for their images."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson

from imgsyncfs.annotations.classes import class_order
from imgsyncfs.catalog.conditions import CLASS, Condition, ImageQuery, image_query, parse_condition
from imgsyncfs.catalog.connection import Connection
from imgsyncfs.catalog.labels import MOST_VALUES
from imgsyncfs.catalog.row_values import is_utf8
from imgsyncfs.catalog.rows import DatasetLabelsRow, DatasetRow, SelectionRow
from imgsyncfs.catalog.schema import SELECTION_COLUMNS
from imgsyncfs.catalog.selections import (
    class_choice,
    conditions_of,
    datasets_of,
    name_fault,
    selection_classes,
    selection_fault,
    shown_labels,
)
from imgsyncfs.catalog.statements import insert
from imgsyncfs.catalog.subscriptions import find_datasets
from imgsyncfs.errors import CatalogError, ConfigurationError
from imgsyncfs.settings.values import did_you_mean

if TYPE_CHECKING:
    # Not imported otherwise: it imports this module.
    from imgsyncfs.catalog import Catalog

_SELECTIONS = f"SELECT {', '.join(SELECTION_COLUMNS)} FROM selections"  # noqa: S608  # constant names
_TEXTS = ("dataset_ids", "conditions", "mapped", "mapped_to", "dropped", "classes")


def read_selections(connection: Connection, faults: list[str]) -> list[SelectionRow]:
    """All selections, ordered by name; what is wrong with others is added to the faults."""
    rows = []
    for values in list(connection.rows(_SELECTIONS)):
        try:
            row = _selection_of(values)
        except ValueError as error:
            faults.append(f"The selection {values[0]!a} is left out: {error}; make it again with: imgsyncfs select")
            continue
        fault = selection_fault(row)
        if fault:
            faults.append(fault)
        else:
            rows.append(row)
    return sorted(rows, key=lambda row: row.name)


def write_selection(connection: Connection, row: SelectionRow) -> None:
    """Keep a selection within a transaction; one of the same name is replaced."""
    definition = {name: value for name, value in asdict(row).items() if name not in SELECTION_COLUMNS}
    connection.execute("DELETE FROM selections WHERE name = ?", (row.name,))
    values = (row.name, orjson.dumps(definition).decode(), row.updated_at)
    insert(connection, "selections", SELECTION_COLUMNS, [values])


def remove_selection(connection: Connection, name: str) -> None:
    """Forget a selection within a transaction; it may be gone already."""
    connection.execute("DELETE FROM selections WHERE name = ?", (name,))


def _selection_of(values: Sequence[Any]) -> SelectionRow:
    name, definition, updated_at = values
    fields = orjson.loads(definition or "{}")
    if not isinstance(name, str) or not isinstance(fields, dict):
        raise ValueError("its name is no text, or its definition no JSON object")  # noqa: TRY004  # as for all rows
    texts = {each: fields.get(each, []) for each in _TEXTS}
    if not all(isinstance(value, list) and all(isinstance(text, str) for text in value) for value in texts.values()):
        raise ValueError("its definition holds something else than arrays of texts")
    first = fields.get("first_images", 0)
    if not isinstance(first, int) or first < 0:
        raise ValueError(f"its number of images is {first!r}")
    row = SelectionRow(
        name,
        **{each: tuple(value) for each, value in texts.items()},
        first_images=first,
        updated_at=int(updated_at or 0),
    )
    if not is_utf8(name) or len(row.mapped) != len(row.mapped_to):
        raise ValueError("its name is not valid UTF-8, or a class is mapped to nothing")
    return row


@dataclass(frozen=True)
class SelectedImages:
    """What a selection takes from one dataset.

    Attributes:
        row: the dataset.
        names: stems of its images, in the order of their UTF-8; None for all of them.
        query: what gave the names; None for all images.
    """

    row: DatasetRow
    names: tuple[str, ...] | None
    query: ImageQuery | None


def select_images(
    catalog: Catalog,
    selection: SelectionRow,
    rows: Sequence[DatasetRow],
    dataset_labels: Iterable[DatasetLabelsRow] | None = None,
) -> list[SelectedImages]:
    """Find the images of a selection, dataset by dataset.

    Args:
        catalog: is asked.
        selection: which ones.
        rows: all datasets.
        dataset_labels: what their annotations say, where the caller has read that just now; None: it is read here.

    Raises:
        ConfigurationError: a condition makes no sense.
        CatalogError: nobody knows yet what the annotations of a dataset say, and a condition asks for that.
    """
    conditions = conditions_of(selection)
    datasets = datasets_of(selection, rows)
    of_labels = [each for each in conditions if each.is_of_labels]
    if of_labels:
        labels = shown_labels(catalog.dataset_labels() if dataset_labels is None else dataset_labels, datasets)
        for row in datasets:
            if row.dataset_id not in labels:
                raise CatalogError(
                    f"The catalog does not say yet what the annotations of {row.dataset_id} show, as a condition of "
                    f"the selection {selection.name} asks; have it filled in with: imgsyncfs init"
                )
        # A database that is far away takes a while to answer for each of thousands of datasets.
        datasets = [row for row in datasets if all(may_hold(each, labels[row.dataset_id]) for each in of_labels)]
    found = []
    left = selection.first_images or None
    for row in datasets:
        if left == 0:
            break
        query = image_query(row, conditions)
        names: tuple[str, ...] | None = None
        if query is not None or left is not None:
            all_names = catalog.image_names(row.dataset_id) if query is None else catalog.names_of(query)
            # As listings are ordered; Python's order of texts is that of their UTF-8.
            names = tuple(sorted(set(all_names))[:left])
            left = None if left is None else left - len(names)
        if names != ():
            found.append(SelectedImages(row, names, query))
    return found


def may_hold(condition: Condition, labels: DatasetLabelsRow) -> bool:
    """Whether a condition may hold for an image of a dataset, by what all of its annotations say together.

    Args:
        condition: on classes or classifications.
        labels: of the dataset.
    """
    if condition.operator != "=" or not condition.value:
        # Of classes, those without a name are not kept for a dataset.
        return True
    is_class = condition.column == CLASS
    known = labels.object_classes if is_class else labels.label_values.get(condition.column, ())
    # Where there are very many, some are not kept.
    return condition.value in known or len(known) >= MOST_VALUES


def select(
    catalog: Catalog,
    name: str,
    *,
    dataset_ids: Sequence[str] = (),
    conditions: Sequence[str] = (),
    mapped: Mapping[str, str] | None = None,
    dropped: Sequence[str] = (),
    first_images: int = 0,
    rows: Sequence[DatasetRow] | None = None,
    dataset_labels: Sequence[DatasetLabelsRow] | None = None,
) -> SelectionRow:
    """Keep a selection; one of the same name is replaced, and its classes keep their numbers.

    Args:
        catalog: is changed.
        name: becomes the name of a directory.
        dataset_ids: must be in the catalog; none for all.
        conditions: see `imgsyncfs.catalog.conditions`.
        mapped: class to the name that it has in the selection.
        dropped: classes whose objects are left out.
        first_images: so many images at most; 0 for all.
        rows: all datasets, where the caller has read them just now; None: they are read here.
        dataset_labels: what their annotations say, likewise.

    Raises:
        ConfigurationError: one of these makes no sense, or names what is nowhere in the datasets.
        CatalogError: the catalog cannot be read or written.
    """
    fault = name_fault(name)
    if fault:
        raise ConfigurationError(f"{name!r} cannot be a selection's name: {fault}")
    mapped = mapped or {}
    rows = catalog.datasets() if rows is None else rows
    find_datasets(rows, dataset_ids)
    row = SelectionRow(
        name,
        tuple(dict.fromkeys(dataset_ids)),
        tuple(str(parse_condition(each)) for each in conditions),
        tuple(mapped),
        tuple(mapped.values()),
        tuple(dict.fromkeys(dropped)),
        first_images,
        updated_at=int(time.time()),
    )
    datasets = datasets_of(row, rows)
    labels = shown_labels(catalog.dataset_labels() if dataset_labels is None else dataset_labels, datasets)
    _check_names(row, datasets, labels)
    before = next((each for each in catalog.selections() if each.name == name), None)
    known = replace(row, classes=before.classes if before is not None else ())
    kept = replace(row, classes=selection_classes(known, datasets, labels))
    catalog.put_selection(kept)
    return kept


def _check_names(
    selection: SelectionRow, datasets: Sequence[DatasetRow], labels: Mapping[str, DatasetLabelsRow]
) -> None:
    """Refuse classes and classifications that no dataset of a selection has: mostly, they are misspelt."""
    if any(row.dataset_id not in labels for row in datasets):
        # Not all is known; `select_images` says so where it matters.
        return
    classes = {each for row in datasets for each in (*row.classes, *labels[row.dataset_id].object_classes)}
    values = {name: set(found) for row in datasets for name, found in labels[row.dataset_id].label_values.items()}
    for name in (*selection.mapped, *selection.dropped):
        _check_known(name, classes, "class")
    for each in conditions_of(selection):
        if each.column == CLASS:
            _check_known(each.value, classes, "class")
        elif each.is_of_labels:
            _check_known(each.column, {CLASS, *filter(None, values)}, "column or classification")


def _check_known(name: str, known: Collection[str], noun: str) -> None:
    if name not in known:
        hint = did_you_mean(name, known, otherwise=f"there are {', '.join(sorted(known)[:10])}.")
        raise ConfigurationError(f"No dataset of the selection has the {noun} {name!r}; {hint}")


@dataclass(frozen=True)
class SelectionCounts:
    """How much is in a selection.

    Attributes:
        images: dataset id to the number of its images in it.
        objects: class, by its name in the selection, to the number of objects, in the order of the classes.
    """

    images: Mapping[str, int]
    objects: Mapping[str, int]


def count_selection(
    catalog: Catalog,
    selection: SelectionRow,
    rows: Sequence[DatasetRow],
    dataset_labels: Iterable[DatasetLabelsRow] | None = None,
) -> SelectionCounts:
    """Count the images and objects of a selection.

    Args:
        catalog: is asked.
        selection: which one.
        rows: all datasets.
        dataset_labels: as of `select_images`.

    Raises:
        ConfigurationError: a condition makes no sense.
        CatalogError: as of `select_images`.
    """
    choice = class_choice(selection)
    images: dict[str, int] = {}
    objects: Counter[str] = Counter()
    for found in select_images(catalog, selection, rows, dataset_labels):
        images[found.row.dataset_id] = found.row.size if found.names is None else len(found.names)
        for class_name, count in catalog.class_counts(found).items():
            objects.update(dict.fromkeys(choice.names([class_name]), count))
    order = class_order(selection.classes, objects)
    return SelectionCounts(images, {name: objects[name] for name in order})


def count_classes(connection: Connection, found: SelectedImages) -> dict[str, int]:
    """Count the objects of each class on the images that a selection takes from a dataset.

    Args:
        connection: to the catalog, which has the tables.
        found: the images.
    """
    key = (found.row.dataset_id, found.row.label_version)
    of_dataset = "dataset_id = ? AND label_version = ? AND object_count > 0"
    if found.names is None:
        statement = (
            f"SELECT label_value, SUM(object_count) FROM annotation_labels WHERE {of_dataset} GROUP BY label_value"  # noqa: S608  # constant names
        )
        return {name: int(count) for name, count in connection.rows(statement, key)}
    statement = f"SELECT name, label_value, object_count FROM annotation_labels WHERE {of_dataset}"  # noqa: S608  # constant names
    parameters: tuple[object, ...] = key
    if found.query is not None:
        statement += f" AND name IN ({found.query.sql})"
        parameters = (*key, *found.query.parameters)
    counts: Counter[str] = Counter()
    names = set(found.names)
    for name, class_name, count in connection.rows(statement, parameters):
        if name in names:
            counts[class_name] += count
    return dict(counts)
