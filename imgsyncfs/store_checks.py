"""See that stores can be read, before anything is mounted: what is wrong is told to whoever mounts.

A worker does it, so that the daemon need not import what speaks to them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import TimeoutError as FutureTimeoutError

from imgsyncfs.errors import StoreNotAllowed, StoreUnreachable
from imgsyncfs.workers import WorkerPool

MOST_STORES_CHECKED = 8
"""A catalog may name a store for each dataset; a mount need not wait for all of them."""

START_SECONDS = 10.0
"""Beside the time limit for the store: importing what speaks to it takes half a second, on a busy machine several."""


def check_stores(pool: WorkerPool, urls: Iterable[str], *, timeout: float, own_store: str) -> list[str]:
    """See that stores can be read; of many, some.

    A store that is merely away is no reason not to mount: what was read before is in the cache.

    Args:
        pool: workers that run `imgsyncfs.extent_fetcher.ExtentFetcher`.
        urls: of the stores.
        timeout: seconds that a store may take to answer.
        own_store: URL of the catalog's own store.

    Returns:
        What is to be told of those that are away, or may not be read.

    Raises:
        ConfigurationError: credentials make no sense, or a package is not installed.
        StoreError: a store is missing, or refuses us.
    """
    deadline = time.monotonic() + timeout + START_SECONDS
    answers = {
        url: pool.submit({"check": url, "own_store": own_store}) for url in sorted(set(urls))[:MOST_STORES_CHECKED]
    }
    away = []
    for url, answer in answers.items():
        try:
            answer.result(max(0.0, deadline - time.monotonic()))
        except (StoreUnreachable, StoreNotAllowed) as error:
            away.append(str(error))
        except FutureTimeoutError:
            away.append(f"The store {url} did not answer within {timeout:g} s; check the network.")
    return away
