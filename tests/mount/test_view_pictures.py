"""Views that show pictures in place of images: drawn, or smaller."""

from __future__ import annotations

import errno
import io
import os
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.mounting import Workplace, eventually, local_workplace, workplace_with

from imgsyncfs.annotations.house_format import parse_annotation
from imgsyncfs.cache import extents_folder
from imgsyncfs.cache.table import DATABASE_NAME, ExtentTable
from imgsyncfs.library.pictures import KEY_PREFIX
from imgsyncfs.pictures.drawing import draw_annotation

DATASET = "original_20260411_rgb_rbbox"
COUNT = 30
NEVER = ("--refresh", "3600")
ORIENTATION = 0x0112


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A mount that its tests only read."""
    workplace = workplace_with(tmp_path_factory.mktemp("pictures"), DATASET, count=COUNT)
    with workplace.mounted(*NEVER) as mountpoint:
        yield mountpoint


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    return workplace_with(tmp_path, DATASET, count=5)


def pixels(content: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"), dtype=np.int16)


def pictures_kept(workplace: Workplace) -> dict[str, str]:
    """Key and tag of each picture in the cache."""
    with closing(sqlite3.connect(extents_folder(workplace.folder / "cache") / DATABASE_NAME)) as cache:
        found = cache.execute("SELECT key, tag FROM Cache WHERE key LIKE ?", (f"{KEY_PREFIX}%",))
        return dict(found.fetchall())


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def forget_pictures(workplace: Workplace) -> None:
    """Evict all pictures."""
    table = ExtentTable(extents_folder(workplace.folder / "cache"))
    with closing(table), table.writing():
        table.evict(1 << 40, prefix=KEY_PREFIX)
    assert not pictures_kept(workplace)


def test_a_preview_is_the_image_with_its_annotation_drawn_into_it(shared: Path) -> None:
    for path in sorted((shared / ".views" / "preview" / DATASET).iterdir())[:3]:
        plain = shared / DATASET / path.name
        with Image.open(plain) as image:
            drawn = draw_annotation(image, parse_annotation(plain.with_suffix(".json").read_bytes()))
        shown = pixels(path.read_bytes())
        assert shown.shape == (drawn.height, drawn.width, 3)
        assert np.abs(shown - np.asarray(drawn, dtype=np.int16)).mean() < 8


def test_the_length_of_a_picture_is_told_exactly_before_it_is_read(shared: Path) -> None:
    paths = sorted((shared / ".views" / "preview" / DATASET).iterdir())
    assert len(paths) == COUNT
    with ThreadPoolExecutor(8) as threads:
        sizes = [*threads.map(lambda path: path.stat().st_size, paths)]
        contents = [*threads.map(Path.read_bytes, paths)]
    assert sizes == [len(content) for content in contents]
    assert all(content.startswith(b"\xff\xd8") and content.endswith(b"\xff\xd9") for content in contents)


def test_listing_previews_makes_none(workplace: Workplace) -> None:
    with workplace.mounted(*NEVER) as mountpoint:
        assert len(names(mountpoint / ".views" / "preview" / DATASET)) == 5
        assert pictures_kept(workplace) == {}


def test_a_resized_view_has_the_labels_of_its_view(shared: Path) -> None:
    views = shared / ".views"
    assert names(views / "yolo-obb-640" / DATASET) == names(views / "yolo-obb" / DATASET)
    labels = [*(views / "yolo-obb" / DATASET).glob("*/labels/*.txt")]
    assert len(labels) == COUNT
    for label in labels:
        resized = views / "yolo-obb-640" / label.relative_to(views / "yolo-obb")
        assert resized.read_bytes() == label.read_bytes()
        assert (resized.parent.parent / "images" / f"{label.stem}.jpg").stat().st_size > 0


@pytest.mark.parametrize(("side", "expected"), [(640, (640, 400)), (1280, (1280, 800))])
def test_a_resized_image_is_the_image_made_smaller(tmp_path: Path, side: int, expected: tuple[int, int]) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    across = np.linspace(0, 255, 1600, dtype=np.uint8)
    ramp = np.broadcast_to(across[None, :, None], (1000, 1600, 3))
    Image.fromarray(np.ascontiguousarray(ramp)).save(folder / "a.png")
    # Stored lying on its side, and shown upright: pictures are upright already, and say nothing of EXIF.
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(np.ascontiguousarray(ramp)).save(folder / "b.jpg", exif=exif)
    workplace = local_workplace(tmp_path)
    workplace.run("publish", folder, "--name", DATASET)
    with workplace.mounted(*NEVER) as mountpoint:
        found = {path.name: path.read_bytes() for path in (mountpoint / f".views/yolo-{side}" / DATASET).rglob("*.jpg")}
    assert sorted(found) == ["a.jpg", "b.jpg"]
    lying, upright = pixels(found["a.jpg"]), pixels(found["b.jpg"])
    assert (lying.shape[1::-1], upright.shape[1::-1]) == (expected, expected[::-1])
    wanted = np.linspace(0, 255, expected[0])
    assert np.abs(lying.mean(axis=(0, 2)) - wanted).max() < 4
    assert np.abs(upright.mean(axis=(1, 2)) - wanted).max() < 4


def test_an_image_that_is_small_enough_keeps_its_size(shared: Path) -> None:
    (path, *_) = (shared / ".views/yolo-640" / DATASET).rglob("*.jpg")
    with Image.open(path) as small, Image.open(shared / DATASET / path.name) as original:
        assert small.size == original.size


def test_a_second_mount_takes_pictures_from_the_cache(workplace: Workplace) -> None:
    with workplace.mounted(*NEVER) as mountpoint:
        before = {path.name: path.read_bytes() for path in (mountpoint / ".views" / "preview" / DATASET).iterdir()}
    kept = pictures_kept(workplace)
    assert len(kept) == 5
    with workplace.mounted(*NEVER) as mountpoint:
        after = {path.name: path.read_bytes() for path in (mountpoint / ".views" / "preview" / DATASET).iterdir()}
    assert (after, pictures_kept(workplace)) == (before, kept)


def test_a_picture_that_is_no_longer_in_the_cache_is_made_again(workplace: Workplace) -> None:
    with workplace.mounted(*NEVER) as mountpoint:
        (path, *_) = sorted((mountpoint / ".views" / "preview" / DATASET).iterdir())
        with path.open("rb", buffering=0) as opened:
            size = os.fstat(opened.fileno()).st_size
            forget_pictures(workplace)
            content = opened.readall()
        assert len(content) == size
        assert content.endswith(b"\xff\xd9")


def test_a_published_edit_shows_in_the_preview_and_the_other_pictures_stay(workplace: Workplace) -> None:
    with workplace.mounted("--refresh", "1") as mountpoint:
        view = mountpoint / ".views" / "preview" / DATASET
        before = {path.name: path.read_bytes() for path in view.iterdir()}
        kept = pictures_kept(workplace)
        (edited, *_) = sorted(before)
        folder = workplace.folder / "one"
        annotation = folder / f"{Path(edited).stem}.json"
        annotation.write_bytes(annotation.read_bytes().replace(b"person", b"somebody else"))
        workplace.run("publish", folder, "--name", DATASET)
        eventually(lambda: (view / edited).read_bytes() != before[edited])
        assert {name for name in before if (view / name).read_bytes() != before[name]} == {edited}
        assert len(pictures_kept(workplace)) == len(kept) + 1


def test_a_picture_that_cannot_be_made_is_an_error_that_the_log_explains(workplace: Workplace) -> None:
    with closing(sqlite3.connect(workplace.catalog)) as catalog, catalog:
        # An annotation that is somebody else's bytes: those of an image.
        (name,) = catalog.execute("SELECT MIN(name) FROM annotations").fetchone()
        catalog.execute(
            "UPDATE annotations SET (blob, blob_offset, byte_count, md5) = "
            "(SELECT blob, blob_offset, byte_count, md5 FROM images WHERE name = ?) WHERE name = ?",
            (name, name),
        )
    with workplace.mounted(*NEVER) as mountpoint:
        picture = mountpoint / ".views" / "preview" / DATASET / f"{name}.jpg"
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            picture.read_bytes()
        assert f"{DATASET}/{name}.json" in (mountpoint / ".imgsyncfs" / "errors.log").read_text()
