"""The command line: what people type first, and what they see."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import orjson
import pytest
from support.mounting import Workplace, demo_workplace, local_workplace, write_folder
from support.places import SAMPLES

DATASET = "original_20260105_rgb_rbbox"
COMMANDS = (
    *("demo", "init", "publish", "index", "datasets", "subscribe", "subscriptions"),
    *("mount", "umount", "status", "sync", "convert", "preview"),
)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """The demo catalog."""
    return demo_workplace(tmp_path_factory.mktemp("cli"))


def test_help_names_every_command_and_takes_no_catalog(tmp_path: Path) -> None:
    words = Workplace("", tmp_path).run("--help").stdout
    for command in COMMANDS:
        assert f"  {command} " in words


def test_the_demo_says_what_to_type_next_and_may_be_made_twice(tmp_path: Path) -> None:
    workplace = Workplace(str(tmp_path / "demo" / "catalog.db"), tmp_path)
    assert f"imgsyncfs mount {tmp_path}/demo/mnt" in workplace.run("demo", tmp_path / "demo").stdout
    before = workplace.run("datasets", "--json").stdout
    assert "already" in workplace.run("demo", tmp_path / "demo").stdout
    assert workplace.run("datasets", "--json").stdout == before


def test_the_demo_is_the_users_table_with_sizes_that_are_really_there(demo: Workplace) -> None:
    shown = list(csv.DictReader(io.StringIO(demo.run("datasets", "--csv").stdout)))
    with (SAMPLES / "datasets.csv").open(newline="") as table:
        expected = list(csv.DictReader(table))
    assert [row["dataset_id"] for row in shown] == [row["dataset_id"] for row in expected]
    for one, other in zip(shown, expected, strict=True):
        assert {**one, "size": ""} == {**other, "size": ""}
    with demo.mounted("--siblings", "none") as mountpoint:
        for row in shown:
            assert len(list((mountpoint / row["dataset_id"]).glob("*.jpg"))) == int(row["size"])


def test_datasets_are_filtered_by_conditions(demo: Workplace) -> None:
    chosen = orjson.loads(
        demo.run("datasets", "--json", "--where", "image_type=fisheye360", "--where", "source=original").stdout
    )
    assert len(chosen) == 7
    table = demo.run("datasets", "--where", "class=emotion").stdout
    assert "opensource_imdbwiki&affectnet_rgb_clf&reg" in table
    assert "1 datasets" in table


def test_init_twice_is_no_mistake_and_another_store_is_one(tmp_path: Path) -> None:
    workplace = local_workplace(tmp_path)
    assert "already" in workplace.run("init", "--store", f"file://{tmp_path}/store").stdout
    refused = workplace.run("init", "--store", f"file://{tmp_path}/other", status=1)
    assert f"{tmp_path}/store" in refused.stderr


def test_publishing_again_goes_up_by_one_revision_only_if_something_changed(tmp_path: Path) -> None:
    workplace = local_workplace(tmp_path)
    folder = write_folder(tmp_path / "one")
    assert "revision 1" in workplace.run("publish", folder, "--name", DATASET).stdout
    assert "already" in workplace.run("publish", folder, "--name", DATASET).stdout
    (folder / "img_00000.json").unlink()
    assert "revision 2" in workplace.run("publish", folder, "--name", DATASET).stdout


def test_blobs_in_place_are_indexed_without_copying_and_can_be_mounted(tmp_path: Path) -> None:
    workplace = local_workplace(tmp_path)
    folder = write_folder(tmp_path / "one")
    said = workplace.run("index", f"file://{folder}", "--name", "opensource_first_rgb_rbbox", "--note", "in place")
    assert f"mounts and copies of it need --allow-store file://{folder}." in said.stderr
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []
    with workplace.mounted("--siblings", "none", "--allow-store", f"file://{folder}") as mountpoint:
        dataset = mountpoint / "opensource_first_rgb_rbbox"
        for file in folder.iterdir():
            assert (dataset / file.name).read_bytes() == file.read_bytes()


def test_status_shows_what_the_mount_did(demo: Workplace) -> None:
    with demo.mounted() as mountpoint:
        words = demo.run("status", mountpoint).stdout
        assert "22 datasets" in words
        first = orjson.loads(demo.run("status", mountpoint, "--json").stdout)
        next((mountpoint / "original_20200207_fisheye_rbbox").glob("*.jpg")).read_bytes()
        second = orjson.loads(demo.run("status", mountpoint, "--json").stdout)
    assert second["store"]["requests"] + second["cache"]["hits"] > first["store"]["requests"] + first["cache"]["hits"]
    assert "away" in second["store"]


def test_secrets_never_appear_in_the_arguments_of_any_process_or_in_the_status(tmp_path: Path) -> None:
    local_workplace(tmp_path)
    secret = "tell-nobody-4711"
    workplace = Workplace(str(tmp_path / "catalog.db"), tmp_path, {"IMGSYNCFS_PASSWORD": secret})
    with workplace.mounted() as mountpoint:
        arguments = b"".join(path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline"))
        assert secret.encode() not in arguments
        assert secret not in workplace.run("status", mountpoint, "--json").stdout
    assert secret not in workplace.log()
