"""Prefetch: what was brought into the cache is read without asking the store."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.api_setup import work_in
from support.http_proxy import HttpProxy
from support.mounting import Workplace, local_workplace, noise_image, store_requests, write_folder
from support.services import Container

from imgsyncfs.blob_layout import EXTENT_BYTES, SEAL_BYTES
from imgsyncfs.library.configuration import library_settings
from imgsyncfs.library.library import Library
from imgsyncfs.settings.config_file import load_configuration
from imgsyncfs.tools.prefetch import PrefetchSummary, prefetch

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


class HeardProgress:
    """Notes what is said: the total of each part of the work, and what was done of it."""

    def __init__(self) -> None:
        self.totals: list[int | None] = []
        self.done: list[int] = []

    def phase(self, name: str, total: int | None, unit: str) -> None:  # noqa: ARG002  # the numbers count
        self.totals.append(total)
        self.done.append(0)

    def advance(self, count: int) -> None:
        self.done[-1] += count


def prefetched(*, annotations_only: bool = False) -> tuple[PrefetchSummary, HeardProgress]:
    """Prefetch the dataset in this process, whose environment is a workplace's."""
    heard = HeardProgress()
    with Library(library_settings(load_configuration(None), {"siblings": "none"})) as library:
        return prefetch(library, [DATASET], annotations_only=annotations_only, progress=heard), heard


@pytest.mark.parametrize("options", [(), ("--loose",)])
def test_the_total_is_what_comes_from_the_store_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    work_in(published(local_workplace(tmp_path), *options), monkeypatch)

    summary, heard = prefetched()

    assert summary.fetched_bytes > 0
    assert heard.totals == heard.done == [summary.fetched_bytes]


def test_what_is_in_the_cache_already_is_not_in_the_total(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work_in(published(local_workplace(tmp_path)), monkeypatch)

    first, _ = prefetched(annotations_only=True)
    second, heard = prefetched()
    third, nothing = prefetched()

    assert first.fetched_bytes > 0
    assert heard.totals == heard.done == [second.fetched_bytes]
    assert (third.fetched_bytes, third.requests, nothing.totals) == (0, 0, [])


def test_of_a_pack_the_extents_with_wanted_files_are_in_the_total_whole_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workplace = local_workplace(tmp_path)
    folder = write_folder(tmp_path / "folder", count=0)
    images = [folder / f"img_{number:02}.png" for number in range(14)]
    [length] = {len(noise_image(path, seed=number)) for number, path in enumerate(images)}
    workplace.run("publish", folder, "--name", DATASET)
    # Six of 700 kB are in an extent: one stays in the first, four in the second, none in the last.
    for path in [*images[1:6], *images[10:]]:
        path.unlink()
    workplace.run("publish", folder, "--name", DATASET)
    work_in(workplace, monkeypatch)

    summary, heard = prefetched()

    assert summary.fetched_bytes == 2 * EXTENT_BYTES
    # How long the second extent is behind the last file that is wanted, no listing tells.
    assert heard.totals == heard.done == [EXTENT_BYTES + 4 * length + SEAL_BYTES]


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
