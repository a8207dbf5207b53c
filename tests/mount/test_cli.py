"""The command line: what people type first, and what they see."""

from __future__ import annotations

import csv
import io
import shlex
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from support.mounting import Workplace, demo_workplace, local_workplace, write_folder
from support.places import SAMPLES

DATASET = "original_20260105_rgb_rbbox"
COMMANDS = (
    *("demo", "init", "publish", "index", "datasets", "subscribe", "subscriptions"),
    *("mount", "umount", "status", "refresh", "sync", "convert", "preview", "unsubscribe", "completion"),
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
    [line] = demo.run("datasets", "--where", "class=emotion").stdout.splitlines()
    assert line.startswith("opensource_imdbwiki&affectnet_rgb_clf&reg\t")


def test_in_a_pipe_each_dataset_is_a_line_of_columns_between_tabs(demo: Workplace) -> None:
    lines = demo.run("datasets").stdout.splitlines()
    assert [line.split("\t")[0] for line in lines] == sorted(
        row["dataset_id"] for row in orjson.loads(demo.run("datasets", "--json").stdout)
    )
    assert {line.count("\t") for line in lines} == {7}


@pytest.mark.parametrize("columns", [20, 60, 80, 100, 200])
def test_on_a_terminal_ids_are_whole_however_narrow_it_is(demo: Workplace, columns: int) -> None:
    ids = [row["dataset_id"] for row in orjson.loads(demo.run("datasets", "--json").stdout)]
    shown = on_a_terminal(demo, "datasets", columns=columns)
    assert [each for each in ids if f" {each} " not in shown] == []
    assert "22 datasets" in " ".join(shown.split())


def on_a_terminal(workplace: Workplace, *arguments: str, columns: int) -> str:
    """What a command prints on a terminal of that width."""
    command = shlex.join([sys.executable, "-m", "imgsyncfs", *arguments])
    done = subprocess.run(
        ["script", "--quiet", "--return", "--command", f"stty cols {columns}; {command}", "/dev/null"],
        env={**workplace.variables(), "TERM": "dumb"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def test_a_value_that_no_dataset_has_is_named_with_those_that_are_near(demo: Workplace) -> None:
    done = demo.run("datasets", "--where", "image_type=fisheye")
    assert done.stdout == ""
    assert "No dataset has image_type=fisheye; did you mean fisheye360?" in done.stderr
    assert "there are" in demo.run("datasets", "--where", "class=zzz").stderr


def test_a_mistyped_command_is_answered_with_the_one_that_was_meant(tmp_path: Path) -> None:
    done = Workplace("", tmp_path).run("mont", status=2)
    assert "There is no command mont; did you mean mount" in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_learns_the_commands(tmp_path: Path, shell: str) -> None:
    assert "_IMGSYNCFS_COMPLETE" in Workplace("", tmp_path).run("completion", shell).stdout


def test_init_names_the_catalog_in_what_to_type_next_if_it_was_given_here_alone(tmp_path: Path) -> None:
    url = str(tmp_path / "other.db")
    done = local_workplace(tmp_path).run("init", "--catalog", url, "--store", f"file://{tmp_path}/other")
    assert f"imgsyncfs publish FOLDER --name ID --catalog sqlite://{url}" in done.stdout
    assert (
        "--catalog"
        not in local_workplace(tmp_path / "other").run("init", "--store", f"file://{tmp_path}/other/store").stdout
    )


def test_where_there_is_nothing_to_list_a_command_says_how_to_make_the_first_one(tmp_path: Path) -> None:
    workplace = Workplace(str(tmp_path / "catalog.db"), tmp_path)
    workplace.run("init", "--store", f"file://{tmp_path}/store")
    datasets, subscriptions = workplace.run("datasets"), workplace.run("subscriptions")
    assert (datasets.stdout, subscriptions.stdout) == ("", "")
    assert "imgsyncfs publish FOLDER --name ID" in datasets.stderr
    assert "imgsyncfs subscribe NAME" in subscriptions.stderr


def test_a_subscription_is_forgotten_by_unsubscribe(demo: Workplace) -> None:
    demo.run("subscribe", "passing", "--source", "original")
    assert "passing is forgotten" in demo.run("unsubscribe", "passing").stdout
    assert "passing" not in demo.run("subscriptions").stdout


def test_sync_with_the_target_forgotten_copies_nothing(demo: Workplace, tmp_path: Path) -> None:
    dataset, other = "original_20200207_fisheye_rbbox", "original_20200219_dewarp_bbox"
    assert "Say which datasets" in demo.run("sync", dataset, status=1).stderr
    said = demo.run("sync", dataset, other, status=1).stderr
    assert f"{dataset} is a dataset's id; say first where to copy to: imgsyncfs sync FOLDER {dataset}" in said
    assert not Path(dataset).exists()
    assert "Say which datasets" in demo.run("prefetch", status=1).stderr


def test_status_without_a_place_names_every_mount(demo: Workplace) -> None:
    with demo.mounted() as mountpoint:
        [line] = [line for line in demo.run("status").stdout.splitlines() if line.startswith(f"{mountpoint}\t")]
        assert line.endswith("catalog.db")


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
