"""Commands that bring datasets into a catalog: demo, publish, index."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from imgsyncfs.cli.common import (
    allow_store_option,
    catalog_options,
    echo_kinds,
    exit_if_left_out,
    from_option,
    open_configured_catalog,
    open_configured_store,
    strict_option,
    tell_mounts,
    with_options,
)
from imgsyncfs.cli.progress_bar import ProgressBar
from imgsyncfs.errors import PublishError, printable
from imgsyncfs.settings.config_file import Configuration
from imgsyncfs.settings.private_folders import cache_folder
from imgsyncfs.stores.allowed import allowed_stores, is_allowed, open_allowed_store
from imgsyncfs.stores.opening import DEFAULT_TIMEOUT
from imgsyncfs.tools.demo import make_demo
from imgsyncfs.tools.publish.container import index
from imgsyncfs.tools.publish.folder import publish
from imgsyncfs.tools.publish.journal import Journal
from imgsyncfs.tools.publish.publication import DatasetOptions, PublishSummary, dataset_store

if TYPE_CHECKING:
    from imgsyncfs.catalog import Catalog
    from imgsyncfs.stores.contract import Store

dataset_options = with_options(
    click.option("--name", "dataset_id", required=True, metavar="ID", help="source_name_imtype_labeltype"),
    click.option("--label-version", metavar="VERSION", help="The labelling standard. [default: 1.0.0]"),
    click.option("--image-type", metavar="TYPE", help="[default: from the id]"),
    click.option("--label-type", metavar="A,B", help="[default: from the id]"),
    click.option("--classes", metavar="A,B", help="[default: those seen in the annotations]"),
    click.option("--projects", metavar="A,B", help="Projects that use it."),
    click.option("--note", metavar="TEXT", help="What people should know about it."),
)
"""The options that describe a dataset."""

_drawn_option = click.option(
    "--drawn", is_flag=True, help="Take pictures with annotations drawn in (.views/preview) as images."
)


def _options(given: dict[str, Any]) -> DatasetOptions:
    def listed(name: str) -> tuple[str, ...] | None:
        value: str | None = given[name]
        return None if value is None else tuple(part.strip() for part in value.split(",") if part.strip())

    return DatasetOptions(
        label_version=given["label_version"],
        image_type=given["image_type"],
        label_type=listed("label_type"),
        classes=listed("classes"),
        projects=listed("projects"),
        note=given["note"],
    )


@click.command("demo")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
def demo_command(*, folder: Path) -> None:
    """Make a small catalog to try things out: DIR/catalog.db and DIR/store.

    It holds 22 datasets with a few images each, and annotations of every label type.
    """
    with ProgressBar() as progress:
        summary = make_demo(folder, progress=progress)
    there = "lie" if summary.changed else "lay already"
    click.echo(f"{summary.datasets} datasets with {summary.images} images {there} in {folder}. Next:")
    click.echo(
        f"  mkdir -p {folder}/mnt\n  imgsyncfs mount {folder}/mnt --catalog {folder}/catalog.db\n  ls {folder}/mnt"
    )


@click.command("publish")
@click.argument("folder", type=click.Path(path_type=Path))
@dataset_options
@from_option
@click.option("--loose", is_flag=True, help="One blob for each file, instead of packs of many.")
@strict_option
@_drawn_option
@catalog_options
@allow_store_option
def publish_command(
    *,
    folder: Path,
    dataset_id: str,
    layout: str | None,
    loose: bool,
    strict: bool,
    drawn: bool,
    configuration: Configuration,
    **given: Any,
) -> None:
    """Publish FOLDER as a dataset: it then holds what the folder holds.

    Images (jpg, png, bmp, webp, tif) with house .json, labelme, X-AnyLabeling or roLabelImg annotations beside them; or
    a folder as YOLO, COCO, Pascal VOC, DOTA and CVAT have it. Of a copy of a dataset in a view, what the view does not
    show stays as the catalog has it. Interrupted, it goes on where it stopped when it is run again.
    """
    if not folder.is_dir():
        raise PublishError(f"There is no folder {folder} to publish; check the path.")

    def open_store(catalog: Catalog, configuration: Configuration) -> Store:
        # Somebody else may have named it.
        return open_allowed_store(
            dataset_store(catalog, dataset_id),
            allowed=allowed_stores(catalog.default_store(), configuration.allowed_stores),
            sections=configuration.stores,
            timeout=DEFAULT_TIMEOUT,
        )

    with _opened(configuration, open_store) as opened:
        summary = publish(
            folder,
            catalog=opened.catalog,
            store=opened.store,
            dataset_id=dataset_id,
            options=_options(given),
            layout=layout,
            loose=loose,
            strict=strict,
            drawn=drawn,
            journal=opened.journal,
            progress=opened.progress,
        )
    _report(summary, dataset_id, opened.configuration)


@click.command("index")
@click.argument("store_url", metavar="STORE_URL")
@dataset_options
@_drawn_option
@catalog_options
def index_command(*, store_url: str, dataset_id: str, drawn: bool, configuration: Configuration, **given: Any) -> None:
    """Catalogue the blobs that lie at STORE_URL as a dataset, in place: nothing is copied."""
    with _opened(configuration, lambda _, known: open_configured_store(store_url, known)) as opened:
        own_store, store_url = opened.catalog.default_store(), opened.store.url
        summary = index(
            opened.store,
            catalog=opened.catalog,
            dataset_id=dataset_id,
            options=_options(given),
            drawn=drawn,
            journal=opened.journal,
            progress=opened.progress,
        )
    if not is_allowed(store_url, [own_store]):
        click.echo(
            f"Note: {dataset_id} does not lie in the catalog's own store; mounts and copies of it need "
            f"--allow-store {shlex.quote(store_url)}.",
            err=True,
        )
    _report(summary, dataset_id, opened.configuration)


class _Opened(NamedTuple):
    configuration: Configuration
    catalog: Catalog
    store: Store
    journal: Journal
    progress: ProgressBar


@contextmanager
def _opened(configuration: Configuration, open_store: Callable[[Catalog, Configuration], Store]) -> Iterator[_Opened]:
    """Open what both `publish` and `index` need."""
    catalog, configuration = open_configured_catalog(configuration)
    with catalog:
        catalog.check()
        with closing(open_store(catalog, configuration)) as store:
            store.check()
            folder = cache_folder(configuration.cache_dir) / "journal"
            with Journal(folder) as journal, ProgressBar() as progress:
                yield _Opened(configuration, catalog, store, journal, progress)


def _report(summary: PublishSummary, dataset_id: str, configuration: Configuration) -> None:
    """Tell what came of it, users and mounts, and exit if something was left out."""
    done = (
        f"is now at revision {summary.revision}"
        if summary.changed
        else f"was already so, at revision {summary.revision}"
    )
    click.echo(
        f"{dataset_id} {done}: {summary.images:,} images, {summary.annotations:,} annotations, "
        f"{summary.byte_count:,} bytes ({summary.uploaded_bytes:,} uploaded)."
    )
    if summary.changed:
        tell_mounts(configuration)
    if summary.removed:
        click.echo(f"No longer in it: {len(summary.removed):,} images, {printable(', '.join(summary.removed[:5]))} …")
    echo_kinds("Note", summary.changes)
    for warning in summary.warnings:
        click.echo(f"Note: {printable(warning)}", err=True)
    exit_if_left_out(summary.left_out, len(summary.left_out))
