"""The notebook API under its old names: the users' notebook runs with only its import changed."""

from __future__ import annotations

import asyncio
import csv
import io
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pytest
from PIL import Image
from support.api_setup import work_in
from support.mounting import Workplace, box_annotation, write_image
from support.places import SAMPLES
from support.services import Container, Database

from imgsyncfs import ImageSynchronizer
from imgsyncfs.annotations.house_format import parse_annotation as parse_house
from imgsyncfs.catalog import open_catalog
from imgsyncfs.catalog.rows import DatasetRow
from imgsyncfs.catalog.url import ServerUrl, parse_catalog_url
from imgsyncfs.errors import (
    AnnotationError,
    CatalogMissing,
    CatalogRefused,
    ConfigurationError,
    ConvertError,
    FormatError,
    PreviewError,
    SyncError,
)
from imgsyncfs.formats.registry import FORMATS
from imgsyncfs.ImageSynchronizer.parse_annotation import parse_annotation
from imgsyncfs.ImageSynchronizer.printed_progress import PrintedProgress
from imgsyncfs.ImageSynchronizer.session import server_url
from imgsyncfs.ImageSynchronizer.utils import draw_box
from imgsyncfs.tools.demo import DEMO_FILES, make_demo

COLUMNS = ["datasetID", "label_version", "image_type", "classes", "projects", "label_type", "size", "note"]
FISHEYE = [f"original_{date}_fisheye_rbbox" for date in (20200207, 20200219, 20200227, 20200316, 20200325)]
FISHEYE += [f"original_{date}_fisheye_rbbox" for date in (20200327, 20200414)]
VALUES = "opensource_imdbwiki&affectnet_rgb_clf&reg"


@pytest.fixture(scope="module")
def demo_catalog(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The demo catalog on the embedded default, to be read only."""
    return str(make_demo(tmp_path_factory.mktemp("demo") / "demo").catalog)


@pytest.fixture
def demo(demo_catalog: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """The demo catalog with a cache of the test's own."""
    workplace = Workplace(demo_catalog, tmp_path)
    work_in(workplace, monkeypatch)
    return workplace


@pytest.fixture
def own_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """A demo catalog of the test's own."""
    workplace = Workplace(str(make_demo(tmp_path / "demo").catalog), tmp_path)
    work_in(workplace, monkeypatch)
    return workplace


@pytest.fixture
def servers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgresql_database: Database, container: Container
) -> Workplace:
    """Three of the demo's datasets, on PostgreSQL and Azurite."""
    environment = {**postgresql_database.environment, **container.environment}
    workplace = Workplace(postgresql_database.url, tmp_path, environment)
    workplace.run("init", "--store", container.url)
    for dataset, image_type in ((FISHEYE[0], "fisheye360"), (FISHEYE[1], "fisheye360"), (VALUES, "rgb")):
        workplace.run("publish", DEMO_FILES / dataset, "--name", dataset, "--image-type", image_type)
    work_in(workplace, monkeypatch)
    return workplace


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """An annotation file with its image beside it."""
    write_image(tmp_path / "one.jpg", size=(64, 48))
    (tmp_path / "one.json").write_bytes(box_annotation())
    return tmp_path / "one.json"


def run_notebook(target: Path, **catalog: Any) -> list[str]:
    """The seven cells of the users' notebook; gives the ids of the datasets that they copied."""
    # 1: connect
    sync = ImageSynchronizer.synchronizer(**catalog)
    # 2: look at the table
    datasets = sync.datasetsInfo
    assert list(datasets.columns) == COLUMNS
    # 3: choose
    chosen = datasets[(datasets.image_type == "fisheye360") & (~datasets.datasetID.str.startswith("opensource"))]
    # 4: subscribe
    sync.subscribe(datasets=chosen.datasetID.tolist())
    # 5: look at the choice
    pd.testing.assert_frame_equal(sync.datasetsInfo_subscribed, chosen)
    # 6: copy
    sync.update_subscription(target_path=str(target), amount=2)
    # 7: look at one annotation, and convert it
    annotation_path = target / FISHEYE[0] / f"{FISHEYE[0]}_00001.json"
    picture = draw_box(str(annotation_path))
    annotation = parse_annotation(str(annotation_path))
    height, width = annotation.annotation.height, annotation.annotation.width
    assert picture.shape == (height, width, 3)
    assert picture.dtype == np.uint8
    assert list(annotation.objects_df.columns) == ["class", "x", "y", "w", "h", "a"]
    annotation.convert("rolabelimg_xml")
    xml = annotation_path.with_suffix(".xml").read_bytes()
    assert FORMATS["rolabelimg"].parse(xml) == parse_house(annotation_path.read_bytes())
    return list(chosen.datasetID)


def check_copies(target: Path, datasets: list[str], *, amount: int) -> None:
    """Every dataset's folder holds this many of its images with their annotations, byte for byte."""
    assert sorted(path.name for path in target.iterdir() if not path.name.startswith(".")) == datasets
    for dataset in datasets:
        images = sorted((target / dataset).glob("*.jpg"))
        assert len(images) == min(amount, len(list((DEMO_FILES / dataset).glob("*.jpg"))))
        for image in images:
            for copied in (image, image.with_suffix(".json")):
                assert copied.read_bytes() == (DEMO_FILES / dataset / copied.name).read_bytes()


def test_the_old_notebook_runs_on_the_embedded_default(
    demo: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_notebook(tmp_path / "test", url=demo.catalog) == FISHEYE
    check_copies(tmp_path / "test", FISHEYE, amount=2)
    assert capsys.readouterr().out.splitlines() == [
        "Connecting to Azure database....",
        "Connecting to data storage...",
        *(f"Syncing files : {dataset} - 4/4" for dataset in FISHEYE),
        "Synchronization complete!",
        f"Convert {FISHEYE[0]}_00001.json complete!",
    ]


def test_the_old_notebook_runs_on_postgresql_and_azurite(servers: Workplace, tmp_path: Path) -> None:
    assert run_notebook(tmp_path / "test", url=servers.catalog) == FISHEYE[:2]
    check_copies(tmp_path / "test", FISHEYE[:2], amount=2)


def test_the_password_can_be_given_as_of_old_and_is_not_shown(
    postgresql_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workplace = Workplace(postgresql_database.url, tmp_path, postgresql_database.environment)
    workplace.run("init", "--store", f"file://{tmp_path}/store")
    work_in(workplace, monkeypatch)
    monkeypatch.setenv("IMGSYNCFS_PASSWORD", "another one")
    sync = ImageSynchronizer.synchronizer(url=workplace.catalog, password=postgresql_database.password)
    assert len(sync.datasetsInfo) == 0
    assert postgresql_database.password not in repr(sync) + repr(sync.datasetsInfo)
    with pytest.raises(CatalogRefused) as caught:
        ImageSynchronizer.synchronizer(url=workplace.catalog)
    assert "another one" not in str(caught.value)


def test_it_works_in_a_running_event_loop_and_off_the_main_thread(demo: Workplace, tmp_path: Path) -> None:
    async def cell() -> list[str]:
        return run_notebook(tmp_path / "test")

    copied: list[list[str]] = []
    thread = threading.Thread(target=lambda: copied.append(asyncio.run(cell())))
    thread.start()
    thread.join(60)
    assert copied == [FISHEYE]


def test_the_users_table_is_reproduced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workplace = Workplace(str(tmp_path / "catalog.db"), tmp_path)
    work_in(workplace, monkeypatch)
    (tmp_path / "store").mkdir()
    with (SAMPLES / "datasets.csv").open(newline="") as file, open_catalog(workplace.catalog, create=True) as catalog:
        catalog.initialize(store=f"file://{tmp_path}/store")
        for line in csv.DictReader(file):
            row = DatasetRow(
                dataset_id=line["dataset_id"],
                label_version=line["label_version"],
                image_type=line["image_type"],
                classes=tuple(line["classes"].split(",")),
                projects=tuple(line["projects"].split(",")),
                label_type=tuple(line["label_type"].split(",")),
                size=int(line["size"]),
                note=line["note"],
                store="",
                revision=0,
                updated_at=1,
            )
            catalog.replace_dataset(row, [], [])
    shown = ImageSynchronizer.synchronizer().datasetsInfo
    expected = pd.read_csv(SAMPLES / "datasets.csv", keep_default_na=False, dtype={"label_version": str})
    pd.testing.assert_frame_equal(shown, expected.rename(columns={"dataset_id": "datasetID"}))
    assert (len(shown), shown["size"].sum()) == (22, 59133)
    chosen = shown[(shown.image_type == "fisheye360") & (~shown.datasetID.str.startswith("opensource"))]
    assert chosen.datasetID.tolist() == FISHEYE


def test_a_second_update_takes_what_was_published_meanwhile(own_demo: Workplace, tmp_path: Path) -> None:
    sync = ImageSynchronizer.synchronizer()
    sync.subscribe(FISHEYE[0])
    sync.update_subscription(tmp_path / "test", amount=1)
    check_copies(tmp_path / "test", FISHEYE[:1], amount=1)
    folder = tmp_path / "next"
    folder.mkdir()
    for path in (DEMO_FILES / FISHEYE[0]).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / f"{FISHEYE[0]}_00001.json").write_bytes(box_annotation())
    own_demo.run("publish", folder, "--name", FISHEYE[0], "--note", "changed")
    sync.update_subscription(tmp_path / "test", amount=1)
    assert sync.datasetsInfo_subscribed.note.tolist() == ["changed"]
    assert (tmp_path / "test" / FISHEYE[0] / f"{FISHEYE[0]}_00001.json").read_bytes() == box_annotation()


def test_a_file_that_somebody_changed_is_kept_and_named(
    demo: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sync = ImageSynchronizer.synchronizer()
    sync.subscribe(FISHEYE[:1])
    sync.update_subscription(tmp_path / "test")
    mine = tmp_path / "test" / FISHEYE[0] / f"{FISHEYE[0]}_00001.json"
    mine.write_bytes(b"mine")
    capsys.readouterr()
    sync.update_subscription(tmp_path / "test")
    assert mine.read_bytes() == b"mine"
    assert mine.name in capsys.readouterr().out
    sync.update_subscription(tmp_path / "test", overwrite=True)
    assert mine.read_bytes() == (DEMO_FILES / FISHEYE[0] / mine.name).read_bytes()


def test_a_file_that_cannot_be_had_is_named_and_the_others_are_copied(
    own_demo: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "loose"
    folder.mkdir()
    for number in range(3):
        write_image(folder / f"img_{number}.jpg", shade=number)
    own_demo.run("publish", folder, "--name", "original_20260105_rgb_bbox", "--loose")
    [blob] = (tmp_path / "demo" / "store").rglob("img_1.*.jpg")
    blob.unlink()
    sync = ImageSynchronizer.synchronizer()
    sync.subscribe("original_20260105_rgb_bbox")
    with pytest.raises(SyncError, match="1 files"):
        sync.update_subscription(tmp_path / "test")
    printed = capsys.readouterr().out
    assert "original_20260105_rgb_bbox/img_1.jpg" in printed
    assert "complete" not in printed
    copied = tmp_path / "test" / "original_20260105_rgb_bbox"
    assert sorted(path.name for path in copied.glob("img*")) == ["img_0.jpg", "img_2.jpg"]


def test_on_a_terminal_the_line_of_a_dataset_grows_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    with PrintedProgress() as progress:
        for name in ("one", "two"):
            progress.phase(f"Syncing files : {name}", 2, "files")
            progress.advance(1)
            progress.advance(1)
    lines = terminal.getvalue().splitlines(keepends=True)
    assert [line for line in lines if line.endswith("\n")] == [
        "Syncing files : one - 2/2\n",
        "Syncing files : two - 2/2\n",
    ]
    assert "Syncing files : one - 1/2\r" in lines


def test_many_changed_files_are_counted_and_some_are_named(
    demo: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sync = ImageSynchronizer.synchronizer()
    sync.subscribe(sync.datasetsInfo.datasetID)
    sync.update_subscription(tmp_path / "test", amount=1)
    for path in (tmp_path / "test").glob("*/*.j*"):
        path.write_bytes(b"mine")
    capsys.readouterr()
    sync.update_subscription(tmp_path / "test", amount=1)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Changed by somebody")]
    assert len(lines) == 21
    assert lines[-1].endswith(": 24 more")


def test_subscribing_again_replaces_the_choice(demo: Workplace) -> None:
    sync = ImageSynchronizer.synchronizer()
    assert len(sync.datasetsInfo_subscribed) == 0
    assert list(sync.datasetsInfo_subscribed.columns) == COLUMNS
    sync.subscribe(datasets=FISHEYE)
    sync.subscribe(datasets=sync.datasetsInfo.datasetID[:2])
    assert sync.datasetsInfo_subscribed.datasetID.tolist() == sync.datasetsInfo.datasetID.tolist()[:2]


def test_an_unknown_dataset_is_an_error_that_names_near_ones_and_the_choice_stays(demo: Workplace) -> None:
    sync = ImageSynchronizer.synchronizer()
    sync.subscribe(datasets=FISHEYE[:1])
    with pytest.raises(ConfigurationError, match="opensource_habbof_rgb_rbbox"):
        sync.subscribe(datasets=["opensource_habbof_rgb_bbox"])
    assert sync.datasetsInfo_subscribed.datasetID.tolist() == FISHEYE[:1]


def test_an_update_without_a_subscription_says_what_to_do(demo: Workplace, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"subscribe\(datasets="):
        ImageSynchronizer.synchronizer().update_subscription(tmp_path / "test")


@pytest.mark.parametrize(
    ("server", "username", "expected"),
    [
        ("name.database.windows.net", "reader", ServerUrl("mssql", "name.database.windows.net", None, "reader", "d b")),
        ("tcp:name.example,1433", "my/self@name", ServerUrl("mssql", "name.example", 1433, "my/self@name", "d b")),
    ],
)
def test_a_server_is_named_as_of_old(server: str, username: str, expected: ServerUrl) -> None:
    assert parse_catalog_url(server_url(server, "d b", username)) == expected


@pytest.mark.parametrize(
    "named",
    [
        {"server": "name.example"},
        {"server": "name.example", "database": "images"},
        {"server": "name.example", "database": "images", "username": "me", "url": "catalog.db"},
        {"database": "images", "url": "catalog.db"},
    ],
)
def test_a_catalog_that_is_named_by_halves_or_twice_is_refused(named: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="server, database and username"):
        ImageSynchronizer.synchronizer(**named)


def test_a_catalog_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work_in(Workplace("", tmp_path), monkeypatch)
    with pytest.raises(CatalogMissing, match="nowhere"):
        ImageSynchronizer.synchronizer(url=str(tmp_path / "nowhere.db"))


@pytest.mark.parametrize(
    "use", [lambda path: parse_annotation(path).objects_df, lambda _: ImageSynchronizer.synchronizer()]
)
def test_without_pandas_it_says_what_to_install(
    use: Callable[[Path], object], labelled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'imgsyncfs\[notebook\]'"):
        use(labelled)


def test_the_23_fisheye_boxes_are_the_users_own_table() -> None:
    shown = parse_annotation(DEMO_FILES / FISHEYE[0] / f"{FISHEYE[0]}_00079.json").objects_df
    pd.testing.assert_frame_equal(shown, pd.read_csv(SAMPLES / "fisheye_00079.csv"))


def test_boxes_are_shown_with_their_corners() -> None:
    shown = parse_annotation(SAMPLES / "bbox.json").objects_df
    assert list(shown.columns) == ["class", "x1", "y1", "x2", "y2"]
    assert shown.iloc[1].tolist() == ["person", 88.0506329113924, 58.0, 128.0506329113924, 100.0]


def test_values_are_shown_a_row_each() -> None:
    shown = parse_annotation(SAMPLES / "clf_reg.json").objects_df
    assert list(shown.columns) == ["label_name", "label"]
    assert shown.to_numpy().tolist() == [["Gender", "Female"], ["Emotion", "Happiness"], ["Age", 42]]


@pytest.mark.parametrize(
    ("labels", "columns", "rows"),
    [
        ([], [], []),
        ([{"label_type": "bbox", "object": []}], ["class", "x1", "y1", "x2", "y2"], []),
        (
            [{"label_type": "poly", "object": [{"class": "cat", "points": [[1, 2], [3, 4.5], [5, 6]], "mine": 1}]}],
            ["class", "points"],
            [["cat", ((1, 2), (3, 4.5), (5, 6))]],
        ),
        (
            [{"label_type": "seg", "object": [{"class": "cat", "rle": {"size": [2, 2], "counts": [1, 3]}}]}],
            ["class", "rle"],
            [["cat", {"size": (2, 2), "counts": (1, 3)}]],
        ),
        ([{"label_type": "pose", "joints": [1]}], ["label_type", "joints"], [["pose", [1]]]),
    ],
)
def test_every_type_is_shown_with_its_own_columns(
    tmp_path: Path, labels: list[object], columns: list[str], rows: list[list[object]]
) -> None:
    path = tmp_path / "one.json"
    path.write_bytes(orjson.dumps({"anno_version": "0.2.0", "label_checked": 1, "labels": labels}))
    shown = parse_annotation(path).objects_df
    assert (list(shown.columns), shown.to_numpy().tolist()) == (columns, rows)


def test_mixed_types_are_shown_with_gaps(tmp_path: Path) -> None:
    box = {"class": "cat", "x1": 1, "y1": 2, "x2": 3, "y2": 4}
    labels = [
        {"label_type": "bbox", "object": [box]},
        {"label_type": "clf", "label_name": "Weather", "label": "rain"},
    ]
    path = tmp_path / "one.json"
    path.write_bytes(orjson.dumps({"anno_version": "0.2.0", "labels": labels}))
    shown = parse_annotation(path).objects_df
    assert list(shown.columns) == ["class", "x1", "y1", "x2", "y2", "label_name", "label"]
    assert shown.notna().to_numpy().tolist() == [[True] * 5 + [False] * 2, [False] * 5 + [True] * 2]


def test_a_picture_has_opencvs_order_of_colours(tmp_path: Path) -> None:
    Image.new("RGB", (640, 480), (250, 10, 30)).save(tmp_path / "one.png")
    (tmp_path / "one.json").write_bytes(box_annotation(size=(640, 480)))
    picture = draw_box(tmp_path / "one.json")
    assert picture.shape == (480, 640, 3)
    assert picture.dtype == np.uint8
    assert picture.flags.c_contiguous
    assert picture[470, 630].tolist() == [30, 10, 250]
    assert (picture != picture[470, 630]).any()


def test_a_picture_of_what_is_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(PreviewError, match=r"nothing\.json"):
        draw_box(tmp_path / "nothing.json")


def test_an_annotation_goes_to_labelme_and_comes_back(labelled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    house = labelled.read_bytes()
    shown = parse_annotation(labelled).objects_df
    parse_annotation(labelled).convert("labelme_json")
    assert (labelled.parent / "ImageSynchronizer_annotation" / labelled.name).read_bytes() == house
    pd.testing.assert_frame_equal(parse_annotation(labelled).objects_df, shown)
    assert draw_box(labelled).shape == (48, 64, 3)
    parse_annotation(labelled).convert("imagesynchronizer")
    assert labelled.read_bytes() == house
    assert capsys.readouterr().out == f"Convert {labelled.name} complete!\n" * 2


def test_what_the_new_file_does_not_show_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "one.json").write_bytes((SAMPLES / "clf_reg.json").read_bytes())
    write_image(tmp_path / "one.jpg", size=(263, 264))
    parse_annotation(tmp_path / "one.json").convert("rolabelimg_xml", output=tmp_path / "out")
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("Not shown: ")
    assert printed[-1] == "Convert one.json complete!"
    assert (tmp_path / "out" / "one.xml").exists()
    assert not (tmp_path / "one.xml").exists()


def test_a_file_that_would_be_lost_is_left_and_said_to_be(labelled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    annotation = parse_annotation(labelled)
    content = labelled.read_bytes()
    labelled.rename(labelled.with_name("real.json"))
    labelled.symlink_to("real.json")
    with pytest.raises(ConvertError, match=r"one\.json"):
        annotation.convert("labelme_json")
    assert labelled.read_bytes() == content
    assert "complete" not in capsys.readouterr().out


def test_an_unknown_format_is_an_error_that_lists_those_there_are(labelled: Path) -> None:
    with pytest.raises(FormatError, match="rolabelimg"):
        parse_annotation(labelled).convert("rolabelimg_json")


@pytest.mark.parametrize("content", [None, b"", b"{}", b'{"anno_version": "0.2.0"}'])
def test_a_file_that_is_no_annotation_is_an_error_that_names_it(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "one.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AnnotationError, match=r"one\.json"):
        parse_annotation(path)
