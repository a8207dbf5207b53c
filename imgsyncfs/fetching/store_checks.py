"""Check that stores can be read before anything is mounted, so that the person who mounts sees what is wrong.

A worker does it: the coordinator does not import what speaks to stores.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError

from imgsyncfs.errors import ConfigurationError, StoreError, StoreNotAllowed, StoreUnreachable, WorkerLost
from imgsyncfs.workers.pool import WorkerPool

MOST_STORES_CHECKED = 8
"""A catalog may name a store for each dataset; a mount does not wait for all of them."""

MOST_NAMED = 3
"""Datasets that a sentence about a store names."""

START_SECONDS = 10.0
"""Beside the time limit for the store: importing what speaks to it takes half a second, on a busy machine several."""


def check_stores(
    pool: WorkerPool, datasets: Mapping[str, Sequence[str]], *, timeout: float, own_store: str
) -> list[str]:
    """Check that stores can be read; of many, the ones with most datasets.

    A store that cannot be read keeps no other from being mounted. One that is unreachable keeps nothing from being
    mounted: the cache may have its content.

    Args:
        pool: workers that run `imgsyncfs.fetching.worker.ExtentFetcher`.
        datasets: URL of each store to the ids of the datasets that lie in it.
        timeout: seconds that a store may take to answer.
        own_store: URL of the catalog's own store.

    Returns:
        A sentence on each store that cannot be read, with its datasets.

    Raises:
        ConfigurationError: none of the stores can be read; the URL or the credentials of the first one make no sense,
            or a package is not installed.
        StoreError: likewise; the first one is missing, or refuses us.
    """
    deadline = time.monotonic() + timeout + START_SECONDS
    urls = sorted(datasets, key=lambda url: (-len(datasets[url]), url))
    answers = {url: pool.submit({"check": url, "own_store": own_store}) for url in urls[:MOST_STORES_CHECKED]}
    unreadable: list[str] = []
    faults: list[ConfigurationError | StoreError] = []
    for url, answer in answers.items():
        try:
            answer.result(max(0.0, deadline - time.monotonic()))
        except (StoreUnreachable, StoreNotAllowed, WorkerLost) as error:
            unreadable.append(str(error))
        except FutureTimeoutError:
            unreadable.append(f"The store {url} did not answer within {timeout:g} s; check the network.")
        except (ConfigurationError, StoreError) as error:
            faults.append(error)
            unreadable.append(f"{error} What cannot be read for that: {_named(datasets[url])}.")
    if faults and len(faults) == len(urls):
        raise faults[0]
    return unreadable


def _named(datasets: Sequence[str]) -> str:
    others = len(datasets) - MOST_NAMED
    return ", ".join(datasets[:MOST_NAMED]) + (f" and {others:,} datasets more" if others > 0 else "")
