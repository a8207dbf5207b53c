"""What annotations say, as a catalog keeps it: for each annotation, and for each dataset all together.

With the first, images are found by what they show; the second is read with the table of datasets, so that a mount knows
the classes of a dataset without reading any annotation, and without the database. Both are written in the transaction
of a publish, and belong to its label version, as annotations do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

import orjson

from imgsyncfs.annotations.label_counts import LabelCount
from imgsyncfs.catalog.connection import Connection
from imgsyncfs.catalog.row_values import is_utf8
from imgsyncfs.catalog.rows import DatasetLabelsRow
from imgsyncfs.catalog.schema import (
    DATASET_LABELS_COLUMNS,
    LABEL_COLUMNS,
    LONGEST_LABEL_NAME,
    LONGEST_LABEL_VALUE,
)
from imgsyncfs.catalog.statements import NAMES_AT_ONCE, insert, insert_all, portions

MOST_VALUES = 20_000
"""Values of one label, or classes, that are kept of a dataset as a whole, the first by name: more are free text, and
every mount reads them at every refresh."""

_COLUMNS = ("dataset_id", "label_version", *LABEL_COLUMNS)
_WHERE = "WHERE dataset_id = ? AND label_version = ?"
_LABELS = f"SELECT {', '.join(LABEL_COLUMNS)} FROM annotation_labels {_WHERE}"  # noqa: S608  # constant names
_DATASET_LABELS = f"SELECT {', '.join(DATASET_LABELS_COLUMNS)} FROM dataset_labels"  # noqa: S608  # constant names
_CLASSIFICATIONS = (
    "SELECT name, place, label_value FROM annotation_labels "
    "WHERE dataset_id = ? AND label_version = ? AND object_count = 0"
)


def can_be_kept(label: LabelCount) -> bool:
    """Whether a catalog can hold a label: a text may be too long for an index, or hold what no database takes."""
    name, value, _ = label
    return (
        len(name) <= LONGEST_LABEL_NAME
        and len(value) <= LONGEST_LABEL_VALUE
        and "\0" not in name
        and "\0" not in value
        and is_utf8(name + value)
    )


def dataset_labels(
    dataset_id: str, label_version: str, annotations: Iterable[Iterable[LabelCount]]
) -> DatasetLabelsRow:
    """Bring together what the annotations of a dataset say.

    Args:
        dataset_id: the dataset.
        label_version: of the annotations.
        annotations: what each of them says; what cannot be kept is left out.
    """
    said = {(name, value, count > 0) for labels in annotations for name, value, count in labels}
    found = [label for label in said if can_be_kept(LabelCount(*label))]
    values: dict[str, list[str]] = {}
    for name, value, is_class in sorted(found):
        if not is_class:
            values.setdefault(name, []).append(value)
    return DatasetLabelsRow(
        dataset_id,
        label_version,
        sorted(value for _, value, is_class in found if is_class and value.strip())[:MOST_VALUES],
        {name: texts[:MOST_VALUES] for name, texts in values.items()},
    )


def read_dataset_labels(
    connection: Connection, faults: list[str], dataset_id: str | None = None
) -> list[DatasetLabelsRow]:
    """What annotations say, of each dataset and label version that is known, in their order.

    Args:
        connection: to the catalog, which has the tables.
        faults: what is wrong with rows is added to these.
        dataset_id: the dataset; None for all.
    """
    query = _DATASET_LABELS if dataset_id is None else f"{_DATASET_LABELS} WHERE dataset_id = ?"
    found = list(connection.rows(query, () if dataset_id is None else (dataset_id,)))
    rows = []
    for values in found:
        try:
            rows.append(_dataset_labels_row(values))
        except ValueError as error:
            faults.append(
                f"What the annotations of {values[0]!a} say is not known: {error}; remove its row in the table "
                "dataset_labels, and have it written again with: imgsyncfs init"
            )
    return sorted(rows, key=lambda row: (row.dataset_id, row.label_version))


def read_image_values(
    connection: Connection, dataset_id: str, label_version: str, label_name: str | None
) -> dict[str, str]:
    """The value of a classification of each image that has it.

    Args:
        connection: to the catalog, which has the tables.
        dataset_id: the dataset.
        label_version: of the annotations.
        label_name: the classification's; None for the first of each image.

    Returns:
        Stem of the image to the value; the first one if there are several.
    """
    query = _CLASSIFICATIONS if label_name is None else f"{_CLASSIFICATIONS} AND label_name = ?"
    parameters = (dataset_id, label_version) if label_name is None else (dataset_id, label_version, label_name)
    first: dict[str, tuple[int, str]] = {}
    for name, place, value in connection.rows(query, parameters):
        known = first.get(name)
        if known is None or place < known[0]:
            first[name] = (place, value)
    return {name: value for name, (_, value) in first.items()}


def write_labels(
    connection: Connection,
    dataset_id: str,
    label_version: str,
    labels: Mapping[str, Sequence[LabelCount]] | None,
) -> bool:
    """Make the catalog say exactly this about a dataset's annotations, within a transaction.

    Args:
        connection: to the catalog, which has the tables.
        dataset_id: the dataset.
        label_version: of the annotations.
        labels: stem of each image to what its annotation says; what cannot be kept is left out. None if nobody knows.

    Returns:
        Whether that differs from what the catalog said.
    """
    key = (dataset_id, label_version)
    found = list(connection.rows(f"{_DATASET_LABELS} {_WHERE}", key))
    if labels is None:
        if found:
            connection.execute(f"DELETE FROM annotation_labels {_WHERE}", key)  # noqa: S608  # constant names
            connection.execute(f"DELETE FROM dataset_labels {_WHERE}", key)  # noqa: S608  # constant names
        return bool(found)
    # A million annotations say the same few things.
    said = {*chain.from_iterable(labels.values())}
    unkept = {label for label in said if not can_be_kept(label)}
    if unkept:
        labels = {name: [label for label in each if label not in unkept] for name, each in labels.items()}
    differs = _write_annotation_labels(connection, key, labels)
    row = dataset_labels(dataset_id, label_version, [said])
    values = (*key, orjson.dumps(row.object_classes).decode(), orjson.dumps(row.label_values).decode())
    if found != [values]:
        connection.execute(f"DELETE FROM dataset_labels {_WHERE}", key)  # noqa: S608  # constant names
        insert(connection, "dataset_labels", DATASET_LABELS_COLUMNS, [values])
        return True
    return differs


def _write_annotation_labels(
    connection: Connection, key: tuple[str, str], labels: Mapping[str, Sequence[LabelCount]]
) -> bool:
    """Write what each annotation says where it differs; says whether anything did."""
    stale: set[str] = set()
    as_before: Counter[str] = Counter()
    for name, place, *label in connection.rows(_LABELS, key):
        said = labels.get(name, ())
        if isinstance(place, int) and 0 <= place < len(said) and said[place] == tuple(label):
            as_before[name] += 1
        else:
            stale.add(name)
    fresh = [name for name, said in labels.items() if as_before[name] != len(said) or name in stale]
    stale.update(name for name in fresh if as_before[name])
    delete = f"DELETE FROM annotation_labels {_WHERE}"  # noqa: S608  # constant names
    # No database takes a parameter that is no valid text.
    if not all(isinstance(name, str) and is_utf8(name) for name in stale):
        connection.execute(delete, key)
        fresh = list(labels)
    else:
        for names in portions(sorted(stale), NAMES_AT_ONCE):
            marks = ", ".join("?" * len(names))
            connection.execute(f"{delete} AND name IN ({marks})", (*key, *names))
    rows = ((*key, name, place, *label) for name in fresh for place, label in enumerate(labels[name]))
    insert_all(connection, "annotation_labels", _COLUMNS, rows)
    return bool(stale or fresh)


def _dataset_labels_row(values: Sequence[object]) -> DatasetLabelsRow:
    dataset_id, label_version, classes, label_values = (value or "" for value in values)
    if not isinstance(dataset_id, str) or not isinstance(label_version, str) or not is_utf8(dataset_id + label_version):
        raise ValueError("the dataset's id, or the label version, is no valid text")
    parsed = [orjson.loads(str(text)) for text in (classes, label_values)]
    lists = [parsed[0], *parsed[1].values()] if isinstance(parsed[1], dict) else [None]
    if not all(isinstance(each, list) and all(isinstance(text, str) for text in each) for each in lists):
        raise ValueError("its classes are no JSON array of texts, or its labels no JSON object of such arrays")
    return DatasetLabelsRow(dataset_id, label_version, *parsed)
