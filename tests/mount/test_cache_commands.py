"""The commands about the disk cache, beside a mount of a local store and without one."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner
from support.cache_writers import bytes_on_disk
from support.mounting import Workplace, eventually, local_workplace, noise_image, store_requests, write_folder

from imgsyncfs.cli.cache_commands import cache_command
from imgsyncfs.errors import CacheError, ConfigurationError

LOOSE = "original_20260105_rgb_rbbox"
PACKED = "original_20260106_rgb_rbbox"
MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A catalog with a dataset of loose blobs and one in packs."""
    folder = tmp_path_factory.mktemp("published")
    workplace = local_workplace(folder)
    workplace.run("publish", write_folder(folder / "one", count=4), "--name", LOOSE, "--loose")
    workplace.run("publish", write_folder(folder / "two", count=4), "--name", PACKED)
    return workplace


@pytest.fixture(scope="module")
def filled(published: Workplace) -> Path:
    """A folder of the disk cache that holds all of that catalog."""
    with published.mounted() as mountpoint:
        assert read_files(mountpoint, LOOSE, PACKED) == originals(published)
    return published.folder / "cache"


@pytest.fixture
def workplace(published: Workplace, filled: Path, tmp_path: Path) -> Workplace:
    """The catalog, with a cache of the test's own that holds all of it."""
    shutil.copytree(filled, tmp_path / "cache")
    return replace(published, environment={"IMGSYNCFS_CACHE_DIR": str(tmp_path / "cache")})


@pytest.fixture
def extents(tmp_path: Path) -> Path:
    """Where that cache has the extents."""
    return tmp_path / "cache" / "extents"


def cache(workplace: Workplace, *arguments: str) -> str:
    """Run a cache command within this process; return what it prints."""
    result = CliRunner().invoke(cache_command, arguments, env=workplace.variables(), catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def read_files(mountpoint: Path, *datasets: str) -> dict[str, bytes]:
    """The images and annotations of datasets, past what the kernel has kept of them."""
    contents = {}
    for path in sorted(path for dataset in datasets for path in (mountpoint / dataset).glob("img_*")):
        if path.name.count(".") == 1 and path.suffix != ".xml":
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            contents[f"{path.parent.name}/{path.name}"] = os.read(descriptor, 1 << 24)
            os.close(descriptor)
    return contents


def originals(workplace: Workplace) -> dict[str, bytes]:
    """What was published."""
    folders = {"one": LOOSE, "two": PACKED}
    return {
        f"{dataset}/{path.name}": path.read_bytes()
        for folder, dataset in folders.items()
        for path in (workplace.folder / folder).iterdir()
    }


def statistics(workplace: Workplace) -> dict[str, dict[str, int]]:
    """What the cache holds of each dataset."""
    content = orjson.loads(cache(workplace, "stats", "--json"))
    assert content["extents"] == sum(group["extents"] for group in content["groups"])
    return {group["folder"]: group for group in content["groups"]}


def test_stats_tell_what_the_cache_holds_of_each_dataset(workplace: Workplace, extents: Path) -> None:
    groups = statistics(workplace)
    assert groups.keys() == {LOOSE, PACKED}
    assert groups[LOOSE]["extents"] == 8
    assert groups[LOOSE]["bytes"] == sum(
        len(content) for name, content in originals(workplace).items() if name.startswith(LOOSE)
    )
    assert groups[PACKED]["extents"] == 2
    shown = cache(workplace, "stats")
    assert str(extents) in shown
    assert LOOSE in shown
    assert "of 21.5 GB" in shown


def test_what_was_cleared_is_fetched_again(workplace: Workplace) -> None:
    assert "Removed 10 extents" in cache(workplace, "clear")
    with workplace.mounted() as mountpoint:
        assert read_files(mountpoint, LOOSE, PACKED) == originals(workplace)
        # What was fetched ahead may be counted a moment after it was read.
        assert eventually(lambda: store_requests(mountpoint) == 10)


def test_a_mount_goes_on_while_its_cache_is_cleared(workplace: Workplace) -> None:
    with workplace.mounted() as mountpoint:
        for _ in range(3):
            assert read_files(mountpoint, LOOSE, PACKED) == originals(workplace)
            workplace.run("cache", "clear")
            assert statistics(workplace) == {}


@pytest.mark.parametrize(("cleared", "stays"), [(LOOSE, PACKED), (PACKED, LOOSE)])
def test_clearing_one_dataset_leaves_the_others(workplace: Workplace, cleared: str, stays: str) -> None:
    cache(workplace, "clear", "--dataset", cleared)
    assert statistics(workplace).keys() == {stays}
    with workplace.mounted() as mountpoint:
        read_files(mountpoint, stays)
        assert store_requests(mountpoint) == 0


def test_blobs_that_were_indexed_where_they_lay_belong_to_their_dataset_too(tmp_path: Path) -> None:
    workplace = local_workplace(tmp_path)
    for first, (folder, dataset) in enumerate((("any", LOOSE), ("where", PACKED))):
        write_folder(tmp_path / folder, count=3, first=3 * first)
        workplace.run("index", f"file://{tmp_path}/{folder}", "--name", dataset)
    with workplace.mounted("--allow-store", f"file://{tmp_path}") as mountpoint:
        read_files(mountpoint, LOOSE, PACKED)
    cache(workplace, "clear", "--dataset", LOOSE)
    [group] = orjson.loads(cache(workplace, "stats", "--json"))["groups"]
    assert (group["store"], group["folder"], group["extents"]) == (f"file://{tmp_path}/where", "", 6)


def test_verify_removes_what_is_damaged_and_what_belongs_to_nothing(tmp_path: Path) -> None:
    workplace = local_workplace(tmp_path)
    (tmp_path / "one").mkdir()
    noise = {f"img_{seed}.png": noise_image(tmp_path / "one" / f"img_{seed}.png", seed=seed) for seed in range(3)}
    workplace.run("publish", tmp_path / "one", "--name", LOOSE, "--loose")
    with workplace.mounted() as mountpoint:
        read_files(mountpoint, LOOSE)
    assert "all is well" in cache(workplace, "verify")
    extents = workplace.folder / "cache" / "extents"
    flipped, gone, _ = extents.rglob("*.val")
    flipped.write_bytes(flipped.read_bytes()[:-1] + b"?")
    gone.unlink()
    leave_orphan(extents)
    done = cache(workplace, "verify")
    assert "Checked 3 extents" in done
    assert "removed 2 extents that were damaged and removed 1 file that belonged to nothing" in done
    assert len(list(extents.rglob("*.val"))) == 1
    assert "all is well" in cache(workplace, "verify", "--dataset", LOOSE)
    with workplace.mounted() as mountpoint:
        assert read_files(mountpoint, LOOSE) == {f"{LOOSE}/{name}": content for name, content in noise.items()}
        assert store_requests(mountpoint) == 2


def test_a_mount_removes_what_a_killed_one_has_left(tmp_path: Path) -> None:
    workplace = local_workplace(tmp_path)
    (tmp_path / "one").mkdir()
    noise_image(tmp_path / "one" / "img.png", seed=1)
    workplace.run("publish", tmp_path / "one", "--name", LOOSE, "--loose")
    with workplace.mounted() as mountpoint:
        read_files(mountpoint, LOOSE)
    extents = workplace.folder / "cache" / "extents"
    kept = set(extents.rglob("*.val"))
    orphan = leave_orphan(extents)
    with workplace.mounted():
        assert eventually(lambda: not orphan.exists())
    assert set(extents.rglob("*.val")) == kept


def leave_orphan(extents: Path) -> Path:
    """A file without an entry, as a writer leaves it that was killed some time ago."""
    orphan = extents / "0" / f"{'1' * 31}.val"
    orphan.write_bytes(b"left by a killed process")
    os.utime(orphan, (0, 0))
    return orphan


def test_a_cache_that_is_not_there_is_empty(workplace: Workplace, extents: Path) -> None:
    shutil.rmtree(extents)
    assert "0 extents" in cache(workplace, "clear")
    assert "all is well" in cache(workplace, "verify")
    assert statistics(workplace) == {}
    assert not extents.exists()


def test_an_unknown_dataset_is_named_and_nothing_is_removed(workplace: Workplace) -> None:
    with pytest.raises(ConfigurationError, match="There is no dataset original_20990101_rgb_bbox"):
        cache(workplace, "clear", "--dataset", "original_20990101_rgb_bbox")
    assert statistics(workplace).keys() == {LOOSE, PACKED}


def test_without_a_dataset_no_catalog_is_needed(workplace: Workplace) -> None:
    elsewhere = replace(workplace, catalog="postgresql://nobody@nowhere.invalid/nothing")
    assert "Checked 10 extents" in cache(elsewhere, "verify")
    assert "Removed 10 extents" in cache(elsewhere, "clear")


def test_a_database_that_is_damaged_is_told_and_cleared(workplace: Workplace, extents: Path) -> None:
    for log in extents.glob("cache.db-*"):
        log.unlink()
    database = extents / "cache.db"
    content = database.read_bytes()
    database.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    with pytest.raises(CacheError, match="imgsyncfs cache clear"):
        cache(workplace, "verify")
    cache(workplace, "clear")
    assert statistics(workplace) == {}
    assert extents.is_dir()


def test_a_mount_keeps_to_a_cache_far_smaller_than_what_is_read(tmp_path: Path) -> None:
    workplace = local_workplace(tmp_path)
    (tmp_path / "one").mkdir()
    noise = {
        f"img_{seed:02}.png": noise_image(tmp_path / "one" / f"img_{seed:02}.png", seed=seed) for seed in range(30)
    }
    workplace.run("publish", tmp_path / "one", "--name", LOOSE, "--loose")
    limit = 8 * MEGABYTE
    with workplace.mounted("--cache-size", "8M") as mountpoint:
        for _ in range(2):
            assert read_files(mountpoint, LOOSE) == {f"{LOOSE}/{name}": content for name, content in noise.items()}
            assert bytes_on_disk(workplace.folder / "cache" / "extents") <= limit + MEGABYTE
    assert bytes_on_disk(workplace.folder / "cache" / "extents") <= limit


def test_what_is_to_be_kept_free_reaches_the_mount_and_its_workers(workplace: Workplace) -> None:
    with workplace.mounted("-o", "keep_free=3G") as mountpoint:
        status = orjson.loads((mountpoint / ".imgsyncfs" / "status.json").read_bytes())
        assert status["cache"]["keep_free"] == 3 << 30
        read_files(mountpoint, LOOSE)
        assert orjson.loads(cache(workplace, "stats", "--json"))["keep_free"] == 3 << 30


def test_a_disk_that_must_be_kept_free_whole_is_read_past_the_cache(workplace: Workplace) -> None:
    with workplace.mounted("--keep-free", "100%") as mountpoint:
        cache(workplace, "clear")
        assert read_files(mountpoint, LOOSE, PACKED) == originals(workplace)
        assert statistics(workplace) == {}
