"""How a mount is doing: the content of ``status.json``."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from imgsyncfs import __version__
from imgsyncfs.catalog import catalog_identity
from imgsyncfs.library.library import Library
from imgsyncfs.mount.coordinator import Coordinator
from imgsyncfs.mount.namespace import Namespace
from imgsyncfs.mount.responders import Responders
from imgsyncfs.settings.mount import MountSettings

WELL, OFFLINE, FAILING = "well", "offline", "failing"

FAILING_SECONDS = 60.0
"""For how long a mount is called failing after the last thing that went wrong."""


@dataclass(frozen=True)
class Reported:
    """The parts of a mount that its status is taken from.

    Attributes:
        settings: what is mounted, where and how.
        since: the Unix time of the mount.
        library: the catalog's datasets.
        namespace: what is shown of them.
        coordinator: brings what the responders lack.
        responders: answer the kernel.
        cache_trouble: why the cache does not keep what it should; empty if it does.
    """

    settings: MountSettings
    since: float
    library: Library
    namespace: Namespace
    coordinator: Coordinator
    responders: Responders
    cache_trouble: str


def health(trouble: str, away: Mapping[str, str], *, has_failed: bool) -> str:
    """How a mount is doing, in one word.

    Args:
        trouble: why the catalog cannot be asked; mostly empty.
        away: URL of each store that cannot be reached to the reason.
        has_failed: whether something went wrong in the last `FAILING_SECONDS`.

    Returns:
        ``failing``: somebody got an error lately; ``offline``: what is cached goes on working, the rest does not;
        ``well``.
    """
    if has_failed:
        return FAILING
    return OFFLINE if trouble or away else WELL


def status_file(mount: Reported) -> bytes:
    """The content of ``status.json``, as it is now."""
    return orjson.dumps(_status(mount), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _status(mount: Reported) -> dict[str, Any]:
    library = mount.library
    table = library.mirror.table
    counts = mount.responders.counts()
    away = library.fetcher.away()
    trouble = library.mirror.trouble
    return {
        "version": __version__,
        "health": health(trouble, away, has_failed=library.errors.has_failed_within(FAILING_SECONDS)),
        "process_id": os.getpid(),
        "mountpoint": mount.settings.mountpoint,
        "mounted_at": int(mount.since),
        "catalog": {
            "url": catalog_identity(mount.settings.library.catalog),
            "datasets": len(table.shown),
            "images": sum(row.size for row in table.shown.values()),
            "read_at": int(table.read_at),
            "trouble": trouble,
        },
        "tree": mount.namespace.tree_status(),
        "listings_loaded": mount.namespace.loaded(),
        "revisions_held": mount.namespace.retired(),
        "cache": {
            "folder": library.settings.cache_dir,
            "size_limit": library.settings.cache_size,
            "keep_free": library.settings.keep_free,
            "bytes": library.cache.volume(),
            **{name: counts[name] for name in ("hits", "misses", "damaged")},
            "trouble": mount.cache_trouble,
        },
        "documents": mount.coordinator.documents.status(),
        "renderings": mount.coordinator.renderings.status(),
        "store": {
            **asdict(library.fetcher.counts()),
            "waiting": mount.coordinator.waiting(),
            "away": away,
        },
        "responders": {
            "process_ids": mount.responders.process_ids(),
            "replaced": mount.responders.replaced(),
            "requests": counts["answered"],
            "renders": counts["renders"],
            "notifications": mount.namespace.notified,
        },
        "workers": {
            "process_ids": library.catalog_pool.process_ids() + library.fetch_pool.process_ids(),
            "replaced": library.catalog_pool.replaced() + library.fetch_pool.replaced(),
        },
        "slow": mount.coordinator.slow.status(),
        "threads": threading.active_count(),
        "errors": library.errors.count(),
        "errors_by_kind": library.errors.kinds(),
    }
