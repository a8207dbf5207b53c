"""A library for the Python API: it refuses to be used when it is closed, and follows its user into other processes.

A data loader forks workers, or spawns them and sends them what they need. A library's processes and connections belong
to the process that opened it: after a fork, and out of a pickle, another one is opened when it is first needed. All
that come out of pickles with the same settings share one, until it is closed.

Threads: `LibraryReader._lock` is held while a library is opened, and `_lock` for dictionary operations; both are new in
a forked process, where a thread that is not there may have held them.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgsyncfs.annotations.house_format import Annotation
from imgsyncfs.errors import AnnotationError, ConfigurationError
from imgsyncfs.fetching.contents import extents_of
from imgsyncfs.library.configuration import store_sections
from imgsyncfs.library.library import Library
from imgsyncfs.library.listed_annotations import shown_annotation
from imgsyncfs.settings.config_file import load_configuration
from imgsyncfs.settings.library import LibrarySettings
from imgsyncfs.workers.environment import log_in_section

if TYPE_CHECKING:
    from imgsyncfs.catalog.listing import Listing
    from imgsyncfs.catalog.listing.files import FileTable

_lock = threading.Lock()
_readers: weakref.WeakSet[LibraryReader] = weakref.WeakSet()
_unpickled: weakref.WeakValueDictionary[str, LibraryReader] = weakref.WeakValueDictionary()


class LibraryReader:
    """Reads from a library.

    Args:
        settings: what to open and how.
        config: the config file that they come from; None for the usual ones.
    """

    def __init__(self, settings: LibrarySettings, config: Path | None = None) -> None:
        self._settings = settings
        self._config = config
        self._lock = threading.Lock()
        self._library: Library | None = None
        self._of_parent: list[Library | None] = []
        self._closed = False
        with _lock:
            _readers.add(self)

    @property
    def settings(self) -> LibrarySettings:
        """What is opened and how."""
        return self._settings

    @property
    def is_closed(self) -> bool:
        """Whether it refuses to read."""
        return self._closed

    @property
    def library(self) -> Library:
        """The library, open in this process.

        Raises:
            ConfigurationError: it is closed.
            CatalogError: it has to be opened, and the catalog cannot be read.
            CacheError: likewise, and the cache folder cannot be used.
        """
        if self._closed:
            raise ConfigurationError("This catalog is closed; read within its with block, or connect again.")
        with self._lock:
            if self._library is None:
                self._library = Library(self._settings)
            return self._library

    def listing(self, dataset_id: str) -> Listing:
        """The files of a dataset; see `imgsyncfs.catalog.mirror.CatalogMirror.listing`."""
        return self.library.mirror.listing(dataset_id)

    def read(self, listing: Listing, files: FileTable, index: int) -> bytes:
        """A whole file; see `imgsyncfs.fetching.contents.ContentReader.read_whole`."""
        return self.library.contents.read_whole(listing, files, index)

    def annotation(self, listing: Listing, index: int) -> Annotation | None:
        """Read the annotation of an image.

        Args:
            listing: of the image.
            index: of the image in it.

        Returns:
            The annotation; None if there is none.

        Raises:
            StoreError: its bytes cannot be had, or are not what the catalog says.
            AnnotationError: it does not parse; the message names the file.
        """
        if not listing.has_annotation(index):
            return None
        try:
            return shown_annotation(self.read(listing, listing.annotations, index), listing.facts.choice)
        except AnnotationError as error:
            name = f"{listing.dataset_id}/{listing.stem(index).decode()}.json"
            raise AnnotationError(f"{name}: {error}; mend the annotation and publish it again") from error

    def begin(self, listing: Listing, indices: Sequence[int]) -> None:
        """Have images fetched with their annotations that will be read next, in whatever order; does not wait.

        What lies in one extent comes with one request, and requests overlap.

        Args:
            listing: of the images.
            indices: of the images in it.

        Raises:
            StoreNotAllowed: their store may not be read.
        """
        library = self.library
        for store in listing.stores:
            library.check_store(store)
        annotated = filter(listing.has_annotation, indices)
        extents = [*extents_of(listing, listing.images, indices), *extents_of(listing, listing.annotations, annotated)]
        library.fetcher.begin([extent for extent in extents if library.fetcher.opened(extent.key) is None])

    def close(self) -> None:
        """Close the library; nothing is read any more."""
        self._closed = True
        with self._lock:
            library, self._library = self._library, None
        if library is not None:
            library.close()

    def forget_parent(self) -> None:
        """Leave the library of the process that this one was forked from alone: it is not closed, nor collected."""
        self._lock = threading.Lock()
        self._of_parent.append(self._library)
        self._library = None

    def __reduce__(self) -> tuple[Any, ...]:
        # Nothing secret goes into a pickle: whoever takes it out has the config file and the environment.
        return _from_pickle, (replace(self._settings, password=None, stores={}, log_in={}), self._config)


def _from_pickle(settings: LibrarySettings, config: Path | None) -> LibraryReader:
    configuration = load_configuration(config, profile=settings.profile or None).at(settings.catalog).with_secrets()
    full = replace(
        settings,
        password=configuration.password,
        stores=store_sections(configuration),
        log_in=log_in_section(),
    )
    key = repr((settings, config))
    made = LibraryReader(full, config)
    with _lock:
        known = _unpickled.setdefault(key, made)
        if known.is_closed:
            _unpickled[key] = known = made
    return known


def _begin_anew() -> None:
    """In a process that was forked just now."""
    global _lock  # the one thing of the module that a fork may leave locked
    _lock = threading.Lock()
    for reader in list(_readers):
        reader.forget_parent()


os.register_at_fork(after_in_child=_begin_anew)
