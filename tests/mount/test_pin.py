"""Pinned datasets: they stay in the cache, whatever else is read, until they are let go of."""

from __future__ import annotations

import shutil
from pathlib import Path

import orjson
import pytest
from support.mounting import Workplace, copy_of, local_workplace, noise_image, store_requests, write_folder

PINNED, OTHER = "original_20260105_rgb_rbbox", "original_20260106_rgb_rbbox"
LARGE = 12
"""Images of some 700 kB each."""


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A catalog of a small dataset, and of a large one whose images nothing compresses."""
    workplace = local_workplace(tmp_path_factory.mktemp("published"))
    small = write_folder(workplace.folder / "small", count=5)
    for number in range(3):
        noise_image(small / f"noise_{number}.png", seed=number)
    large = workplace.folder / "large"
    large.mkdir()
    for number in range(LARGE):
        noise_image(large / f"noise_{number}.png", seed=100 + number)
    workplace.run("publish", small, "--name", PINNED, "--loose")
    workplace.run("publish", large, "--name", OTHER, "--loose")
    return workplace


@pytest.fixture
def workplace(published: Workplace, tmp_path: Path) -> Workplace:
    """A copy of that catalog."""
    return copy_of(published, tmp_path)


def read_all(folder: Path) -> None:
    """Read all images and annotations of a dataset."""
    for path in folder.iterdir():
        if path.suffix in {".jpg", ".png", ".json"} and not path.name.endswith(".labelme.json"):
            path.read_bytes()


def requests_for(workplace: Workplace, dataset: str, *options: str) -> int:
    """How many requests a new mount sends to the store when a dataset is read."""
    with workplace.mounted(*options) as mountpoint:
        read_all(mountpoint / dataset)
        return store_requests(mountpoint)


def pinned(workplace: Workplace) -> dict[str, dict[str, object]]:
    """What is pinned, by dataset."""
    return {each["dataset_id"]: each for each in orjson.loads(workplace.run("pin", "--list", "--json").stdout)}


def test_a_pinned_dataset_is_read_without_the_store(workplace: Workplace) -> None:
    workplace.run("pin", PINNED)
    shutil.rmtree(workplace.folder / "store" / PINNED)
    assert requests_for(workplace, PINNED) == 0


def test_a_pinned_dataset_stays_when_more_is_read_than_the_cache_keeps(workplace: Workplace) -> None:
    small = ("--cache-size", "6M")
    workplace.run("pin", PINNED, *small)
    with workplace.mounted(*small) as mountpoint:
        read_all(mountpoint / OTHER)
        assert store_requests(mountpoint) > 0
    assert requests_for(workplace, PINNED, *small) == 0


def test_a_dataset_that_is_let_go_of_is_evicted_like_any_other(workplace: Workplace) -> None:
    small = ("--cache-size", "6M")
    workplace.run("pin", PINNED, *small)
    workplace.run("unpin", PINNED)
    with workplace.mounted(*small) as mountpoint:
        read_all(mountpoint / OTHER)
    assert requests_for(workplace, PINNED, *small) > 0


def test_what_was_damaged_is_pinned_again_when_it_has_been_fetched_again(workplace: Workplace) -> None:
    small = ("--cache-size", "6M")
    workplace.run("pin", PINNED, *small)
    for path in (workplace.folder / "cache" / "extents").glob("?/*.val"):
        path.write_bytes(bytes(path.stat().st_size))
    with workplace.mounted(*small) as mountpoint:
        read_all(mountpoint / PINNED)
        read_all(mountpoint / OTHER)
    assert requests_for(workplace, PINNED, *small) == 0


def test_the_list_says_what_is_pinned_and_whether_all_of_it_is_there(workplace: Workplace) -> None:
    assert "Nothing is pinned" in workplace.run("pin", "--list").stderr
    workplace.run("pin", PINNED)
    listed = pinned(workplace)
    assert list(listed) == [PINNED]
    assert listed[PINNED]["extents_here"] == listed[PINNED]["extents"]
    assert listed[PINNED]["revision"] == 1
    shown = workplace.run("pin", "--list").stdout
    assert PINNED in shown
    assert "all of it" in shown


def test_clearing_the_cache_leaves_what_is_pinned_and_says_so(workplace: Workplace) -> None:
    workplace.run("prefetch", OTHER)
    workplace.run("pin", PINNED)
    done = workplace.run("cache", "clear")
    assert f"{PINNED} stays, being pinned" in done.stderr
    assert requests_for(workplace, PINNED) == 0
    assert requests_for(workplace, OTHER) > 0


def test_more_than_three_quarters_of_the_cache_are_not_pinned(workplace: Workplace) -> None:
    done = workplace.run("pin", OTHER, "--cache-size", "8M", status=1)
    assert "--cache-size" in done.stderr
    assert pinned(workplace) == {}


def test_a_dataset_that_is_published_again_is_pinned_as_it_is_when_it_is_pinned_again(workplace: Workplace) -> None:
    workplace.run("pin", PINNED)
    changed = write_folder(workplace.folder / "changed", count=9)
    workplace.run("publish", changed, "--name", PINNED, "--loose")
    assert pinned(workplace)[PINNED]["revision"] == 1
    workplace.run("pin", PINNED)
    assert pinned(workplace)[PINNED]["revision"] == 2
    assert requests_for(workplace, PINNED) == 0


def test_what_is_not_pinned_cannot_be_let_go_of(workplace: Workplace) -> None:
    workplace.run("pin", PINNED)
    assert "is not pinned" in workplace.run("unpin", OTHER, status=1).stderr
    assert "no longer pinned" in workplace.run("unpin", "--all").stdout
    assert pinned(workplace) == {}


@pytest.mark.parametrize("words", [("pin",), ("unpin",), ("pin", "--list", PINNED), ("unpin", "--all", PINNED)])
def test_which_datasets_are_meant_must_be_said_once(workplace: Workplace, words: tuple[str, ...]) -> None:
    workplace.run(*words, status=1)


def test_a_selection_that_shares_images_with_a_pinned_dataset_can_be_let_go_of_alone(workplace: Workplace) -> None:
    workplace.run("select", "people", "--dataset", PINNED)
    workplace.run("pin", PINNED, "@people")
    workplace.run("unpin", "@people")
    shutil.rmtree(workplace.folder / "store" / PINNED)
    with workplace.mounted("--cache-size", "6M") as mountpoint:
        read_all(mountpoint / OTHER)
        # Its blobs are gone: it would fail.
        read_all(mountpoint / PINNED)
