"""Formats that other packages add."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from support.mounting import Workplace, box_annotation, eventually, local_workplace, write_image
from support.old_catalogs import take_additions_away
from support.publishing import fill, jpeg

from imgsyncfs.annotations.house_format import dump_annotation, parse_annotation
from imgsyncfs.catalog import open_catalog
from imgsyncfs.formats.registry import FORMATS
from imgsyncfs.tools.convert.to_layout import LAYOUT_FORMATS

DATASET = "original_20260105_rgb_rbbox"

DESCRIPTION = """
from imgsyncfs.formats.contract import FormatDescription

TOY = FormatDescription(
    {name!r}, {suffix!r}, "toy_work:ToyFormat", title="the toy", aliases=("toy_txt",), is_readable={readable}
)
"""

WORK = """
from dataclasses import replace
from imgsyncfs.annotations.house_format import dump_annotation, parse_annotation
from imgsyncfs.formats.registry import FORMATS
from imgsyncfs.formats.contract import Format, ImageReference, Rendered

class ToyFormat(Format):
    def render(self, annotation, image):
        return Rendered(b"TOY " + dump_annotation(annotation))
"""

READING = """
    def parse(self, content, *, label_checked=1):
        return parse_annotation(content.removeprefix(b"TOY "))

    def recognizes(self, content):
        return content.startswith(b"TOY ")

    def image_reference(self, content):
        return ImageReference(opened_paths=("shown.jpg",))

    def reattached(self, content, original, image):
        return self.render(replace(self.parse(content), extra=original.extra), image).content
"""


def toy_workplace(
    folder: Path,
    *,
    name: str = "toy",
    suffix: str = ".toy.txt",
    readable: bool = True,
    description: str = DESCRIPTION,
    work: str = WORK,
) -> Workplace:
    """A catalog where a package is installed that adds a format."""
    packages = folder / "packages"
    (packages / "toy-1.0.dist-info").mkdir(parents=True)
    (packages / "toy-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (packages / "toy-1.0.dist-info" / "entry_points.txt").write_text("[imgsyncfs.formats]\ntoy = toy_format:TOY\n")
    (packages / "toy_format.py").write_text(description.format(name=name, suffix=suffix, readable=readable))
    (packages / "toy_work.py").write_text(work + (READING if readable else ""))
    path = os.pathsep.join(filter(None, [str(packages), os.environ.get("PYTHONPATH")]))
    made = local_workplace(folder)
    return Workplace(made.catalog, folder, {"PYTHONPATH": path})


def write_toys(folder: Path, suffix: str = ".toy.txt") -> Path:
    """A folder with an image and a toy's file beside it."""
    folder.mkdir()
    write_image(folder / "a.jpg")
    (folder / f"a{suffix}").write_bytes(b"TOY " + box_annotation())
    return folder


def help_of(workplace: Workplace, command: str) -> subprocess.CompletedProcess[str]:
    """What a command says of itself."""
    return workplace.run(command, "--help")


def test_a_toys_files_are_published_and_stand_beside_images(tmp_path: Path) -> None:
    workplace = toy_workplace(tmp_path)
    workplace.run("publish", write_toys(tmp_path / "set"), "--name", DATASET)
    with workplace.mounted("--siblings", "toy") as mountpoint:
        folder = mountpoint / DATASET
        assert sorted(path.name for path in folder.iterdir()) == ["a.jpg", "a.json", "a.toy.txt"]
        house = (folder / "a.json").read_bytes()
        assert parse_annotation(house) == parse_annotation(box_annotation())
        assert (folder / "a.toy.txt").read_bytes() == b"TOY " + house
        assert "x.toy.txt          the same for the toy" in (mountpoint / ".imgsyncfs" / "README.txt").read_text()


def test_a_mount_renders_anew_what_belongs_to_an_image_whose_orientation_becomes_known(tmp_path: Path) -> None:
    workplace = toy_workplace(
        tmp_path, work=WORK.replace('b"TOY " + dump_annotation(annotation)', 'b"TOY %d" % image.orientation')
    )
    fill(tmp_path / "set", {"a.jpg": jpeg(1, orientation=6), "a.json": box_annotation(size=(30, 40))})
    workplace.run("publish", tmp_path / "set", "--name", DATASET)
    with open_catalog(workplace.catalog) as catalog:
        take_additions_away(catalog, level=1)
    with workplace.mounted("--siblings", "toy", "--refresh", "0.2") as mountpoint:
        image, sibling = (mountpoint / DATASET / name for name in ("a.jpg", "a.toy.txt"))
        assert sibling.read_bytes() == b"TOY 1"
        numbers = image.stat().st_ino, sibling.stat().st_ino
        workplace.run("publish", tmp_path / "set", "--name", DATASET)
        assert eventually(lambda: sibling.read_bytes() == b"TOY 6")
        assert image.stat().st_ino == numbers[0]
        assert sibling.stat().st_ino != numbers[1]


def test_annotations_are_converted_to_a_toys_format_and_back(tmp_path: Path) -> None:
    workplace = toy_workplace(tmp_path)
    folder = tmp_path / "set"
    folder.mkdir()
    write_image(folder / "a.jpg")
    (folder / "a.json").write_bytes(box_annotation())
    workplace.run("convert", folder, "--to", "toy_txt")
    assert parse_annotation((folder / "a.toy.txt").read_bytes().removeprefix(b"TOY ")) == parse_annotation(
        box_annotation()
    )
    (folder / "a.json").unlink()
    workplace.run("convert", folder, "--to", "imagesynchronizer")
    assert parse_annotation((folder / "a.json").read_bytes()) == parse_annotation(box_annotation())


def test_what_a_toys_tool_dropped_comes_back_with_the_edit(tmp_path: Path) -> None:
    workplace = toy_workplace(tmp_path)
    folder = tmp_path / "set"
    folder.mkdir()
    write_image(folder / "a.jpg")
    original = replace(parse_annotation(box_annotation()), extra={"camera": 8})
    (folder / "a.json").write_bytes(dump_annotation(original))
    workplace.run("convert", folder, "--to", "toy")
    saved = replace(original, label_checked=1 - original.label_checked, labels=(), extra={})
    (folder / "a.toy.txt").write_bytes(b"TOY " + dump_annotation(saved))
    workplace.run("convert", folder, "--to", "imagesynchronizer")
    assert parse_annotation((folder / "a.json").read_bytes()) == replace(saved, extra={"camera": 8})


def test_a_preview_shows_the_image_that_a_toys_file_names(tmp_path: Path) -> None:
    workplace = toy_workplace(tmp_path)
    folder = write_toys(tmp_path / "set")
    (folder / "a.jpg").rename(folder / "shown.jpg")
    workplace.run("preview", folder / "a.toy.txt", "-o", tmp_path / "preview.png")
    assert (tmp_path / "preview.png").exists()


def test_a_toys_file_under_the_house_name_is_not_catalogued_in_place(tmp_path: Path) -> None:
    workplace = toy_workplace(tmp_path)
    folder = write_toys(tmp_path / "set", suffix=".json")
    done = workplace.run("index", folder.as_uri(), "--name", DATASET, status=None)
    assert "a.json: indexing copies nothing and so converts nothing" in done.stdout + done.stderr


def test_a_format_that_cannot_be_read_back_is_only_written(tmp_path: Path) -> None:
    workplace = toy_workplace(tmp_path, readable=False)
    folder = write_toys(tmp_path / "set")
    done = workplace.run("publish", folder, "--name", DATASET, status=None)
    assert "a.toy.txt" in done.stdout + done.stderr
    (folder / "a.json").write_bytes(box_annotation(x=11.0))
    done = workplace.run("convert", folder, "--to", "toy", status=3)
    assert "cannot be read back; remove it" in done.stderr
    (folder / "a.toy.txt").unlink()
    workplace.run("convert", folder, "--to", "toy")
    assert (folder / "a.toy.txt").read_bytes().startswith(b"TOY ")
    assert "1 are toy already" in workplace.run("convert", folder, "--to", "toy").stdout


@pytest.mark.parametrize("command", ["mount", "sync", "convert"])
def test_the_help_names_a_toy_and_does_not_import_its_work(tmp_path: Path, command: str) -> None:
    workplace = toy_workplace(tmp_path, work="raise SystemExit('imported')\n")
    assert "toy" in help_of(workplace, command).stdout


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"description": "1 / 0\n"}, "cannot be loaded (ZeroDivisionError: division by zero)"),
        ({"description": "import not_there\n"}, "cannot be loaded (ModuleNotFoundError"),
        ({"description": "TOY = 1\n"}, "it is a int, no FormatDescription"),
        ({"name": "labelme"}, "the name 'labelme' is taken"),
        ({"name": "rolabelimg_xml"}, "the name 'rolabelimg_xml' is taken"),
        ({"name": "imagesynchronizer"}, "the name 'imagesynchronizer' is taken"),
        ({"name": "a,b"}, "the name 'a,b' is not in small letters"),
        ({"suffix": ".xml"}, "the suffix '.xml' is taken"),
        ({"suffix": ".json"}, "the suffix '.json' is taken"),
        ({"suffix": "toy"}, "the suffix 'toy' is not like"),
    ],
)
def test_a_format_that_cannot_be_had_is_named_and_left_out(
    tmp_path: Path, changes: dict[str, str], reason: str
) -> None:
    workplace = toy_workplace(tmp_path, **changes)  # type: ignore[arg-type]  # texts all
    done = help_of(workplace, "convert")
    assert "The format 'toy' of toy_format:TOY is left out: " in done.stderr
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
    # Lines are broken at hyphens too.
    assert f"{','.join([*FORMATS, *LAYOUT_FORMATS])}orimagesynchronizer." in "".join(done.stdout.split())


def test_a_format_whose_module_prints_keeps_no_mount_from_coming_up(tmp_path: Path) -> None:
    workplace = toy_workplace(tmp_path, description='print("hello from a package", flush=True)' + DESCRIPTION)
    with workplace.mounted() as mountpoint:
        assert (mountpoint / ".imgsyncfs" / "README.txt").is_file()
    assert "hello from a package" in workplace.log()
