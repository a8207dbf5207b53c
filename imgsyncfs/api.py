"""The Python API: a catalog's datasets, images and annotations as typed objects, without a mount.

::

    with imgsyncfs.connect("postgresql://reader@db.example.com/datasets") as catalog:
        dataset = catalog.datasets["original_20200207_fisheye_rbbox"]
        print(dataset.row.classes, len(dataset))
        for sample in dataset:                      # in the catalog's order
            print(sample.name, sample.image.size, sample.boxes, sample.classes)
        sample = dataset["original_20200207_fisheye_rbbox_00079"]
        print(sample.annotation)                    # all that is labelled, as typed objects

`imgsyncfs/EXAMPLES.md` shows more. The API is a door to the same library as the mount: it shares the mount's disk
cache, verifies what it reads, goes on with what is cached while the network is down, and raises `imgsyncfs.errors` and
nothing else on purpose. Objects may be used by several threads at once; nothing here needs the main thread, handles
signals or minds a running event loop. A process that is forked or spawned, such as a data loader's worker, opens the
catalog for itself when it first reads.
"""

from __future__ import annotations

import html
import logging
import operator
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

from PIL import Image

from imgsyncfs.annotations.house_format import Annotation
from imgsyncfs.catalog.dataset_table import COLUMNS, column_values, matching
from imgsyncfs.catalog.listing import Listing
from imgsyncfs.catalog.rows import DatasetRow
from imgsyncfs.catalog.selections import MARK, find_selection
from imgsyncfs.catalog.subscriptions import find_datasets, find_subscription, members
from imgsyncfs.errors import NotInCatalog
from imgsyncfs.fetching.store_checks import check_stores
from imgsyncfs.library.configuration import library_settings
from imgsyncfs.library.reader import LibraryReader
from imgsyncfs.settings.config_file import load_configuration
from imgsyncfs.settings.library import LibrarySettings
from imgsyncfs.tools.labelled_image import LabelledImage
from imgsyncfs.workers.threads import map_in_order

if TYPE_CHECKING:
    from imgsyncfs.tools.sync.run import SyncSummary
    from imgsyncfs.workers.progress import Progress

__all__ = ["Dataset", "Datasets", "ImageCatalog", "LabelledImage", "connect"]

logger = logging.getLogger(__name__)

MOST_ROWS = 200
"""Datasets that a notebook shows as a table."""

MOST_SHOWN = 5
"""Names that a notebook shows of many."""

READING_THREADS = 8
"""How many images an iteration reads at once: a store that answers in 20 ms then gives 400 loose blobs a second and not
50."""


def connect(
    url: str | None = None,
    *,
    password: str | None = None,
    profile: str | None = None,
    config: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    cache_size: int | None = None,
    timeout: float = 30.0,
    siblings: Iterable[str] = (),
    allow_stores: Iterable[str] = (),
) -> ImageCatalog:
    """Open a catalog and what is behind it: its stores and the disk cache.

    Args:
        url: a path to an SQLite file, or a URL as `imgsyncfs.catalog.url` lists them, without a password in it. None:
            the one in ``IMGSYNCFS_CATALOG`` or the config file.
        password: for the catalog. None: the one in ``IMGSYNCFS_PASSWORD`` or the config file. A profile's is told to
            no other catalog than the profile's own.
        profile: name of a profile of the config file. None: the one in ``IMGSYNCFS_PROFILE``, or the file's default.
        config: a config file instead of the usual ones.
        cache_dir: folder of the disk cache instead of the configured one; in a shared folder, the cache has a
            sub-folder of its own.
        cache_size: most bytes that the cache takes up. None: what the config file says, or 20 GiB, as for a mount,
            with which the cache is shared.
        timeout: seconds that one answer of the catalog, or one read, may take.
        siblings: names of the formats in which `ImageCatalog.sync` puts annotations beside each image as well, for
            example ``labelme``.
        allow_stores: URLs of stores that datasets may lie in, or below, beside the catalog's own and those that the
            config file allows.

    Returns:
        The catalog; to be used in a ``with`` statement, or closed, since processes of its own bring the bytes.

    Raises:
        ConfigurationError: no catalog was given; an option, the URL or the config file makes no sense; or a driver is
            not installed.
        FormatError: a sibling's format is unknown.
        CatalogError: the catalog cannot be read, and was never read before with this cache.
        CacheError: the cache folder cannot be used, or somebody else may change it.
    """
    config = None if config is None else Path(config).absolute()
    configuration = load_configuration(config, profile=profile).allowing(allow_stores)
    if url:
        configuration = configuration.at(url)
    if password is not None:
        configuration = replace(configuration, password=password, password_reference=None)
    options = {
        "cache_dir": None if cache_dir is None else os.fspath(cache_dir),
        "cache_size": None if cache_size is None else str(cache_size),
        "timeout": str(timeout),
        "siblings": ",".join(siblings),
    }
    return ImageCatalog(library_settings(configuration, options), config)


class ImageCatalog:
    """An open catalog; `connect` makes it. A context manager: at its end, its processes have ended.

    A process that is forked goes on with it, as does one that it is sent to: each opens the catalog for itself when it
    first reads. What is sent has no secret in it; the password comes from the environment or the config file there.

    Args:
        settings: what to open and how.
        config: the config file that they come from; None for the usual ones.
    """

    def __init__(self, settings: LibrarySettings, config: Path | None = None) -> None:
        self._settings = settings
        self._reader = LibraryReader(settings, config)
        # Whoever connects hears at once what is wrong.
        _ = self._reader.library

    @property
    def reader(self) -> LibraryReader:
        """The library that all of it is read from, for other modules of imgsyncfs."""
        return self._reader

    @property
    def datasets(self) -> Datasets:
        """All datasets, as the catalog was read last."""
        library = self._reader.library
        return Datasets({row.dataset_id: Dataset(row, self._reader) for row in library.datasets.values()})

    def subscription(self, name: str) -> Datasets:
        """The datasets of a subscription that is kept in the catalog.

        Raises:
            ConfigurationError: there is none of this name; the message names near ones.
        """
        table = self._reader.library.mirror.table
        datasets = self.datasets
        chosen = members(find_subscription(table.subscriptions, name), table.rows.values())
        return datasets.of(row.dataset_id for row in chosen if row.dataset_id in datasets)

    def selection(self, name: str) -> Dataset:
        """The images of a selection that is kept in the catalog, as a dataset: ``imgsyncfs select``.

        Classes have the names that the selection gives them. Names of images have the dataset's id before them where
        they do not begin with it.

        Raises:
            ConfigurationError: there is none of this name; the message names near ones.
        """
        table = self._reader.library.mirror.table
        chosen = find_selection(table.selections, name)
        return Dataset(table.selected[MARK + chosen.name], self._reader)

    @property
    def selections(self) -> tuple[str, ...]:
        """The names of all selections."""
        return tuple(self._reader.library.mirror.table.selections)

    def refresh(self) -> bool:
        """Ask the catalog what has been published meanwhile. `Dataset` objects got before stay as they are.

        Returns:
            Whether anything has changed.

        Raises:
            CatalogError: the catalog cannot be read; what was known stays.
        """
        library = self._reader.library
        changed = library.mirror.refresh()
        if changed:
            library.take_over()
        return changed

    def check_stores(self) -> None:
        """See whether the stores of the catalog can be read; of many, those with most datasets.

        Those that cannot are logged. One that is neither the catalog's own nor allowed was logged when the catalog was
        read; nobody asks it.

        Raises:
            ConfigurationError: none can be read: credentials make no sense, or a package is not installed.
            StoreError: none can be read: one is missing, or refuses us.
        """
        library = self._reader.library
        unreadable = check_stores(
            library.fetch_pool, library.stores, timeout=self._settings.timeout, own_store=library.own_store
        )
        for warning in unreadable.values():
            logger.warning("%s", warning)

    def sync(
        self,
        target: str | os.PathLike[str],
        *,
        datasets: Iterable[Dataset | str] | None = None,
        amount: int | None = None,
        view: str | None = None,
        delete: bool = False,
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> SyncSummary:
        """Copy datasets to plain folders ``target/<dataset>/<files>``, only what is missing or differs.

        Args:
            target: a folder; made if it is missing.
            datasets: which ones, as objects or ids; None for all.
            amount: how many images of each dataset; the same ones each time. None for all.
            view: name of the layout to copy, for example ``yolo``; None for images and house annotations.
            delete: remove files that an earlier run wrote and that are no longer in the catalog.
            overwrite: replace files that somebody changed in the target; otherwise they are kept and reported.
            progress: in files of each dataset.

        Returns:
            What was done, what was kept, and which files could not be had.

        Raises:
            ConfigurationError: a dataset or view is unknown; the message names near ones.
            CatalogError: a listing cannot be read.
            StoreError: no store can be reached.
            SyncError: the folder cannot be written, is in use by another sync, or has not enough space.
        """
        # Late: who only reads needs none of it.
        from imgsyncfs.library.views.registry import find_view
        from imgsyncfs.tools.sync.run import sync

        chosen = self.datasets if datasets is None else datasets
        return sync(
            self._reader.library,
            Path(target),
            datasets=[one.id if isinstance(one, Dataset) else one for one in chosen],
            amount=amount,
            view=find_view(view) if view is not None else None,
            delete=delete,
            overwrite=overwrite,
            progress=progress,
        )

    def close(self) -> None:
        """End the processes and close the cache."""
        self._reader.close()

    def __enter__(self) -> ImageCatalog:  # noqa: PYI034  # Self is there from Python 3.11 on
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _catalog_of, (self._reader,)

    def __repr__(self) -> str:
        return f"ImageCatalog({self._settings.catalog!r})"


def _catalog_of(reader: LibraryReader) -> ImageCatalog:
    catalog = ImageCatalog.__new__(ImageCatalog)
    catalog._settings, catalog._reader = reader.settings, reader  # noqa: SLF001  # this is how it is made
    return catalog


class ImageNames(Sequence[str]):
    """The stems of a dataset's images, in the catalog's order; made when they are looked at.

    Args:
        listing: of the dataset.
    """

    def __init__(self, listing: Listing) -> None:
        self._listing = listing

    def __len__(self) -> int:
        return len(self._listing)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        """The stem at a place, or those of several."""
        chosen = range(len(self))[place]
        if isinstance(chosen, range):
            return [self._listing.stem(index).decode() for index in chosen]
        return self._listing.stem(chosen).decode()

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._listing.find(name.encode(errors="surrogatepass")) >= 0

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self[:MOST_SHOWN]))
        return f"ImageNames([{shown}{', …' if len(self) > MOST_SHOWN else ''}]), {len(self):,} in all"


@dataclass(frozen=True)
class Dataset:
    """One dataset; its files are listed when they are first asked for, and stay those of that revision.

    ``len(dataset)`` is the number of its images, ``name in dataset`` says whether it has one, ``dataset[name]`` reads
    one, ``dataset[0]`` the first one, and iterating reads all of them.

    Attributes:
        row: what the catalog says of it: `label_version`, `image_type`, `classes`, `size`, `note`, …
    """

    row: DatasetRow
    _reader: LibraryReader = field(repr=False, compare=False)

    @property
    def id(self) -> str:
        """The dataset's id, for example ``original_20200207_fisheye_rbbox``."""
        return self.row.dataset_id

    @property
    def names(self) -> ImageNames:
        """The stems of its images, in the catalog's order; reads no blob."""
        return ImageNames(self._listing)

    def __len__(self) -> int:
        return len(self._listing)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __iter__(self) -> Iterator[LabelledImage]:
        """Read all images with their annotations, in the catalog's order and a little ahead.

        Raises:
            StoreError: bytes cannot be had, or are not what the catalog says.
            AnnotationError: an annotation does not parse. This ends the iteration; to go on all the same, go over
                `names` and read ``dataset[name]`` one by one.
        """
        return map_in_order(self._read, range(len(self._listing)), threads=READING_THREADS)

    def __getitem__(self, name: str | SupportsIndex) -> LabelledImage:
        """Read one image with its annotation.

        Args:
            name: the image's stem, or its place in the catalog's order, from 0; below 0 from the end.

        Raises:
            NotInCatalog: there is no such image.
            IndexError: there is none at this place.
            TypeError: it is neither a stem nor a number.
            StoreError: bytes cannot be had, or are not what the catalog says.
            AnnotationError: the annotation does not parse.
        """
        if isinstance(name, str):
            return self._read(self._index(name))
        try:
            place = operator.index(name)
        except TypeError:
            raise TypeError(f"An image is chosen by its stem or its number, not by {name!r}.") from None
        count = len(self)
        if not -count <= place < count:
            raise IndexError(f"The dataset {self.id} has {count} images; there is none at {place}.")
        return self._read(place % count)

    def image(self, name: str) -> Image.Image:
        """Read and decode an image alone; see `__getitem__` and `LabelledImage.image`."""
        return LabelledImage(name, self.content(name), None).image

    def content(self, name: str) -> bytes:
        """Read an image file alone; see `__getitem__`."""
        return self._content(self._index(name))

    def annotation(self, name: str) -> Annotation | None:
        """Read an annotation alone, None if the image has none; see `__getitem__`."""
        return self._annotation(self._index(name))

    def file_name(self, name: str) -> str:
        """The image's file name: its stem with its extension.

        Raises:
            NotInCatalog: there is no such image.
        """
        return f"{name}.{self._listing.ext(self._index(name))}"

    def __repr__(self) -> str:
        return f"Dataset({self.id!r}, {self.row.size:,} images)"

    def _repr_html_(self) -> str:
        """What the catalog says of it as a table, for a notebook."""
        return _html_table([f"{_head(column)}{_cell(self.row, column)}" for column in COLUMNS])

    def __reduce__(self) -> tuple[Any, ...]:
        # Without the listing, which is mapped; where it is taken out, it is read when it is first needed.
        return Dataset, (self.row, self._reader)

    @cached_property
    def _listing(self) -> Listing:
        return self._reader.listing(self.id)

    def _index(self, name: str) -> int:
        index = self._listing.find(name.encode(errors="surrogatepass"))
        if index < 0:
            raise NotInCatalog(
                f"There is no image {name!r} in the dataset {self.id}; dataset.names gives those there are, "
                "without their extensions."
            )
        return index

    def _read(self, index: int) -> LabelledImage:
        return LabelledImage(self._listing.stem(index).decode(), self._content(index), self._annotation(index))

    def _content(self, index: int) -> bytes:
        listing = self._listing
        return self._reader.read(listing, listing.images, index)

    def _annotation(self, index: int) -> Annotation | None:
        return self._reader.annotation(self._listing, index)


@dataclass(frozen=True, eq=False)
class Datasets(Mapping[str, "Dataset"]):
    """Some of a catalog's datasets by their ids, in the order of these or as `of` was asked for them.

    A mapping: iterating gives ids, ``datasets[dataset_id]`` a `Dataset`, ``datasets.values()`` all of them.
    """

    _by_id: Mapping[str, Dataset]

    @property
    def ids(self) -> tuple[str, ...]:
        """Their ids."""
        return tuple(self._by_id)

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_id)

    def __contains__(self, dataset_id: object) -> bool:
        return dataset_id in self._by_id

    def __getitem__(self, dataset_id: str) -> Dataset:
        """The dataset of an id.

        Raises:
            ConfigurationError: there is none; the message names near ones.
        """
        find_datasets(self._rows, [dataset_id])
        return self._by_id[dataset_id]

    def get(self, dataset_id: str, default: Any = None) -> Any:
        """The dataset of an id, or something else if there is none."""
        return self._by_id.get(dataset_id, default)

    def select(self, *conditions: str) -> Datasets:
        """The datasets that meet every condition.

        Args:
            conditions: each ``COLUMN=VALUE``, for example ``image_type=fisheye360`` or ``source=original``; a
                list-valued column such as ``class`` matches by any of its values.

        Raises:
            ConfigurationError: a condition is not of that form, or its column is unknown.
        """
        return self.of(row.dataset_id for row in matching(self._rows, conditions))

    def of(self, dataset_ids: Iterable[str]) -> Datasets:
        """The datasets of these ids, in the order given.

        Raises:
            ConfigurationError: one is unknown; the message names near ones.
        """
        found = find_datasets(self._rows, list(dataset_ids))
        return Datasets({row.dataset_id: self._by_id[row.dataset_id] for row in found})

    def __repr__(self) -> str:
        return f"Datasets({', '.join(self.ids)})"

    def _repr_html_(self) -> str:
        """The table of the datasets, for a notebook."""
        lines = ["".join(_cell(row, column) for column in COLUMNS) for row in self._rows[:MOST_ROWS]]
        more = f"<p>{len(self) - len(lines):,} more</p>" if len(self) > len(lines) else ""
        return _html_table(["".join(map(_head, COLUMNS)), *lines]) + more

    @property
    def _rows(self) -> list[DatasetRow]:
        return [dataset.row for dataset in self._by_id.values()]


def _html_table(rows: Iterable[str]) -> str:
    return f"<table>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


def _head(column: str) -> str:
    return f'<th style="text-align: left">{column}</th>'


def _cell(row: DatasetRow, column: str) -> str:
    # A table is as wide as its longest words, and is cut where the page ends: notes have long ones. Ids stay whole:
    # people copy them.
    width = "overflow-wrap: anywhere; min-width: 12em" if column == "note" else "white-space: normal"
    return f'<td style="text-align: left; {width}">{html.escape(", ".join(column_values(row, column)))}</td>'
