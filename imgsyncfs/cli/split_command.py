"""The command ``split``: how a dataset is divided into train, validation and test."""

from __future__ import annotations

from collections.abc import Mapping

import click

from imgsyncfs.annotations.splits import Split, SplitCount, SplitRule, count_splits, make_rule
from imgsyncfs.catalog.subscriptions import find_datasets
from imgsyncfs.cli.common import catalog_options, counted, echo_json, open_configured_catalog, tell_mounts
from imgsyncfs.errors import ConfigurationError
from imgsyncfs.settings.config_file import Configuration


@click.command("split")
@click.argument("dataset_id", metavar="DATASET")
@click.argument("weights", metavar="[TRAIN/VALIDATION/TEST]", required=False)
@click.option(
    "--group-by",
    metavar="EXPRESSION",
    help="A regular expression for the group in an image's name: its first (group), or all that it matches. "
    "'' for the usual groups.",
)
@click.option("--reset", is_flag=True, help="Go back to the usual rule.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@catalog_options
def split_command(
    *,
    dataset_id: str,
    weights: str | None,
    group_by: str | None,
    reset: bool,
    as_json: bool,
    configuration: Configuration,
) -> None:
    """Show how DATASET is divided, or have it divided otherwise, for everyone.

    The side of an image is decided by the hash of its group alone: no image moves when others come. Usually the group
    is the name without its last number, and the hundreds of that: neighbouring frames stay together. The usual weights
    are 80/10/10.
    """
    if reset and (weights is not None or group_by is not None):
        raise ConfigurationError("--reset goes back to the usual rule; give neither weights nor --group-by with it.")
    catalog, configuration = open_configured_catalog(configuration)
    with catalog:
        catalog.check()
        [dataset] = find_datasets(catalog.datasets(), [dataset_id])
        row = catalog.split_rules().get(dataset_id)
        if reset:
            rule = SplitRule()
        elif weights is None and group_by is None:
            rule = row.rule if row is not None else SplitRule()
        else:
            known_weights = row.weights if row is not None else SplitRule().weights_text
            known_expression = row.group_by if row is not None else ""
            rule = make_rule(
                known_weights if weights is None else weights, known_expression if group_by is None else group_by
            )
        # Before anything is written: an expression may turn out to be too slow for these names.
        counts = count_splits(rule, catalog.image_names(dataset_id))
        is_asked = not reset and weights is None and group_by is None
        revision = dataset.revision if is_asked else catalog.set_split_rule(dataset_id, rule)
    if as_json:
        echo_json(_as_json(dataset_id, rule, counts))
    else:
        _echo(dataset_id, rule, counts)
    if revision != dataset.revision:
        click.echo(f"{dataset_id} is now at revision {revision}.", err=as_json)
        tell_mounts(configuration)


def _echo(dataset_id: str, rule: SplitRule, counts: Mapping[Split, SplitCount]) -> None:
    groups = f"the expression {rule.group_by!r}" if rule.group_by else "the name and the hundreds of its last number"
    click.echo(f"{dataset_id}: {rule.weights_text}, in groups by {groups}")
    total = sum(count.images for count in counts.values())
    for split, count in counts.items():
        share = f"{count.images / total:.1%}" if total else "-"
        click.echo(f"  {split!s:10}  {share:>6}  {counted(count.images, 'image')} in {counted(count.groups, 'group')}")
    empty = [
        str(split)
        for split, weight in zip(Split, rule.weights, strict=True)
        if total and weight and not counts[split].images
    ]
    if empty:
        click.echo(
            f"Note: no image is in {' or '.join(empty)}; with few groups that happens. Name smaller ones with "
            "--group-by.",
            err=True,
        )


def _as_json(dataset_id: str, rule: SplitRule, counts: Mapping[Split, SplitCount]) -> dict[str, object]:
    return {
        "dataset_id": dataset_id,
        "weights": rule.weights,
        "group_by": rule.group_by,
        "splits": {str(split): {"images": count.images, "groups": count.groups} for split, count in counts.items()},
    }
