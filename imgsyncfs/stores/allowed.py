"""Which stores are read on behalf of a catalog: its own, and those that whoever reads has allowed.

Whoever may publish names the store of a dataset. Without a rule they would have everyone who mounts the catalog read
``file:///`` for them, and send keys to an account of theirs. So a store is opened only if it is the catalog's own, was
allowed, has a section of its own in the config file, or lies below one of these.

`allowed_place` is that rule, and asks nobody. A worker applies it whenever it opens a store, and a responder before it
reads from the cache, which other catalogs may share.

Threads: nothing here changes; `functools.lru_cache` guards what it keeps, for dictionary operations only.
"""

from __future__ import annotations

import functools
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from imgsyncfs.errors import ConfigurationError, StoreNotAllowed
from imgsyncfs.stores.urls import parse_azure_account, parse_azure_url, parse_file_url, unknown_kind

if TYPE_CHECKING:
    from imgsyncfs.catalog.rows import DatasetRow
    from imgsyncfs.stores.contract import Store

MOST_NAMED = 3
"""Datasets that a warning names; a catalog may have hundreds in one store."""


@functools.lru_cache(maxsize=1024)
def allowed_place(url: str, allowed: tuple[str, ...]) -> str | None:
    """The allowed store that a store is, or lies below; the nearest one if there are several.

    Args:
        url: of a store, as a catalog has it.
        allowed: URLs of stores; ``azure://ACCOUNT`` stands for all containers of an account.

    Returns:
        One of `allowed`; None if the store is not allowed. A path with ``..`` is below nothing.
    """
    if url in allowed:
        return url
    try:
        parts = _parts(url)
    except ConfigurationError:
        return None
    above = {each: _parts_if_any(each) for each in allowed}
    places = [each for each, its_parts in above.items() if its_parts and parts[: len(its_parts)] == its_parts]
    return max(places, key=lambda each: len(above[each]), default=None)


def is_allowed(url: str, allowed: Iterable[str]) -> bool:
    """Whether a store may be read; see `allowed_place`."""
    return allowed_place(url, tuple(allowed)) is not None


def check_allowed(url: str, allowed: Iterable[str]) -> str:
    """Refuse a store that may not be read.

    Args:
        url: of a store, as a catalog has it.
        allowed: see `allowed_place`.

    Returns:
        The allowed store that it is, or lies below.

    Raises:
        StoreNotAllowed: it is neither.
        ConfigurationError: the URL makes no sense.
    """
    place = allowed_place(url, tuple(allowed))
    if place is None:
        # What makes no sense can't be allowed either.
        _parts(url)
        raise StoreNotAllowed(f"The store {_shown(url)} is {_remedy(url)}")
    return place


def check_allowances(urls: Iterable[str]) -> tuple[str, ...]:
    """See that URLs given by whoever reads can allow something.

    Returns:
        The URLs.

    Raises:
        ConfigurationError: one makes no sense.
    """
    checked = tuple(urls)
    for url in checked:
        _parts(url)
    return checked


def allowed_stores(own_store: str, allowed: Iterable[str]) -> tuple[str, ...]:
    """The catalog's own store, if it is known, and those that were allowed."""
    return (own_store, *allowed) if own_store else tuple(allowed)


def refusals(rows: Iterable[DatasetRow], allowed: Iterable[str]) -> list[str]:
    """What is to be told of datasets whose stores may not be read, a sentence for each such store."""
    allowed = tuple(allowed)
    refused: dict[str, list[str]] = {}
    for row in rows:
        if not is_allowed(row.store, allowed):
            refused.setdefault(row.store, []).append(row.dataset_id)
    return [_refusal(url, datasets) for url, datasets in refused.items()]


def open_allowed_store(
    url: str, *, allowed: Iterable[str], sections: Mapping[str, Mapping[str, str]], timeout: float
) -> Store:
    """Open a store that a catalog names.

    Args:
        url: of the store.
        allowed: see `allowed_place`.
        sections: the config file's, with credentials; what the environment has goes to allowed stores only, too.
        timeout: see `imgsyncfs.stores.opening.open_store`.

    Raises:
        StoreNotAllowed: it may not be read.
        ConfigurationError: the URL or the credentials make no sense, or a package is missing.
    """
    # Late: a mount's coordinator opens no store.
    from imgsyncfs.stores.credentials import store_credentials
    from imgsyncfs.stores.opening import open_store

    place = check_allowed(url, allowed)
    within = place if place != url and url.lower().startswith("file:") else ""
    return open_store(url, credentials=store_credentials(url, sections), timeout=timeout, within=within)


def _refusal(url: str, datasets: Sequence[str]) -> str:
    named = ", ".join(map(_shown, datasets[:MOST_NAMED]))
    more = f" and {len(datasets) - MOST_NAMED} more" if len(datasets) > MOST_NAMED else ""
    subject = f"The dataset {named} lies" if len(datasets) == 1 else f"The datasets {named}{more} lie"
    try:
        _parts(url)
    except ConfigurationError as error:
        return f"{subject} in a store that cannot be read: {error}"
    return f"{subject} in the store {_shown(url)}, which is {_remedy(url)}"


def _remedy(url: str) -> str:
    # In quotes, since whoever reads it may type it into a shell, and somebody else has written the URL.
    return (
        f"neither the catalog's own nor allowed, and is not read; if you trust it, add --allow-store "
        f"{shlex.quote(_shown(url))}, or put it into allow_stores, of connect() or in the config file."
    )


def _shown(text: str) -> str:
    """A catalog's text, fit for a terminal."""
    return text if text.isprintable() else repr(text)


def _parts_if_any(url: str) -> tuple[str, ...]:
    try:
        return _parts(url)
    except ConfigurationError:
        return ()


def _parts(url: str) -> tuple[str, ...]:
    """The kind of a store and the parts of its place: what lies below it begins with the same ones.

    Raises:
        ConfigurationError: the URL makes no sense, or has ``..`` in its path.
    """
    scheme = url.partition(":")[0].lower()
    if scheme == "file":
        path = parse_file_url(url)
        if ".." in path.parts:
            raise ConfigurationError(
                f"Store URL {_shown(url)} has '..' in its path, which links could lead anywhere; write the path "
                "without it."
            )
        return (scheme, *path.parts)
    if scheme != "azure":
        raise unknown_kind(url)
    account = parse_azure_account(url)
    if account is not None:
        return (scheme, account)
    location = parse_azure_url(url)
    prefix = location.prefix.removesuffix("/")
    return (scheme, location.account, location.container, *(prefix.split("/") if prefix else ()))
