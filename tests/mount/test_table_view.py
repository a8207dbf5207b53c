"""The view `table` of a mount, opened by pandas, DuckDB and polars."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pandas as pd
import polars as pl
import pytest
from support.mounting import demo_workplace, workplace_with, write_folder

from imgsyncfs.annotations.house_format import OBJECT_LABEL_TYPES
from imgsyncfs.formats.dataset_documents.annotation_table import COLUMNS

DATASET = "original_20200207_fisheye_rbbox"
VALUES = "opensource_imdbwiki&affectnet_rgb_clf&reg"
NEVER = ("--refresh", "3600")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A mount of the demo that its tests only read."""
    with demo_workplace(tmp_path_factory.mktemp("table")).mounted(*NEVER) as mountpoint:
        yield mountpoint


def table(mountpoint: Path, name: str = "annotations", dataset: str = DATASET) -> Path:
    return mountpoint / ".views" / "table" / dataset / f"{name}.parquet"


def house_objects(mountpoint: Path, dataset: str = DATASET) -> list[tuple[str, dict[str, Any]]]:
    """The image and the content of each object in the house annotations, in their order."""
    return [
        (path.stem, item)
        for path in sorted((mountpoint / dataset).glob("*.json"))
        if not path.name.endswith(".labelme.json")
        for label in orjson.loads(path.read_bytes())["labels"]
        if label["label_type"] in OBJECT_LABEL_TYPES.values()
        for item in label["object"]
    ]


def test_the_view_has_two_tables_a_list_and_no_images(shared: Path) -> None:
    names = sorted(path.name for path in table(shared).parent.iterdir())
    assert names == ["annotations.parquet", "images.csv", "images.parquet"]
    assert not (table(shared).parent / f"{DATASET}_00001.jpg").exists()
    assert table(shared).stat().st_size == len(table(shared).read_bytes())


def test_pandas_reads_the_numbers_of_the_house_annotations(shared: Path) -> None:
    frame = pd.read_parquet(table(shared))
    expected = house_objects(shared)
    assert frame["image"].tolist() == [image for image, _ in expected]
    assert frame["class"].tolist() == [item["class"] for _, item in expected]
    for name in "xywh":
        assert frame[name].tolist() == [item[name] for _, item in expected]
    # An angle of pi and more is the same box with less.
    assert frame["a"].tolist() == pytest.approx([item["a"] % 3.141592653589793 for _, item in expected])
    assert (frame["x1"] < frame["x"]).all()


def test_paths_in_the_tables_lead_from_the_root_to_the_images(shared: Path) -> None:
    frame = pd.read_parquet(table(shared, "images"))
    images = sorted((shared / DATASET).glob("*.jpg"))
    assert [shared / path for path in frame["path"]] == images
    assert frame["bytes"].tolist() == [path.stat().st_size for path in images]
    assert set(pd.read_parquet(table(shared))["path"]) <= set(frame["path"])


def test_the_list_has_a_line_for_each_image_with_its_classes(shared: Path) -> None:
    frame = pd.read_csv(table(shared).with_name("images.csv"), keep_default_na=False)
    images = sorted((shared / DATASET).glob("*.jpg"))
    assert [shared / path for path in frame["path"]] == images
    found = house_objects(shared)
    counts = [Counter(item["class"] for name, item in found if name == image.stem) for image in images]
    assert frame["classes"].tolist() == [
        ";".join(f"{name}={count}" for name, count in sorted(each.items())) for each in counts
    ]


def test_duckdb_reads_the_tables_of_all_datasets_together(shared: Path) -> None:
    pattern = table(shared, dataset="*")
    sql = f"SELECT dataset, count(*) FROM '{pattern}' WHERE object_index IS NOT NULL GROUP BY dataset"
    with duckdb.connect(":memory:") as connection:
        found = connection.execute(sql).fetchall()
    datasets = {path.name for path in (shared / ".views" / "table").iterdir()}
    assert dict(found) == {each: count for each in datasets if (count := len(house_objects(shared, each)))}


def test_polars_reads_words_and_numbers_about_images(shared: Path) -> None:
    frame = pl.read_parquet(table(shared, dataset=VALUES))
    assert frame.columns == list(COLUMNS)
    labels = [
        label
        for path in sorted((shared / VALUES).glob("*.json"))
        if not path.name.endswith(".labelme.json")
        for label in orjson.loads(path.read_bytes())["labels"]
    ]
    shown = frame.select(pl.col("label_name").cast(str), pl.col("label").cast(str), "number").rows()
    assert shown == [
        (label["label_name"], label["label"], None)
        if label["label_type"] == "clf"
        else (label["label_name"], None, label["label"])
        for label in labels
    ]


def test_the_table_of_images_is_there_when_no_annotation_can_be_read(tmp_path: Path) -> None:
    workplace = workplace_with(tmp_path, DATASET, count=3)
    with workplace.mounted(*NEVER) as mountpoint:
        (tmp_path / "store").rename(tmp_path / "away")
        assert len(pd.read_parquet(table(mountpoint, "images"))) == 3


def test_a_publish_gives_other_tables(tmp_path: Path) -> None:
    workplace = workplace_with(tmp_path, DATASET, count=2)
    with workplace.mounted(*NEVER) as mountpoint:
        assert len(pd.read_parquet(table(mountpoint))) == 2
        workplace.run("publish", write_folder(tmp_path / "two", count=5), "--name", DATASET)
        assert len(pd.read_parquet(table(mountpoint))) == 5
        assert len(pd.read_parquet(table(mountpoint, "images"))) == 5


def test_without_pyarrow_reading_a_table_fails_and_the_log_says_what_to_install(tmp_path: Path) -> None:
    published = workplace_with(tmp_path, DATASET, count=1)
    (tmp_path / "python").mkdir()
    (tmp_path / "python" / "pyarrow.py").write_text("raise ImportError('No module named pyarrow')\n")
    with replace(published, environment={"PYTHONPATH": str(tmp_path / "python")}).mounted(*NEVER) as mountpoint:
        assert len(list(table(mountpoint).parent.iterdir())) == 3
        assert table(mountpoint).with_name("images.csv").read_bytes().count(b"\n") == 1 + 1
        for name in ("annotations", "images"):
            with pytest.raises(OSError, match=os.strerror(errno.EIO)):
                table(mountpoint, name).read_bytes()
        log = (mountpoint / ".imgsyncfs" / "errors.log").read_text()
        assert "run: pip install 'imgsyncfs[table]'" in log
        assert "Traceback" not in log
        assert (mountpoint / ".views" / "coco" / DATASET / "instances.json").read_bytes()
