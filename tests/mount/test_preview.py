"""Previews: annotations drawn into their images.

Run as a program, this rewrites the stored pictures: look at them before they are kept.
"""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from itertools import combinations
from math import cos, hypot, pi, sin
from pathlib import Path

import numpy as np
import numpy.typing as npt
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.annotation_strategies import house_annotations, texts, unhurried
from support.mounting import Workplace, demo_workplace, write_image
from support.places import PICTURES

from imgsyncfs.annotations.class_colours import class_colour, luminance
from imgsyncfs.annotations.geometry import corners, encode_run_length
from imgsyncfs.annotations.house_format import (
    Annotation,
    BoundingBox,
    ClassificationLabel,
    LabelledObject,
    Mask,
    ObjectLabel,
    Polygon,
    RegressionLabel,
    RotatedBox,
    UnknownLabel,
    dump_annotation,
    parse_annotation,
)
from imgsyncfs.cli.preview_commands import output_paths
from imgsyncfs.errors import PreviewError
from imgsyncfs.formats.registry import FORMATS, ImageInfo
from imgsyncfs.pictures.drawing import draw_annotation
from imgsyncfs.pictures.text import MOST_SOUGHT, Anchor, place_plates
from imgsyncfs.tools.demo import DEMO_FILES
from imgsyncfs.tools.preview.picture import preview_file, save_picture

LONGEST_SIDE = 480
STORED = (
    "opensource_habbof_rgb_rbbox_00002",
    "opensource_handraised_rgb_bbox_00003",
    "opensource_imdbwiki&affectnet_rgb_clf&reg_00001",
    "original_20200207_fisheye_rbbox_00079",
    "original_20200219_dewarp_bbox_00001",
)
"""A dense and a crowded fisheye image, boxes with outlines and masks, values in a corner, plain boxes."""

MEAN_TOLERANCE = 0.25
OTHER_PIXELS_TOLERANCE = 0.0025
"""Fonts and JPEG decoders differ a little between versions: by so much on average, and by more than a quarter of the
range in this part of the pixels. One box that is missing is more."""

GREY = (128, 128, 128)
SIZE = (320, 240)

Pixels = npt.NDArray[np.float64]


def pixels(picture: Image.Image) -> Pixels:
    return np.asarray(picture, dtype=np.float64)


def annotated(*objects: LabelledObject, kind: str = "bbox") -> Annotation:
    return Annotation(label_checked=1, labels=(ObjectLabel(kind, objects),))


def drawn(annotation: Annotation, size: tuple[int, int] = SIZE, ground: tuple[int, int, int] = GREY) -> Pixels:
    return pixels(draw_annotation(Image.new("RGB", size, ground), annotation))


def has_colour(picture: Pixels, x: float, y: float, class_name: str, *, around: int = 2) -> bool:
    """Whether a class's colour stands within so many pixels of a place."""
    return nearest(picture, x, y, class_colour(class_name), around=around) < 60


def nearest(picture: Pixels, x: float, y: float, colour: tuple[int, int, int], *, around: int) -> float:
    column, row = int(x), int(y)
    part = picture[max(0, row - around) : row + around + 1, max(0, column - around) : column + around + 1]
    return float(np.abs(part - colour).sum(axis=2).min())


def stored_size(picture: Image.Image) -> Image.Image:
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.BOX)
    return picture


def demo_file(stem: str, suffix: str = ".json") -> Path:
    return DEMO_FILES / stem.rpartition("_")[0] / f"{stem}{suffix}"


def differs(one: Image.Image, other: Image.Image) -> bool:
    distance = np.abs(pixels(one) - pixels(other))
    others = (distance.max(axis=2) > 64).mean()
    return bool(distance.mean() > MEAN_TOLERANCE or others > OTHER_PIXELS_TOLERANCE)


@pytest.mark.parametrize("stem", STORED)
def test_a_preview_of_the_demo_looks_like_the_stored_picture(stem: str) -> None:
    with Image.open(PICTURES / f"{stem}.png") as stored:
        assert not differs(stored_size(preview_file(demo_file(stem))), stored)


@pytest.mark.parametrize("stem", ["original_20200219_dewarp_bbox_00001", "opensource_habbof_rgb_rbbox_00002"])
def test_the_comparison_with_stored_pictures_notices_one_missing_box(stem: str) -> None:
    annotation = parse_annotation(demo_file(stem).read_bytes())
    (label,) = annotation.labels
    assert isinstance(label, ObjectLabel)
    less = replace(annotation, labels=(replace(label, objects=label.objects[1:]),))
    with Image.open(demo_file(stem, ".jpg")) as image, Image.open(PICTURES / f"{stem}.png") as stored:
        assert differs(stored_size(draw_annotation(image, less)), stored)


def test_a_box_is_painted_along_its_sides_and_not_within() -> None:
    picture = drawn(annotated(BoundingBox("person", 60, 70, 200, 180)))
    for x, y in ((60, 70), (200, 70), (200, 180), (60, 180), (130, 180), (200, 120), (60, 120)):
        assert has_colour(picture, x, y, "person")
    assert (picture[90:170, 80:190] == GREY).all()


def test_the_corners_of_a_rotated_box_are_painted() -> None:
    box = (150, 120, 140, 60, 0.5)
    picture = drawn(annotated(RotatedBox("person", *box), kind="rbbox"))
    for x, y in corners([box])[0]:
        assert has_colour(picture, x, y, "person")


@pytest.mark.parametrize("a", [0.0, 0.4, pi / 2, 2.5, pi + 0.4, -1.0])
def test_the_arrow_of_a_rotated_box_lies_on_the_side_that_its_angle_points_to(a: float) -> None:
    picture = drawn(annotated(RotatedBox("person", 160, 120, 120, 70, a), kind="rbbox"))

    def painted(along: float) -> bool:
        return has_colour(picture, 160 + along * cos(a), 120 + along * sin(a), "person", around=1)

    assert painted(60)
    assert painted(50)
    assert painted(-60)
    assert not painted(-50)
    assert not painted(0)


def test_a_polygon_is_closed_and_follows_its_points() -> None:
    points = ((50.0, 60.0), (250.0, 90.0), (160.0, 120.0), (220.0, 210.0))
    picture = drawn(annotated(Polygon("person", points), kind="poly"))
    for one, other in zip(points, (*points[1:], points[0]), strict=True):
        assert has_colour(picture, (one[0] + other[0]) / 2, (one[1] + other[1]) / 2, "person")
    assert tuple(picture[150, 200]) == GREY


def test_a_mask_is_translucent_where_it_covers_and_leaves_its_holes() -> None:
    covered = np.zeros((240, 320), dtype=np.bool_)
    covered[60:180, 80:240] = True
    covered[100:140, 130:190] = False
    mask = Mask("face", (240, 320), tuple(encode_run_length(covered)))
    picture = drawn(annotated(mask, kind="seg"))
    expected = 0.6 * np.array(GREY) + 0.4 * np.array(class_colour("face"))
    assert np.abs(picture[80, 100] - expected).max() < 2
    assert tuple(picture[120, 160]) == GREY
    assert tuple(picture[30, 160]) == GREY
    assert has_colour(picture, 80, 120, "face", around=4)


def test_a_mask_larger_than_the_image_is_cut_off() -> None:
    mask = Mask("face", (1000, 1000), (0, 1000 * 1000))
    assert drawn(annotated(mask, kind="seg")).shape == (240, 320, 3)


@pytest.mark.parametrize("ground", [(0, 0, 0), (255, 255, 255), GREY, class_colour("person")])
def test_a_line_stands_out_from_any_ground(ground: tuple[int, int, int]) -> None:
    picture = drawn(annotated(BoundingBox("person", 60, 70, 200, 180)), ground=ground)
    across = [luminance((round(red), round(green), round(blue))) for red, green, blue in picture[120, 190:210]]
    assert (max(across) + 0.05) / (min(across) + 0.05) > 3


@pytest.mark.parametrize("size", [(64, 48), (320, 240), (8000, 6000)])
def test_lines_grow_with_the_image_but_hide_only_a_little_of_it(size: tuple[int, int]) -> None:
    width, height = size
    box = BoundingBox("person", width * 0.2, height * 0.4, width * 0.8, height * 0.9)
    picture = drawn(annotated(box), size)
    row = picture[round(height * 0.65), : width // 2]
    painted = int((row != GREY).any(axis=1).sum())
    assert max(2, width / 300) < painted < max(6, width / 80)
    assert has_colour(picture, width * 0.2, height * 0.65, "person")


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3), (16, 16)])
def test_an_image_too_small_for_text_is_drawn_all_the_same(size: tuple[int, int]) -> None:
    annotation = annotated(BoundingBox("person with face", 0, 0, *size))
    annotation = replace(annotation, labels=(*annotation.labels, ClassificationLabel("Gender", "Female")))
    assert drawn(annotation, size).shape == (size[1], size[0], 3)


@pytest.mark.parametrize("name", ["行人", "café", "😀", "a\nb\x01", "", "\udc80", "x" * 5000, "مرحبا"])
def test_a_class_of_any_name_is_written_on_a_plate_in_its_colour(name: str) -> None:
    picture = drawn(annotated(BoundingBox(name, 60, 70, 200, 180)))
    above = picture[50:66, 60:75]
    assert (np.abs(above - class_colour(name)).sum(axis=2) < 30).mean() > 0.2
    assert above.max(axis=2).min() < 100


def test_two_names_in_a_foreign_script_are_not_written_alike() -> None:
    plates = [drawn(annotated(BoundingBox(name, 60, 70, 200, 180)))[50:66, 60:160] for name in ("行人", "汽车")]
    dark = [plate.max(axis=2) < 100 for plate in plates]
    assert (dark[0] != dark[1]).any()


def test_plates_of_neighbours_do_not_lie_on_each_other() -> None:
    one = annotated(BoundingBox("person", 60, 70, 200, 180))
    two = annotated(BoundingBox("person", 60, 70, 200, 180), BoundingBox("face", 60, 70, 201, 181))
    plate = np.abs(drawn(one)[:, :] - class_colour("person")).sum(axis=2) < 30
    again = np.abs(drawn(two)[:, :] - class_colour("person")).sum(axis=2) < 30
    assert (plate & again)[:66].sum() == plate[:66].sum() > 50


def test_values_stand_in_the_corner_that_hides_no_object() -> None:
    values = (ClassificationLabel("Gender", "Female"), RegressionLabel("Age", 42))
    free = drawn(Annotation(labels=values))
    assert (free[2:20, 2:60] != GREY).any()
    assert (free[120:] == GREY).all()
    box = ObjectLabel("bbox", (BoundingBox("person", 5, 5, 100, 100),))
    moved = drawn(Annotation(labels=(box, *values)))
    assert (moved[2:20, 250:318] != GREY).any()


def of_labelme(shape_type: str, *points: tuple[float, float], label: str = "person") -> Annotation:
    shape = {"label": label, "shape_type": shape_type, "points": [list(point) for point in points]}
    return Annotation(labels=(UnknownLabel({"label_type": "labelme", "shape": shape}),))


@pytest.mark.parametrize(
    ("annotation", "painted", "free"),
    [
        (of_labelme("point", (100, 100)), (104, 100), (160, 160)),
        (of_labelme("points", (100, 100), (200, 100)), (204, 100), (150, 100)),
        (of_labelme("circle", (100, 100), (150, 100)), (100, 150), (100, 100)),
        (of_labelme("line", (50, 100), (150, 100)), (100, 100), (100, 140)),
        (of_labelme("linestrip", (50, 100), (150, 100), (150, 200)), (150, 150), (100, 150)),
        (of_labelme("future", (50, 100), (150, 100), (150, 200)), (100, 150), (140, 120)),
    ],
)
def test_shapes_of_labelmes_are_drawn_with_their_class(
    annotation: Annotation, painted: tuple[int, int], free: tuple[int, int]
) -> None:
    picture = drawn(annotation)
    assert has_colour(picture, *painted, "person")
    assert not has_colour(picture, *free, "person")
    assert (drawn(Annotation(label_checked=1))[:20, :40] != picture[:20, :40]).any()


@pytest.mark.parametrize(
    "labels",
    [
        (RegressionLabel("Age", 42),),
        (UnknownLabel({"label_type": "labelme", "shape": {"shape_type": "point", "points": "odd"}}),),
        (UnknownLabel({"label_type": "keypoint"}),),
        (ObjectLabel("bbox", (BoundingBox("person", 1000, 1000, 1100, 1100),)),),
        (ObjectLabel("rbbox", (RotatedBox("person", 1e308, 0, 1e308, 1, 0),)),),
        (),
    ],
)
def test_what_cannot_be_drawn_is_written_instead(labels: tuple[ClassificationLabel, ...]) -> None:
    assert (drawn(Annotation(labels=labels))[:20, :40] != GREY).any()


@pytest.mark.filterwarnings("error")
def test_of_a_box_with_huge_coordinates_the_part_in_the_image_is_drawn() -> None:
    picture = drawn(annotated(BoundingBox("person", -1e300, 60, 1e300, 180)))
    assert all(has_colour(picture, x, y, "person") for x in (10, 300) for y in (60, 180))
    assert (picture[90:150] == GREY).all()


@pytest.mark.filterwarnings("error")
def test_a_box_of_almost_no_size_is_drawn_without_a_warning() -> None:
    box = RotatedBox("person", 1e-310, 1e-310, 1e-310, 1e-310, 0.3)
    assert (drawn(annotated(box, kind="rbbox"))[:6, :6] != GREY).any()


def test_an_image_that_nobody_has_looked_at_reads_otherwise_than_an_empty_one() -> None:
    assert (drawn(Annotation(label_checked=0)) != drawn(Annotation(label_checked=1))).any()


def test_the_image_given_is_left_as_it_is() -> None:
    image = Image.new("RGB", SIZE, GREY)
    draw_annotation(image, annotated(BoundingBox("person", 60, 70, 200, 180)))
    assert (pixels(image) == GREY).all()


@given(st.one_of(texts, st.text(st.characters())))
@unhurried
def test_a_colour_depends_on_the_name_alone_and_bears_black_text(name: str) -> None:
    assert class_colour(name) == class_colour(name)
    assert all(0 <= channel <= 255 for channel in class_colour(name))
    assert (luminance(class_colour(name)) + 0.05) / 0.05 > 7


def test_common_classes_have_colours_that_can_be_told_apart() -> None:
    names = (
        "person",
        "face",
        "person with face",
        "head",
        "hand",
        "mask",
        "car",
        "truck",
        "bus",
        "bicycle",
        "dog",
        "cat",
    )
    for one, other in combinations(names, 2):
        assert hypot(*(a - b for a, b in zip(class_colour(one), class_colour(other), strict=True))) > 45


def test_unknown_classes_differ_in_colour_and_keep_it_from_run_to_run() -> None:
    assert len({class_colour(f"class {number}") for number in range(200)}) > 190
    assert class_colour("forklift") == (198, 255, 13)


@given(house_annotations, st.tuples(st.integers(1, 90), st.integers(1, 90)), st.sampled_from(["RGB", "L", "RGBA"]))
@unhurried
def test_any_valid_annotation_can_be_drawn(annotation: Annotation, size: tuple[int, int], mode: str) -> None:
    picture = draw_annotation(Image.new(mode, size), annotation)
    assert (picture.mode, picture.size) == ("RGB", size)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I", "I;16", "F"])
def test_an_image_of_any_mode_becomes_colours_with_lines(mode: str) -> None:
    image = Image.new("L", SIZE, 100).convert("I").convert(mode) if mode == "I;16" else Image.new("RGB", SIZE, GREY)
    if mode != "I;16":
        image = image.convert("L").convert(mode) if mode in ("I", "F", "LA") else image.convert(mode)
    picture = draw_annotation(image, annotated(BoundingBox("person", 60, 70, 200, 180)))
    assert picture.mode == "RGB"
    assert has_colour(pixels(picture), 130, 180, "person")


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_values_of_more_than_8_bits_are_spread_from_black_to_white(dtype: type[np.generic]) -> None:
    values = np.tile(np.linspace(900, 3000, 320), (240, 1)).astype(dtype)
    picture = pixels(draw_annotation(Image.fromarray(values), annotated()))[200]
    assert picture[0].max() < 5
    assert picture[-1].min() > 250
    assert 118 < picture[160, 0] < 138


def test_transparent_parts_are_white_in_rgba_and_in_palettes() -> None:
    clear = Image.new("RGBA", SIZE, (255, 0, 0, 0))
    palette = Image.new("P", SIZE, 0)
    palette.putpalette([255, 0, 0])
    palette.info["transparency"] = 0
    for image in (clear, palette):
        assert tuple(pixels(draw_annotation(image, annotated()))[200, 200]) == (255, 255, 255)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_exif_rotation_is_honoured_as_the_annotation_is_that_of_the_turned_image(tmp_path: Path, suffix: str) -> None:
    stored = Image.new("RGB", (60, 100), GREY)
    stored.paste((250, 250, 250), (0, 0, 60, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    stored.save(tmp_path / f"x{suffix}", exif=exif)
    annotation = annotated(BoundingBox("person", 20, 30, 60, 50))
    (tmp_path / "x.json").write_bytes(dump_annotation(replace(annotation, width=100, height=60)))
    picture = preview_file(tmp_path / "x.json")
    assert picture.size == (100, 60)
    assert pixels(picture)[55, 95].min() > 240
    assert has_colour(pixels(picture), 40, 50, "person")


def test_image_and_annotation_find_each_other_in_every_format(tmp_path: Path) -> None:
    annotation = annotated(RotatedBox("person", 30, 20, 20, 10, 0.5), kind="rbbox")
    for number, (name, known) in enumerate(FORMATS.items()):
        stem = f"x{number}"
        write_image(tmp_path / f"{stem}.jpg")
        content = known.render(annotation, ImageInfo("d", stem, "jpg", 48, 64, 3)).content
        (tmp_path / f"{stem}{known.suffix}").write_bytes(content)
        by_image, by_annotation = (
            preview_file(tmp_path / f"{stem}.jpg"),
            preview_file(tmp_path / f"{stem}{known.suffix}"),
        )
        assert by_image == by_annotation, name
        with Image.open(tmp_path / f"{stem}.jpg") as image:
            assert by_image == draw_annotation(image, annotation)


def test_a_labelme_file_shows_the_image_that_it_names_wherever_that_path_came_from(tmp_path: Path) -> None:
    write_image(tmp_path / "x.jpg", shade=10)
    write_image(tmp_path / "photo.PNG", size=(80, 50))
    content = FORMATS["labelme"].render(annotated(), ImageInfo("d", "x", "jpg")).content
    for path in ("photo.PNG", "C:\\Users\\me\\photo.PNG", "/nowhere/photo.PNG"):
        (tmp_path / "x.json").write_bytes(orjson.dumps({**orjson.loads(content), "imagePath": path}))
        assert preview_file(tmp_path / "x.json").size == (80, 50)
    (tmp_path / "x.json").write_bytes(orjson.dumps({**orjson.loads(content), "imagePath": "gone\0.jpg"}))
    assert preview_file(tmp_path / "x.json").size == (64, 48)


def test_an_image_that_lies_in_a_labelme_file_is_shown_when_there_is_no_other(tmp_path: Path) -> None:
    held = io.BytesIO()
    Image.new("RGB", (33, 22), GREY).save(held, "PNG")
    content = orjson.loads(FORMATS["labelme"].render(annotated(), ImageInfo("d", "x", "jpg")).content)
    content["imageData"] = base64.b64encode(held.getvalue()).decode()
    (tmp_path / "x.json").write_bytes(orjson.dumps(content))
    assert preview_file(tmp_path / "x.json").size == (33, 22)


def test_a_rolabelimg_file_shows_the_image_of_its_stem_and_else_the_one_that_it_names(tmp_path: Path) -> None:
    write_image(tmp_path / "photo.bmp", size=(80, 50))
    content = FORMATS["rolabelimg"].render(annotated(), ImageInfo("d", "photo", "bmp")).content
    (tmp_path / "x.xml").write_bytes(content)
    assert preview_file(tmp_path / "x.xml").size == (80, 50)
    write_image(tmp_path / "x.JPG")
    assert preview_file(tmp_path / "x.xml").size == (64, 48)


def test_a_house_annotation_that_was_put_aside_finds_its_image_one_folder_up(tmp_path: Path) -> None:
    write_image(tmp_path / "x.jpg")
    aside = tmp_path / "ImageSynchronizer_annotation"
    aside.mkdir()
    (aside / "x.json").write_bytes(dump_annotation(annotated()))
    assert preview_file(aside / "x.json") == preview_file(tmp_path / "x.jpg")


def test_an_annotation_for_another_size_is_drawn_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_image(tmp_path / "x.jpg")
    (tmp_path / "x.json").write_bytes(dump_annotation(replace(annotated(), width=128, height=96)))
    preview_file(tmp_path / "x.jpg")
    assert "128 x 96" in caplog.text


def test_each_failure_is_one_sentence_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "lonely.json").write_bytes(dump_annotation(annotated()))
    write_image(tmp_path / "unlabelled.jpg")
    write_image(tmp_path / "broken.jpg")
    (tmp_path / "broken.json").write_bytes(
        b'{"anno_version": "0.2.0", "labels": [{"label_type": "bbox", "object": 3}]}'
    )
    (tmp_path / "other.json").write_bytes(b'{"a": 1}')
    (tmp_path / "damaged.json").write_bytes(dump_annotation(annotated()))
    (tmp_path / "damaged.jpg").write_bytes((tmp_path / "broken.jpg").read_bytes()[:300])
    for name, words in (
        ("lonely.json", "its image is not beside it"),
        ("unlabelled.jpg", "no annotation is beside it"),
        ("broken.json", "labels[0].object"),
        ("broken.jpg", "labels[0].object"),
        ("other.json", "is no annotation"),
        ("damaged.json", "cut short or damaged"),
        ("missing.json", "No such file"),
        ("missing.jpg", "No such file"),
    ):
        with pytest.raises(PreviewError) as caught:
            preview_file(tmp_path / name)
        assert words in str(caught.value)
        assert name.partition(".")[0] in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_picture_is_written_as_its_ending_says(tmp_path: Path) -> None:
    picture = Image.new("RGB", SIZE, GREY)
    for name, kind in (("a.png", "PNG"), ("deep/b.jpg", "JPEG"), ("c.JPEG", "JPEG")):
        save_picture(picture, tmp_path / name, mark="")
        with Image.open(tmp_path / name) as written:
            assert (written.format, written.size) == (kind, SIZE)
    with pytest.raises(PreviewError, match=r"\.png, \.jpg"):
        save_picture(picture, tmp_path / "d.gif", mark="")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(PreviewError, match="cannot be written"):
        save_picture(picture, tmp_path / "file" / "e.png", mark="")


def test_previews_are_named_after_stems_and_never_alike(tmp_path: Path) -> None:
    files = [Path("a/x.jpg"), Path("a/x.json"), Path("a/x.labelme.json"), Path("b/x.jpg"), Path("b/y.xml")]
    names = ["x", "x.json", "x.labelme.json", "x.jpg", "y"]
    assert output_paths(files, None) == [Path(f"{name}.preview.png") for name in names]
    assert output_paths(files[:1], "out.JPG") == [Path("out.JPG")]
    assert output_paths(files[:1], "out") == [Path("out/x.preview.png")]
    folder = tmp_path / "v1.5.png"
    folder.mkdir()
    assert output_paths(files[:1], str(folder)) == [folder / "x.preview.png"]
    with pytest.raises(PreviewError, match="one file"):
        output_paths(files, "out.png")
    with pytest.raises(PreviewError, match="slash"):
        output_paths(files[:1], "out.gif")


def test_the_command_says_where_it_wrote_and_goes_on_after_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    workplace = Workplace("", tmp_path)
    for stem in ("x", "z"):
        write_image(tmp_path / f"{stem}.jpg")
        (tmp_path / f"{stem}.json").write_bytes(dump_annotation(annotated()))
    done = workplace.run("preview", "x.json", "y.json", "z.jpg", status=3)
    assert done.stdout.split() == ["x.preview.png", "z.preview.png"]
    assert "y.json cannot be read" in done.stderr
    assert all(Path(name).is_file() for name in done.stdout.split())
    assert workplace.run("preview", "y.json", status=1).stderr.count("\n") == 1
    assert workplace.run("preview", "x.json", "-o", "pictures/x.jpg").stdout == "pictures/x.jpg\n"
    before = (tmp_path / "x.jpg").read_bytes()
    assert "is what the preview shows" in workplace.run("preview", "x.json", "-o", "x.jpg", status=1).stderr
    assert (tmp_path / "x.jpg").read_bytes() == before


def test_every_sibling_in_a_mount_gives_the_same_preview_and_nothing_is_written_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workplace = demo_workplace(tmp_path)
    with workplace.mounted() as mountpoint:
        stem = mountpoint / "original_20200207_fisheye_rbbox" / "original_20200207_fisheye_rbbox_00002"
        files = [stem.with_name(stem.name + suffix) for suffix in (".jpg", ".json", ".labelme.json", ".xml")]
        done = workplace.run("preview", *files, "-o", tmp_path / "out")
        written = [Path(line).read_bytes() for line in done.stdout.splitlines()]
        assert len(set(written)) == 1
        assert len(written) == 4
        monkeypatch.chdir(stem.parent)
        assert "Read-only file system" in workplace.run("preview", files[0], status=1).stderr
        monkeypatch.chdir(tmp_path)


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    for each in STORED:
        stored_size(preview_file(demo_file(each))).save(PICTURES / f"{each}.png", optimize=True)


def test_of_too_many_objects_the_first_are_drawn_and_the_others_counted() -> None:
    ground = Image.new("RGB", (640, 480), (60, 60, 60))
    first, second = BoundingBox("person", 60, 160, 200, 280), BoundingBox("person", 400, 200, 600, 280)
    place = (390, 150, 620, 330)
    assert differs(draw_annotation(ground, annotated(first, second)).crop(place), ground.crop(place))
    some = draw_annotation(ground, annotated(first, second), most=1)
    assert not differs(some.crop(place), ground.crop(place))
    assert differs(some, draw_annotation(ground, annotated(first))), "nobody is told what is left out"


def test_of_very_many_texts_only_the_first_and_new_ones_are_placed() -> None:
    box = (10.0, 10.0, 600.0, 400.0)
    anchors = [Anchor(box, (10.0, 10.0), "person", (255, 0, 0), centred=False)] * (MOST_SOUGHT + 10)
    other = Anchor(box, (10.0, 10.0), "face", (0, 255, 0), centred=False)
    texts_placed = [plate.lettering.text for plate in place_plates([*anchors, other, *anchors], (640, 480), gap=2.0)]
    assert texts_placed.count("face") == 1
    assert len(texts_placed) <= MOST_SOUGHT + 1
