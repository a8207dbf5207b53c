"""Views with smaller images whose labels are in pixels: the labels are scaled with the images."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
import pytest
from lxml import etree
from PIL import Image
from pycocotools.coco import COCO
from support.mounting import Workplace, local_workplace

from imgsyncfs.annotations.geometry import corners, decode_run_length, encode_run_length
from imgsyncfs.annotations.house_format import (
    Annotation,
    BoundingBox,
    LabelledObject,
    Mask,
    ObjectLabel,
    Polygon,
    RotatedBox,
    UnknownLabel,
    dump_annotation,
    parse_annotation,
)

DATASET = "original_20260412_rgb_rbbox"
ORIENTATION = 0x0112
LYING, UPRIGHT = (1600, 1000), (1000, 1600)
SMALL = {"a": (640, 400), "b": (400, 640)}
SCALE = 0.4
SHAPE = {"label": "path", "points": [[100.0, 200.0], [300.0, 50.0]], "shape_type": "line", "flags": {}}


def annotation(width: int, height: int) -> Annotation:
    drawn = np.zeros((height, width), np.bool_)
    drawn[100:200, 300:500] = True
    return Annotation(
        label_checked=1,
        height=height,
        width=width,
        depth=3,
        ext="png",
        labels=(
            ObjectLabel("bbox", (BoundingBox("person", 100, 200, 300, 500),)),
            ObjectLabel("rbbox", (RotatedBox("person", 500, 600, 200, 100, 0.5),)),
            ObjectLabel("poly", (Polygon("arm", ((10, 20), (300, 40), (50, 400))),)),
            ObjectLabel("seg", (Mask("arm", (height, width), tuple(encode_run_length(drawn))),)),
            UnknownLabel({"label_type": "labelme", "shape": SHAPE}),
        ),
    )


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workplace, Path]]:
    """The views of a dataset with a lossless image and one that EXIF turns; no test changes anything."""
    workplace = local_workplace(tmp_path_factory.mktemp("resized"))
    folder = workplace.folder / "large"
    folder.mkdir()
    grey = Image.new("RGB", LYING, (90, 90, 90))
    grey.save(folder / "a.png")
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    grey.save(folder / "b.jpg", exif=exif)
    (folder / "a.json").write_bytes(dump_annotation(annotation(*LYING)))
    (folder / "b.json").write_bytes(dump_annotation(annotation(*UPRIGHT)))
    workplace.run("publish", folder, "--name", DATASET)
    with workplace.mounted("--refresh", "3600") as mountpoint:
        yield workplace, mountpoint / ".views"


def size_of(path: Path) -> tuple[int, int]:
    content = path.read_bytes()
    assert len(content) == path.stat().st_size
    with Image.open(io.BytesIO(content)) as image:
        width, height = image.size
    return width, height


def content_of(path: Path) -> bytes:
    """The content of a file whose length was told before it was read."""
    size = path.stat().st_size
    content = path.read_bytes()
    assert len(content) == size
    return content


def objects(found: Annotation) -> list[LabelledObject]:
    return [item for label in found.labels if isinstance(label, ObjectLabel) for item in label.objects]


@pytest.mark.parametrize("stem", SMALL)
def test_house_annotations_are_in_the_pixels_of_the_smaller_image(views: tuple[Workplace, Path], stem: str) -> None:
    folder = views[1] / "plain-640" / DATASET
    found = parse_annotation(content_of(folder / f"{stem}.json"))
    assert (found.width, found.height, found.ext) == (*SMALL[stem], "jpg")
    assert size_of(folder / f"{stem}.jpg") == SMALL[stem]
    box, rotated, outline, mask = objects(found)
    assert box == BoundingBox("person", 40, 80, 120, 200)
    assert rotated == RotatedBox("person", 200, 240, 80, 40, 0.5)
    assert outline == Polygon("arm", ((4, 8), (120, 16), (20, 160)))
    assert isinstance(mask, Mask)
    wanted = np.zeros(mask.size, np.bool_)
    wanted[40:80, 120:200] = True
    assert np.array_equal(decode_run_length(mask.size, mask.counts), wanted)
    assert isinstance(found.labels[-1], UnknownLabel)
    assert found.labels[-1].content["shape"]["points"] == [[40, 80], [120, 20]]


@pytest.mark.parametrize("stem", SMALL)
def test_labelmes_files_open_the_smaller_image_with_its_shapes(views: tuple[Workplace, Path], stem: str) -> None:
    folder = views[1] / "labelme-640" / DATASET
    document = orjson.loads(content_of(folder / f"{stem}.json"))
    assert (document["imageWidth"], document["imageHeight"]) == SMALL[stem]
    assert size_of(folder / document["imagePath"]) == SMALL[stem]
    points = {(shape["label"], shape["shape_type"]): shape["points"] for shape in document["shapes"]}
    assert points["person", "rectangle"] == [[40, 80], [120, 200]]
    assert points["path", "line"] == [[40, 80], [120, 20]]


@pytest.mark.parametrize("stem", SMALL)
def test_vocs_files_name_the_smaller_image_its_size_and_its_boxes(views: tuple[Workplace, Path], stem: str) -> None:
    year = views[1] / "voc-640" / DATASET / "VOCdevkit" / "VOC2012"
    root = etree.fromstring(content_of(year / "Annotations" / f"{stem}.xml"))
    assert tuple(int(root.findtext(f"size/{name}") or 0) for name in ("width", "height")) == SMALL[stem]
    assert size_of(year / "JPEGImages" / (root.findtext("filename") or "")) == SMALL[stem]
    box = root.find("object/bndbox")
    assert box is not None
    edges = [float(box.findtext(name) or 0) for name in ("xmin", "ymin", "xmax", "ymax")]
    assert edges == pytest.approx([40, 80, 120, 200], abs=1.5)


def test_cocos_document_names_the_smaller_images_their_sizes_and_their_boxes(views: tuple[Workplace, Path]) -> None:
    top = views[1] / "coco-640" / DATASET
    found = COCO(str(top / "instances.json"))
    images = found.loadImgs(found.getImgIds())
    assert {Path(each["file_name"]).stem: (each["width"], each["height"]) for each in images} == SMALL
    for each in images:
        assert size_of(top / each["file_name"]) == (each["width"], each["height"])
        shown = found.loadAnns(found.getAnnIds(each["id"]))
        assert shown[0]["bbox"] == pytest.approx([40, 80, 80, 120])
        wanted = corners([(200, 240, 80, 40, 0.5)])[0]
        assert shown[1]["segmentation"][0] == pytest.approx(wanted.ravel().tolist(), abs=1e-5)


@pytest.mark.parametrize(("view", "day"), [("plain-640", 1), ("labelme-640", 2), ("voc-640", 3), ("coco-640", 4)])
def test_a_copy_of_such_a_view_is_published_under_another_id_alone(
    views: tuple[Workplace, Path], tmp_path: Path, view: str, day: int
) -> None:
    workplace, mounted = views
    done = workplace.run("publish", mounted / view / DATASET, "--name", DATASET, status=1)
    assert "would be replaced by copies of themselves made smaller" in done.stderr
    other = DATASET.replace("20260412", f"2026050{day}")
    assert "2 images, 2 annotations" in workplace.run("publish", mounted / view / DATASET, "--name", other).stdout
    workplace.run("sync", tmp_path, DATASET, "--view", view)
    copied = {path.relative_to(tmp_path / DATASET): path.read_bytes() for path in (tmp_path / DATASET).rglob("*.jpg")}
    assert copied == {path: (mounted / view / DATASET / path).read_bytes() for path in copied}
    assert len(copied) == 2
