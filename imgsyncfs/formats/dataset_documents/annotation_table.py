"""All annotations as one table, ``annotations.parquet``: a row for each object, for pandas, DuckDB and polars.

`COLUMNS` says what each column holds. A classification, a regression and a label of a type that nobody knows has a row
as well; what a column has no value for is null. Nothing is rounded. An image without labels has no row here: the table
of images lists it.

Every object has an upright box, and a rotated one (`imgsyncfs.annotations.box_arrays`): whoever looks for small objects
need not ask which kind they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from imgsyncfs.annotations.box_arrays import object_arrays
from imgsyncfs.annotations.geometry import compress_counts, measure_mask
from imgsyncfs.annotations.house_format import (
    ClassificationLabel,
    Label,
    LabelledObject,
    Mask,
    ObjectLabel,
    Polygon,
    RegressionLabel,
    UnknownLabel,
    encode_json,
)
from imgsyncfs.formats.dataset_documents.contract import DatasetDocument, DocumentEntry, LossTally
from imgsyncfs.formats.dataset_documents.enclosing import polygon_area
from imgsyncfs.formats.dataset_documents.parquet import ROW_GROUP_ROWS, load_pyarrow, parquet_chunks, words

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS: Mapping[str, str] = MappingProxyType(
    {
        "dataset": "id of the dataset",
        "image": "name of the image without its extension",
        "path": "of the image, from the mount's root on",
        "split": "train, validation or test",
        "label_version": "of the dataset",
        "label_checked": "1 if somebody has checked the image's labels, else 0",
        "label_index": "which of the annotation's labels it is, from 0",
        "object_index": "which of the label's objects it is, from 0",
        "label_type": "bbox, rbbox, poly, seg, clf, reg, or another",
        "class": "of an object",
        "x1": "left edge of the upright box around an object, pixels",
        "y1": "top edge",
        "x2": "right edge",
        "y2": "bottom edge",
        "x": "centre of a rotated box, pixels; of any other object, of the upright box around it",
        "y": "likewise",
        "w": "width of that box",
        "h": "height",
        "a": "angle, radians clockwise on screen, from 0 up to pi; 0 for other objects",
        "area": "of an object, square pixels",
        "points": "x and y of each point of a polygon, one after the other",
        "mask": "run lengths of a mask, COCO's compressed text",
        "mask_height": "of a mask, pixels",
        "mask_width": "likewise",
        "label_name": "of a classification or a regression, such as Gender",
        "label": "of a classification, such as Female",
        "number": "of a regression",
        "extra": "keys that the house format does not know, JSON; of an unknown label, all of it",
    }
)

ROW_GROUP_BYTES = 1 << 24
"""A row group ends as well when its polygons, masks and further keys have grown to this."""

_Floats = npt.NDArray[np.float64]

LARGEST_WHOLE_NUMBER = 2**63 - 1

_FURTHER_KEYS = (
    "keys of annotations and labels that the house format does not know",
    "a row is about an object, and has those of the object alone",
)


class AnnotationTable(DatasetDocument):
    """The table ``annotations.parquet``.

    Args:
        label_version: the dataset's.
    """

    def __init__(self, label_version: str) -> None:
        self._label_version = label_version

    def chunks(
        self,
        entries: Iterable[DocumentEntry],
        classes: Sequence[str],  # noqa: ARG002 - classes have their names here
        losses: LossTally,
    ) -> Iterator[bytes]:
        """Write the table; see `DatasetDocument.chunks`.

        Raises:
            ConfigurationError: pyarrow is not installed.
        """
        return parquet_chunks(annotation_schema(), self._row_groups(entries, losses))

    def _row_groups(self, entries: Iterable[DocumentEntry], losses: LossTally) -> Iterator[pa.Table]:
        rows = _Rows()
        for entry in entries:
            for place, label in enumerate(entry.annotation.labels if entry.annotation is not None else ()):
                rows.add(entry, self._label_version, place, label)
                if len(rows) >= ROW_GROUP_ROWS or rows.byte_count >= ROW_GROUP_BYTES:
                    yield rows.table()
                    rows = _Rows()
            _count_losses(entry, losses)
        if len(rows):
            yield rows.table()


def annotation_schema() -> pa.Schema:
    """The names and types of the columns.

    Raises:
        ConfigurationError: pyarrow is not installed.
    """
    pa = load_pyarrow()
    types = dict.fromkeys(COLUMNS, pa.float64())
    types |= dict.fromkeys(("dataset", "split", "label_version", "label_type", "class", "label_name", "label"), words())
    types |= dict.fromkeys(("image", "path", "mask", "extra"), pa.string())
    types |= {"label_checked": pa.int8(), "label_index": pa.int32(), "object_index": pa.int32()}
    types |= {"points": pa.list_(pa.float64()), "mask_height": pa.int64(), "mask_width": pa.int64()}
    return pa.schema([pa.field(name, types[name]) for name in COLUMNS])


class _Row(NamedTuple):
    """What a row says beside boxes and points; see `COLUMNS`."""

    dataset: str
    image: str
    path: str
    split: str
    label_version: str
    label_checked: int
    label_index: int
    label_type: str
    object_index: int | None = None
    class_name: str | None = None
    mask: str | None = None
    mask_height: int | None = None
    mask_width: int | None = None
    label_name: str | None = None
    label: str | None = None
    number: float | None = None
    extra: str | None = None


_MakeRow = Callable[..., _Row]
"""Makes a row of what is not known yet."""

_ROW_COLUMNS = tuple("class" if name == "class_name" else name for name in _Row._fields)
_BOX_COLUMNS = ("x1", "y1", "x2", "y2", "x", "y", "w", "h", "a")


class _Rows:
    """The rows of a row group.

    Attributes:
        byte_count: of what may be long in them.
    """

    def __init__(self) -> None:
        self.byte_count = 0
        self._rows: list[_Row] = []
        self._objects: list[LabelledObject] = []
        self._object_rows: list[int] = []
        self._areas: dict[int, float] = {}
        self._points: list[float] = []
        self._point_ends = [0]

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, entry: DocumentEntry, label_version: str, place: int, label: Label) -> None:
        """Add the rows of a label."""
        image, annotation = entry.image, entry.annotation
        path = f"{image.dataset}/{image.file_name}"
        checked = int(annotation is not None and annotation.label_checked == 1)
        row = partial(_Row, image.dataset, image.name, path, entry.split, label_version, checked, place)
        if isinstance(label, ObjectLabel):
            for number, item in enumerate(label.objects):
                self._add_object(item, partial(row, label.label_type, number, item.class_name, extra=_json(item.extra)))
        else:
            self._add_row(_label_row(label, row))

    def _add_object(self, item: LabelledObject, row: _MakeRow) -> None:
        place = len(self._rows)
        self._objects.append(item)
        self._object_rows.append(place)
        if isinstance(item, Mask):
            self._areas[place] = float(measure_mask(item.size, item.counts)[1])
            counts = item.counts if isinstance(item.counts, str) else compress_counts(item.counts)
            # A mask without pixels may be of any height.
            height, width = (min(side, LARGEST_WHOLE_NUMBER) for side in item.size)
            self._add_row(row(mask=counts, mask_height=height, mask_width=width))
            return
        if isinstance(item, Polygon):
            self._areas[place] = polygon_area(item.points) if item.points else 0.0
            self._points += [float(number) for point in item.points for number in point]
        self._add_row(row())

    def _add_row(self, row: _Row) -> None:
        self._rows.append(row)
        self.byte_count += 8 * (len(self._points) - self._point_ends[-1]) + len(row.mask or "") + len(row.extra or "")
        self._point_ends.append(len(self._points))

    def table(self) -> pa.Table:
        """All rows."""
        pa = load_pyarrow()
        boxes, areas = self._boxes()
        columns: dict[str, Any] = dict(zip(_ROW_COLUMNS, zip(*self._rows, strict=True), strict=True))
        # NaN stands for an object that is nowhere, for a number that no double holds, and for a row without an object.
        columns |= {name: pa.array(boxes[:, place], from_pandas=True) for place, name in enumerate(_BOX_COLUMNS)}
        columns["area"] = pa.array(areas, from_pandas=True)
        columns["points"] = pa.ListArray.from_arrays(
            pa.array(self._point_ends, pa.int32()),
            pa.array(self._points, pa.float64()),
            mask=pa.array([row.label_type != "poly" or row.object_index is None for row in self._rows], pa.bool_()),
        )
        schema = annotation_schema()
        return pa.Table.from_arrays([_column(columns[field.name], field.type) for field in schema], schema=schema)

    def _boxes(self) -> tuple[_Floats, _Floats]:
        """(n, 9) of the upright box and the rotated one of each row, and (n,) of areas; NaN where it has no object."""
        boxes = np.full((len(self), len(_BOX_COLUMNS)), np.nan)
        if self._objects:
            arrays = object_arrays(self._objects)
            boxes[self._object_rows] = np.concatenate([arrays.xyxy, arrays.xywhr], axis=1)
        with np.errstate(over="ignore", invalid="ignore"):
            areas = boxes[:, 6] * boxes[:, 7]
        areas[[*self._areas]] = [*self._areas.values()]
        return boxes, areas


def _column(values: Any, kind: pa.DataType) -> pa.Array:
    pa = load_pyarrow()
    if not isinstance(values, tuple):
        return values
    return pa.array(values, pa.string()).dictionary_encode() if pa.types.is_dictionary(kind) else pa.array(values, kind)


def _label_row(label: Label, row: _MakeRow) -> _Row:
    """The row of a label that has no objects."""
    if isinstance(label, ClassificationLabel):
        return row("clf", label_name=label.label_name, label=label.label, extra=_json(label.extra))
    if isinstance(label, RegressionLabel):
        return row("reg", label_name=label.label_name, number=float(label.label), extra=_json(label.extra))
    content = label.content if isinstance(label, UnknownLabel) else {}
    return row(str(content.get("label_type", "")), extra=_json(content))


def _json(extra: Mapping[str, Any]) -> str | None:
    return encode_json(dict(extra)).decode() if extra else None


def _count_losses(entry: DocumentEntry, losses: LossTally) -> None:
    if entry.annotation is None:
        return
    labels = [label.extra for label in entry.annotation.labels if isinstance(label, ObjectLabel)]
    further = len(entry.annotation.extra) + sum(map(len, labels))
    if further:
        losses.add(*_FURTHER_KEYS, further)
