"""The Python API: a catalog's datasets, images and annotations as typed objects, without a mount.

::

    with imgsyncfs.connect("postgresql://reader@db.example.com/datasets") as catalog:
        dataset = catalog.datasets["original_20200207_fisheye_rbbox"]
        print(dataset.row.classes, len(dataset))
        for name, image, annotation in dataset:      # in the catalog's order; bytes, and labels as typed objects
            ...
        annotation = dataset.annotation("original_20200207_fisheye_rbbox_00079")

It is a door to the same library as the mount: it shares the mount's disk cache, verifies what it reads, goes on with
what is cached while the network is away, and raises `imgsyncfs.errors` and nothing else on purpose. Objects may be used
by several threads at once; nothing here needs the main thread, handles signals or minds a running event loop.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from imgsyncfs.annotation import Annotation, parse_annotation
from imgsyncfs.catalog.listing import FileRecord, Listing
from imgsyncfs.catalog.rows import DatasetRow
from imgsyncfs.catalog.url import SqliteUrl, parse_catalog_url
from imgsyncfs.config import load_configuration, store_credentials
from imgsyncfs.dataset_table import matching
from imgsyncfs.errors import AnnotationError, CatalogMissing, ConfigurationError, StoreUnreachable
from imgsyncfs.library import Library
from imgsyncfs.library_settings import LibrarySettings
from imgsyncfs.parallel import map_in_order
from imgsyncfs.store import open_store
from imgsyncfs.subscription import find_datasets, find_subscription, members

if TYPE_CHECKING:
    from imgsyncfs.progress import Progress
    from imgsyncfs.sync import SyncSummary

logger = logging.getLogger(__name__)

DEFAULT_CACHE_BYTES = 20 << 30
"""As for the mount, with which the cache is shared."""

READING_THREADS = 8
"""How many images an iteration reads at once: a store that answers in 20 ms then gives 400 loose blobs a second and not
50."""


def connect(
    url: str | None = None,
    *,
    password: str | None = None,
    config: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    cache_size: int = DEFAULT_CACHE_BYTES,
    timeout: float = 30.0,
) -> ImageCatalog:
    """Open a catalog and what is behind it: its stores and the disk cache.

    Args:
        url: a path to an SQLite file, or a URL as `imgsyncfs.catalog.url` lists them, without a password in it. None:
            the one in ``IMGSYNCFS_CATALOG`` or the config file.
        password: for the catalog. None: the one in ``IMGSYNCFS_PASSWORD`` or the config file.
        config: a config file instead of the usual ones.
        cache_dir: folder of the disk cache instead of the configured one.
        cache_size: most bytes that the cache keeps.
        timeout: seconds that one answer of the catalog, or one read, may take.

    Returns:
        The catalog; to be used in a ``with`` statement, or closed, since processes of its own bring the bytes.

    Raises:
        ConfigurationError: no catalog was given; an option, the URL or the config file makes no sense; or a driver is
            not installed.
        CatalogError: the catalog cannot be read, and was never read before with this cache.
        CacheError: the cache folder cannot be used.
    """
    configuration = load_configuration(None if config is None else Path(config))
    given = url or configuration.catalog
    if not given:
        raise ConfigurationError(
            "No catalog was given; pass its URL, or set IMGSYNCFS_CATALOG. "
            "To try imgsyncfs out, make one with: imgsyncfs demo DIR"
        )
    folder = Path(configuration.cache_dir if cache_dir is None else cache_dir).expanduser().absolute()
    return ImageCatalog(
        LibrarySettings(
            catalog=_independent_url(given),
            password=configuration.password if password is None else password,
            stores={store: dict(section) for store, section in configuration.stores.items()},
            cache_dir=str(folder),
            cache_size=cache_size,
            timeout=timeout,
            siblings=(),
        )
    )


class LabelledImage(NamedTuple):
    """One image of a dataset.

    Attributes:
        name: the file's stem; `Dataset.file_name` has it with its extension.
        image: the image file's bytes, as published.
        annotation: its labels in the dataset's label version; None if there are none, not even empty ones.
    """

    name: str
    image: bytes
    annotation: Annotation | None


class _Reader:
    """A library for as long as it is open."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._closed = False

    @property
    def library(self) -> Library:
        if self._closed:
            raise ConfigurationError("This catalog is closed; read within its with block, or connect again.")
        return self._library

    def listing(self, dataset_id: str) -> Listing:
        return self.library.mirror.listing(dataset_id)

    def read(self, listing: Listing, record: FileRecord) -> bytes:
        return self.library.contents.read_whole(listing, record)

    def close(self) -> None:
        self._closed = True
        self._library.close()


@dataclass(frozen=True)
class Dataset:
    """One dataset; its files are listed when they are first asked for, and stay those of that revision.

    ``len(dataset)`` is the number of its images, ``name in dataset`` says whether it has one, ``dataset[name]`` reads
    one, and iterating reads all of them.

    Attributes:
        row: what the catalog says of it: `label_version`, `image_type`, `classes`, `size`, `note`, …
    """

    row: DatasetRow
    _reader: _Reader = field(repr=False, compare=False)

    @property
    def id(self) -> str:
        """The dataset's id, for example ``original_20200207_fisheye_rbbox``."""
        return self.row.dataset_id

    @property
    def names(self) -> Iterator[str]:
        """The stems of its images, in the catalog's order; reads no blob."""
        listing = self._listing
        return (listing.stem(index).decode() for index in range(len(listing)))

    def __len__(self) -> int:
        return len(self._listing)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._listing.find(name.encode(errors="surrogatepass")) >= 0

    def __iter__(self) -> Iterator[LabelledImage]:
        """Read all images with their annotations, in the catalog's order and a little ahead.

        Raises:
            StoreError: bytes cannot be had, or are not what the catalog says.
            AnnotationError: an annotation does not parse. This ends the iteration; to go on all the same, go over
                `names` and read ``dataset[name]`` one by one.
        """
        return map_in_order(self._read, range(len(self._listing)), threads=READING_THREADS)

    def __getitem__(self, name: str) -> LabelledImage:
        """Read one image with its annotation.

        Args:
            name: the image's stem.

        Raises:
            CatalogMissing: there is no such image.
            StoreError: bytes cannot be had, or are not what the catalog says.
            AnnotationError: the annotation does not parse.
        """
        return self._read(self._index(name))

    def image(self, name: str) -> bytes:
        """Read an image alone; see `__getitem__`."""
        listing = self._listing
        return self._reader.read(listing, listing.image(self._index(name)))

    def annotation(self, name: str) -> Annotation | None:
        """Read an annotation alone, None if the image has none; see `__getitem__`."""
        return self._annotation(self._index(name))

    def file_name(self, name: str) -> str:
        """The image's file name: its stem with its extension.

        Raises:
            CatalogMissing: there is no such image.
        """
        return f"{name}.{self._listing.ext(self._index(name))}"

    @cached_property
    def _listing(self) -> Listing:
        return self._reader.listing(self.id)

    def _index(self, name: str) -> int:
        index = self._listing.find(name.encode(errors="surrogatepass"))
        if index < 0:
            raise CatalogMissing(
                f"There is no image {name!r} in the dataset {self.id}; dataset.names gives those there are, "
                "without their extensions."
            )
        return index

    def _read(self, index: int) -> LabelledImage:
        listing = self._listing
        image = self._reader.read(listing, listing.image(index))
        return LabelledImage(listing.stem(index).decode(), image, self._annotation(index))

    def _annotation(self, index: int) -> Annotation | None:
        listing = self._listing
        record = listing.annotation(index)
        if record is None:
            return None
        try:
            return parse_annotation(self._reader.read(listing, record))
        except AnnotationError as error:
            raise AnnotationError(
                f"{self.id}/{listing.stem(index).decode()}.json: {error}; mend the annotation and publish it again"
            ) from error


@dataclass(frozen=True)
class Datasets:
    """Datasets in the order of their ids.

    ``len(datasets)`` is their number, iterating gives each `Dataset`, and so does ``datasets[dataset_id]``.
    """

    _by_id: Mapping[str, Dataset]

    @property
    def ids(self) -> tuple[str, ...]:
        """Their ids."""
        return tuple(self._by_id)

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Dataset]:
        return iter(self._by_id.values())

    def __contains__(self, dataset_id: object) -> bool:
        return dataset_id in self._by_id

    def __getitem__(self, dataset_id: str) -> Dataset:
        """The dataset of an id.

        Raises:
            ConfigurationError: there is none; the message names near ones.
        """
        find_datasets(self._rows, [dataset_id])
        return self._by_id[dataset_id]

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

    @property
    def _rows(self) -> list[DatasetRow]:
        return [dataset.row for dataset in self]


class ImageCatalog:
    """An open catalog; `connect` makes it. A context manager: at its end, its processes have ended.

    Args:
        settings: what to open and how.
    """

    def __init__(self, settings: LibrarySettings) -> None:
        self._settings = settings
        self._reader = _Reader(Library(settings))

    @property
    def datasets(self) -> Datasets:
        """All datasets, as the catalog was read last."""
        library = self._reader.library
        return Datasets(
            {entry.row.dataset_id: Dataset(entry.row, self._reader) for entry in library.datasets.values()}
        )

    def subscription(self, name: str) -> Datasets:
        """The datasets of a subscription that is kept in the catalog.

        Raises:
            ConfigurationError: there is none of this name; the message names near ones.
        """
        table = self._reader.library.mirror.table
        datasets = self.datasets
        chosen = members(find_subscription(table.subscriptions, name), table.rows.values())
        return datasets.of(row.dataset_id for row in chosen if row.dataset_id in datasets)

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
        """See that every store of the catalog can be read. One that is merely away is logged: its cache may do.

        Raises:
            ConfigurationError: credentials make no sense, or a package is not installed.
            StoreError: a store is missing, or refuses us.
        """
        urls = sorted({dataset.row.store for dataset in self.datasets})
        for _ in map_in_order(self._check_store, urls, threads=READING_THREADS):
            pass

    def sync(
        self,
        target: str | os.PathLike[str],
        *,
        datasets: Iterable[Dataset | str] | None = None,
        amount: int | None = None,
        delete: bool = False,
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> SyncSummary:
        """Copy datasets to plain folders ``target/<dataset>/<files>``, only what is missing or differs.

        Args:
            target: a folder; made if it is missing.
            datasets: which ones, as objects or ids; None for all.
            amount: how many images of each dataset; the same ones each time. None for all.
            delete: remove files that an earlier run wrote and that are no longer in the catalog.
            overwrite: replace files that somebody changed in the target; otherwise they are kept and reported.
            progress: is told how far the work is.

        Returns:
            What was done, and what was kept.

        Raises:
            ConfigurationError: a dataset is unknown; the message names near ones.
            ImgsyncfsError: see `imgsyncfs.sync.sync`.
        """
        # Late: who only reads needs none of it.
        from imgsyncfs.sync import sync

        known = self.datasets
        named = None if datasets is None else [one.id if isinstance(one, Dataset) else one for one in datasets]
        chosen = known if named is None else known.of(named)
        return sync(
            self._reader.library,
            Path(target),
            datasets=chosen.ids,
            amount=amount,
            delete=delete,
            overwrite=overwrite,
            progress=progress,
        )

    def close(self) -> None:
        """End the processes and close the cache."""
        self._reader.close()

    def __enter__(self) -> ImageCatalog:  # noqa: PYI034  # Self is there from Python 3.11 on
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"ImageCatalog({self._settings.catalog!r})"

    def _check_store(self, url: str) -> None:
        credentials = store_credentials(url, self._settings.stores)
        store = open_store(url, credentials=credentials, timeout=self._settings.timeout)
        try:
            store.check()
        except StoreUnreachable as error:
            logger.warning("%s", error)
        finally:
            store.close()


def _independent_url(url: str) -> str:
    """The same catalog's URL, for processes that may have another working directory."""
    parsed = parse_catalog_url(url)
    return f"sqlite://{parsed.path}" if isinstance(parsed, SqliteUrl) else url
