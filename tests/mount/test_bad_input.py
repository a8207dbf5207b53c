"""Wrong input of each kind: one clear sentence, an exit status, and nothing half done."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from support.mounting import Workplace, demo_workplace, local_workplace, write_folder, write_image
from support.services import Container, Database

DATASET = "original_20260105_rgb_rbbox"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """The demo catalog."""
    return demo_workplace(tmp_path_factory.mktemp("bad-input"))


@pytest.fixture
def mountpoint(tmp_path: Path) -> Iterator[Path]:
    """An empty directory on which nothing may be mounted in the end."""
    place = tmp_path / "mnt"
    place.mkdir()
    yield place
    assert not os.path.ismount(place)


def refusal(workplace: Workplace, *arguments: str | Path, status: int = 1) -> str:
    """What a command that must fail says: one sentence, and no traceback."""
    done = workplace.run(*arguments, status=status)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    return done.stderr


def names_in(folder: Path) -> list[str]:
    """The names in a directory, sorted."""
    return sorted(path.name for path in folder.iterdir())


# Mounting


def test_no_catalog_given_says_how_to_give_one(tmp_path: Path, mountpoint: Path) -> None:
    words = refusal(Workplace("", tmp_path), "mount", mountpoint)
    assert "--catalog" in words
    assert "imgsyncfs demo" in words


def test_no_such_catalog_is_named_and_not_made(tmp_path: Path, mountpoint: Path) -> None:
    missing = tmp_path / "missing.db"
    for command in (("mount", mountpoint), ("datasets",)):
        assert str(missing) in refusal(Workplace(str(missing), tmp_path), *command)
    assert not missing.exists()


def test_a_database_that_is_no_catalog_is_told_from_one(tmp_path: Path, mountpoint: Path) -> None:
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE birds (name TEXT)")
    connection.close()
    words = refusal(Workplace(str(other), tmp_path), "mount", mountpoint)
    assert "imgsyncfs init" in words


def test_a_file_that_is_no_database_is_no_catalog(tmp_path: Path, mountpoint: Path) -> None:
    text = tmp_path / "text.db"
    text.write_text("not a database, " * 100)
    assert str(text) in refusal(Workplace(str(text), tmp_path), "mount", mountpoint)


def test_a_wrong_password_is_refused_without_being_shown(
    postgresql_database: Database, tmp_path: Path, mountpoint: Path
) -> None:
    workplace = Workplace(postgresql_database.url, tmp_path, {"IMGSYNCFS_PASSWORD": "tell-nobody"})
    words = refusal(workplace, "mount", mountpoint)
    assert "IMGSYNCFS_PASSWORD" in words
    assert "tell-nobody" not in words


def test_a_server_that_is_away_is_said_to_be_within_the_time_limit(tmp_path: Path, mountpoint: Path) -> None:
    workplace = Workplace("postgresql://reader@127.0.0.1:9/datasets", tmp_path, {"IMGSYNCFS_PASSWORD": "x"})
    began = time.monotonic()
    done = workplace.run("mount", mountpoint, "--timeout", "3", status=1)
    assert time.monotonic() - began < 25
    assert "127.0.0.1" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_store_is_told_before_anything_is_mounted(tmp_path: Path, mountpoint: Path) -> None:
    workplace = local_workplace(tmp_path)
    workplace.run("publish", write_folder(tmp_path / "one"), "--name", DATASET)
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    assert str(tmp_path / "store") in refusal(workplace, "mount", mountpoint)


def test_a_container_that_refuses_the_key_is_told_before_anything_is_mounted(
    container: Container, tmp_path: Path, mountpoint: Path
) -> None:
    workplace = Workplace(str(tmp_path / "catalog.db"), tmp_path, container.environment)
    workplace.run("init", "--store", container.url)
    workplace.run("publish", write_folder(tmp_path / "one"), "--name", DATASET)
    wrong = container.azurite.connection_string.replace(container.azurite.key, "d3Jvbmc=")
    stranger = Workplace(workplace.catalog, tmp_path, {"AZURE_STORAGE_CONNECTION_STRING": wrong})
    words = refusal(stranger, "mount", mountpoint)
    assert container.url in words
    assert "d3Jvbmc=" not in words


def test_a_mount_point_that_is_missing_a_file_or_not_empty_is_refused(demo: Workplace, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert f"mkdir -p {missing}" in refusal(demo, "mount", missing)
    file = tmp_path / "file"
    file.write_text("x")
    assert "not a directory" in refusal(demo, "mount", file)
    assert "not empty" in refusal(demo, "mount", tmp_path)


def test_mounting_twice_on_one_place_says_that_it_is_mounted(demo: Workplace) -> None:
    with demo.mounted() as mountpoint:
        assert "mounted already" in refusal(demo, "mount", mountpoint)
        assert "original_20200207_fisheye_rbbox" in names_in(mountpoint)


def test_umount_and_status_of_what_is_not_mounted_say_so(demo: Workplace, mountpoint: Path) -> None:
    assert "Nothing is mounted" in refusal(demo, "umount", mountpoint)
    assert "Nothing is mounted" in refusal(demo, "status", mountpoint)


def test_a_system_without_libfuse_is_told_what_to_install(demo: Workplace, mountpoint: Path) -> None:
    # The one part that cannot be taken away here for real: a loader that finds no libfuse.
    program = (
        "import ctypes.util, sys\n"
        "found = ctypes.util.find_library\n"
        "ctypes.util.find_library = lambda name: None if 'fuse' in name else found(name)\n"
        "from imgsyncfs.cli import main\n"
        "sys.argv[1:] = ['mount', sys.argv[1]]\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(mountpoint)],
        env=demo.variables(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "apt-get install libfuse2" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--siblings", "labelmee"], "labelme"),
        (["--cache-size", "much"], "20G"),
        (["--refresh", "0"], "--refresh"),
        (["--timeout", "soon"], "--timeout"),
        (["-o", "cachesize=3G"], "cache_size"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused_with_what_would(
    demo: Workplace, mountpoint: Path, options: list[str], expected: str
) -> None:
    assert expected in refusal(demo, "mount", mountpoint, *options)


def test_a_cache_folder_that_cannot_be_made_is_named(demo: Workplace, tmp_path: Path, mountpoint: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert str(tmp_path / "file") in refusal(demo, "mount", mountpoint, "--cache-dir", tmp_path / "file" / "cache")


def test_names_that_are_no_utf8_are_refused_where_other_processes_are_to_be_told(
    demo: Workplace, tmp_path: Path, mountpoint: Path
) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/odd\xff"))
    odd.mkdir()
    for words in (
        refusal(demo, "mount", odd),
        refusal(demo, "mount", mountpoint, "--cache-dir", odd),
        refusal(demo, "mount", mountpoint, "--subscription", odd.name),
        refusal(Workplace(str(odd / "catalog.db"), tmp_path), "mount", mountpoint),
    ):
        assert "no UTF-8" in words


def test_the_folder_of_a_user_that_there_is_not_is_refused(demo: Workplace, tmp_path: Path, mountpoint: Path) -> None:
    assert "no such user" in refusal(demo, "mount", mountpoint, "--cache-dir", "~nobody-of-this-name/cache")
    assert "no such user" in refusal(Workplace("~nobody-of-this-name/catalog.db", tmp_path), "mount", mountpoint)


# Publishing


def left_out(workplace: Workplace, folder: Path) -> dict[str, str]:
    """Publish a folder of which parts must be left out; file name to reason."""
    done = workplace.run("publish", folder, "--name", DATASET, status=3)
    assert "Traceback" not in done.stderr
    lines = [line.strip() for line in done.stderr.splitlines() if line.startswith("  ")]
    return {name: reason for name, _, reason in (line.partition(": ") for line in lines)}


def published_names(workplace: Workplace) -> set[str]:
    """What a mount shows of the dataset."""
    with workplace.mounted("--siblings", "none") as mountpoint:
        return set(names_in(mountpoint / DATASET))


def test_what_cannot_be_published_is_left_out_whole_and_named_with_its_reason(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "one", count=1)
    write_image(folder / "cut.jpg", size=(300, 200))
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:-700])
    (folder / "noimage.png").write_text("text")
    write_image(folder / "nolabels.jpg")
    (folder / "nolabels.json").write_text('{"birds": 3}')
    write_image(folder / "twice.jpg")
    write_image(folder / "twice.png")
    write_image(folder / "new\nline.jpg")
    raw = os.fsencode(folder) + b"/\xff\xfe.jpg"
    Path(os.fsdecode(raw)).write_bytes((folder / "img_00000.jpg").read_bytes())
    write_image(folder / f"{'n' * 250}.jpg")
    workplace = local_workplace(tmp_path)
    reasons = left_out(workplace, folder)
    for name in ("cut.jpg", "noimage.png", "nolabels.jpg", "nolabels.json", "twice.jpg", "twice.png"):
        assert name in reasons
    assert len([name for name in reasons if name.startswith(("new", "nnn"))]) == 2
    assert len(reasons) == 9
    assert published_names(workplace) == {"img_00000.jpg", "img_00000.json"}


def test_a_folder_with_nothing_to_publish_leaves_the_catalog_as_it_was(tmp_path: Path) -> None:
    workplace = local_workplace(tmp_path)
    (tmp_path / "empty").mkdir()
    assert "Nothing was published" in refusal(workplace, "publish", tmp_path / "empty", "--name", DATASET)
    assert orjson.loads(workplace.run("datasets", "--json").stdout) == []
    assert list((tmp_path / "store").rglob("*.pack")) == []


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "nowhere" in refusal(local_workplace(tmp_path), "publish", tmp_path / "nowhere", "--name", DATASET)


@pytest.mark.parametrize("name", ["birds", "original_20261399_rgb_bbox", "original_20260105_rgb_boxes", "a/b", "../up"])
def test_an_id_that_breaks_the_grammar_is_refused_before_anything_is_read(tmp_path: Path, name: str) -> None:
    workplace = local_workplace(tmp_path)
    write_folder(tmp_path / "one")
    assert name in refusal(workplace, "publish", tmp_path / "one", "--name", name)
    assert orjson.loads(workplace.run("datasets", "--json").stdout) == []


def test_hostile_rows_are_hidden_and_told_and_the_rest_is_shown(tmp_path: Path) -> None:
    workplace = local_workplace(tmp_path)
    workplace.run("publish", write_folder(tmp_path / "one", count=5), "--name", DATASET)
    hostile = ["../../etc/passwd", "..", "a/b", "n" * 300]
    with sqlite3.connect(tmp_path / "catalog.db") as connection:
        for number, name in enumerate(hostile):
            connection.execute("UPDATE images SET name = ? WHERE name = ?", (name, f"img_{number:05}"))
            connection.execute("UPDATE annotations SET name = ? WHERE name = ?", (name, f"img_{number:05}"))
    connection.close()
    with workplace.mounted("--siblings", "none") as mountpoint:
        assert names_in(mountpoint / DATASET) == ["img_00004.jpg", "img_00004.json"]
        told = (mountpoint / ".imgsyncfs" / "errors.log").read_text()
    assert all(name in told for name in hostile)


def test_an_annotation_that_does_not_parse_reads_as_it_is_and_its_siblings_end_in_eio(tmp_path: Path) -> None:
    workplace = local_workplace(tmp_path)
    folder = write_folder(tmp_path / "one", count=2)
    workplace.run("publish", folder, "--name", DATASET, "--loose")
    [blob] = (tmp_path / "store").rglob("img_00000.*.json")
    broken = blob.read_bytes().replace(b'"x"', b'"q"')
    blob.chmod(0o644)
    blob.write_bytes(broken)
    with sqlite3.connect(tmp_path / "catalog.db") as connection:
        digest = hashlib.md5(broken).hexdigest()
        connection.execute("UPDATE annotations SET md5 = ? WHERE name = 'img_00000'", (digest,))
    connection.close()
    with workplace.mounted() as mountpoint:
        dataset = mountpoint / DATASET
        assert (dataset / "img_00000.json").read_bytes() == broken
        for suffix in (".labelme.json", ".xml"):
            with pytest.raises(OSError, match=r"\[Errno 5\]"):
                (dataset / f"img_00000{suffix}").read_bytes()
            assert (dataset / f"img_00001{suffix}").read_bytes()
        told = (mountpoint / ".imgsyncfs" / "errors.log").read_text()
    assert "img_00000.json" in told
    assert "object[0].x" in told


def test_an_annotation_that_parses_and_cannot_be_rendered_is_named(tmp_path: Path) -> None:
    workplace = local_workplace(tmp_path)
    folder = write_folder(tmp_path / "one", count=2)
    annotation = orjson.loads((folder / "img_00000.json").read_bytes())
    # As deep as JSON is read, and deeper than it is written.
    annotation["labels"][0]["object"][0]["note"] = "NESTED"
    nested = orjson.dumps(annotation).replace(b'"NESTED"', b"[" * 300 + b"]" * 300)
    workplace.run("publish", folder, "--name", DATASET, "--loose")
    [blob] = (tmp_path / "store").rglob("img_00000.*.json")
    blob.chmod(0o644)
    blob.write_bytes(nested)
    with sqlite3.connect(tmp_path / "catalog.db") as connection:
        connection.execute(
            "UPDATE annotations SET md5 = ?, byte_count = ? WHERE name = 'img_00000'",
            (hashlib.md5(nested).hexdigest(), len(nested)),
        )
    connection.close()
    with workplace.mounted() as mountpoint:
        with pytest.raises(OSError, match=r"\[Errno 5\]"):
            (mountpoint / DATASET / "img_00000.labelme.json").read_bytes()
        told = (mountpoint / ".imgsyncfs" / "errors.log").read_text()
    assert f"{DATASET}/img_00000.json" in told
