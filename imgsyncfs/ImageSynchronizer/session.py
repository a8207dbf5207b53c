"""The notebook's way to a catalog: look at the table of datasets, subscribe to some, copy them to a folder.

Prints what its predecessor printed: people watch these lines in a notebook's cells.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

from imgsyncfs.api import Datasets, ImageCatalog, connect
from imgsyncfs.errors import ConfigurationError, SyncError
from imgsyncfs.ImageSynchronizer.data_frames import datasets_frame, load_pandas
from imgsyncfs.ImageSynchronizer.printed_progress import PrintedProgress

if TYPE_CHECKING:
    import pandas as pd

MOST_NAMED = 20
"""A cell's output should stay readable when 100,000 files were changed."""


class synchronizer:  # noqa: N801  # the name in the users' notebooks
    """A catalog for notebooks. Nothing stays open between calls, so that nothing needs to be closed.

    Args:
        server: of SQL Server, as it was given of old: ``name.database.windows.net``, also ``tcp:name,1433``.
        database: its name there.
        username: who logs in.
        password: None: the one in ``IMGSYNCFS_PASSWORD`` or the config file.
        url: any catalog's URL, instead of server, database and username; see `imgsyncfs.connect`. Where none of them
            is given: the one in ``IMGSYNCFS_CATALOG`` or the config file.
        config: a config file instead of the usual ones.
        cache_dir: folder of the disk cache instead of the configured one.
        allow_stores: URLs of stores that datasets may lie in, or below, beside the catalog's own.

    Raises:
        ConfigurationError: no catalog is named, or in two ways; or pandas is not installed.
        CatalogError: the catalog cannot be read.
        StoreError: a store is missing, or refuses us.
    """

    def __init__(
        self,
        server: str | None = None,
        database: str | None = None,
        username: str | None = None,
        password: str | None = None,
        *,
        url: str | None = None,
        config: str | os.PathLike[str] | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        allow_stores: Iterable[str] = (),
    ) -> None:
        load_pandas()
        self._url = _catalog_url(server, database, username, url)
        self._password = password
        self._config = config
        self._cache_dir = cache_dir
        self._allow_stores = tuple(allow_stores)
        self._subscribed: tuple[str, ...] = ()
        print("Connecting to Azure database....")
        with self._connect() as catalog:
            self._datasets = catalog.datasets
            print("Connecting to data storage...")
            catalog.check_stores()

    @property
    def datasetsInfo(self) -> pd.DataFrame:  # noqa: N802  # the name in the users' notebooks
        """All datasets, as the catalog was read last: when this object was made, or at the last update.

        Columns: datasetID, label_version, image_type, classes, projects, label_type, size, note. The frame is the
        caller's own.
        """
        return _frame(self._datasets)

    @property
    def datasetsInfo_subscribed(self) -> pd.DataFrame:  # noqa: N802  # the name in the users' notebooks
        """The rows of `datasetsInfo` that were subscribed, in that order, with the index that they have there."""
        places = {dataset_id: place for place, dataset_id in enumerate(self._datasets)}
        chosen: pd.DataFrame = self.datasetsInfo.iloc[[places[dataset_id] for dataset_id in self._subscribed]]
        return chosen

    def subscribe(self, datasets: Iterable[str]) -> None:
        """Choose the datasets to copy, in place of those chosen before. The choice is kept in this object only.

        `imgsyncfs.catalog.subscriptions` and the command ``imgsyncfs subscribe`` keep choices in the catalog.

        Args:
            datasets: ids; a column of `datasetsInfo` as well.

        Raises:
            ConfigurationError: one is unknown; the message names near ones.
        """
        # A lone id is an iterable of its letters.
        chosen = [datasets] if isinstance(datasets, str) else datasets
        self._subscribed = self._datasets.of(chosen).ids

    def update_subscription(
        self,
        target_path: str | os.PathLike[str],
        amount: int | None = None,
        *,
        delete: bool = False,
        overwrite: bool = False,
    ) -> None:
        """Copy the subscribed datasets to ``target_path/<dataset>/``: what is missing there, or differs.

        Args:
            target_path: a folder; made if it is missing.
            amount: how many images of each dataset, the same ones each time; None for all.
            delete: remove what an earlier call wrote and what is no longer in the catalog.
            overwrite: replace files that somebody changed there; otherwise they are kept, and named.

        Raises:
            ConfigurationError: nothing is subscribed, or a subscribed dataset is no longer in the catalog.
            SyncError: some files could not be copied, and are named; or the folder cannot be used.
            ImgsyncfsError: see `imgsyncfs.api.ImageCatalog.sync`.
        """
        if not self._subscribed:
            raise ConfigurationError("Nothing is subscribed yet; call subscribe(datasets=[…]) first.")
        with self._connect() as catalog:
            self._datasets = catalog.datasets
            with PrintedProgress() as progress:
                summary = catalog.sync(
                    target_path,
                    datasets=self._subscribed,
                    amount=amount,
                    delete=delete,
                    overwrite=overwrite,
                    progress=progress,
                )
        _print_named("Changed by somebody, and kept (overwrite=True replaces it)", summary.changed)
        _print_named("Failed", [f"{failure.path}: {failure.reason}" for failure in summary.failed])
        if summary.failed:
            raise SyncError(f"{len(summary.failed)} files could not be copied, see above; update again to go on.")
        print("Synchronization complete!")

    def __repr__(self) -> str:
        return f"synchronizer(url={self._url!r}, subscribed={list(self._subscribed)!r})"

    def _connect(self) -> ImageCatalog:
        return connect(
            self._url,
            password=self._password,
            config=self._config,
            cache_dir=self._cache_dir,
            allow_stores=self._allow_stores,
        )


def _print_named(what: str, names: Sequence[str]) -> None:
    for name in names[:MOST_NAMED]:
        print(f"{what}: {name}")
    if len(names) > MOST_NAMED:
        print(f"{what}: {len(names) - MOST_NAMED} more")


def _frame(datasets: Datasets) -> pd.DataFrame:
    return datasets_frame(dataset.row for dataset in datasets.values())


def _catalog_url(server: str | None, database: str | None, username: str | None, url: str | None) -> str | None:
    """The URL of the one catalog that is named; None if none is."""
    if server is None and database is None and username is None:
        return url
    if url is not None:
        raise ConfigurationError("The catalog is named twice; give server, database and username, or the url.")
    if not server or not database or not username:
        raise ConfigurationError("One of server, database and username is missing; give all three, or the url.")
    return server_url(server, database, username)


def server_url(server: str, database: str, username: str) -> str:
    """The URL of a catalog in SQL Server.

    Args:
        server: as ODBC takes it: ``name.database.windows.net``, also ``tcp:name,1433``.
        database: its name there.
        username: who logs in.

    Returns:
        A URL for `imgsyncfs.connect`.
    """
    host, _, port = server.strip().removeprefix("tcp:").partition(",")
    authority = f"{quote(username, safe='')}@{host.strip()}"
    return f"mssql://{authority}{f':{port.strip()}' if port else ''}/{quote(database, safe='')}"
