"""Selections of images in a mount: shown as datasets are, with classes under their own names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
import yaml
from support.api_setup import work_in
from support.mounting import Workplace, eventually, local_workplace, write_image

import imgsyncfs
from imgsyncfs.annotations.classes import class_names
from imgsyncfs.annotations.splits import Split, SplitRule, split_stems
from imgsyncfs.errors import ConfigurationError
from imgsyncfs.formats.registry import FORMATS

ONE, TWO, THREE = (f"original_2026010{number}_rgb_bbox" for number in (1, 2, 3))
NEVER = ("--refresh", "3600")
BOX = (8.0, 6.0, 40.0, 30.0)


def annotation(*classes: str, checked: int = 1) -> bytes:
    objects = [
        {"class": name, "x1": BOX[0] + place, "y1": BOX[1], "x2": BOX[2], "y2": BOX[3]}
        for place, name in enumerate(classes)
    ]
    document = {"anno_version": "0.2.0", "label_checked": checked, "height": 48, "width": 64, "depth": 3, "ext": "jpg"}
    return orjson.dumps({**document, "labels": [{"label_type": "bbox", "object": objects}]})


def publish(workplace: Workplace, dataset_id: str, said: dict[str, tuple[str, ...] | None], **options: str) -> None:
    folder = workplace.folder / dataset_id
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for number, (stem, classes) in enumerate(said.items()):
        write_image(folder / f"{stem}.jpg", shade=37 * number + len(dataset_id))
        if classes is not None:
            (folder / f"{stem}.json").write_bytes(annotation(*classes))
    workplace.run("publish", folder, "--name", dataset_id, *(each for pair in options.items() for each in pair))


SAID: dict[str, dict[str, tuple[str, ...] | None]] = {
    ONE: {f"{ONE}_{number:05}": ("person", "car") for number in range(0, 400, 100)},
    TWO: {"a": ("person with face", "car", "dog"), "b": ("car",), "c": ("dog",)},
    THREE: {"a": ("person with face",), "z": None},
}


def filled(folder: Path) -> Workplace:
    workplace = local_workplace(folder)
    for dataset_id, said in SAID.items():
        publish(workplace, dataset_id, said)
    return workplace


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workplace, Path]]:
    """A mount with a selection, which its tests only read."""
    workplace = filled(tmp_path_factory.mktemp("selections"))
    workplace.run("select", "people", "--where", "class!=dog", "--map", "person with face=person", "--drop", "car")
    workplace.run("select", "all")
    workplace.run("select", "dogs", "--where", "class=dog", "--first", "1")
    with workplace.mounted(*NEVER) as mountpoint:
        yield workplace, mountpoint


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    return filled(tmp_path)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def stems(folder: Path) -> set[str]:
    """The stems of the images in a directory."""
    return {path.stem for path in folder.glob("*.jpg")}


def labels(folder: Path) -> dict[str, list[str]]:
    """Stem to the first words of the label's rows, in a YOLO layout."""
    return {path.stem: re.findall(r"^\S+", path.read_text(), re.MULTILINE) for path in folder.glob("*/labels/*.txt")}


def classes_of(path: Path) -> list[str]:
    document = orjson.loads(path.read_bytes())
    return [item["class"] for label in document["labels"] for item in label["object"]]


def test_images_of_several_datasets_stand_in_one_directory_and_none_hides_another(
    shared: tuple[Workplace, Path],
) -> None:
    _, mountpoint = shared
    others = {f"{dataset_id}--{stem}" for dataset_id in (TWO, THREE) for stem in SAID[dataset_id]}
    assert stems(mountpoint / ".selections" / "all") == {*SAID[ONE], *others}
    for dataset_id, stem in ((TWO, "a"), (THREE, "a")):
        shown = mountpoint / ".selections" / "all" / f"{dataset_id}--{stem}"
        for suffix in (".jpg", ".json"):
            original = mountpoint / dataset_id / f"{stem}{suffix}"
            assert shown.with_name(shown.name + suffix).read_bytes() == original.read_bytes()


def test_a_selection_has_the_images_that_meet_its_conditions(shared: tuple[Workplace, Path]) -> None:
    _, mountpoint = shared
    images = {name for name in files(mountpoint / ".selections" / "people") if name.endswith(".jpg")}
    assert images == {
        *(f"{stem}.jpg" for stem in SAID[ONE]),
        *(f"{each}.jpg" for each in (f"{TWO}--b", f"{THREE}--a", f"{THREE}--z")),
    }
    assert {name for name in files(mountpoint / ".selections" / "dogs") if name.endswith(".jpg")} == {f"{TWO}--a.jpg"}


def test_classes_have_their_other_names_in_every_annotation_and_dropped_ones_are_not_there(
    shared: tuple[Workplace, Path],
) -> None:
    _, mountpoint = shared
    folder = mountpoint / ".selections" / "people"
    stem = f"{THREE}--a"
    assert classes_of(folder / f"{stem}.json") == ["person"]
    assert (folder / f"{stem}.json").stat().st_size == len((folder / f"{stem}.json").read_bytes())
    assert classes_of(folder / f"{next(iter(SAID[ONE]))}.json") == ["person"]
    assert b"person with face" not in (folder / f"{stem}.labelme.json").read_bytes().split(b"imgsyncfs")[0]
    assert classes_of(mountpoint / ".views" / "plain" / "@people" / f"{stem}.json") == ["person"]
    coco = orjson.loads((mountpoint / ".views" / "coco" / "@people" / "instances.json").read_bytes())
    assert {"car", "person with face"}.isdisjoint(each["name"] for each in coco["categories"])
    assert len(coco["annotations"]) == len(SAID[ONE]) + 1


def test_a_trainers_view_of_a_selection_has_its_numbers_for_classes(shared: tuple[Workplace, Path]) -> None:
    _, mountpoint = shared
    view = mountpoint / ".views" / "yolo" / "@people"
    names = yaml.safe_load((view / "data.yaml").read_text())["names"]
    number = {name: str(place) for place, name in (names.items() if isinstance(names, dict) else enumerate(names))}
    assert "car" not in number
    assert "person with face" not in number
    found = labels(view)
    assert found.keys() == {*SAID[ONE], f"{THREE}--a", f"{TWO}--b"}
    assert set(map(tuple, found.values())) == {(number["person"],), ()}


def test_images_are_on_the_side_that_they_are_on_in_their_dataset(shared: tuple[Workplace, Path]) -> None:
    _, mountpoint = shared
    sides = {Split.TRAIN: "train", Split.VALIDATION: "valid", Split.TEST: "test"}
    for dataset_id in (ONE, TWO, THREE):
        names = sorted(SAID[dataset_id])
        for stem, split in zip(names, split_stems(SplitRule(), names), strict=True):
            name = stem if stem.startswith(dataset_id) else f"{dataset_id}--{stem}"
            assert (mountpoint / ".views/yolo/@all" / sides[Split(split)] / "images" / f"{name}.jpg").exists()


def test_every_view_shows_selections(shared: tuple[Workplace, Path]) -> None:
    _, mountpoint = shared
    assert files(mountpoint / ".selections") == {"all", "people", "dogs"}
    for view in ("plain", *FORMATS, "yolo", "yolo-seg", "coco", "hf", "cvat", "preview"):
        shown = mountpoint / ".views" / view
        assert {"@all", "@people", ONE} <= files(shown)
        images = [*(shown / "@all").rglob("*.jpg")]
        assert len(images) == sum(map(len, SAID.values()))


def test_a_selection_is_not_listed_among_the_datasets(shared: tuple[Workplace, Path]) -> None:
    _, mountpoint = shared
    assert files(mountpoint) == {ONE, TWO, THREE}


def test_what_is_published_later_and_meets_the_conditions_joins(workplace: Workplace) -> None:
    workplace.run("select", "dogs", "--where", "class=dog", "--map", "dog=animal")
    with workplace.mounted("--refresh", "3600") as mountpoint:
        folder = mountpoint / ".selections" / "dogs"
        assert stems(folder) == {f"{TWO}--a", f"{TWO}--c"}
        publish(workplace, THREE, {"a": ("dog",), "z": None})
        assert eventually(lambda: f"{THREE}--a" in stems(folder))
        assert classes_of(folder / f"{THREE}--a.json") == ["animal"]


def test_a_selection_that_is_made_otherwise_or_removed_shows_so_in_a_mount(workplace: Workplace) -> None:
    workplace.run("select", "some", "--where", "class=dog")
    with workplace.mounted(*NEVER) as mountpoint:
        path = mountpoint / ".selections" / "some" / f"{TWO}--a.json"
        assert classes_of(path) == ["person with face", "car", "dog"]
        workplace.run("select", "some", "--where", "class=dog", "--map", "dog=cat", "--drop", "car")
        assert eventually(lambda: classes_of(path) == ["person with face", "cat"])
        assert path.stat().st_size == len(path.read_bytes())
        workplace.run("selections", "some", "--remove")
        assert eventually(lambda: not (mountpoint / ".selections" / "some").exists())


def test_prefetch_brings_a_selection_into_the_cache(workplace: Workplace) -> None:
    workplace.run("select", "dogs", "--where", "class=dog")
    with workplace.mounted(*NEVER) as mountpoint:
        workplace.run("prefetch", "@dogs")
        store = (workplace.folder / "store").rename(workplace.folder / "away")
        try:
            shown = mountpoint / ".selections" / "dogs"
            assert all(path.read_bytes() for path in shown.iterdir())
            assert len(stems(shown)) == 2
        finally:
            store.rename(workplace.folder / "store")


def test_python_reads_a_selection_as_a_dataset(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    workplace.run("select", "people", "--where", "class!=dog", "--map", "person with face=person", "--drop", "car")
    work_in(workplace, monkeypatch)
    with imgsyncfs.connect() as catalog:
        assert catalog.selections == ("people",)
        people = catalog.selection("people")
        assert {*people.names} == {*SAID[ONE], f"{TWO}--b", f"{THREE}--a", f"{THREE}--z"}
        annotation = people.annotation(f"{THREE}--a")
        assert annotation is not None
        assert class_names(annotation) == {"person"}
        with pytest.raises(ConfigurationError, match="did you mean people"):
            catalog.selection("peple")


def test_commands_say_what_is_in_selections(workplace: Workplace) -> None:
    said = workplace.run("select", "dogs", "--where", "class=dog", "--map", "dog=animal").stdout
    assert "dogs: 2 images of 1 dataset\n" in said
    assert f"  {TWO}: 2 images\n" in said
    assert "animal: 2 objects" in said
    assert workplace.run("selections").stdout == "dogs: 2 images of 1 dataset (class=dog, dog as animal)\n"
    (listed,) = orjson.loads(workplace.run("selections", "--json").stdout)
    assert (listed["name"], listed["images"], listed["objects"]["animal"]) == ("dogs", {TWO: 2}, 2)
    assert "did you mean dogs" in workplace.run("selections", "dogz", status=1).stderr
    workplace.run("selections", "dogs", "--remove")
    assert "imgsyncfs select NAME" in workplace.run("selections").stderr


def test_a_selection_of_nothing_says_so(workplace: Workplace) -> None:
    said = workplace.run("select", "none", "--where", "objects>100")
    assert "none: 0 images of 0 datasets" in said.stdout
    assert "no image meets all of that now" in said.stderr
    with workplace.mounted(*NEVER) as mountpoint:
        assert files(mountpoint / ".selections" / "none") == set()
