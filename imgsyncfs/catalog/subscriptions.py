"""Subscriptions: named choices of datasets, by id or by condition, kept in the catalog.

A condition is kept as a condition: a dataset published later that meets it joins.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from imgsyncfs.catalog.dataset_table import matching
from imgsyncfs.catalog.naming import file_name_fault
from imgsyncfs.catalog.rows import DatasetRow, SubscriptionRow
from imgsyncfs.errors import ConfigurationError
from imgsyncfs.settings.values import did_you_mean

if TYPE_CHECKING:
    # Not imported otherwise: what speaks SQL comes with it, and a mount's start need not wait for that.
    from imgsyncfs.catalog import Catalog


def members(subscription: SubscriptionRow, rows: Iterable[DatasetRow]) -> list[DatasetRow]:
    """The datasets of a subscription: those it names, and those that meet all of its conditions.

    Args:
        subscription: the choice.
        rows: all datasets.

    Raises:
        ConfigurationError: a condition makes no sense (somebody changed it in the database).
    """
    rows = list(rows)
    named = set(subscription.dataset_ids)
    chosen = {row.dataset_id for row in matching(rows, subscription.conditions)} if subscription.conditions else set()
    return [row for row in rows if row.dataset_id in named or row.dataset_id in chosen]


def subscription_fault(subscription: SubscriptionRow) -> str:
    """A sentence on what is wrong with a subscription that somebody changed in the database; mostly ``""``."""
    try:
        matching((), subscription.conditions)
    except ConfigurationError as error:
        return f"The subscription {subscription.name!r} cannot be used: {error} Make it again with: imgsyncfs subscribe"
    return ""


def find_subscription(subscriptions: Mapping[str, SubscriptionRow], name: str) -> SubscriptionRow:
    """The subscription of a name.

    Raises:
        ConfigurationError: there is none; the message names near ones.
    """
    try:
        return subscriptions[name]
    except KeyError:
        hint = did_you_mean(name, subscriptions, otherwise=f"make it with: imgsyncfs subscribe {name} DATASET…")
        raise ConfigurationError(f"There is no subscription {name!r}; {hint}") from None


def find_datasets(rows: Iterable[DatasetRow], dataset_ids: Sequence[str]) -> list[DatasetRow]:
    """The datasets of these ids, in their order.

    Raises:
        ConfigurationError: one is unknown; the message names near ones.
    """
    known = {row.dataset_id: row for row in rows}
    for dataset_id in dataset_ids:
        if dataset_id not in known:
            hint = did_you_mean(dataset_id, known, otherwise="list what there is with: imgsyncfs datasets")
            raise ConfigurationError(f"There is no dataset {dataset_id!r}; {hint}")
    return [known[dataset_id] for dataset_id in dict.fromkeys(dataset_ids)]


def subscribe(catalog: Catalog, name: str, *, dataset_ids: Sequence[str], conditions: Sequence[str]) -> SubscriptionRow:
    """Keep a subscription; one of the same name is replaced.

    Args:
        catalog: is changed.
        name: becomes the name of a directory.
        dataset_ids: must be in the catalog.
        conditions: each ``COLUMN=VALUE``; all must hold for a dataset to join.

    Raises:
        ConfigurationError: there is neither a dataset nor a condition, or one of them makes no sense.
        CatalogError: the catalog cannot be written.
    """
    fault = file_name_fault(name)
    if fault or name.startswith("."):
        raise ConfigurationError(f"{name!r} cannot be a subscription's name: {fault or 'it begins with a dot'}.")
    if not dataset_ids and not conditions:
        raise ConfigurationError(
            "A subscription needs datasets or a condition; name some, or give a condition.",
            option="where",
        )
    rows = catalog.datasets()
    find_datasets(rows, dataset_ids)
    matching(rows, conditions)
    subscription = SubscriptionRow(name, tuple(dict.fromkeys(dataset_ids)), tuple(conditions), int(time.time()))
    catalog.put_subscription(subscription)
    return subscription
