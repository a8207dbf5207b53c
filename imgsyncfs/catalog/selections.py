"""Selections: named choices of images out of several datasets, kept in the catalog.

A condition is kept as a condition: an image that is published later and meets it joins. Classes may have other names in
a selection, or be left out; nothing of that is written into any annotation.

A selection is shown as a dataset is, under its name with an ``@`` before it. `selection_row` is the row that a dataset
of this kind would have.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

import orjson

from imgsyncfs.annotations.class_choice import ClassChoice
from imgsyncfs.annotations.classes import class_order
from imgsyncfs.catalog.conditions import Condition, parse_condition
from imgsyncfs.catalog.naming import file_name_fault
from imgsyncfs.catalog.rows import DatasetLabelsRow, DatasetRow, SelectionRow
from imgsyncfs.errors import ConfigurationError
from imgsyncfs.settings.values import did_you_mean

MARK = "@"
"""Stands before the name of a selection where datasets have their ids."""


def is_selection(dataset_id: str) -> bool:
    """Whether an id is a selection's and not a dataset's."""
    return dataset_id.startswith(MARK)


def class_choice(selection: SelectionRow) -> ClassChoice:
    """What a selection makes of classes."""
    renamed = dict(zip(selection.mapped, selection.mapped_to, strict=True))
    return ClassChoice(tuple(renamed.items()), selection.dropped)


def conditions_of(selection: SelectionRow) -> list[Condition]:
    """Its conditions.

    Raises:
        ConfigurationError: one makes no sense (somebody changed it in the database).
    """
    return [*map(parse_condition, selection.conditions)]


def datasets_of(selection: SelectionRow, rows: Iterable[DatasetRow]) -> list[DatasetRow]:
    """The datasets that images of a selection may come from, in its order.

    Raises:
        ConfigurationError: a condition makes no sense.
    """
    known = {row.dataset_id: row for row in rows}
    asked = [each for each in conditions_of(selection) if each.is_of_dataset]
    chosen = selection.dataset_ids or tuple(known)
    return [known[each] for each in chosen if each in known and all(one.holds_for(known[each]) for one in asked)]


def selection_row(
    selection: SelectionRow,
    datasets: Sequence[DatasetRow],
    labels: Mapping[str, DatasetLabelsRow],
    catalog_id: str,
) -> DatasetRow:
    """The row of a selection as a dataset: another one whenever what it shows may be another.

    Args:
        selection: the selection.
        datasets: its own; see `datasets_of`.
        labels: dataset id to what its annotations say, where that is known.
        catalog_id: identity of the catalog.
    """
    digest = hashlib.sha256(orjson.dumps([asdict(selection), [row.listing_key(catalog_id) for row in datasets]]))
    return DatasetRow(
        dataset_id=MARK + selection.name,
        label_version=", ".join(_each_once(row.label_version for row in datasets)),
        image_type=", ".join(_each_once(row.image_type for row in datasets)),
        classes=selection_classes(selection, datasets, labels),
        projects=_each_once(each for row in datasets for each in row.projects),
        label_type=_each_once(each for row in datasets for each in row.label_type),
        size=0,
        note="",
        store=datasets[0].store if datasets else "",
        revision=sum(row.revision for row in datasets),
        updated_at=max([selection.updated_at, *(row.updated_at for row in datasets)]),
        publish_id=digest.hexdigest()[:32],
    )


def selection_labels(
    row: DatasetRow, datasets: Sequence[DatasetRow], labels: Mapping[str, DatasetLabelsRow]
) -> DatasetLabelsRow:
    """What the annotations of a selection say, all together.

    Args:
        row: of `selection_row`.
        datasets: its own.
        labels: dataset id to what its annotations say, where that is known.
    """
    values: dict[str, set[str]] = {}
    for each in datasets:
        for name, found in labels[each.dataset_id].label_values.items() if each.dataset_id in labels else ():
            values.setdefault(name, set()).update(found)
    together = {name: sorted(found) for name, found in sorted(values.items())}
    return DatasetLabelsRow(row.dataset_id, row.label_version, row.classes, together)


def shown_labels(labels: Iterable[DatasetLabelsRow], rows: Iterable[DatasetRow]) -> dict[str, DatasetLabelsRow]:
    """Dataset id to what its annotations say, of those label versions that datasets show."""
    shown = {(row.dataset_id, row.label_version) for row in rows}
    return {each.dataset_id: each for each in labels if (each.dataset_id, each.label_version) in shown}


def selection_classes(
    selection: SelectionRow, datasets: Sequence[DatasetRow], labels: Mapping[str, DatasetLabelsRow]
) -> tuple[str, ...]:
    """The classes of a selection, in the order that gives them their numbers.

    Those that it was kept with come first, so that no number changes when others join.
    """
    choice = class_choice(selection)
    found: dict[str, None] = dict.fromkeys(selection.classes)
    for row in datasets:
        # The column of a dataset may name what no object is; what its annotations say is better, where it is known.
        seen = labels[row.dataset_id].object_classes if row.dataset_id in labels else row.classes
        found.update(dict.fromkeys(choice.names(seen)))
    return class_order(selection.classes, found)


def _each_once(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, texts)))


def selection_fault(selection: SelectionRow) -> str:
    """A sentence on what is wrong with a selection that somebody changed in the database; mostly ``""``."""
    fault = name_fault(selection.name)
    try:
        conditions_of(selection)
    except ConfigurationError as error:
        fault = str(error)
    return f"The selection {selection.name!r} cannot be used: {fault} Make it again with: imgsyncfs select" * bool(
        fault
    )


def name_fault(name: str) -> str:
    """Why this cannot be the name of a selection, as a sentence; empty if it can."""
    fault = file_name_fault(name)
    if fault is None and name.startswith((".", MARK)):
        fault = f"it begins with {name[0]!r}"
    return "" if fault is None else f"{fault}."


def find_selection(selections: Mapping[str, SelectionRow], name: str) -> SelectionRow:
    """The selection of a name, with or without its mark.

    Raises:
        ConfigurationError: there is none; the message names near ones.
    """
    name = name.removeprefix(MARK)
    found = selections.get(name)
    if found is None:
        hint = did_you_mean(name, selections, otherwise=f"make it with: imgsyncfs select {name} --where class=person")
        raise ConfigurationError(f"There is no selection {name!r}; {hint}")
    return found
