"""What `imgsyncfs check` looks at, one function a thing: each says how it is, and none mounts or leaves anything."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from imgsyncfs.errors import ConfigurationError, ImgsyncfsError, StoreError
from imgsyncfs.library.configuration import catalog_url
from imgsyncfs.mount.mountpoint import check_libfuse, check_system, lets_users_allow_others
from imgsyncfs.settings.config_file import Configuration, read_config_file
from imgsyncfs.settings.limits import disk_space, parse_limits
from imgsyncfs.settings.private_folders import cache_folder, own_folder_fault
from imgsyncfs.stores.credentials import StoreCredentials, store_credentials

if TYPE_CHECKING:
    from imgsyncfs.catalog import Catalog
    from imgsyncfs.stores.contract import Store

GOOD, ODD, BAD = "good", "odd", "bad"

LATENCY_ROUNDS = 5
READS = 3
READ_BYTES = 4 << 20
MOST_STORES = 8
SOON_SECONDS = 24 * 3600
MOST_SKEW_SECONDS = 60.0
"""A signature that begins now is not taken by a server whose clock is behind."""

_GIBIBYTE = 1 << 30


@dataclass(frozen=True)
class Found:
    """How one thing is.

    Attributes:
        name: of the thing.
        state: `GOOD`; `ODD` for what may be meant to be so; `BAD` for what keeps a mount from working.
        text: how it is, and unless it is good the remedy.
    """

    name: str
    state: str
    text: str


def guarded(name: str, look: Callable[[], Iterator[Found]]) -> list[Found]:
    """Look at a thing; what fails is bad."""
    found: list[Found] = []
    try:
        found.extend(look())
    except ImgsyncfsError as error:
        found.append(Found(name, BAD, str(error)))
    return found


def machine() -> Iterator[Found]:
    """Python, and FUSE."""
    yield Found("Python", GOOD, f"{platform.python_version()} on {platform.platform(terse=True)}")
    check_libfuse()
    check_system()
    yield Found("FUSE", GOOD, "libfuse, fusermount and /dev/fuse are there and may be used")
    if lets_users_allow_others():
        yield Found("allow_other", GOOD, "/etc/fuse.conf has user_allow_other")
    elif os.geteuid() != 0:
        yield Found(
            "allow_other",
            ODD,
            "only root may mount for other users; to let everyone, add user_allow_other to /etc/fuse.conf",
        )


def configuration_file(configuration: Configuration) -> Iterator[Found]:
    """Which config file and profile hold."""
    path = read_config_file().path
    profile = f", profile {configuration.profile}" if configuration.profile else ""
    yield Found("config file", GOOD, f"{path}{profile}" if path else "none; options and variables alone")


def cache(configuration: Configuration) -> Iterator[Found]:
    """The cache's folder, and the room on its disk."""
    folder = cache_folder(configuration.cache_dir)
    there = folder
    while not there.exists():
        there = there.parent
    fault = own_folder_fault(folder) if there == folder else None
    if fault is not None or not os.access(there, os.W_OK):
        yield Found("cache", BAD, f"{fault or f'{there} may not be written'}; choose another folder: --cache-dir DIR")
        return
    limits = parse_limits(configuration.cache_size, configuration.keep_free, cache_dir=folder)
    space = disk_space(folder)
    room = max(0, space.free - limits.keep_free)
    text = (
        f"{folder}, at most {limits.size_limit / _GIBIBYTE:.1f} GiB; its disk has room for {room / _GIBIBYTE:.1f} GiB"
    )
    if room < limits.size_limit - _used(folder):
        yield Found("cache", ODD, f"{text}, less than that: make room, or lower --cache-size")
    else:
        yield Found("cache", GOOD, text)


def _used(folder: Path) -> int:
    """What a cache takes up already, roughly."""
    extents = folder / "extents"
    return sum(path.stat().st_size for path in extents.glob("*/*")) if extents.is_dir() else 0


def catalog(configuration: Configuration, opened: Catalog) -> Iterator[Found]:
    """The database: what it is, its tables, rights, versions of rows, and how quickly it answers."""
    opened.check()
    rounds = []
    for _ in range(LATENCY_ROUNDS):
        began = time.perf_counter()
        opened.identity()
        rounds.append(time.perf_counter() - began)
    url = catalog_url(configuration)
    yield Found("catalog", GOOD, f"{url}, {opened.described()}; answers in {statistics.median(rounds) * 1000:.1f} ms")
    table = opened.table()
    missing = opened.missing_additions()
    if missing:
        yield Found("schema", ODD, f"an earlier version made it; `imgsyncfs init` would add {'; '.join(missing)}")
    for fault in table.faults:
        yield Found("rows", ODD, fault)
    yield Found("datasets", GOOD, f"{len(table.datasets):,}, store {table.store}")
    try:
        opened.check_writable({})
    except ImgsyncfsError as error:
        yield Found("publishing", ODD, f"you may read, and not publish: {error}")
    else:
        yield Found("publishing", GOOD, "you may write the catalog")
    if opened.readers_wait():
        from imgsyncfs.catalog.isolation import REMEDY

        yield Found("snapshots", ODD, REMEDY)


def stores_of(opened: Catalog) -> Mapping[str, str]:
    """The stores of a catalog to a dataset in each, the largest; the catalog's own first."""
    table = opened.table()
    largest: dict[str, tuple[int, str]] = {table.store: (-1, "")}
    for row in table.datasets:
        if row.size > largest.get(row.store, (-1, ""))[0]:
            largest[row.store] = (row.size, row.dataset_id)
    return {url: dataset for url, (_, dataset) in list(largest.items())[:MOST_STORES]}


def blobs_of(opened: Catalog, dataset: str) -> tuple[list[str], float]:
    """Some blobs of a dataset's images, and how long its images are on average, in bytes."""
    blobs: dict[str, None] = {}
    count = total = 0
    for image in opened.images(dataset):
        count, total = count + 1, total + image.byte_count
        if len(blobs) < READS:
            blobs[image.blob] = None
    return list(blobs), total / count if count else 0.0


def store(url: str, opened: Store, credentials: StoreCredentials, blobs: list[str], mean: float) -> Iterator[Found]:
    """One store: rights, signature, clock, and how quickly it gives bytes."""
    began = time.perf_counter()
    opened.check()
    answered = time.perf_counter() - began
    name = f"store {url}"
    yield Found(name, GOOD, f"may be read and listed; answers in {answered * 1000:.0f} ms")
    yield from _signature(name, credentials)
    skew = opened.clock_skew()
    if skew is not None and abs(skew) > MOST_SKEW_SECONDS:
        yield Found(
            name, ODD, f"its clock is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}; set this machine's"
        )
    try:
        opened.check_writable("imgsyncfs-check")
    except StoreError as error:
        yield Found(name, ODD, f"you may not publish into it: {error}")
    yield from _throughput(name, opened, blobs, mean)


def _signature(name: str, credentials: StoreCredentials) -> Iterator[Found]:
    """When a shared access signature ends."""
    if credentials.connection_string or credentials.account_key or not credentials.sas_token:
        return
    ends = parse_qs(credentials.sas_token.lstrip("?")).get("se", [""])[0]
    try:
        at = datetime.fromisoformat(ends.replace("Z", "+00:00"))
    except ValueError:
        return
    at = at if at.tzinfo else at.replace(tzinfo=timezone.utc)
    left = (at - datetime.now(timezone.utc)).total_seconds()
    if left < 0:
        yield Found(name, BAD, f"its signature ended at {at:%Y-%m-%d %H:%M %Z}; have another one made")
    else:
        yield Found(name, ODD if left < SOON_SECONDS else GOOD, f"its signature ends at {at:%Y-%m-%d %H:%M %Z}")


def _throughput(name: str, opened: Store, blobs: list[str], mean: float) -> Iterator[Found]:
    if not blobs:
        return
    room = memoryview(bytearray(READ_BYTES))
    byte_count, began = 0, time.perf_counter()
    for blob in blobs:
        byte_count += opened.read_into(blob, room)
    seconds = time.perf_counter() - began
    rate = byte_count / seconds
    images = f", about {rate / mean:,.0f} images a second in one stream" if mean else ""
    reads = f"{len(blobs)} reads" if len(blobs) > 1 else "one read"
    yield Found(name, GOOD, f"gives {rate / 1e6:,.0f} MB a second{images} ({reads}, {byte_count / 1e6:,.1f} MB)")


def credentials_of(url: str, configuration: Configuration) -> StoreCredentials:
    """What opens a store."""
    return store_credentials(url, configuration.with_secrets().stores)


def look_at_store(url: str, configuration: Configuration, blobs: list[str], mean: float, seconds: float) -> list[Found]:
    """Open a store and look at it; see `store`."""
    # Late: the Azure SDK comes with it.
    from imgsyncfs.stores.opening import open_store

    def look() -> Iterator[Found]:
        try:
            credentials = credentials_of(url, configuration)
            made = open_store(url, credentials=credentials, timeout=seconds)
        except ConfigurationError as error:
            yield Found(f"store {url}", BAD, str(error))
            return
        with closing(made):
            yield from store(url, made, credentials, blobs, mean)

    return guarded(f"store {url}", look)
