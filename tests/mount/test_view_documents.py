"""Documents about whole datasets in views: written when somebody looks, once, and whole."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt
import orjson
import pytest
from pycocotools.coco import COCO
from support.divided_dataset import COUNT, DATASET, NEVER
from support.mounting import Workplace, eventually, mount_status, write_folder

from imgsyncfs.annotations.geometry import corners
from imgsyncfs.annotations.house_format import ObjectLabel, RotatedBox
from imgsyncfs.formats.dataset_documents.cvat import CvatDocument


def house_box(mountpoint: Path, stem: str) -> dict[str, float]:
    (box,) = orjson.loads((mountpoint / DATASET / f"{stem}.json").read_bytes())["labels"][0]["object"]
    return dict(box)


def exact_corners(box: dict[str, float]) -> npt.NDArray[np.float64]:
    exact: npt.NDArray[np.float64] = corners([(box["x"], box["y"], box["w"], box["h"], box["a"])])[0]
    return exact


def read_coco(path: Path) -> COCO:
    """Opened as pycocotools opens it."""
    return COCO(str(path))


def test_pycocotools_reads_the_document_of_all_images_and_sees_their_boxes(divided: Path) -> None:
    top = divided / ".views" / "coco" / DATASET
    found = read_coco(top / "instances.json")
    assert [each["name"] for each in found.loadCats(found.getCatIds())] == ["person"]
    images = found.loadImgs(found.getImgIds())
    assert len(images) == COUNT
    for each in images:
        assert (top / each["file_name"]).read_bytes() == (divided / DATASET / Path(each["file_name"]).name).read_bytes()
        (annotation,) = found.loadAnns(found.getAnnIds(each["id"]))
        box = house_box(divided, Path(each["file_name"]).stem)
        exact = exact_corners(box)
        assert annotation["segmentation"][0] == pytest.approx(exact.ravel().tolist(), abs=1e-5)
        low = exact.min(axis=0)
        assert annotation["bbox"] == pytest.approx([*low, *(exact.max(axis=0) - low)], abs=1e-5)
        assert annotation["attributes"]["rotation"] == pytest.approx(np.degrees(box["a"]), abs=1e-5)


def test_the_document_of_each_split_names_the_images_beside_it(divided: Path) -> None:
    top = divided / ".views" / "coco" / DATASET
    seen = 0
    for split in ("train", "valid", "test"):
        found = read_coco(top / split / "_annotations.coco.json")
        names = {each["file_name"] for each in found.loadImgs(found.getImgIds())}
        assert names == {path.name for path in (top / split).glob("*.jpg")}
        seen += len(names)
    assert seen == COUNT


def test_cvats_document_keeps_the_rotation(divided: Path) -> None:
    top = divided / ".views" / "cvat" / DATASET
    content = (top / "annotations.xml").read_bytes()
    assert (top / "annotations.xml").stat().st_size == len(content)
    found = {each.image.name: each.reading.annotation for each in CvatDocument().read(content)}
    assert found.keys() == {path.stem for path in (top / "images").iterdir()}
    for stem, annotation in found.items():
        (label,) = annotation.labels
        assert isinstance(label, ObjectLabel)
        (shown,) = label.objects
        box = house_box(divided, stem)
        assert isinstance(shown, RotatedBox)
        assert (shown.x, shown.y, shown.w, shown.h, shown.a) == pytest.approx(
            (box["x"], box["y"], box["w"], box["h"], box["a"]), abs=1e-5
        )


def test_hugging_faces_document_has_a_line_for_each_image_beside_it(divided: Path) -> None:
    top = divided / ".views" / "hf" / DATASET
    assert sorted(path.name for path in top.iterdir()) == ["test", "train", "validation"]
    for split in top.iterdir():
        lines = [json.loads(line) for line in (split / "metadata.jsonl").read_text().splitlines()]
        assert {line["file_name"] for line in lines} == {path.name for path in split.glob("*.jpg")}
        assert all(len(line["objects"]["bbox"]) == 1 for line in lines)
    named = (divided / ".imgsyncfs" / "errors.log").read_text()
    assert f"The view hf of {DATASET} does not show" in named


def test_hugging_faces_layout_has_no_directory_for_a_split_without_images(small_workplace: Workplace) -> None:
    with small_workplace.mounted(*NEVER) as mountpoint:
        top = mountpoint / ".views" / "hf" / DATASET
        for weights, split in (("0/0/100", "test"), ("0/100/0", "validation"), ("100/0/0", "train")):
            small_workplace.run("split", DATASET, weights)
            assert [path.name for path in top.iterdir()] == [split]
            assert len((top / split / "metadata.jsonl").read_text().splitlines()) == 5
            assert len(list((top / split).glob("*.jpg"))) == 5


def test_a_document_can_be_read_in_pieces_and_from_anywhere(divided: Path) -> None:
    path = divided / ".views" / "coco" / DATASET / "instances.json"
    content = path.read_bytes()
    with path.open("rb") as stream:
        stream.seek(1000)
        assert stream.read(50) == content[1000:1050]
        stream.seek(0)
        assert b"".join(iter(lambda: stream.read(777), b"")) == content


def test_all_who_look_at_once_get_the_same_document_and_it_is_written_once(small_workplace: Workplace) -> None:
    with small_workplace.mounted(*NEVER) as mountpoint, ThreadPoolExecutor(8) as readers:
        path = mountpoint / ".views" / "coco" / DATASET / "instances.json"
        contents = set(readers.map(lambda _: path.read_bytes(), range(16)))
        assert len(contents) == 1
        (number,) = {path.stat().st_ino}
        assert number == path.stat().st_ino


def test_a_responder_in_the_place_of_another_has_the_documents(small_workplace: Workplace) -> None:
    with small_workplace.mounted(*NEVER, "--responders", "1") as mountpoint:
        path = mountpoint / ".views" / "coco" / DATASET / "instances.json"
        before = path.read_bytes()
        (responder, _) = mount_status(mountpoint)["responders"]["process_ids"]
        os.kill(responder, signal.SIGKILL)
        assert eventually(lambda: responder not in mount_status(mountpoint)["responders"]["process_ids"])
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        assert os.pread(descriptor, 1 << 20, 0) == before
        os.close(descriptor)


def test_a_publish_gives_another_document_and_who_has_one_open_reads_on(
    small_workplace: Workplace, tmp_path: Path
) -> None:
    with small_workplace.mounted(*NEVER) as mountpoint:
        path = mountpoint / ".views" / "coco" / DATASET / "instances.json"
        before = path.read_bytes()
        with path.open("rb") as stream:
            write_folder(tmp_path / "one", count=7)
            small_workplace.run("publish", tmp_path / "one", "--name", DATASET)
            assert len(json.loads(path.read_bytes())["images"]) == 7
            assert stream.read() == before


def test_an_annotation_that_does_not_parse_is_named_and_the_others_are_there(
    small_workplace: Workplace, tmp_path: Path
) -> None:
    small_workplace.run("publish", tmp_path / "one", "--name", DATASET.replace("0401", "0402"), "--loose")
    [blob] = (small_workplace.folder / "store").rglob("img_00000.*.json")
    broken = blob.read_bytes().replace(b'"x"', b'"q"')
    blob.chmod(0o644)
    blob.write_bytes(broken)
    with closing(sqlite3.connect(small_workplace.catalog)) as connection, connection:
        digest = hashlib.md5(broken).hexdigest()
        connection.execute(
            "UPDATE annotations SET md5 = ? WHERE name = 'img_00000' AND dataset_id LIKE '%0402%'", (digest,)
        )
    with small_workplace.mounted(*NEVER) as mountpoint:
        top = mountpoint / ".views" / "coco" / DATASET.replace("0401", "0402")
        assert len(json.loads((top / "instances.json").read_bytes())["annotations"]) == 4
        assert "does not show 1 annotations that do not parse" in (mountpoint / ".imgsyncfs" / "errors.log").read_text()


def test_a_store_that_is_away_fails_the_document_and_it_comes_when_the_store_is_back(
    small_workplace: Workplace,
) -> None:
    store = small_workplace.folder / "store"
    with small_workplace.mounted(*NEVER, "--timeout", "5") as mountpoint:
        path = mountpoint / ".views" / "coco" / DATASET / "instances.json"
        store.rename(small_workplace.folder / "away")
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            path.read_bytes()
        (small_workplace.folder / "away").rename(store)
        assert eventually(lambda: _size(path) > 0)
        assert len(json.loads(path.read_bytes())["annotations"]) == 5


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
