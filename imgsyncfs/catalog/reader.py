"""The worker's side of reading a catalog for a mount: the table of datasets, and listings, saved as files.

The daemon never speaks SQL: turning a million rows into Python values would keep its interpreter lock busy for seconds.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from imgsyncfs.catalog import Catalog, open_catalog
from imgsyncfs.catalog.listing import read_listing, save_listing
from imgsyncfs.errors import CatalogError


class CatalogReader:
    """Answers the daemon's questions about a catalog; one connection a thread.

    Args:
        settings: ``url``, ``password`` and ``timeout`` (seconds) of the catalog.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        # These are a worker's own threads, which live as long as it does: a thread-local is safe here.
        self._local = threading.local()

    def handle(self, arguments: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """Do one job.

        Args:
            arguments: ``question`` is "datasets" (with ``known``, the digest of the table the asker has) or "listing"
                (with ``dataset`` and ``folder``, where to save it).

        Returns:
            For "datasets" the digest, and datasets and subscriptions as JSON unless the asker has them. For "listing"
            the revision and the path it was saved to; a revision of None if there is no such dataset.

        Raises:
            CatalogError: the catalog cannot be read.
        """
        try:
            if arguments["question"] == "datasets":
                return self._datasets(arguments["known"])
            return self._listing(arguments["dataset"], Path(arguments["folder"]))
        except CatalogError:
            # The next job begins with a fresh connection: this one may be broken.
            self._disconnect()
            raise

    def _datasets(self, known: str) -> tuple[dict[str, Any], bytes]:
        catalog = self._connect()
        table = {
            "datasets": [asdict(row) for row in catalog.datasets()],
            "subscriptions": [asdict(row) for row in catalog.subscriptions()],
        }
        content = orjson.dumps(table)
        digest = hashlib.sha256(content).hexdigest()
        return {"digest": digest}, b"" if digest == known else content

    def _listing(self, dataset: str, folder: Path) -> tuple[dict[str, Any], bytes]:
        listing = read_listing(self._connect(), dataset)
        if listing is None:
            return {"revision": None, "path": ""}, b""
        path = folder / str(listing.revision)
        save_listing(listing, path)
        return {"revision": listing.revision, "path": str(path)}, b""

    def _connect(self) -> Catalog:
        catalog: Catalog | None = getattr(self._local, "catalog", None)
        if catalog is None:
            settings = self._settings
            catalog = open_catalog(settings["url"], password=settings["password"], timeout=settings["timeout"])
            catalog.check()
            self._local.catalog = catalog
        return catalog

    def _disconnect(self) -> None:
        catalog: Catalog | None = getattr(self._local, "catalog", None)
        self._local.catalog = None
        if catalog is not None:
            catalog.close()
