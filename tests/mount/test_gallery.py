"""The gallery in a real browser, opened from the mount by its path: what is drawn, filters, keys, colours, no network.

Run as a program, with PYTHONPATH=tests, this rewrites the pictures in the README: look at them before they are kept.
"""

from __future__ import annotations

import io
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from support.browser import WatchedPage, accessibility_faults, browser, watched
from support.labelled_shapes import write_masks
from support.mounting import (
    Workplace,
    demo_workplace,
    local_workplace,
    mount_status,
    store_requests,
    workplace_with,
    write_image,
)
from support.places import PICTURES

from imgsyncfs.annotations.geometry import compress_counts, corners, encode_run_length

FISHEYE = "original_20200207_fisheye_rbbox"
FACES = "opensource_imdbwiki&affectnet_rgb_clf&reg"
TABLES = "original_20260501_rgb_seg"
HOSTILE = "original_20260502_rgb_bbox"
MANY = "original_20260503_fisheye_rbbox"
NEVER = ("--refresh", "3600")
TAG = "<img src=x onerror=\"document.title='broken in'\"><script>document.title='broken in'</script>"

FIRST_PICTURE_SECONDS = 20.0
"""With 10,000 images; a second or two on a machine that does nothing else."""

PICTURED = {
    "gallery_boxes": (FISHEYE, "light", 400),
    "gallery_masks": (TABLES, "light", 240),
    "gallery_values": (FACES, "dark", 400),
}
"""The README's pictures: the dataset, the colours, and how wide each image is."""

PICTURE_SIZE = (1180, 1110)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


def catalog(folder: Path) -> Workplace:
    """The demo, and datasets of what it lacks."""
    workplace = demo_workplace(folder)
    workplace.run("publish", write_masks(folder / "tables", count=14), "--name", TABLES)
    hostile = folder / "hostile"
    hostile.mkdir()
    write_image(hostile / "a#b%20c.jpg")
    write_image(hostile / "d.jpg")
    label = {"label_type": "bbox", "object": [{"class": TAG, "x1": 1, "y1": 2, "x2": 30, "y2": 40}]}
    value = {"label_type": "clf", "label_name": TAG, "label": TAG}
    annotation = {"anno_version": "0.2.0", "label_checked": 1, "height": 48, "width": 64, "labels": [label, value]}
    (hostile / "a#b%20c.json").write_bytes(orjson.dumps(annotation))
    workplace.run("publish", hostile, "--name", HOSTILE)
    return workplace


@pytest.fixture(scope="module")
def mountpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with catalog(tmp_path_factory.mktemp("gallery")).mounted(*NEVER) as mounted:
        yield mounted


@pytest.fixture
def watch(chromium: Browser) -> Iterator[WatchedPage]:
    with watched(chromium) as page:
        yield page


def gallery(mountpoint: Path, dataset: str) -> Path:
    return mountpoint / ".views" / "gallery" / dataset / "index.html"


def opened(watch: WatchedPage, mountpoint: Path, dataset: str, address: str = "") -> Page:
    """A gallery of which everything has come."""
    page = watch.open(gallery(mountpoint, dataset), address)
    expect(page.locator("#plots")).to_be_visible()
    return page


def names(page: Page) -> list[str]:
    """The file names of the images that are shown."""
    expect(page.locator(".card .file").first).to_be_visible()
    return page.locator(".card .file").all_inner_texts()


def path_points(path: str) -> list[list[float]]:
    """The corners of the first outline of an SVG path."""
    numbers = list(map(float, re.findall(r"-?[\d.]+(?:e-?\d+)?", path.partition("Z")[0])))
    return [numbers[at : at + 2] for at in range(0, len(numbers), 2)]


def test_rotated_boxes_are_drawn_where_they_are_with_their_heading(watch: WatchedPage, mountpoint: Path) -> None:
    page = opened(watch, mountpoint, FISHEYE)
    page.locator(".card", has_text="00079").click()
    expect(page.locator("#stage svg > g:not(.words)")).to_have_count(23)
    paths = [each.get_attribute("d") or "" for each in page.locator("#stage .stroke").all()]
    [label] = orjson.loads((mountpoint / FISHEYE / f"{FISHEYE}_00079.json").read_bytes())["labels"]
    for path, box in zip(paths, label["object"], strict=True):
        exact = corners([[box[key] for key in "xywha"]])[0]
        assert path_points(path) == pytest.approx(exact, abs=0.02)
        # The arrow ends in the middle of the right side.
        arrow = path.split("M")[2].split()
        assert list(map(float, arrow[2:])) == pytest.approx((exact[1] + exact[2]) / 2, abs=0.02)


@pytest.mark.parametrize("seed", range(4))
def test_a_masks_path_encloses_its_pixels_and_no_others(watch: WatchedPage, mountpoint: Path, seed: int) -> None:
    page = opened(watch, mountpoint, TABLES)
    # Noise: holes, single pixels, and pixels that touch at a corner alone.
    covered = np.random.default_rng(seed).random((17, 23)) < 0.2 + 0.2 * seed
    numbers = [5, 7, 2, 17, 23, compress_counts(encode_run_length(covered))]
    inside = page.evaluate(
        """(numbers) => {
            const path = new Path2D(imgsyncfsShapes.maskPath(numbers));
            const pen = document.createElement("canvas").getContext("2d");
            const is = (x, y) => pen.isPointInPath(path, 6 + 2 * x, 8 + 2 * y, "evenodd");
            return [...Array(17).keys()].map((y) => [...Array(23).keys()].map((x) => is(x, y)));
        }""",
        numbers,
    )
    assert np.array_equal(inside, covered)


def test_values_stand_below_the_picture_and_filter_the_images(watch: WatchedPage, mountpoint: Path) -> None:
    page = opened(watch, mountpoint, FACES)
    expect(page.locator(".card").first.locator(".chip")).to_have_text(
        ["Gender: Female", "Emotion: Happiness", "Age: 42"]
    )
    page.get_by_role("checkbox", name="Gender: Female").check()
    expect(page.locator("#found")).to_have_text("2 of 4 images")
    page.get_by_label("Age, at least").fill("40")
    expect(page.locator("#found")).to_have_text("1 of 4 images")
    assert names(page) == [f"{FACES}_00001.jpg"]
    page.get_by_role("button", name="Show all images").click()
    expect(page.locator("#found")).to_have_text("4 images")


def test_images_are_filtered_by_class_name_state_and_number_of_objects(watch: WatchedPage, mountpoint: Path) -> None:
    page = opened(watch, mountpoint, TABLES)
    labels = [orjson.loads(path.read_bytes()) for path in sorted((mountpoint / TABLES).glob("table_???.json"))]
    counts = [sum(len(each["object"]) for each in label["labels"]) for label in labels]
    found = page.locator("#found")
    page.get_by_role("checkbox", name="apple").check()
    with_apples = sum(b'"apple"' in orjson.dumps(label) for label in labels)
    expect(found).to_have_text(f"{with_apples} of 14 images")
    page.get_by_role("checkbox", name="apple").uncheck()
    page.get_by_label("Labels").select_option("not checked")
    expect(found).to_have_text(f"{sum(not label['label_checked'] for label in labels)} of 14 images")
    page.get_by_label("Labels").select_option("checked or not")
    page.get_by_label("Objects, at least").fill("5")
    expect(found).to_have_text(f"{sum(count >= 5 for count in counts)} of 14 images")
    page.get_by_label("Objects, at least").fill("")
    page.get_by_label("File name contains").fill("_01")
    expect(found).to_have_text("4 of 14 images")
    assert names(page) == [f"table_{number:03}.jpg" for number in range(10, 14)]
    page.get_by_label("File name contains").fill("nowhere")
    expect(page.get_by_text("No image is like this.")).to_be_visible()


def test_the_address_keeps_filters_and_the_open_image(watch: WatchedPage, mountpoint: Path, chromium: Browser) -> None:
    page = opened(watch, mountpoint, TABLES)
    page.get_by_label("File name contains").fill("_01")
    expect(page.locator("#found")).to_have_text("4 of 14 images")
    page.locator(".card").nth(1).click()
    expect(page.get_by_role("heading", name="table_011.jpg")).to_be_visible()
    with watched(chromium) as other:
        again = other.open(gallery(mountpoint, TABLES), f"#{page.url.partition('#')[2]}")
        expect(again.get_by_role("heading", name="table_011.jpg")).to_be_visible()
        expect(again.locator("#viewer-place")).to_have_text("2 of 4")


def test_keys_lead_through_the_images(watch: WatchedPage, mountpoint: Path) -> None:
    page = opened(watch, mountpoint, TABLES)
    expect(page.locator(".card .file").nth(8)).to_be_visible()
    keys = page.keyboard
    keys.press("ArrowRight")
    expect(page.locator(".card").nth(0)).to_be_focused()
    keys.press("ArrowRight")
    keys.press("ArrowDown")
    # Three pictures stand in a row.
    expect(page.locator(".card").nth(4)).to_be_focused()
    keys.press("Enter")
    expect(page.get_by_role("heading", name="table_004.jpg")).to_be_visible()
    keys.press("ArrowRight")
    keys.press("n")
    keys.press("p")
    expect(page.get_by_role("heading", name="table_005.jpg")).to_be_visible()
    expect(page.locator("#stage text").first).to_be_visible()
    keys.press("l")
    expect(page.locator("#stage text").first).to_be_hidden()
    keys.press("b")
    expect(page.locator("#stage svg")).to_be_hidden()
    keys.press("b")
    keys.press("z")
    expect(page.locator("#stage .frame")).to_have_css("width", "480px")
    keys.press("Escape")
    expect(page.locator(".card").nth(5)).to_be_focused()
    keys.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    keys.press("Escape")
    keys.press("/")
    keys.type("012")
    expect(page.locator("#found")).to_have_text("1 of 14 images")


def ground(page: Page) -> float:
    """How light the page's ground is, from 0 to 255."""
    corner = Image.open(io.BytesIO(page.screenshot(clip={"x": 320, "y": 840, "width": 4, "height": 4})))
    return float(np.asarray(corner.convert("L")).mean())


def test_colours_follow_the_system_and_the_choice_is_kept(chromium: Browser, mountpoint: Path) -> None:
    with watched(chromium, color_scheme="dark") as watch:
        page = opened(watch, mountpoint, FISHEYE)
        assert ground(page) < 60
        page.keyboard.press("t")
        expect(page.get_by_role("button", name="Light colours")).to_be_visible()
        assert ground(page) > 200
        page.reload()
        expect(page.get_by_role("button", name="Light colours")).to_be_visible()
        assert ground(page) > 200


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("dataset", [FISHEYE, FACES, TABLES])
def test_everything_has_a_name_and_can_be_read(chromium: Browser, mountpoint: Path, dataset: str, scheme: Any) -> None:
    with watched(chromium, color_scheme=scheme) as watch:
        page = opened(watch, mountpoint, dataset)
        expect(page.locator(".card .file").first).to_be_visible()
        assert accessibility_faults(page) == []
        plots = page.locator("#plots [role=img]").all()
        assert all(each.get_attribute("aria-label") for each in plots)
        page.locator(".card").first.click()
        expect(page.locator("#facts .object, #facts dd").first).to_be_visible()
        assert accessibility_faults(page) == []


def test_a_class_a_value_and_a_file_name_that_look_like_markup_are_text(watch: WatchedPage, mountpoint: Path) -> None:
    page = opened(watch, mountpoint, HOSTILE)
    card = page.locator(".card").first
    expect(card.locator(".chip")).to_have_text([f"{TAG} 1", f"{TAG}: {TAG}"])
    expect(page.locator("#classes .name").first).to_have_text(TAG)
    assert page.locator(".card img").first.evaluate("(image) => image.decode().then(() => image.naturalWidth)") == 64
    card.click()
    expect(page.get_by_role("heading", name="a#b%20c.jpg")).to_be_visible()
    expect(page.locator("#stage text")).to_have_text(TAG)
    assert "broken in" not in page.title()
    page.keyboard.press("Escape")
    expect(page.locator(".card").nth(1).locator(".chip")).to_have_text("no annotation")


def test_the_plots_tell_what_they_show(watch: WatchedPage, mountpoint: Path) -> None:
    page = opened(watch, mountpoint, FISHEYE)
    titles = page.locator("#plots figcaption").all_inner_texts()
    assert [title.partition(":")[0].partition(",")[0] for title in titles] == [
        "Objects by class",
        "Size of boxes",
        "Width to height",
        "Angle of rotated boxes",
        "Centres of boxes",
    ]
    expect(page.get_by_role("img", name="Objects by class: person 35")).to_be_visible()


def test_all_datasets_are_on_one_page_with_a_picture_each(watch: WatchedPage, mountpoint: Path) -> None:
    page = watch.open(mountpoint / ".imgsyncfs" / "index.html")
    expect(page.locator("#grid li")).to_have_count(24)
    expect(page.locator("#grid img").nth(7)).to_be_visible()
    assert accessibility_faults(page) == []
    page.get_by_label("Image type").select_option("fisheye360")
    page.get_by_label("Label version").select_option("2.0.0")
    found = page.locator("#grid li:visible .id").all_inner_texts()
    rows = orjson.loads((mountpoint / ".imgsyncfs" / "datasets.json").read_bytes())
    fisheye = [row for row in rows if row["image_type"] == "fisheye360" and row["label_version"] == "2.0.0"]
    assert found == [row["dataset_id"] for row in fisheye]
    page.get_by_role("link", name=FISHEYE).click()
    expect(page.get_by_role("heading", name=FISHEYE)).to_be_visible()
    page.get_by_role("link", name="All datasets").click()
    expect(page.get_by_role("heading", name="Datasets")).to_be_visible()


def written_documents(mountpoint: Path) -> int:
    """How many have been written, or taken from the cache."""
    documents = mount_status(mountpoint)["documents"]
    return int(documents["written"] + documents["from_cache"])


def test_listing_a_gallery_reads_no_blob_and_writes_nothing(mountpoint: Path) -> None:
    top = gallery(mountpoint, "original_20200316_dewarp_bbox").parent
    before = store_requests(mountpoint), written_documents(mountpoint)
    assert sorted(path.name for path in top.iterdir()) == ["data", "images", "index.html", "page"]
    assert {path.name for path in (top / "data").iterdir()} == {"cover.js", "shapes-000.js", "summary.js"}
    assert len(list((top / "images").iterdir())) == 2
    assert (top / "data" / "cover.js").stat().st_size > 0
    assert (store_requests(mountpoint), written_documents(mountpoint)) == before
    assert (top / "data" / "summary.js").stat().st_size > 0
    assert written_documents(mountpoint) == before[1] + 1


def test_the_gallery_can_be_the_whole_mount(tmp_path: Path, chromium: Browser) -> None:
    with (
        workplace_with(tmp_path, MANY, count=3).mounted(*NEVER, "--view", "gallery") as mountpoint,
        watched(chromium) as watch,
    ):
        page = watch.open(mountpoint / MANY / "index.html")
        expect(page.locator(".card .file")).to_have_count(3)
        expect(page.get_by_role("link", name="All datasets")).to_be_hidden()
        watch.open(mountpoint / ".imgsyncfs" / "index.html")
        page.get_by_role("link", name=MANY).click()
        expect(page.locator(".card .file")).to_have_count(3)


@pytest.mark.slow
def test_what_cannot_be_read_is_said_and_comes_when_it_can_be_read(tmp_path: Path, chromium: Browser) -> None:
    workplace = workplace_with(tmp_path, MANY, count=3)
    store = tmp_path / "store"
    with workplace.mounted(*NEVER, "--timeout", "2") as mountpoint:
        (mountpoint / MANY).stat()
        store.rename(tmp_path / "away")
        # It complains, as it should.
        page = chromium.new_page()
        page.set_default_timeout(60_000)
        page.goto(gallery(mountpoint, MANY).as_uri())
        expect(page.locator(".broken").first).to_contain_text("What is labelled here cannot be read", timeout=60_000)
        expect(page.locator("#trouble")).to_contain_text("it is asked for again", timeout=60_000)
        (tmp_path / "away").rename(store)
        expect(page.locator("#plots")).to_be_visible(timeout=60_000)
        expect(page.locator("#trouble")).to_be_hidden()
        page.close()


def write_many(folder: Path, count: int) -> Path:
    """Small images with some rotated boxes each."""
    folder.mkdir()
    chance = np.random.default_rng(17)
    write_image(folder / "first.jpg", size=(320, 240))
    content = (folder / "first.jpg").read_bytes()
    (folder / "first.jpg").unlink()
    for number in range(count):
        (folder / f"camera_{number:05}.jpg").write_bytes(content + number.to_bytes(4, "big"))
        boxes = [
            {"class": name, "x": x * 320, "y": y * 240, "w": 40.0, "h": 20.0, "a": a * 3.14}
            for name, (x, y, a) in zip(("person", "head", "car", "person"), chance.random((4, 3)).tolist(), strict=True)
        ]
        annotation = {
            "anno_version": "0.2.0",
            "label_checked": number % 2,
            "height": 240,
            "width": 320,
            "labels": [{"label_type": "rbbox", "object": boxes[: number % 5]}],
        }
        (folder / f"camera_{number:05}.json").write_bytes(orjson.dumps(annotation))
    return folder


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ten_thousand_images_stay_usable(tmp_path: Path, chromium: Browser) -> None:
    workplace = local_workplace(tmp_path)
    workplace.run("publish", write_many(tmp_path / "many", 10_000), "--name", MANY)
    with workplace.mounted(*NEVER) as mountpoint, watched(chromium) as watch:
        began = time.monotonic()
        page = watch.open(gallery(mountpoint, MANY))
        expect(page.locator(".card img").first).to_be_visible()
        assert time.monotonic() - began < FIRST_PICTURE_SECONDS
        expect(page.locator("#plots")).to_be_visible()
        # No more is there than a page of them, and no more pictures than somebody may soon see.
        expect(page.locator(".card")).to_have_count(240)
        assert page.locator(".card img").count() < 60
        page.keyboard.press("n")
        expect(page.locator(".card").first).to_be_focused()
        expect(page.locator(".card .file").first).to_have_text("camera_00240.jpg")
        page.get_by_role("spinbutton", name="Page").first.fill("42")
        page.keyboard.press("Enter")
        expect(page.locator(".card .file").first).to_have_text("camera_09840.jpg")
        page.locator(".card").last.scroll_into_view_if_needed()
        expect(page.locator(".card .file").last).to_have_text("camera_09999.jpg")
        page.get_by_label("Objects, at least").fill("4")
        expect(page.locator("#found")).to_have_text("2,000 of 10,000 images")
        page.get_by_role("checkbox", name="car").check()
        page.get_by_label("Labels").select_option("checked")
        expect(page.locator("#found")).to_have_text("1,000 of 10,000 images")


def picture(chromium: Browser, mountpoint: Path, name: str) -> Image.Image:
    """One of the README's pictures, in few colours."""
    dataset, scheme, width = PICTURED[name]
    with watched(chromium, size=PICTURE_SIZE, color_scheme=scheme) as watch:
        page = opened(watch, mountpoint, dataset)
        expect(page.locator(".card .file").first).to_be_visible()
        page.get_by_role("slider", name="Size").fill(str(width))
        page.get_by_role("slider", name="Size").blur()
        expect(page.locator(".card .file").first).to_be_visible()
        page.locator(".card img").first.evaluate("(image) => image.decode()")
        page.evaluate("() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
        shown = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    return shown.quantize(200, dither=Image.Dither.NONE)


if __name__ == "__main__":
    import tempfile

    with (
        tempfile.TemporaryDirectory() as temporary,
        catalog(Path(temporary)).mounted(*NEVER) as mounted,
        browser() as started,
    ):
        for each in PICTURED:
            picture(started, mounted, each).save(PICTURES / f"{each}.png", optimize=True)
