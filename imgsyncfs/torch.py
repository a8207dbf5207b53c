"""A catalog's datasets for PyTorch: images with targets in torchvision's detection convention, read without a mount.

::

    from imgsyncfs.torch import Dataset, collate

    dataset = Dataset("postgresql://reader@db.example.com/datasets", "original_20200219_dewarp_bbox", transforms=...)
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=16, shuffle=True, num_workers=4, persistent_workers=True, collate_fn=collate
    )
    model = torchvision.models.detection.fasterrcnn_resnet50_fpn(num_classes=len(dataset.classes) + 1)

It reads through the same library and disk cache as a mount and `imgsyncfs.api`. A batch is fetched at once: what lies
in one extent comes with one request, and requests overlap. Workers may be forked, spawned or come from a fork server.
Each opens the catalog for itself, which takes a part of a second: with ``persistent_workers=True`` that is once a
training and not once an epoch.

PyTorch is imported in this module alone. With torchvision beside it, `boxes` are its bounding boxes, which
``torchvision.transforms.v2`` moves with the image; without it they are plain tensors.

Sources: torchvision's tutorial on object detection and its ``references/detection`` (what a target holds, class 0 for
the background, boxes that end where the image does, `get_height_and_width`), and ``torchvision.datasets.VisionDataset``
(the three kinds of transforms).
"""

from __future__ import annotations

import logging
import math
import operator
import os
import weakref
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
from PIL import Image

from imgsyncfs.annotations.box_arrays import box_arrays, labelled_objects
from imgsyncfs.annotations.classes import class_order
from imgsyncfs.annotations.house_format import Annotation, ClassificationLabel, RegressionLabel
from imgsyncfs.api import Dataset as CatalogDataset
from imgsyncfs.api import Datasets, ImageCatalog, connect
from imgsyncfs.catalog.dataset_table import near_values
from imgsyncfs.catalog.listing.sent import SentFiles, received_listing, sent_files
from imgsyncfs.catalog.selections import MARK
from imgsyncfs.errors import CatalogError, ConfigurationError, PreviewError, PublishError
from imgsyncfs.library.reader import LibraryReader
from imgsyncfs.pictures.images import decode_content, upright_rgb
from imgsyncfs.workers.threads import map_in_order

try:
    import torch
    from torch.utils import data
except ImportError as missing:
    raise ConfigurationError(
        f"imgsyncfs.torch needs PyTorch, which cannot be imported ({missing}); run: pip install 'imgsyncfs[torch]'"
    ) from missing

try:
    from torchvision import tv_tensors
except ImportError:
    tv_tensors = None

if TYPE_CHECKING:
    from imgsyncfs.catalog.listing import Listing

__all__ = ["Dataset", "Sample", "Target", "collate"]

logger = logging.getLogger(__name__)

Target = dict[str, Any]
"""What is labelled in an image; `Dataset` says what it holds."""

Sample = tuple[Any, Target]
"""An image, and what is labelled in it."""

READING_THREADS = 8
"""How many annotations are read at once to see which classes there are."""

_ORIENTATION, _UPRIGHT = 0x0112, 1
_ROTATED = "CXCYWHR"


class Dataset(data.Dataset[Sample]):  # type: ignore[misc]  # PyTorch need not be installed
    """Images of one or several datasets, a place each: those of the first dataset, then those of the next one.

    ``dataset[place]`` is (image, target), negative places count from the end. Without a transform, the image is a PIL
    image, RGB, turned as its EXIF block asks for, so that coordinates are its pixels. The target is a dictionary:

    - ``boxes``: float32 (n, 4) of x1, y1, x2, y2: the upright box around each object of any kind, cut off where the
      image ends.
    - ``labels``: int64 (n,): the place of each object's class in `classes`, from `first_label` on.
    - ``xywhr``, where there are rotated boxes: float32 (n, 5) of centre, width, height and angle in radians, [0, pi),
      clockwise on screen. An object that is no rotated box has its upright box there, with the angle 0.
    - ``area``: float32 (n,) of ``boxes``; ``iscrowd``: int64 (n,), all 0.
    - ``image_id``: the place, an int.
    - ``image_labels``: dictionary of the image's classifications (text) and regressions (float) by their names; the
      last one, where several have the same name.

    An object that covers nothing of the image has no row; this is logged once an image. An image without an annotation
    has an empty target.

    With torchvision, ``boxes`` are its ``tv_tensors.BoundingBoxes``, and `transforms` are given ``xywhr`` likewise, in
    torchvision's own convention, so that ``torchvision.transforms.v2`` moves both with the image. `target_transform`
    gets ``xywhr`` as above.

    The images stay those of the revision that was the newest when this was made, in workers as well. It may be pickled,
    and has no secret in it then; the process that takes it out opens the catalog when it first reads, and needs that
    revision to be the newest still.

    Args:
        catalog: a path or URL as for `imgsyncfs.connect`; or an open catalog, which must stay open; None for the
            configured one.
        selection: the id of a dataset, ``@NAME`` for the images of a selection or the datasets of a subscription (the
            former, if there are both), a dataset of `imgsyncfs.api`, or several of these. None: all that meet `where`.
        where: conditions ``COLUMN=VALUE``, one or several, that the datasets must meet as well; as for
            `imgsyncfs.api.Datasets.select`.
        classes: names of classes in the order of their labels; objects of others are left out. None: all classes, those
            of the catalog's column ``classes`` first and then others by name; all annotations are read to find these.
        first_label: the label of the first class. 1, since 0 is the background for torchvision's detectors; others
            begin at 0.
        labelled_only: leave out images in which nothing is labelled and that nobody has checked.
        xywhr: whether targets have it. None: if the catalog says of one of the datasets that it has rotated boxes.
        transform: called with the image.
        target_transform: called with the target.
        transforms: called with both, and gives both; instead of the other two.

    Raises:
        ConfigurationError: no catalog or no dataset was chosen, or an argument makes no sense.
        CatalogError: the catalog cannot be read.
        StoreError: an annotation cannot be read.
        AnnotationError: an annotation does not parse.
    """

    def __init__(
        self,
        catalog: str | os.PathLike[str] | ImageCatalog | None = None,
        selection: str | CatalogDataset | Iterable[str | CatalogDataset] | None = None,
        *,
        where: str | Iterable[str] = (),
        classes: Sequence[str] | None = None,
        first_label: int = 1,
        labelled_only: bool = False,
        xywhr: bool | None = None,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Target], Any] | None = None,
        transforms: Callable[[Any, Target], Sample] | None = None,
    ) -> None:
        if transforms is not None and (transform is not None or target_transform is not None):
            raise ConfigurationError("Both transforms and transform or target_transform were given; give one of them.")
        self.transform, self.target_transform, self.transforms = transform, target_transform, transforms
        source = catalog if isinstance(catalog, ImageCatalog) else connect(None if catalog is None else str(catalog))
        # What was opened here is closed by `close`, when nobody has this any more, and at the program's end.
        self._end = None if source is catalog else weakref.finalize(self, source.close)
        try:
            chosen = _chosen(source, selection, [where] if isinstance(where, str) else [*where])
            self._parts = [_Part(source.reader, each.id, labelled_only=labelled_only) for each in chosen]
            self._ends = list(accumulate(len(part.indices) for part in self._parts))
            self.classes = _classes(chosen, self._parts) if classes is None else _distinct(classes)
        except BaseException:
            self.close()
            raise
        self._labels = {name: label for label, name in enumerate(self.classes, first_label)}
        self._xywhr = any("rbbox" in each.row.label_type for each in chosen) if xywhr is None else xywhr
        self._told: set[int] = set()

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, place: SupportsIndex) -> Sample:
        """Read one image with its target.

        Args:
            place: from 0; below 0 from the end.

        Raises:
            IndexError: there is none at this place.
            StoreError: bytes cannot be had, or are not what the catalog says.
            AnnotationError: the annotation does not parse.
            PreviewError: the image cannot be decoded.
            CatalogError: this came out of a pickle, and the dataset has been published anew meanwhile.
        """
        # Image and annotation are asked for at once.
        [sample] = self.__getitems__([place])
        return sample

    def __getitems__(self, places: Sequence[SupportsIndex]) -> list[Sample]:
        """Read several images with their targets; PyTorch's data loader asks for each batch like this.

        All of them are asked for at once; see `__getitem__`.

        Returns:
            A sample for each place, in their order.
        """
        found = [self._place(place) for place in places]
        by_part: dict[int, set[int]] = {}
        for place in found:
            number, index = self._locate(place)
            by_part.setdefault(number, set()).add(index)
        for number, indices in by_part.items():
            part = self._parts[number]
            part.reader.begin(part.listing, sorted(indices))
        return [self._read(place) for place in found]

    def name(self, place: SupportsIndex) -> str:
        """The dataset's id and the image's name in it, for example ``original_…_rbbox/original_…_00079.jpg``."""
        number, index = self._locate(self._place(place))
        return self._parts[number].name(index)

    def get_height_and_width(self, place: SupportsIndex) -> tuple[int, int]:
        """Height and width of an image in pixels, turned, without reading it; 0 where the catalog does not know.

        torchvision's reference scripts ask for it to put images of one shape together.
        """
        number, index = self._locate(self._place(place))
        height, width, _ = self._parts[number].listing.image_info(index)
        return height, width

    def close(self) -> None:
        """End the processes behind it, unless the catalog was open before; nothing is read any more."""
        if self._end is not None:
            self._end()

    def __enter__(self) -> Dataset:  # noqa: PYI034  # Self is there from Python 3.11 on
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_end": None}

    def __repr__(self) -> str:
        chosen = ", ".join(part.dataset_id for part in self._parts)
        return f"Dataset({chosen}): {len(self):,} images, classes {', '.join(self.classes)}"

    def _place(self, place: SupportsIndex) -> int:
        count = len(self)
        try:
            number = operator.index(place)
        except TypeError:
            raise TypeError(f"An image is chosen by its number, not by {place!r}.") from None
        if not -count <= number < count:
            raise IndexError(f"There are {count} images; there is none at {number}.")
        return number % count

    def _locate(self, place: int) -> tuple[int, int]:
        """The number of the dataset that an image is of, and the image's index in its listing."""
        number = bisect_right(self._ends, place)
        indices = self._parts[number].indices
        return number, int(indices[place - self._ends[number] + len(indices)])

    def _read(self, place: int) -> Sample:
        number, index = self._locate(place)
        part = self._parts[number]
        annotation = part.reader.annotation(part.listing, index)
        image = _decode(part.reader.read(part.listing, part.listing.images, index), part.name(index))
        target = self._target(annotation, image.size, place)
        if self.transforms is not None:
            return _transformed(self.transforms, image, target)
        return (
            image if self.transform is None else self.transform(image),
            target if self.target_transform is None else self.target_transform(target),
        )

    def _target(self, annotation: Annotation | None, size: tuple[int, int], place: int) -> Target:
        objects = box_arrays(annotation).of_classes(self._labels)
        visible = objects.within(*size)
        left_out = len(objects.class_names) - len(visible.class_names)
        if left_out and place not in self._told:
            self._told.add(place)
            logger.warning(
                "%s: %d of %d objects cover nothing of the image and are left out.",
                self.name(place),
                left_out,
                len(objects.class_names),
            )
        labels = np.array([self._labels[name] for name in visible.class_names], dtype=np.int64)
        boxes = visible.xyxy.astype(np.float32)
        target: Target = {
            "boxes": _bounding_boxes(torch.from_numpy(boxes), "XYXY", size),
            "labels": torch.from_numpy(labels),
            "image_id": place,
            "area": torch.from_numpy((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])),
            "iscrowd": torch.from_numpy(np.zeros_like(labels)),
            "image_labels": _image_labels(annotation),
        }
        if self._xywhr:
            target["xywhr"] = torch.from_numpy(visible.xywhr.astype(np.float32))
        return target


def collate(batch: Sequence[Sample]) -> tuple[tuple[Any, ...], tuple[Target, ...]]:
    """Make a batch of samples, as torchvision's reference scripts do: (images, targets), for ``collate_fn``.

    Images differ in size and in the number of their objects, so that they are not put into one tensor.
    """
    images, targets = zip(*batch, strict=True)
    return images, targets


class _Part:
    """The images of one dataset's revision.

    Args:
        reader: the library.
        dataset_id: which dataset.
        labelled_only: without images in which nothing is labelled and that nobody has checked.
        key: of the listing that it must be; ``""`` for the newest.
    """

    def __init__(self, reader: LibraryReader, dataset_id: str, *, labelled_only: bool, key: str = "") -> None:
        self.reader = reader
        self.dataset_id = dataset_id
        self._labelled_only = labelled_only
        self._key = key

    @cached_property
    def listing(self) -> Listing:
        """The dataset's files, in the order that places refer to.

        Raises:
            CatalogError: the catalog cannot be read, or has another revision.
        """
        listing = self.reader.listing(self.dataset_id)
        if self._key not in ("", listing.key):
            raise CatalogError(
                f"{self.dataset_id} has been published anew since this Dataset was pickled; make the Dataset again."
            )
        return listing

    @cached_property
    def indices(self) -> Sequence[int]:
        """The images' indices in the listing."""
        listing = self.listing
        if self._labelled_only:
            return [index for index in range(len(listing)) if listing.has_siblings(index)]
        return range(len(listing))

    def name(self, index: int) -> str:
        """What a mount calls an image."""
        return f"{self.dataset_id}/{self.listing.stem(index).decode()}.{self.listing.ext(index)}"

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker that is being started gets the open listing. Another process reads it when it first needs it.
        options = {"labelled_only": self._labelled_only, "key": self.listing.key}
        return _part, (self.reader, self.dataset_id, options, sent_files(self.listing))


def _part(reader: LibraryReader, dataset_id: str, options: dict[str, Any], files: SentFiles | None) -> _Part:
    part = _Part(reader, dataset_id, **options)
    if files is not None:
        part.listing = received_listing(files, name=dataset_id)
    return part


def _chosen(
    catalog: ImageCatalog,
    selection: str | CatalogDataset | Iterable[str | CatalogDataset] | None,
    conditions: Sequence[str],
) -> list[CatalogDataset]:
    """The datasets that are meant, each once, in the order given.

    Raises:
        ConfigurationError: there are none; or one, or a condition, makes no sense.
    """
    datasets = catalog.datasets
    if selection is not None:
        named: dict[str, CatalogDataset] = {}
        for each in [selection] if isinstance(selection, str | CatalogDataset) else selection:
            named |= {one.id: one for one in _named(catalog, each)}
        datasets = Datasets(named)
    elif not conditions:
        raise ConfigurationError(
            "No dataset was chosen; name one, or the subscription @NAME, or give a condition, such as "
            "where='image_type=fisheye360'."
        )
    met = [*datasets.select(*conditions).values()]
    if not met:
        rows = [dataset.row for dataset in datasets.values()]
        hints = near_values(rows, conditions) or ["No dataset is in the selection that meets all conditions; drop one."]
        raise ConfigurationError(" ".join(hints))
    return met


def _named(catalog: ImageCatalog, name: str | CatalogDataset) -> list[CatalogDataset]:
    """The datasets that one part of a selection means."""
    if isinstance(name, CatalogDataset):
        return [name]
    if not name.startswith(MARK):
        return [*catalog.datasets.of([name]).values()]
    kept = name.removeprefix(MARK)
    if kept in catalog.selections:
        return [catalog.selection(kept)]
    return [*catalog.subscription(kept).values()]


def _classes(chosen: Sequence[CatalogDataset], parts: Sequence[_Part]) -> tuple[str, ...]:
    """The classes of some datasets; reads all annotations."""
    found: set[str] = set()
    for part in parts:

        def names(index: int, part: _Part = part) -> set[str]:
            return {item.class_name for item in labelled_objects(part.reader.annotation(part.listing, index))}

        labelled = filter(part.listing.has_siblings, part.indices)
        found.update(*map_in_order(names, labelled, threads=READING_THREADS))
    return class_order([name for dataset in chosen for name in dataset.row.classes], found)


def _distinct(classes: Sequence[str]) -> tuple[str, ...]:
    if isinstance(classes, str) or len(set(classes)) < len(classes):
        raise ConfigurationError(f"classes must be a list of different names, not {classes!r}.")
    return tuple(classes)


def _transformed(transforms: Callable[[Any, Target], Sample], image: Image.Image, target: Target) -> Sample:
    """Transform an image with its target; rotated boxes as torchvision has them, and back."""
    if "xywhr" not in target or tv_tensors is None or _ROTATED not in tv_tensors.BoundingBoxFormat.__members__:
        return transforms(image, target)
    # There angles are in degrees and anticlockwise.
    turned = target["xywhr"] * _factors(-180 / math.pi)
    changed, result = transforms(image, {**target, "xywhr": _bounding_boxes(turned, _ROTATED, image.size)})
    if isinstance(result, dict) and isinstance(result.get("xywhr"), tv_tensors.BoundingBoxes):
        boxes = result["xywhr"].as_subclass(torch.Tensor) * _factors(-math.pi / 180)
        boxes[:, 4] = boxes[:, 4].remainder(math.pi)
        result["xywhr"] = boxes
    return changed, result


def _decode(content: bytes, name: str) -> Image.Image:
    """An image, RGB and turned as its EXIF block asks for.

    Raises:
        PreviewError: it cannot be decoded.
    """
    try:
        image = decode_content(content)
        if image.mode == "RGB" and image.getexif().get(_ORIENTATION, _UPRIGHT) == _UPRIGHT:
            return image
        return upright_rgb(image)
    except (PublishError, PreviewError) as error:
        raise PreviewError(f"{name} cannot be read: {error}") from error


def _image_labels(annotation: Annotation | None) -> dict[str, str | float]:
    values: dict[str, str | float] = {}
    for label in annotation.labels if annotation is not None else ():
        if isinstance(label, ClassificationLabel):
            values[label.label_name] = label.label
        elif isinstance(label, RegressionLabel):
            values[label.label_name] = float(label.label)
    return values


def _bounding_boxes(boxes: torch.Tensor, kind: str, size: tuple[int, int]) -> torch.Tensor:
    """Boxes as torchvision knows them, if it is there."""
    if tv_tensors is None:
        return boxes
    return tv_tensors.BoundingBoxes(boxes, format=kind, canvas_size=(size[1], size[0]))


def _factors(angle: float) -> torch.Tensor:
    """What the numbers of rotated boxes are multiplied by, to change the unit of the angle."""
    return torch.tensor([1.0, 1.0, 1.0, 1.0, angle])
