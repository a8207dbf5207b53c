"""Views in a mount: each dataset in the layout that a tool looks for, as real directories."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from support.convert_folders import files_of
from support.mounting import Workplace, box_annotation, mount_status, workplace_with, write_folder

from imgsyncfs.formats.registry import FORMATS
from imgsyncfs.library.views.registry import VIEWS

DATASET = "original_20260401_rgb_rbbox"
OTHER = "original_20260402_rgb_rbbox"
NEVER = ("--refresh", "3600")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workplace, Path]]:
    """A mount that its tests only read."""
    workplace = workplace_with(tmp_path_factory.mktemp("views"), DATASET, count=40)
    workplace.run("publish", write_folder(workplace.folder / "two", count=3), "--name", OTHER)
    with workplace.mounted(*NEVER) as mountpoint:
        yield workplace, mountpoint


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    return workplace_with(tmp_path, DATASET, count=3)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_views_are_there_and_not_listed(shared: tuple[Workplace, Path]) -> None:
    _, mountpoint = shared
    assert names_in(mountpoint) == [DATASET, OTHER]
    assert names_in(mountpoint / ".views") == sorted(VIEWS)
    for view in VIEWS:
        assert names_in(mountpoint / ".views" / view) == [DATASET, OTHER]


@pytest.mark.parametrize("view", list(FORMATS))
def test_a_view_has_each_image_and_beside_it_the_annotation_that_its_tool_looks_for(
    shared: tuple[Workplace, Path], view: str
) -> None:
    _, mountpoint = shared
    known, folder = FORMATS[view], mountpoint / ".views" / view / DATASET
    images = {path.name for path in (mountpoint / DATASET).glob("*.jpg")}
    stems = {name.removesuffix(".jpg") for name in images}
    assert set(names_in(folder)) == images | {f"{stem}{known.view_suffix}" for stem in stems}
    for stem in sorted(stems)[:5]:
        assert (folder / f"{stem}.jpg").read_bytes() == (mountpoint / DATASET / f"{stem}.jpg").read_bytes()
        content = (folder / f"{stem}{known.view_suffix}").read_bytes()
        assert known.recognizes(content)
        assert (folder / f"{stem}{known.view_suffix}").stat().st_size == len(content)


def test_the_plain_view_has_images_and_house_annotations_alone(shared: tuple[Workplace, Path]) -> None:
    _, mountpoint = shared
    plain = files_of(mountpoint / ".views" / "plain" / DATASET, annotations_only=False)
    beside = files_of(mountpoint / DATASET, annotations_only=False)
    assert plain == {name: content for name, content in beside.items() if not name.endswith((".labelme.json", ".xml"))}


@pytest.mark.parametrize("view", list(VIEWS))
def test_sync_copies_what_the_view_shows(shared: tuple[Workplace, Path], tmp_path: Path, view: str) -> None:
    workplace, mountpoint = shared
    workplace.run("sync", tmp_path / "copy", DATASET, "--view", view)
    shown = files_of(mountpoint / ".views" / view / DATASET, annotations_only=False)
    assert files_of(tmp_path / "copy" / DATASET, annotations_only=False) == shown


def test_a_view_is_a_real_directory_that_can_be_copied(shared: tuple[Workplace, Path], tmp_path: Path) -> None:
    _, mountpoint = shared
    source = mountpoint / ".views" / "rolabelimg" / OTHER
    assert not source.is_symlink()
    assert source.resolve() == source
    shutil.copytree(source, tmp_path / "copy")
    assert names_in(tmp_path / "copy") == names_in(source)


@pytest.mark.parametrize("name", ["x.npy", "img_00000.labelme.json", "img_00000.JPG", "img_99999.jpg", "images"])
def test_what_a_view_does_not_have_is_not_there(shared: tuple[Workplace, Path], name: str) -> None:
    _, mountpoint = shared
    assert not (mountpoint / ".views" / "labelme" / DATASET / name).exists()
    assert not (mountpoint / ".views" / "gone" / DATASET).exists()


def test_a_name_that_is_not_there_is_asked_for_once(shared: tuple[Workplace, Path]) -> None:
    _, mountpoint = shared
    absent = mountpoint / ".views" / "labelme" / DATASET / "img_00001.npy"
    assert not absent.exists()
    before = mount_status(mountpoint)["responders"]["requests"]
    for _ in range(200):
        assert not absent.exists()
    assert mount_status(mountpoint)["responders"]["requests"] - before < 100


def test_the_root_can_show_a_view(workplace: Workplace) -> None:
    with workplace.mounted(*NEVER, "--view", "labelme") as mountpoint:
        (document, *_) = [orjson.loads(path.read_bytes()) for path in (mountpoint / DATASET).glob("*.json")]
        assert document["shapes"]
        assert not list((mountpoint / DATASET).glob("*.xml"))
        assert names_in(mountpoint / ".views" / "labelme") == names_in(mountpoint)
        assert list((mountpoint / ".views" / "rolabelimg" / DATASET).glob("*.xml"))
        assert (mountpoint / ".by" / "source" / "original" / DATASET).resolve() == mountpoint / DATASET


def test_a_view_in_the_root_is_an_option_of_fstab_too(workplace: Workplace) -> None:
    with workplace.mounted(*NEVER, "-o", "view=rolabelimg") as mountpoint:
        assert list((mountpoint / DATASET).glob("*.xml"))
        assert not list((mountpoint / DATASET).glob("*.json"))


def test_an_unknown_view_and_one_with_siblings_are_refused(workplace: Workplace) -> None:
    mountpoint = workplace.folder / "mnt"
    mountpoint.mkdir()
    assert "labelme" in workplace.run("mount", mountpoint, "--view", "labelmee", status=1).stderr
    refused = workplace.run("mount", mountpoint, "--view", "labelme", "--siblings", "none", status=1)
    assert "leave out --siblings" in refused.stderr


@pytest.mark.parametrize("options", [(), ("--view", "labelme")])
def test_a_publish_is_seen_in_a_view_and_who_has_a_file_open_reads_on(
    workplace: Workplace, tmp_path: Path, options: tuple[str, ...]
) -> None:
    with workplace.mounted(*NEVER, *options) as mountpoint:
        folder = mountpoint / DATASET if options else mountpoint / ".views" / "labelme" / DATASET
        changed, removed = folder / "img_00000.json", folder / "img_00002.jpg"
        before, image = changed.read_bytes(), removed.read_bytes()
        with changed.open("rb") as open_label, removed.open("rb") as open_image:
            source = tmp_path / "one"
            (source / "img_00000.json").write_bytes(box_annotation(name="cat"))
            for path in source.glob("img_00002.*"):
                path.unlink()
            workplace.run("publish", source, "--name", DATASET)
            assert orjson.loads(changed.read_bytes())["shapes"][0]["label"] == "cat"
            assert not removed.exists()
            assert names_in(folder) == ["img_00000.jpg", "img_00000.json", "img_00001.jpg", "img_00001.json"]
            assert open_label.read() == before
            assert open_image.read() == image


def test_a_dataset_that_comes_later_is_in_every_view(workplace: Workplace, tmp_path: Path) -> None:
    with workplace.mounted(*NEVER) as mountpoint:
        assert names_in(mountpoint / ".views" / "labelme") == [DATASET]
        workplace.run("publish", write_folder(tmp_path / "two", count=2), "--name", OTHER)
        for view in VIEWS:
            assert names_in(mountpoint / ".views" / view) == [DATASET, OTHER]
            assert (mountpoint / ".views" / view / OTHER / "img_00000.jpg").stat().st_size
