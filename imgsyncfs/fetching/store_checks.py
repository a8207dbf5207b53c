"""Check that stores can be read before anything is mounted, so that the person who mounts sees what is wrong.

A worker does it: the coordinator does not import what speaks to stores.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from imgsyncfs.errors import ConfigurationError, StoreError, StoreNotAllowed, StoreUnreachable, WorkerLost
from imgsyncfs.workers.pool import WorkerPool
from imgsyncfs.workers.trial import Trial

MOST_STORES_CHECKED = 8
"""A catalog may name a store for each dataset; a mount does not wait for all of them."""

MOST_NAMED = 3
"""Datasets that a sentence about a store names."""

CACHED_SECONDS = 1.5
"""How long a store may take to answer of which the cache has something: a mount shows that without it."""

START_SECONDS = 10.0
"""Beside the time limit for the store: importing what speaks to it takes half a second, on a busy machine several."""


def check_stores(
    pool: WorkerPool,
    datasets: Mapping[str, Sequence[str]],
    *,
    timeout: float,
    own_store: str,
    is_cached: Callable[[str], bool] = lambda _: False,
) -> dict[str, StoreError]:
    """Check that stores can be read; of many, the ones with most datasets.

    A store that cannot be read keeps no other from being mounted. One that is unreachable, or of which the cache has
    something, keeps nothing from being mounted.

    Args:
        pool: workers that run `imgsyncfs.fetching.worker.ExtentFetcher`.
        datasets: URL of each store to the ids of the datasets that lie in it.
        timeout: seconds that a store may take to answer.
        own_store: URL of the catalog's own store.
        is_cached: says whether the cache has something of a store.

    Returns:
        The URL of each store that cannot be read to a sentence on it, with its datasets.

    Raises:
        ConfigurationError: none of the stores can be read; the URL or the credentials of the first one make no sense,
            or a package is not installed.
        StoreError: likewise; the first one is missing, or refuses us.
    """
    deadline = time.monotonic() + timeout + START_SECONDS
    urls = sorted(datasets, key=lambda url: (-len(datasets[url]), url))
    trials = {
        url: Trial(partial(pool.submit, {"check": url, "own_store": own_store})) for url in urls[:MOST_STORES_CHECKED]
    }
    unreadable: dict[str, StoreError] = {}
    faults: list[ConfigurationError | StoreError] = []
    for url, trial in trials.items():
        # What is cached is there without it.
        seconds = CACHED_SECONDS if is_cached(url) else timeout
        if trial.hangs(seconds, most=deadline - time.monotonic()):
            unreadable[url] = StoreUnreachable(
                f"The store {url} did not answer within {seconds:g} s; check the network."
            )
            continue
        try:
            trial.answer.result(0.0)
        except (StoreUnreachable, StoreNotAllowed) as error:
            unreadable[url] = error
        except WorkerLost as error:
            unreadable[url] = StoreUnreachable(str(error))
        except (ConfigurationError, StoreError) as error:
            if isinstance(error, ConfigurationError) or not is_cached(url):
                faults.append(error)
            kind = type(error) if isinstance(error, StoreError) else StoreError
            unreadable[url] = kind(f"{error} What cannot be read for that: {_named(datasets[url])}.")
    if faults and len(faults) == len(urls):
        raise faults[0]
    return unreadable


def _named(datasets: Sequence[str]) -> str:
    others = len(datasets) - MOST_NAMED
    return ", ".join(datasets[:MOST_NAMED]) + (f" and {others:,} datasets more" if others > 0 else "")
