"""Prefetch: what was brought into the cache is read without asking the store."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.http_proxy import HttpProxy
from support.mounting import Workplace, local_workplace, store_requests, write_folder
from support.services import Container

DATASET = "original_20260105_rgb_rbbox"
IMAGES = 30


def published(workplace: Workplace, *options: str) -> Workplace:
    """Publish the dataset."""
    folder = write_folder(workplace.folder / "folder", count=IMAGES)
    workplace.run("publish", folder, "--name", DATASET, *options)
    return workplace


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a dataset."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("options", [(), ("--loose",)])
def test_a_mount_reads_what_was_prefetched_without_a_request(tmp_path: Path, options: tuple[str, ...]) -> None:
    workplace = published(local_workplace(tmp_path), *options)

    said = workplace.run("prefetch", DATASET).stdout

    with workplace.mounted() as mountpoint:
        assert len(contents(mountpoint / DATASET)) == 4 * IMAGES
        assert store_requests(mountpoint) == 0
    assert said.startswith("1 dataset is in the cache")


def test_annotations_alone_are_enough_for_a_listing_with_sizes(tmp_path: Path) -> None:
    workplace = published(local_workplace(tmp_path), "--loose")

    workplace.run("prefetch", DATASET, "--annotations")

    with workplace.mounted() as mountpoint:
        for path in (mountpoint / DATASET).iterdir():
            path.stat()
        assert store_requests(mountpoint) == 0
        next((mountpoint / DATASET).glob("*.jpg")).read_bytes()
        assert store_requests(mountpoint) == 1


def test_a_second_prefetch_asks_the_store_for_nothing(container: Container, tmp_path: Path) -> None:
    with HttpProxy(container.azurite.port) as proxy:
        connection = container.azurite.connection_string_through(proxy.port)
        workplace = Workplace(str(tmp_path / "catalog.db"), tmp_path, {"AZURE_STORAGE_CONNECTION_STRING": connection})
        workplace.run("init", "--store", container.url)
        published(workplace)
        proxy.forget()
        workplace.run("prefetch", DATASET)
        first = len(proxy.requests)
        proxy.forget()

        workplace.run("prefetch", DATASET)

        assert (first, len(proxy.requests)) == (2, 0)


def test_a_mount_in_use_reads_what_a_prefetch_beside_it_brings(tmp_path: Path) -> None:
    workplace = published(local_workplace(tmp_path))
    with workplace.mounted() as mountpoint:
        workplace.run("prefetch", DATASET)

        contents(mountpoint / DATASET)

        assert store_requests(mountpoint) == 0


def test_datasets_larger_than_the_cache_are_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    workplace = published(local_workplace(tmp_path))

    said = workplace.run("prefetch", DATASET, "--cache-size", "1M", status=1).stderr

    assert "raise --cache-size" in said


def test_a_dataset_that_nobody_knows_is_named_with_those_that_are_near(tmp_path: Path) -> None:
    workplace = published(local_workplace(tmp_path))

    said = workplace.run("prefetch", DATASET.replace("rbbox", "bbox"), status=1).stderr

    assert DATASET in said


def test_prefetch_without_a_dataset_says_what_to_name(tmp_path: Path) -> None:
    assert "--subscription" in published(local_workplace(tmp_path)).run("prefetch", status=1).stderr
