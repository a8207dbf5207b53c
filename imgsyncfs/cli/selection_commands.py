"""The commands ``select`` and ``selections``: named choices of images out of several datasets."""

from __future__ import annotations

from dataclasses import asdict

import click

from imgsyncfs.catalog.rows import SelectionRow
from imgsyncfs.catalog.selecting import SelectionCounts, count_selection, select
from imgsyncfs.catalog.selections import find_selection
from imgsyncfs.cli.common import catalog_options, counted, echo_json, open_configured_catalog, tell_mounts
from imgsyncfs.errors import ConfigurationError, printable
from imgsyncfs.settings.config_file import Configuration


@click.command("select")
@click.argument("name")
@click.option("--dataset", "dataset_ids", metavar="ID", multiple=True, help="Take images of it. [default: of all]")
@click.option(
    "--where",
    "conditions",
    metavar="CONDITION",
    multiple=True,
    help="Only images that meet it; may be given several times.",
)
@click.option("--first", "first_images", metavar="N", type=click.IntRange(min=1), help="At most N images.")
@click.option("--map", "mapped", metavar="CLASS=NAME", multiple=True, help="Give a class another name.")
@click.option("--drop", "dropped", metavar="CLASS", multiple=True, help="Leave out the objects of a class.")
@catalog_options
def select_command(
    *,
    name: str,
    dataset_ids: tuple[str, ...],
    conditions: tuple[str, ...],
    first_images: int | None,
    mapped: tuple[str, ...],
    dropped: tuple[str, ...],
    configuration: Configuration,
) -> None:
    """Keep a choice of images under NAME: mounts show it as .selections/NAME, and in views as @NAME.

    A CONDITION is class=person, class!=person, a classification (Gender=Female), label_checked=1, objects>3,
    height>=480, width, depth, bytes, date>=2026-01-31 (=, !=, <, <=, >, >=), or of datasets: image_type=rgb,
    label_type, label_version, project, source. It stays a condition: images that are published later join.
    """
    catalog, configuration = open_configured_catalog(configuration)
    with catalog:
        catalog.check()
        rows, labels = catalog.datasets(), catalog.dataset_labels()
        selection = select(
            catalog,
            name,
            dataset_ids=dataset_ids,
            conditions=conditions,
            mapped=dict(map(_mapping, mapped)),
            dropped=dropped,
            first_images=first_images or 0,
            rows=rows,
            dataset_labels=labels,
        )
        counts = count_selection(catalog, selection, rows, labels)
    _echo_counts(selection, counts)
    if not counts.images:
        click.echo(
            "Note: no image meets all of that now; those that are published later and do will be in it.", err=True
        )
    tell_mounts(configuration)


@click.command("selections")
@click.argument("name", required=False)
@click.option("--remove", is_flag=True, help="Forget the selection NAME. Its images stay where they are.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@catalog_options
def selections_command(*, name: str | None, remove: bool, as_json: bool, configuration: Configuration) -> None:
    """List selections, or what is in the selection NAME: images of each dataset, objects of each class."""
    if remove and not name:
        raise ConfigurationError("Say which selection to forget: imgsyncfs selections NAME --remove")
    catalog, configuration = open_configured_catalog(configuration)
    with catalog:
        catalog.check()
        known = {selection.name: selection for selection in catalog.selections()}
        chosen = [find_selection(known, name)] if name else list(known.values())
        if remove:
            catalog.remove_selection(chosen[0].name)
            click.echo(f"{chosen[0].name} is forgotten.")
            tell_mounts(configuration)
            return
        rows, labels = catalog.datasets(), catalog.dataset_labels()
        counts = {each.name: count_selection(catalog, each, rows, labels) for each in chosen}
    if as_json:
        echo_json([{**asdict(each), **asdict(counts[each.name])} for each in chosen])
    elif name:
        _echo_counts(chosen[0], counts[chosen[0].name])
    else:
        for each in chosen:
            images = counted(sum(counts[each.name].images.values()), "image")
            how = ", ".join(_described(each)) or "all images"
            click.echo(
                printable(f"{each.name}: {images} of {counted(len(counts[each.name].images), 'dataset')} ({how})")
            )
        if not chosen:
            click.echo("There are no selections; keep one with: imgsyncfs select NAME --where class=person", err=True)


def _mapping(text: str) -> tuple[str, str]:
    name, equals, other = text.partition("=")
    if not equals or not name.strip() or not other.strip():
        raise ConfigurationError(f'{text!r} maps no class; write CLASS=NAME, for example "person with face=person".')
    return name.strip(), other.strip()


def _described(selection: SelectionRow) -> list[str]:
    renamed = [f"{old} as {new}" for old, new in zip(selection.mapped, selection.mapped_to, strict=True)]
    first = [f"the first {selection.first_images:,}"] if selection.first_images else []
    return [*selection.conditions, *first, *renamed, *(f"without {each}" for each in selection.dropped)]


def _echo_counts(selection: SelectionRow, counts: SelectionCounts) -> None:
    total = counted(sum(counts.images.values()), "image")
    click.echo(f"{selection.name}: {total} of {counted(len(counts.images), 'dataset')}")
    for dataset_id, images in counts.images.items():
        click.echo(f"  {printable(dataset_id)}: {counted(images, 'image')}")
    if counts.objects:
        click.echo("Classes, in the order that gives them their numbers:")
        for number, (name, objects) in enumerate(counts.objects.items()):
            click.echo(f"  {number} {printable(name)}: {counted(objects, 'object')}")
