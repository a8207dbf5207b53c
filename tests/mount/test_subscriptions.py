"""Subscriptions and the symlinked ways to the datasets."""

from __future__ import annotations

import os
from pathlib import Path

import orjson
import pytest
from support.mounting import Workplace, copy_of, demo_workplace, eventually, write_folder
from support.services import Container, Database

FISHEYE = "original_20200207_fisheye_rbbox"


@pytest.fixture(scope="module")
def subscribed(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """The demo catalog with a subscription, which stays as it is."""
    workplace = demo_workplace(tmp_path_factory.mktemp("subscribed"))
    workplace.run("subscribe", "mine", FISHEYE)
    return workplace


@pytest.fixture
def demo(subscribed: Workplace, tmp_path: Path) -> Workplace:
    """A copy of that catalog."""
    return copy_of(subscribed, tmp_path)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_subscription_has_the_datasets_it_names_and_those_that_meet_its_conditions(demo: Workplace) -> None:
    words = demo.run(
        "subscribe", "mine", "original_20200114_rgb_bbox", "--where", "image_type=fisheye360", "--source", "original"
    )
    assert words.stdout.startswith("mine: 8 datasets")
    assert "mine: 8 datasets (1 named and image_type=fisheye360, source=original)" in demo.run("subscriptions").stdout
    shown = demo.run("subscriptions", "mine").stdout.split()
    assert FISHEYE in shown
    assert "opensource_habbof_rgb_rbbox" not in shown


def test_subscribing_again_replaces_and_removing_forgets(demo: Workplace) -> None:
    demo.run("subscribe", "mine", "original_20200114_rgb_bbox")
    [only] = orjson.loads(demo.run("subscriptions", "--json").stdout)
    assert only["datasets"] == ["original_20200114_rgb_bbox"]
    demo.run("subscriptions", "mine", "--remove")
    assert demo.run("subscriptions").stdout == ""


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["subscribe", "mine", "original_20200207_fisheye_rbox"], FISHEYE),
        (["subscribe", "mine", "--where", "imagetype=rgb"], "image_type"),
        (["subscribe", "mine"], "--where COLUMN=VALUE"),
        (["subscribe", "../mine", FISHEYE], "cannot be a subscription's name"),
        (["subscriptions", "minee"], "did you mean mine?"),
        (["mount", "mnt", "--subscription", "minee"], "did you mean mine?"),
    ],
)
def test_what_is_unknown_is_an_error_that_lists_the_near_ones(
    subscribed: Workplace, tmp_path: Path, arguments: list[str], expected: str
) -> None:
    (tmp_path / "mnt").mkdir()
    arguments = [str(tmp_path / "mnt") if argument == "mnt" else argument for argument in arguments]
    assert expected in subscribed.run(*arguments, status=1).stderr


def test_a_mount_of_a_subscription_shows_only_its_datasets_and_what_joins_later(demo: Workplace) -> None:
    demo.run("subscribe", "fisheye", "--where", "image_type=fisheye360", "--source", "original")
    folder = write_folder(demo.folder / "one")
    with demo.mounted("--subscription", "fisheye", "--refresh", "0.5") as mountpoint:
        assert len([name for name in names_in(mountpoint) if not name.startswith(".")]) == 7
        assert not (mountpoint / "original_20200114_rgb_bbox").exists()
        demo.run("publish", folder, "--name", "original_20260105_fisheye_rbbox")
        demo.run("publish", folder, "--name", "original_20260105_rgb_rbbox")
        assert eventually((mountpoint / "original_20260105_fisheye_rbbox").exists)
        assert not (mountpoint / "original_20260105_rgb_rbbox").exists()


def test_symlinks_lead_to_the_datasets_by_column_and_by_subscription(subscribed: Workplace) -> None:
    with subscribed.mounted() as mountpoint:
        assert names_in(mountpoint / ".by") == sorted(
            ["source", "image_type", "label_type", "class", "project", "label_version"]
        )
        assert names_in(mountpoint / ".by" / "source") == ["opensource", "original"]
        for link in (
            mountpoint / ".by" / "image_type" / "fisheye360" / FISHEYE,
            mountpoint / ".by" / "class" / "person" / FISHEYE,
            mountpoint / ".subscriptions" / "mine" / FISHEYE,
        ):
            assert link.is_symlink()
            assert link.resolve() == mountpoint / FISHEYE
            assert link.lstat().st_size == len(os.readlink(link))  # noqa: PTH115  # as text
            assert names_in(link) == names_in(mountpoint / FISHEYE)
        assert names_in(mountpoint / ".by" / "class" / "emotion") == ["opensource_imdbwiki&affectnet_rgb_clf&reg"]
        assert not (mountpoint / ".by" / "class" / "birds").exists()


def test_find_does_not_see_an_image_twice_though_links_lead_to_it(subscribed: Workplace) -> None:
    with subscribed.mounted("--siblings", "none") as mountpoint:
        found = [path for path in mountpoint.rglob("*.jpg") if ".by" not in path.parts]
        assert len({path.name for path in found}) == len(found)
        walked = [name for _, _, names in os.walk(mountpoint) for name in names if name.endswith(".jpg")]
        assert sorted(walked) == sorted(path.name for path in found)


def test_subscriptions_work_in_postgresql(postgresql_database: Database, container: Container, tmp_path: Path) -> None:
    environment = {**container.environment, **postgresql_database.environment}
    workplace = Workplace(postgresql_database.url, tmp_path, environment)
    workplace.run("init", "--store", container.url)
    workplace.run("publish", write_folder(tmp_path / "one", count=2), "--name", "original_20260105_rgb_rbbox")
    workplace.run("subscribe", "mine", "--where", "class=person")
    workplace.run("subscribe", "mine", "--where", "class=person", "--source", "original")
    assert workplace.run("subscriptions", "mine").stdout == "original_20260105_rgb_rbbox\n"
