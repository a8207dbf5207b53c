"""Where a cache lies: alike for all who are given a folder, private, and never somebody else's."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from support.mounting import Workplace, demo_workplace

import imgsyncfs
from imgsyncfs.cache import CacheReader, CacheWriter, prepare_cache
from imgsyncfs.cache.upkeep import cache_content, clear_cache, verify_cache
from imgsyncfs.errors import CacheError, ConfigurationError
from imgsyncfs.mount.launch import LOG_BYTES
from imgsyncfs.tools.publish.journal import Journal
from imgsyncfs.workers.progress import SilentProgress

SOMEBODY = 12345
DATASET = "original_20200219_dewarp_bbox"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """The demo catalog."""
    return demo_workplace(tmp_path_factory.mktemp("demo"))


def place(demo: Workplace, folder: Path, cache: Path) -> Workplace:
    """The same catalog, mounted in a folder of its own, with another cache."""
    return replace(demo, folder=folder, environment={"IMGSYNCFS_CACHE_DIR": str(cache)})


def shared(path: Path, mode: int = 0o1777) -> Path:
    path.mkdir()
    path.chmod(mode)
    return path


def readable(folder: Path) -> list[str]:
    """The files below a folder that others may read, given that they may go there."""
    found = []
    for path in folder.iterdir():
        mode = stat.S_IMODE(path.lstat().st_mode)
        if path.is_dir():
            found += readable(path) if mode & 0o011 else []
        elif mode & 0o044:
            found.append(path.name)
    return found


def test_all_commands_use_the_same_sub_folder_of_a_shared_one(demo: Workplace, tmp_path: Path) -> None:
    given = shared(tmp_path / "tmp")
    ours = given / f"imgsyncfs-{os.geteuid()}"
    workplace = place(demo, tmp_path, given)
    workplace.run("prefetch", DATASET)
    with workplace.mounted() as mountpoint:
        status = orjson.loads((mountpoint / ".imgsyncfs" / "status.json").read_bytes())
        assert status["cache"]["folder"] == str(ours)
        image = next((mountpoint / DATASET).glob("*.jpg"))
        assert image.read_bytes()
        assert orjson.loads((mountpoint / ".imgsyncfs" / "status.json").read_bytes())["store"]["requests"] == 0
    stats = orjson.loads(workplace.run("cache", "stats", "--json").stdout)
    assert (stats["folder"], [group["folder"] for group in stats["groups"]]) == (str(ours / "extents"), [DATASET])
    workplace.run("sync", tmp_path / "copy", DATASET)
    with imgsyncfs.connect(demo.catalog, cache_dir=given) as catalog:
        assert len(catalog.datasets[DATASET])
    assert "all is well" in workplace.run("cache", "verify").stdout
    assert list(given.iterdir()) == [ours]
    assert stat.S_IMODE(given.stat().st_mode) == 0o1777


def test_what_a_cache_makes_is_for_nobody_else_to_read(demo: Workplace, tmp_path: Path) -> None:
    workplace = place(demo, tmp_path, tmp_path / "new" / "cache")
    with workplace.mounted() as mountpoint:
        assert next((mountpoint / DATASET).glob("*.jpg")).read_bytes()
    with Journal(tmp_path / "new" / "cache" / "journal") as journal:
        journal.put("key", {"md5": "x"})
    for name in ("", "catalogs", "extents", "journal", "logs"):
        assert stat.S_IMODE((tmp_path / "new" / "cache" / name).stat().st_mode) == 0o700


def test_in_a_folder_that_others_may_read_the_caches_files_are_not_for_them(demo: Workplace, tmp_path: Path) -> None:
    given = shared(tmp_path / "cache", 0o755)
    (given / "extents").mkdir()
    workplace = place(demo, tmp_path, given)
    with workplace.mounted() as mountpoint:
        assert next((mountpoint / DATASET).glob("*.jpg")).read_bytes()
        assert sum(path.is_file() for path in (given / "extents").rglob("*")) >= 3
        assert readable(given) == []
    assert stat.S_IMODE(given.stat().st_mode) == 0o755


def test_a_cache_that_others_could_read_is_hidden_from_them(tmp_path: Path) -> None:
    prepare_cache(tmp_path / "extents")
    (tmp_path / "extents").chmod(0o755)
    prepare_cache(tmp_path / "extents")
    assert stat.S_IMODE((tmp_path / "extents").stat().st_mode) == 0o700


def test_a_folder_that_everyone_may_write_to_is_named_and_left_alone(demo: Workplace, tmp_path: Path) -> None:
    given = shared(tmp_path / "open", 0o777)
    workplace = place(demo, tmp_path, given)
    (tmp_path / "mnt").mkdir()
    for arguments in (["mount", tmp_path / "mnt"], ["cache", "stats"], ["prefetch", DATASET], ["cache", "clear"]):
        said = workplace.run(*arguments, status=None)
        assert said.returncode != 0
        assert f"everyone may write to {given}" in said.stderr
        assert "--cache-dir" in said.stderr
        assert "Traceback" not in said.stderr
    with pytest.raises(CacheError, match="everyone may write"):
        imgsyncfs.connect(demo.catalog, cache_dir=given)
    assert list(given.iterdir()) == []


@needs_root
@pytest.mark.parametrize("name", ["", "catalogs", "extents", "logs"])
def test_a_mount_uses_no_folder_of_somebody_else(demo: Workplace, tmp_path: Path, name: str) -> None:
    theirs = tmp_path / "cache" / name
    theirs.mkdir(parents=True)
    os.chown(theirs, SOMEBODY, SOMEBODY)
    (tmp_path / "mnt").mkdir()
    said = place(demo, tmp_path, tmp_path / "cache").run("mount", tmp_path / "mnt", status=None)
    assert said.returncode != 0
    assert f"{theirs} belongs to the user {SOMEBODY}" in said.stderr
    assert list(theirs.iterdir()) == []


@pytest.mark.parametrize("name", ["catalogs", "extents", "logs"])
def test_a_mount_uses_no_folder_that_is_a_link(demo: Workplace, tmp_path: Path, name: str) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "cache" / name).symlink_to(tmp_path / "elsewhere")
    (tmp_path / "mnt").mkdir()
    said = place(demo, tmp_path, tmp_path / "cache").run("mount", tmp_path / "mnt", status=None)
    assert said.returncode != 0
    assert f"{tmp_path}/cache/{name} is a link" in said.stderr
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_cache_folder_may_be_a_link_of_our_own(demo: Workplace, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "cache").symlink_to("elsewhere")
    with place(demo, tmp_path, tmp_path / "cache").mounted() as mountpoint:
        status = orjson.loads((mountpoint / ".imgsyncfs" / "status.json").read_bytes())
    assert status["cache"]["folder"] == str(tmp_path / "elsewhere")


@needs_root
@pytest.mark.parametrize("name", ["cache.db", "cache.db-wal", "cache.db-shm"])
def test_a_database_of_somebody_else_is_refused_and_left_alone(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "extents"
    prepare_cache(folder)
    (folder / name).write_bytes(b"not a database " * 1000)
    os.chown(folder / name, SOMEBODY, SOMEBODY)
    for use in (
        prepare_cache,
        CacheReader,
        lambda folder: CacheWriter(folder, size_limit=1 << 30),
        lambda folder: cache_content(folder, str),
        lambda folder: clear_cache(folder, progress=SilentProgress()),
        lambda folder: verify_cache(folder, progress=SilentProgress()),
    ):
        with pytest.raises(CacheError, match=f"{name} belongs to the user {SOMEBODY}"):
            use(folder)
    assert (folder / name).read_bytes().startswith(b"not a database")


@needs_root
def test_a_cache_of_somebody_else_is_neither_looked_at_nor_emptied(tmp_path: Path) -> None:
    folder = tmp_path / "extents"
    prepare_cache(folder)
    os.chown(folder, SOMEBODY, SOMEBODY)
    for use in (
        prepare_cache,
        lambda folder: cache_content(folder, str),
        lambda folder: clear_cache(folder, progress=SilentProgress()),
        lambda folder: verify_cache(folder, progress=SilentProgress()),
    ):
        with pytest.raises(CacheError, match=f"{folder} belongs to the user {SOMEBODY}"):
            use(folder)
    assert (folder / "cache.db").exists()


@needs_root
def test_a_sub_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "extents"
    prepare_cache(folder)
    os.chown(folder / "3", SOMEBODY, SOMEBODY)
    with pytest.raises(CacheError, match=f"{folder}/3"):
        prepare_cache(folder)


@needs_root
def test_a_journal_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    os.chown(tmp_path / "journal", SOMEBODY, SOMEBODY)
    with Journal(tmp_path / "journal") as journal:
        journal.put("key", {"md5": "x"})
    assert list((tmp_path / "journal").iterdir()) == []


def log_of(demo: Workplace, tmp_path: Path) -> Path:
    """The log of a mount that has ended."""
    with place(demo, tmp_path, tmp_path / "cache").mounted():
        [path] = (tmp_path / "cache" / "logs").iterdir()
    return path


@pytest.mark.parametrize("kind", ["link", "pipe", pytest.param("theirs", marks=needs_root)])
def test_a_log_that_is_not_ours_keeps_a_mount_from_being_made(demo: Workplace, tmp_path: Path, kind: str) -> None:
    path = log_of(demo, tmp_path)
    path.unlink()
    (tmp_path / "elsewhere").write_text("as before")
    if kind == "link":
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.touch()
        os.chown(path, SOMEBODY, SOMEBODY)
    said = place(demo, tmp_path, tmp_path / "cache").run("mount", tmp_path / "mnt", status=None)
    assert said.returncode != 0
    assert f"log cannot be written: {path}" in said.stderr
    assert (tmp_path / "elsewhere").read_text() == "as before"


def test_a_log_that_has_become_long_is_begun_anew(demo: Workplace, tmp_path: Path) -> None:
    path = log_of(demo, tmp_path)
    os.truncate(path, LOG_BYTES + 1)
    with place(demo, tmp_path, tmp_path / "cache").mounted():
        assert path.stat().st_size < LOG_BYTES
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_config_file_that_others_may_write_to_is_named(demo: Workplace, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'catalog = "{demo.catalog}"\n')
    config.chmod(0o666)
    with pytest.raises(ConfigurationError, match=f"everyone may write to {config}; "):
        imgsyncfs.connect(config=config)
