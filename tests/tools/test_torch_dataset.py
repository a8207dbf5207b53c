"""`imgsyncfs.torch.Dataset`: what it gives to PyTorch's data loader and torchvision's detectors."""

from __future__ import annotations

import hashlib
import io
import pickle
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from math import pi
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import torch
from PIL import Image, ImageOps
from support.api_setup import work_in
from support.mounting import (
    Workplace,
    all_end_after,
    box_annotation,
    eventually,
    local_workplace,
    noise_image,
    write_folder,
)
from support.places import REPOSITORY
from support.publishing import fill, house, jpeg
from support.torch_samples import Rotation, plain
from torch.utils.data import DataLoader
from torchvision import models, tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

import imgsyncfs
from imgsyncfs.annotations.geometry import corners
from imgsyncfs.catalog.listing import Listing
from imgsyncfs.errors import AnnotationError, CatalogError, ConfigurationError, PreviewError
from imgsyncfs.fetching.contents import extents_of
from imgsyncfs.settings.config_file import PASSWORD_VARIABLE
from imgsyncfs.tools.demo import make_demo
from imgsyncfs.torch import Dataset, collate

FISHEYE = "original_20200207_fisheye_rbbox"
UPRIGHT = "original_20200219_dewarp_bbox"
LABELLED = "opensource_imdbwiki&affectnet_rgb_clf&reg"
DATASET = "original_20260105_rgb_rbbox"
OTHER = "original_20260106_rgb_bbox"
WAYS = ("fork", "spawn", "forkserver")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[imgsyncfs.ImageCatalog]:
    """The demo catalog, open, and the one of the environment."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as monkeypatch:
        work_in(Workplace(str(make_demo(folder / "demo").catalog), folder), monkeypatch)
        with imgsyncfs.connect() as catalog:
            yield catalog


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """An empty catalog with a local store, and the one of the environment."""
    workplace = local_workplace(tmp_path)
    work_in(workplace, monkeypatch)
    return workplace


def published(workplace: Workplace, files: dict[str, bytes], *options: str, dataset_id: str = DATASET) -> None:
    folder = workplace.folder / dataset_id
    fill(folder, files)
    workplace.run("publish", folder, "--name", dataset_id, *options)


def annotation(*labels: dict[str, Any], size: tuple[int, int] = (40, 30)) -> bytes:
    width, height = size
    document = {"anno_version": "0.2.0", "label_checked": 1, "height": height, "width": width, "depth": 3, "ext": "jpg"}
    return orjson.dumps({**document, "labels": labels})


def upright_box(name: str, x1: float, y1: float, x2: float, y2: float) -> dict[str, Any]:
    return {"label_type": "bbox", "object": [{"class": name, "x1": x1, "y1": y1, "x2": x2, "y2": y2}]}


def rotated_box(name: str, x: float, y: float, w: float, h: float, a: float) -> dict[str, Any]:
    return {"label_type": "rbbox", "object": [{"class": name, "x": x, "y": y, "w": w, "h": h, "a": a}]}


def test_a_sample_is_an_image_with_a_target_as_detectors_take_it(demo: imgsyncfs.ImageCatalog) -> None:
    dataset = Dataset(demo, FISHEYE)
    image, target = dataset[dataset.classes.index("person")]
    assert (image.mode, image.size) == ("RGB", (640, 640))
    count = len(target["labels"])
    assert target["boxes"].shape == (count, 4)
    assert target["xywhr"].shape == (count, 5)
    assert {name: value.dtype for name, value in target.items() if isinstance(value, torch.Tensor)} == {
        "boxes": torch.float32,
        "labels": torch.int64,
        "area": torch.float32,
        "iscrowd": torch.int64,
        "xywhr": torch.float32,
    }
    assert target["labels"].tolist() == [1] * count
    assert target["iscrowd"].tolist() == [0] * count
    sides = target["boxes"][:, 2:] - target["boxes"][:, :2]
    assert torch.equal(target["area"], sides.prod(1))
    assert target["image_id"] == 0


def test_samples_come_in_the_catalogs_order_from_both_ends(demo: imgsyncfs.ImageCatalog) -> None:
    dataset, images = Dataset(demo, FISHEYE), demo.datasets[FISHEYE]
    assert len(dataset) == len(images)
    for place, name in enumerate(images.names):
        assert dataset.name(place) == dataset.name(place - len(dataset)) == f"{FISHEYE}/{images.file_name(name)}"
    last = np.int64(len(dataset) - 1)
    assert plain(dataset[-1]) == plain(dataset[last])
    assert dataset[-1][1]["image_id"] == last


@pytest.mark.parametrize("place", [4, -5])
def test_a_place_beyond_either_end_is_an_index_error(demo: imgsyncfs.ImageCatalog, place: int) -> None:
    dataset = Dataset(demo, FISHEYE)
    for read in (
        dataset.__getitem__,
        dataset.name,
        dataset.get_height_and_width,
        lambda each: dataset.__getitems__([each]),
    ):
        with pytest.raises(IndexError, match=f"4 images; there is none at {place}"):
            read(place)


def test_what_is_no_number_is_a_type_error(demo: imgsyncfs.ImageCatalog) -> None:
    wrong: Any = "first"
    with pytest.raises(TypeError, match="by its number, not by 'first'"):
        Dataset(demo, FISHEYE)[wrong]


def test_a_rotated_box_has_the_houses_numbers_and_the_upright_box_around_it(workplace: Workplace) -> None:
    box = (20.0, 15.0, 16.0, 6.0, 2.5)
    published(workplace, {"a.jpg": jpeg(1), "a.json": annotation(rotated_box("person", *box))})
    with Dataset(selection=DATASET) as dataset:
        _, target = dataset[0]
    assert target["xywhr"].tolist() == [pytest.approx(box)]
    [outline] = corners([box])
    assert target["boxes"].tolist()[0] == pytest.approx([*outline.min(axis=0), *outline.max(axis=0)])


def test_an_object_of_another_kind_has_the_angle_0_beside_rotated_boxes(workplace: Workplace) -> None:
    labels = (
        rotated_box("person", 20, 15, 16, 6, 2.5),
        upright_box("person", 2, 4, 10, 9),
        {"label_type": "poly", "object": [{"class": "person", "points": [[5, 5], [15, 5], [10, 20]]}]},
    )
    published(workplace, {"a.jpg": jpeg(1), "a.json": annotation(*labels)})
    with Dataset(selection=DATASET) as dataset:
        _, target = dataset[0]
    assert target["xywhr"][1:].tolist() == [[6, 6.5, 8, 5, 0], [10, 12.5, 10, 15, 0]]
    assert target["boxes"][1:].tolist() == [[2, 4, 10, 9], [5, 5, 15, 20]]


def test_there_are_no_rotated_boxes_where_the_catalog_says_of_none(demo: imgsyncfs.ImageCatalog) -> None:
    assert "xywhr" not in Dataset(demo, UPRIGHT)[0][1]
    assert "xywhr" in Dataset(demo, [UPRIGHT, FISHEYE])[0][1]
    assert "xywhr" in Dataset(demo, UPRIGHT, xywhr=True)[0][1]
    assert "xywhr" not in Dataset(demo, FISHEYE, xywhr=False)[0][1]


def test_classes_begin_with_the_catalogs_column_and_go_on_by_name(workplace: Workplace) -> None:
    files = {"a.jpg": jpeg(1), "a.json": house("zebra", "person"), "b.jpg": jpeg(2), "b.json": house("ant", "face")}
    published(workplace, files, "--classes", "person,face")
    with Dataset(selection=DATASET) as dataset:
        assert dataset.classes == ("person", "face", "ant", "zebra")
        assert [target["labels"].tolist() for _, target in dataset] == [[4, 1], [3, 2]]
    with Dataset(selection=DATASET, first_label=0) as dataset:
        assert dataset[0][1]["labels"].tolist() == [3, 0]


def test_objects_of_classes_that_were_not_named_are_left_out(workplace: Workplace) -> None:
    published(workplace, {"a.jpg": jpeg(1), "a.json": house("zebra", "person", "ant")})
    with Dataset(selection=DATASET, classes=["ant", "zebra"]) as dataset:
        assert dataset.classes == ("ant", "zebra")
        assert dataset[0][1]["labels"].tolist() == [2, 1]


def test_an_image_without_an_annotation_has_an_empty_target(workplace: Workplace) -> None:
    published(workplace, {"a.jpg": jpeg(1), "b.jpg": jpeg(2), "b.json": house("person")})
    with Dataset(selection=DATASET) as dataset:
        _, target = dataset[0]
        assert (target["boxes"].shape, target["labels"].shape) == ((0, 4), (0,))
        assert (target["xywhr"].shape, target["area"].shape, target["iscrowd"].shape) == ((0, 5), (0,), (0,))
        assert (target["boxes"].dtype, target["labels"].dtype) == (torch.float32, torch.int64)


def test_images_that_nobody_labelled_or_checked_may_be_left_out(workplace: Workplace) -> None:
    files = {f"{name}.jpg": jpeg(number) for number, name in enumerate("abcd")}
    annotations = {"b.json": house("person"), "c.json": house(checked=0), "d.json": house(checked=1)}
    published(workplace, {**files, **annotations})
    with Dataset(selection=DATASET, labelled_only=True) as dataset:
        assert [dataset.name(place) for place in range(len(dataset))] == [f"{DATASET}/b.jpg", f"{DATASET}/d.jpg"]
        assert [target["image_id"] for _, target in dataset] == [0, 1]


def test_labels_of_the_whole_image_are_in_the_target(demo: imgsyncfs.ImageCatalog) -> None:
    dataset = Dataset(demo, LABELLED)
    found = [target["image_labels"] for _, target in dataset]
    assert {name for labels in found for name in labels} == {"Gender", "Emotion", "Age"}
    assert all(isinstance(labels.get("Age", 0.0), float) for labels in found)
    assert Dataset(demo, FISHEYE)[0][1]["image_labels"] == {}


def test_an_object_that_covers_nothing_of_the_image_is_left_out_and_logged_once(
    workplace: Workplace, caplog: pytest.LogCaptureFixture
) -> None:
    labels = (upright_box("person", 50, 5, 60, 9), upright_box("person", -5, 5, 6, 9))
    published(workplace, {"a.jpg": jpeg(1), "a.json": annotation(*labels)})
    with Dataset(selection=DATASET) as dataset:
        for _ in range(2):
            assert dataset[0][1]["boxes"].tolist() == [[0, 5, 6, 9]]
    assert [record.getMessage() for record in caplog.records if "left out" in record.getMessage()] == [
        f"{DATASET}/a.jpg: 1 of 2 objects cover nothing of the image and are left out."
    ]


def test_an_image_is_turned_as_its_exif_block_asks_for(workplace: Workplace) -> None:
    content = jpeg(1, width=40, height=30, orientation=6)
    published(workplace, {"a.jpg": content, "a.json": annotation(upright_box("person", 1, 2, 30, 40), size=(30, 40))})
    with Dataset(selection=DATASET) as dataset:
        image, target = dataset[0]
        assert image.size == (30, 40)
        assert image.tobytes() == ImageOps.exif_transpose(Image.open(io.BytesIO(content))).tobytes()
        assert target["boxes"].tolist() == [[1, 2, 30, 40]]
        assert dataset.get_height_and_width(0) == (40, 30)


def test_an_image_of_another_mode_is_rgb(workplace: Workplace) -> None:
    grey = io.BytesIO()
    Image.new("L", (40, 30), 77).save(grey, "PNG")
    published(workplace, {"a.png": grey.getvalue()})
    with Dataset(selection=DATASET) as dataset:
        image, _ = dataset[0]
    assert (image.mode, image.getpixel((3, 3))) == ("RGB", (77, 77, 77))


def test_several_datasets_follow_each_other_as_they_were_named(demo: imgsyncfs.ImageCatalog) -> None:
    dataset = Dataset(demo, [UPRIGHT, demo.datasets[FISHEYE], UPRIGHT])
    first = len(demo.datasets[UPRIGHT])
    assert len(dataset) == first + len(demo.datasets[FISHEYE])
    assert dataset.name(first - 1).startswith(UPRIGHT)
    assert dataset.name(first).startswith(FISHEYE)
    assert dataset[first][1]["image_id"] == first


def test_datasets_are_chosen_by_condition_and_by_subscription(workplace: Workplace) -> None:
    published(workplace, {"a.jpg": jpeg(1)})
    published(workplace, {"b.jpg": jpeg(2)}, dataset_id=OTHER)
    workplace.run("subscribe", "mine", "--where", "label_type=bbox")
    named: dict[str, Any] = {"selection": [DATASET, OTHER], "where": ["label_type=bbox"]}
    for chosen in ({"selection": "@mine"}, {"where": "label_type=bbox"}, named):
        with Dataset(None, **chosen) as dataset:
            assert dataset.name(0) == f"{OTHER}/b.jpg"
            assert len(dataset) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "No dataset was chosen; name one"),
        ({"selection": "original_20200207_fisheye_rbox"}, FISHEYE),
        ({"selection": "@mine"}, "no subscription 'mine'"),
        ({"where": "image_type=fishy"}, "fisheye360"),
        ({"selection": UPRIGHT, "where": "imagetype=rgb"}, "image_type"),
        ({"selection": FISHEYE, "classes": "person"}, "list of different names"),
        ({"selection": FISHEYE, "classes": ["person", "person"]}, "list of different names"),
        ({"selection": FISHEYE, "transform": str, "transforms": str}, "give one of them"),
    ],
)
def test_an_argument_that_makes_no_sense_is_an_error_that_says_why(
    demo: imgsyncfs.ImageCatalog, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Dataset(demo, **arguments)


def test_transforms_are_called_as_torchvisions_datasets_call_them(demo: imgsyncfs.ImageCatalog) -> None:
    image, target = Dataset(demo, FISHEYE)[0]
    separate: Any = Dataset(demo, FISHEYE, transform=lambda each: each.size, target_transform=sorted)[0]
    assert separate == (image.size, sorted(target))
    together = Dataset(demo, UPRIGHT, transforms=lambda image, target: (target["image_id"], image.size))
    assert together[1] == (1, Dataset(demo, UPRIGHT)[1][0].size)


def test_a_flip_of_torchvision_moves_upright_and_rotated_boxes_with_the_image(demo: imgsyncfs.ImageCatalog) -> None:
    image, target = Dataset(demo, FISHEYE)[0]
    flipped, moved = Dataset(demo, FISHEYE, transforms=v2.RandomHorizontalFlip(p=1))[0]
    assert flipped.tobytes() == ImageOps.mirror(image).tobytes()
    x1, y1, x2, y2 = target["boxes"].T
    mirrored = torch.stack([image.width - x2, y1, image.width - x1, y2], dim=1)
    torch.testing.assert_close(moved["boxes"].as_subclass(torch.Tensor), mirrored.as_subclass(torch.Tensor))
    assert type(moved["xywhr"]) is torch.Tensor
    # A mirrored box: its centre on the other side, turned the other way.
    x, y, w, h, r = target["xywhr"].numpy().T
    turned = moved["xywhr"].numpy()
    np.testing.assert_allclose(turned[:, :4], np.stack([image.width - x, y, w, h], axis=1), rtol=1e-5)
    np.testing.assert_allclose(np.exp(2j * turned[:, 4]), np.exp(-2j * r), atol=1e-5)
    assert ((turned[:, 4] >= 0) & (turned[:, 4] < pi)).all()


def test_boxes_are_torchvisions_and_know_the_size_of_the_image(demo: imgsyncfs.ImageCatalog) -> None:
    image, target = Dataset(demo, UPRIGHT)[0]
    assert isinstance(target["boxes"], tv_tensors.BoundingBoxes)
    assert target["boxes"].canvas_size == (image.height, image.width)
    half = functional.resize(target["boxes"], [image.height // 2, image.width // 2])
    torch.testing.assert_close(half.as_subclass(torch.Tensor), target["boxes"].as_subclass(torch.Tensor) / 2)


def extents(listing: Listing) -> int:
    """How many extents the files of a dataset lie in."""
    indices = range(len(listing))
    annotated = [index for index in indices if listing.has_annotation(index)]
    keys = {extent.key for extent in extents_of(listing, listing.images, indices)}
    return len(keys | {extent.key for extent in extents_of(listing, listing.annotations, annotated)})


@pytest.mark.parametrize("option", ["--loose", "--note=packed"])
def test_a_batch_makes_no_more_requests_than_there_are_extents(workplace: Workplace, option: str) -> None:
    folder = workplace.folder / DATASET
    write_folder(folder, count=4)
    for number in range(16):
        noise_image(folder / f"noise_{number:02}.png", seed=number)
        (folder / f"noise_{number:02}.json").write_bytes(box_annotation(size=(480, 480)))
    workplace.run("publish", folder, "--name", DATASET, option)
    with Dataset(selection=DATASET, classes=["person"]) as dataset:
        [part] = dataset._parts
        counts = part.reader.library.fetcher.counts
        assert counts().requests == 0
        order = np.random.default_rng(0).permutation(len(dataset))
        samples = dataset.__getitems__([*order, *order[:3]])
        assert [target["image_id"] for _, target in samples] == [*order, *order[:3]]
        assert 0 < counts().requests <= extents(part.listing)
        for sample, place in zip(samples, order, strict=False):
            assert plain(sample) == plain(dataset[place])
        assert counts().requests <= extents(part.listing)


def test_what_a_batch_needs_is_fetched_together_before_it_is_read(workplace: Workplace) -> None:
    workplace.run("publish", write_folder(workplace.folder / "one", count=20), "--name", DATASET, "--loose")
    with Dataset(selection=DATASET, classes=["person"]) as dataset:
        [part] = dataset._parts
        part.reader.begin(part.listing, range(20))
        fetcher = part.reader.library.fetcher
        files = (part.listing.images, part.listing.annotations)
        keys = [extent.key for each in files for extent in extents_of(part.listing, each, range(20))]
        assert len(keys) == 40
        assert eventually(lambda: all(fetcher.cached(key) for key in keys))


@pytest.mark.parametrize("way", WAYS)
def test_workers_of_the_data_loader_give_the_same_samples_however_they_were_started(
    workplace: Workplace, way: str
) -> None:
    workplace.run("publish", write_folder(workplace.folder / "one", count=9), "--name", DATASET)
    with Dataset(selection=DATASET, transform=Rotation()) as dataset:
        # Nothing but annotations has been read before: the workers have to fetch it.
        loader = DataLoader(dataset, batch_size=4, num_workers=2, multiprocessing_context=way, collate_fn=collate)
        batches = list(loader)
        assert [len(images) for images, _ in batches] == [4, 4, 1]
        found = [plain(sample) for images, targets in batches for sample in zip(images, targets, strict=True)]
        assert found == [plain(sample) for sample in dataset]
        assert isinstance(batches[0][1][0]["boxes"], tv_tensors.BoundingBoxes)


@pytest.mark.parametrize("way", ["fork", "spawn"])
def test_an_error_in_a_worker_is_one_of_imgsyncfs_and_names_the_file(workplace: Workplace, way: str) -> None:
    content = jpeg(1)
    published(workplace, {"a.jpg": content, "b.jpg": jpeg(2)}, "--loose")
    with Dataset(selection=DATASET) as dataset:
        [blob] = (workplace.folder / "store").rglob("a.*.jpg")
        blob.chmod(0o644)
        blob.write_bytes(content[::-1])
        loader = DataLoader(dataset, num_workers=1, multiprocessing_context=way, collate_fn=collate)
        with pytest.raises(imgsyncfs.errors.BlobChanged, match=blob.name):
            list(loader)


def test_no_password_is_in_a_pickle(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    published(workplace, {"a.jpg": jpeg(1), "a.json": house("person")})
    with imgsyncfs.connect(password="s3cret-word") as catalog:
        dataset = Dataset(catalog, DATASET)
        sent = pickle.dumps(dataset)
        assert b"s3cret-word" not in sent
        monkeypatch.setenv(PASSWORD_VARIABLE, "of the environment")
        with pickle.loads(sent)._parts[0].reader.library as other:
            assert other.settings.password == "of the environment"
            assert plain(pickle.loads(sent)[0]) == plain(dataset[0])


@pytest.mark.parametrize("way", WAYS)
def test_after_a_publish_it_stays_as_it_was_in_workers_too(workplace: Workplace, way: str) -> None:
    published(workplace, {"a.jpg": jpeg(1), "b.jpg": jpeg(2)}, "--loose")
    with Dataset(selection=DATASET) as dataset:
        before = plain(dataset[1])
        published(workplace, {"a0.jpg": jpeg(3)}, "--loose")
        assert plain(dataset[1]) == before
        with Dataset(selection=DATASET) as newer:
            assert len(newer) == 3
        loader = DataLoader(dataset, 2, num_workers=1, multiprocessing_context=way, collate_fn=collate)
        [(images, targets)] = loader
        assert plain((images[1], targets[1])) == before


def test_what_comes_out_of_a_pickle_says_when_the_dataset_was_published_anew(workplace: Workplace) -> None:
    published(workplace, {"a.jpg": jpeg(1), "b.jpg": jpeg(2)}, "--loose")
    with Dataset(selection=DATASET) as dataset:
        sent = pickle.dumps(dataset)
    published(workplace, {"a0.jpg": jpeg(3)}, "--loose")
    with pytest.raises(CatalogError, match=f"{DATASET} has been published anew"):
        pickle.loads(sent)[1]


def test_an_annotation_that_does_not_parse_is_named(workplace: Workplace) -> None:
    published(workplace, {"a.jpg": jpeg(1), "a.json": house("person")}, "--loose")
    [blob] = (workplace.folder / "store").rglob("a.*.json")
    broken = blob.read_bytes().replace(b'"x1"', b'"q1"')
    blob.chmod(0o644)
    blob.write_bytes(broken)
    with sqlite3.connect(workplace.catalog) as connection:
        connection.execute("UPDATE annotations SET md5 = ?", (hashlib.md5(broken).hexdigest(),))
    connection.close()
    with pytest.raises(AnnotationError, match=rf"{DATASET}/a\.json.*object\[0\]\.x1"):
        Dataset(selection=DATASET)
    with Dataset(selection=DATASET, classes=["person"]) as dataset, pytest.raises(AnnotationError, match="a.json"):
        dataset[0]


def test_an_image_that_cannot_be_decoded_is_named(workplace: Workplace) -> None:
    published(workplace, {"a.jpg": jpeg(1)}, "--loose")
    [blob] = (workplace.folder / "store").rglob("a.*.jpg")
    broken = blob.read_bytes()[:300]
    blob.chmod(0o644)
    blob.write_bytes(broken)
    with sqlite3.connect(workplace.catalog) as connection:
        changed = (hashlib.md5(broken).hexdigest(), len(broken))
        connection.execute("UPDATE images SET md5 = ?, byte_count = ?", changed)
    connection.close()
    with Dataset(selection=DATASET) as dataset, pytest.raises(PreviewError, match=rf"{DATASET}/a\.jpg"):
        dataset[0]


def test_a_detector_of_torchvision_learns_from_a_batch(demo: imgsyncfs.ImageCatalog) -> None:
    torch.manual_seed(0)
    pixels = v2.Compose([v2.ToImage(), v2.RandomHorizontalFlip(p=1), v2.ToDtype(torch.float32, scale=True)])
    dataset = Dataset(demo, [FISHEYE, UPRIGHT], transforms=pixels)
    model = models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None, num_classes=len(dataset.classes) + 1
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
    images, targets = next(iter(DataLoader(dataset, batch_size=4, num_workers=1, collate_fn=collate)))
    before = [each.clone() for each in model.parameters()]
    losses = model(list(images), list(targets))
    total = sum(losses.values())
    total.backward()
    optimizer.step()
    assert set(losses) == {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}
    assert torch.isfinite(total)
    assert any(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


def test_without_torchvision_boxes_are_plain_tensors(demo: imgsyncfs.ImageCatalog) -> None:
    script = (
        "import sys; sys.modules['torchvision'] = None\n"
        "from imgsyncfs.torch import Dataset\n"
        f"with Dataset(selection={FISHEYE!r}, transforms=lambda *sample: sample) as dataset:\n"
        "    print({type(dataset[0][1][name]).__name__ for name in ('boxes', 'xywhr')})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "{'Tensor'}"


def test_its_processes_end_when_it_is_closed_and_when_nobody_has_it_any_more(workplace: Workplace) -> None:
    published(workplace, {"a.jpg": jpeg(1)})
    for let_go in (Dataset.close, lambda _: None):
        dataset = Dataset(selection=DATASET)
        library = dataset._parts[0].reader.library
        processes = [*library.catalog_pool.process_ids(), *library.fetch_pool.process_ids()]
        assert processes
        let_go(dataset)
        del dataset, library
        assert all_end_after(processes)


def test_a_closed_one_says_so(workplace: Workplace) -> None:
    published(workplace, {"a.jpg": jpeg(1)})
    with Dataset(selection=DATASET) as dataset:
        assert len(dataset) == 1
    with pytest.raises(ConfigurationError, match="is closed"):
        dataset[0]


def test_a_program_that_does_not_close_it_ends(demo: imgsyncfs.ImageCatalog) -> None:
    script = f"from imgsyncfs.torch import Dataset; dataset = Dataset(selection={FISHEYE!r}); print(len(dataset[0]))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout.strip(), done.stderr) == ("2", "")


def test_the_readmes_example_works_as_typed(demo: imgsyncfs.ImageCatalog, tmp_path: Path) -> None:
    [example] = re.findall(r"^```py\n(.*?)^```$", (REPOSITORY / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "example.py").write_text(example)
    done = subprocess.run(
        [sys.executable, tmp_path / "example.py"], capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "loss" in done.stdout
