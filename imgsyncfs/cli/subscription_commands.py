"""Commands about subscriptions: subscribe, subscriptions."""

from __future__ import annotations

from dataclasses import asdict

import click
import orjson

from imgsyncfs.catalog.naming import SOURCES
from imgsyncfs.catalog.subscriptions import find_subscription, members, subscribe
from imgsyncfs.cli.common import catalog_options, open_configured_catalog
from imgsyncfs.errors import ConfigurationError
from imgsyncfs.settings.config_file import Configuration


@click.command("subscribe")
@click.argument("name")
@click.argument("dataset_ids", metavar="[DATASET]...", nargs=-1)
@click.option("--where", "conditions", metavar="COLUMN=VALUE", multiple=True, help="Datasets that meet all of these.")
@click.option("--source", type=click.Choice(SOURCES), help="Short for --where source=…")
@catalog_options
def subscribe_command(
    *,
    name: str,
    dataset_ids: tuple[str, ...],
    conditions: tuple[str, ...],
    source: str | None,
    configuration: Configuration,
) -> None:
    """Keep a choice of datasets under NAME: these, and all that meet the conditions, now or later."""
    if source:
        conditions = (*conditions, f"source={source}")
    catalog, _ = open_configured_catalog(configuration)
    with catalog:
        catalog.check()
        subscription = subscribe(catalog, name, dataset_ids=dataset_ids, conditions=conditions)
        rows = members(subscription, catalog.datasets())
    click.echo(f"{name}: {len(rows)} datasets, {sum(row.size for row in rows):,} images")


@click.command("subscriptions")
@click.argument("name", required=False)
@click.option("--remove", is_flag=True, help="Forget the subscription NAME. Its datasets stay.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@catalog_options
def subscriptions_command(*, name: str | None, remove: bool, as_json: bool, configuration: Configuration) -> None:
    """List subscriptions, or the datasets of the subscription NAME."""
    if remove and not name:
        raise ConfigurationError("Say which subscription to forget: imgsyncfs subscriptions NAME --remove")
    catalog, _ = open_configured_catalog(configuration)
    with catalog:
        catalog.check()
        known = {subscription.name: subscription for subscription in catalog.subscriptions()}
        chosen = [find_subscription(known, name)] if name else list(known.values())
        if remove:
            catalog.remove_subscription(chosen[0].name)
            click.echo(f"{name} is forgotten.")
            return
        rows = catalog.datasets()
    datasets = {subscription.name: members(subscription, rows) for subscription in chosen}
    if as_json:
        listed = [
            {**asdict(subscription), "datasets": [row.dataset_id for row in datasets[subscription.name]]}
            for subscription in chosen
        ]
        click.echo(orjson.dumps(listed, option=orjson.OPT_INDENT_2).decode())
    elif name:
        for row in datasets[name]:
            click.echo(row.dataset_id)
    else:
        for subscription in chosen:
            named = f"{len(subscription.dataset_ids)} named" if subscription.dataset_ids else ""
            how = " and ".join(filter(None, (named, ", ".join(subscription.conditions))))
            click.echo(f"{subscription.name}: {len(datasets[subscription.name])} datasets ({how})")
