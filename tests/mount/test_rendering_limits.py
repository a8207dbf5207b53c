"""Annotations that take long to render: nobody else waits for them, and they take no more than they may."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import pytest
from support.mounting import (
    Workplace,
    box_annotation,
    eventually,
    local_workplace,
    mount_status,
    process_ids,
    write_image,
)
from support.places import importing_support

from imgsyncfs.errors import AnnotationError, CacheError, WorkerLost
from imgsyncfs.formats.registry import CONVERTIBLE
from imgsyncfs.library.configuration import library_settings
from imgsyncfs.library.documents import facts_digest
from imgsyncfs.library.library import Library
from imgsyncfs.library.rendered_alone import RenderingLimits, RenderingPlace
from imgsyncfs.library.views.registry import find_view
from imgsyncfs.mount.renderings import RenderingFlights
from imgsyncfs.settings.config_file import load_configuration
from imgsyncfs.workers.forking import Template
from imgsyncfs.workers.pool import WorkerPool

DATASET = "original_20260105_rgb_bbox&seg"


def house_annotation(label_type: str, objects: list[dict[str, Any]], *, size: tuple[int, int]) -> bytes:
    """A house annotation with one label."""
    return orjson.dumps(
        {
            "anno_version": "0.2.0",
            "label_checked": 1,
            "height": size[0],
            "width": size[1],
            "depth": 3,
            "ext": "jpg",
            "labels": [{"label_type": label_type, "object": objects}],
        }
    )


def masks(count: int, *, side: int) -> bytes:
    """A short annotation with masks that cover all of a large image."""
    mask: dict[str, Any] = {"class": "person", "rle": {"size": [side, side], "counts": [0, side * side]}}
    return house_annotation("seg", [mask] * count, size=(side, side))


def boxes(count: int) -> bytes:
    """An annotation with many boxes."""
    objects: list[dict[str, Any]] = [
        {"class": "person", "x1": number % 60 + 0.5, "y1": 1.5, "x2": number % 60 + 3.5, "y2": 40.5}
        for number in range(count)
    ]
    return house_annotation("bbox", objects, size=(48, 64))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A catalog with one dataset: three annotations that are heavy in their ways, and a light one."""
    workplace = local_workplace(tmp_path_factory.mktemp("heavy"))
    folder = workplace.folder / "one"
    folder.mkdir()
    contents = {
        "light": box_annotation(),
        "many_boxes": boxes(20_000),
        "large_masks": masks(20, side=16_384),
        "some_masks": masks(3, side=2048),
    }
    for name, content in contents.items():
        write_image(folder / f"{name}.jpg")
        (folder / f"{name}.json").write_bytes(content)
    workplace.run("publish", folder, "--name", DATASET)
    return workplace


@pytest.fixture
def fresh(workplace: Workplace, tmp_path: Path) -> Workplace:
    """The same with a cache of its own."""
    return Workplace(workplace.catalog, tmp_path)


def cpu_seconds(processes: list[int]) -> float:
    """How much time of cores processes have taken."""
    ticks = 0
    for process in processes:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def test_what_takes_too_long_is_an_error_in_time_that_names_the_file_and_nobody_else_waits(fresh: Workplace) -> None:
    with fresh.mounted("--timeout", "3", "--responders", "1") as mountpoint:
        dataset = mountpoint / DATASET
        light = dataset / "light.labelme.json"
        responder = mount_status(mountpoint)["responders"]["process_ids"][0]
        before = cpu_seconds([responder])
        began = time.monotonic()
        reader, waiting = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                (dataset / "large_masks.labelme.json").read_bytes()
                os.write(waiting, b"read")
            except OSError as error:
                os.write(waiting, str(error.errno).encode())
            finally:
                os._exit(0)
        assert eventually(lambda: mount_status(mountpoint)["renderings"]["under_way"] == 1)
        looked = time.monotonic()
        assert len(list(dataset.iterdir())) == 16
        assert light.read_bytes()
        assert time.monotonic() - looked < 2
        assert os.read(reader, 10) == str(errno.EIO).encode()
        os.waitpid(child, 0)
        assert time.monotonic() - began < 6
        assert cpu_seconds([responder]) - before < 1
        told = (mountpoint / ".imgsyncfs" / "errors.log").read_text()
        assert f"{DATASET}/large_masks.json" in told


def test_a_long_file_is_rendered_once_and_not_for_each_part_that_is_read(fresh: Workplace) -> None:
    expected = rendered(fresh, "many_boxes", "labelme")
    assert len(expected) > 20 * (128 << 10)
    with fresh.mounted("--responders", "2") as mountpoint:
        path = mountpoint / DATASET / "many_boxes.labelme.json"
        with path.open("rb", buffering=0) as file:
            parts = iter(lambda: os.pread(file.fileno(), 4096, 1 << 20), b"")
            next(parts)
            file.seek(0)
            assert b"".join(iter(lambda: file.read(64 << 10), b"")) == expected
        assert path.stat().st_size == len(expected)
        assert mount_status(mountpoint)["renderings"]["made"] == 1
    with fresh.mounted(name="again") as mountpoint:
        # What was rendered is in the cache.
        assert (mountpoint / DATASET / "many_boxes.labelme.json").read_bytes() == expected
        assert mount_status(mountpoint)["renderings"]["made"] == 0


def test_a_long_file_is_read_where_the_cache_has_no_room_for_it(fresh: Workplace) -> None:
    expected = rendered(fresh, "many_boxes", "labelme")
    with fresh.mounted("--cache-size", "1M") as mountpoint:
        path = mountpoint / DATASET / "many_boxes.labelme.json"
        assert path.read_bytes() == expected
        assert mount_status(mountpoint)["renderings"]["made"] == 1


def test_masks_that_take_a_while_are_rendered_in_views_too(fresh: Workplace) -> None:
    expected = rendered(fresh, "some_masks", "labelme")
    with fresh.mounted() as mountpoint:
        assert (mountpoint / DATASET / "some_masks.labelme.json").read_bytes() == expected
        assert (mountpoint / ".views" / "labelme" / DATASET / "some_masks.json").read_bytes() == expected
        yolo = mountpoint / ".views" / "yolo-obb" / DATASET
        assert [path.read_bytes() for path in yolo.rglob("some_masks.txt")] == [b""]
        assert "yolo-obb" in (mountpoint / ".imgsyncfs" / "errors.log").read_text(), "nobody is told what is not shown"
        assert mount_status(mountpoint)["renderings"]["made"] >= 2


def test_nothing_that_is_rendered_outlives_a_mount_that_is_killed(fresh: Workplace) -> None:
    with fresh.mounted("--timeout", "1") as mountpoint:
        with pytest.raises(OSError, match="rror"):
            (mountpoint / DATASET / "large_masks.labelme.json").read_bytes()
        assert mount_status(mountpoint)["renderings"]["under_way"] == 1
        os.kill(process_ids(mountpoint)[0], 9)
        fresh.run("umount", mountpoint)
    # `mounted` sees to it that no process is left.


@contextmanager
def flights(workplace: Workplace, limits: RenderingLimits) -> Iterator[Callable[[str, str], bytes]]:
    """What renders a file under limits, outside of a mount."""
    configuration = load_configuration(None, environment=workplace.variables())
    with Library(library_settings(configuration, {"siblings": "none"})) as library:
        listing = library.mirror.listing(DATASET)
        made = RenderingFlights(library, lambda _, __: None, limits=limits)

        def render(name: str, target: str) -> bytes:
            place = RenderingPlace(listing, listing.find(name.encode()), CONVERTIBLE[target], "", ())
            key, content = made.start(place).result(60)
            kept = library.cache.find(key)
            return content if kept is None else kept.read(0, kept.length)

        try:
            yield render
        finally:
            made.close()


def rendered(workplace: Workplace, name: str, target: str) -> bytes:
    """What is in a sibling, as it is rendered without a mount."""
    configuration = load_configuration(None, environment=workplace.variables())
    with Library(library_settings(configuration, {"siblings": target})) as library:
        files = library.files(DATASET)
        key = files.find(f"{name}{CONVERTIBLE[target].suffix}".encode())
        assert key is not None
        return files.read(key, 0, 1 << 30)


@pytest.mark.parametrize(
    ("limits", "name"),
    [(RenderingLimits(seconds=1.0), "large_masks"), (RenderingLimits(byte_count=20 << 20), "many_boxes")],
)
def test_a_rendering_beyond_its_limits_is_refused_at_once_when_asked_for_again(
    fresh: Workplace, limits: RenderingLimits, name: str
) -> None:
    with flights(fresh, limits) as render:
        for _ in range(2):
            began = time.monotonic()
            with pytest.raises(AnnotationError, match=f"{DATASET}/{name}.json cannot be rendered as labelme within"):
                render(name, "labelme")
        assert time.monotonic() - began < limits.seconds / 2
        assert render("light", "labelme") == rendered(fresh, "light", "labelme")


def test_a_document_that_takes_too_much_memory_is_an_error_and_the_next_one_is_written(
    workplace: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", importing_support())
    contents = {"original_20260106_rgb_bbox": boxes(250_000), "original_20260107_rgb_bbox": boxes(2)}
    for dataset, content in contents.items():
        folder = tmp_path / dataset
        folder.mkdir()
        write_image(folder / "a.jpg")
        (folder / "a.json").write_bytes(content)
        workplace.run("publish", folder, "--name", dataset)
    settings = library_settings(load_configuration(None, environment=workplace.variables()), {"siblings": "none"})
    target = tmp_path / "document"

    def write(writers: WorkerPool, dataset: str) -> None:
        with Library(settings) as library:
            files = library.view_files(dataset, find_view("coco"))
        job = {"dataset": dataset, "listing": files.listing.key, "view": "coco", "facts": facts_digest(files.facts)}
        writers.submit({**job, "place": 0, "target": str(target), "most_bytes": 1 << 30}).result(60)

    with closing(Template()) as template:
        writers = WorkerPool(
            "support.frugal_writer:FrugalWriter", asdict(settings), count=1, threads=1, template=template
        )
        with closing(writers):
            # Most of what needs memory says that there is none; orjson may also end its process.
            with pytest.raises((CacheError, WorkerLost)):
                write(writers, "original_20260106_rgb_bbox")
            write(writers, "original_20260107_rgb_bbox")
            assert target.read_bytes().count(b'"bbox":') == 2
