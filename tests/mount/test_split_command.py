"""The command ``split``, and what mounts see of it."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from support.mounting import Workplace, copy_of, demo_workplace

FISHEYE = "original_20200207_fisheye_rbbox"


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """The demo catalog, which stays as it is."""
    return demo_workplace(tmp_path_factory.mktemp("untouched"))


@pytest.fixture
def demo(untouched: Workplace, tmp_path: Path) -> Workplace:
    """A copy of that catalog."""
    return copy_of(untouched, tmp_path)


def revision(workplace: Workplace) -> int:
    rows = orjson.loads(workplace.run("datasets", "--json").stdout)
    return int(next(row["revision"] for row in rows if row["dataset_id"] == FISHEYE))


def splits(workplace: Workplace, *arguments: str) -> dict[str, int]:
    shown = orjson.loads(workplace.run("split", FISHEYE, *arguments, "--json").stdout)
    return {name: counts["images"] for name, counts in shown["splits"].items()}


def test_without_weights_the_rule_is_shown_with_what_it_gives(untouched: Workplace) -> None:
    shown = untouched.run("split", FISHEYE).stdout
    assert shown.startswith(f"{FISHEYE}: 80/10/10, in groups by the name and the hundreds of its last number\n")
    assert [line.split()[0] for line in shown.splitlines()[1:]] == ["train", "validation", "test"]
    assert revision(untouched) == 1


def test_another_rule_is_kept_and_what_is_not_given_stays(demo: Workplace) -> None:
    assert f"{FISHEYE} is now at revision 2." in demo.run("split", FISHEYE, "1/1/0", "--group-by", "^.*$").stdout
    assert f"{FISHEYE}: 1/1/0, in groups by the expression '^.*$'" in demo.run("split", FISHEYE).stdout
    assert f"{FISHEYE}: 1/1/1, in groups by the expression '^.*$'" in demo.run("split", FISHEYE, "1/1/1").stdout
    assert revision(demo) == 3


def test_reset_goes_back_to_the_usual_rule(demo: Workplace) -> None:
    before = splits(demo)
    assert splits(demo, "0/0/1") == {"train": 0, "validation": 0, "test": sum(before.values())}
    assert splits(demo, "--reset") == before


def test_the_same_rule_again_changes_nothing(demo: Workplace) -> None:
    assert "revision" not in demo.run("split", FISHEYE, "80/10/10").stdout
    assert revision(demo) == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["original_20200207_fisheye_rbox"], FISHEYE),
        ([FISHEYE, "80/20"], "80/10/10"),
        ([FISHEYE, "--group-by", "(a+)+"], "cannot say the group"),
        ([FISHEYE, "1/1/1", "--reset"], "--reset goes back"),
    ],
)
def test_what_makes_no_rule_is_refused_and_nothing_changes(
    untouched: Workplace, arguments: list[str], expected: str
) -> None:
    assert expected in untouched.run("split", *arguments, status=1).stderr
    assert revision(untouched) == 1


def test_a_split_without_images_is_pointed_out(demo: Workplace) -> None:
    assert "no image is in" in demo.run("split", FISHEYE, "1/1/1", "--group-by", "^.").stderr


def test_a_mount_notices_another_rule_and_files_that_are_the_same_keep_their_numbers(demo: Workplace) -> None:
    with demo.mounted("--refresh", "3600") as mountpoint:
        image = next((mountpoint / FISHEYE).glob("*.jpg"))
        before = image.stat().st_ino
        done = demo.run("split", FISHEYE, "1/1/1")
        assert f"The mount at {mountpoint} shows it." in done.stdout
        assert image.stat().st_ino == before
