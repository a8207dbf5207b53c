"""The notebook API's tables: what is known as typed objects, as pandas data frames."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any

from imgsyncfs.annotations.house_format import Annotation, ObjectLabel, UnknownLabel, label_to_json, object_to_json
from imgsyncfs.catalog.dataset_table import COLUMNS, column_values
from imgsyncfs.catalog.rows import DatasetRow
from imgsyncfs.errors import ConfigurationError

if TYPE_CHECKING:
    import pandas as pd

_OLD_NAMES = MappingProxyType({"dataset_id": "datasetID"})

_OBJECT_COLUMNS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "bbox": ("class", "x1", "y1", "x2", "y2"),
        "rbbox": ("class", "x", "y", "w", "h", "a"),
        "poly": ("class", "points"),
        "seg": ("class", "rle"),
    }
)
_VALUE_COLUMNS = ("label_name", "label")


def load_pandas() -> ModuleType:
    """Import pandas, which is there with the extra ``notebook`` only.

    Raises:
        ConfigurationError: it is not installed.
    """
    try:
        # Late: it is optional, and takes half a second.
        import pandas as pd
    except ImportError as error:
        raise ConfigurationError(
            f"The notebook API's tables need pandas, which cannot be imported ({error}); "
            "run: pip install 'imgsyncfs[notebook]'"
        ) from error
    return pd


def datasets_frame(rows: Iterable[DatasetRow]) -> pd.DataFrame:
    """The table of datasets as the users know it.

    Args:
        rows: datasets.

    Returns:
        A row a dataset, in the order given: datasetID, label_version, image_type, classes, projects, label_type, size,
        note. Sizes are whole numbers; list values are joined by commas.

    Raises:
        ConfigurationError: pandas is not installed.
    """
    records = [[_shown(row, column) for column in COLUMNS] for row in rows]
    names = [_OLD_NAMES.get(column, column) for column in COLUMNS]
    frame: pd.DataFrame = load_pandas().DataFrame.from_records(records, columns=names)
    return frame


def labels_frame(annotation: Annotation) -> pd.DataFrame:
    """What is labelled in an image.

    Args:
        annotation: of any label types.

    Returns:
        A row an object with the columns of its type (bbox: class, x1, y1, x2, y2; rbbox: class, x, y, w, h, a; poly:
        class, points; seg: class, rle), or a row a value with label_name and label (clf, reg); a label of an unknown
        type is a row with its own keys. Where types are mixed there are the columns of all of them, with gaps.

    Raises:
        ConfigurationError: pandas is not installed.
    """
    records: list[dict[str, Any]] = []
    # A dictionary is an ordered set here. An empty label has its columns all the same.
    columns: dict[str, None] = {}
    for label in annotation.labels:
        content = label_to_json(label)
        if isinstance(label, ObjectLabel):
            names = _OBJECT_COLUMNS[label.label_type]
            rows = [object_to_json(item) for item in label.objects]
        else:
            names = tuple(content) if isinstance(label, UnknownLabel) else _VALUE_COLUMNS
            rows = [content]
        columns.update(dict.fromkeys(names))
        records += [{name: row[name] for name in names} for row in rows]
    frame: pd.DataFrame = load_pandas().DataFrame(records, columns=list(columns))
    return frame


def _shown(row: DatasetRow, column: str) -> str | int:
    return row.size if column == "size" else ",".join(column_values(row, column))
