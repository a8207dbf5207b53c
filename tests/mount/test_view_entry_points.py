"""Views that other packages add."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from support.mounting import Workplace, workplace_with

DATASET = "original_20260401_rgb_rbbox"

VIEW = """
from imgsyncfs.formats.registry import FORMATS
from imgsyncfs.library.views.contract import Directory, Document, Layout, View

class ToyView(View):
    name = {name!r}

    @property
    def target(self):
        return FORMATS["rolabelimg"].in_view()

    def layout(self, listing, facts):
        import numpy as np
        inner = np.ones(len(listing), np.uint8)
        return Layout((Directory(0, b""), Directory(0, b"toys")), inner, inner)

    def documents(self, listing, layout, facts):
        return [Document(0, b"count.txt", lambda: b"%d\\n" % len(listing))]

TOYS = ToyView()
"""


def with_view(workplace: Workplace, module: str) -> Workplace:
    """The same workplace where a package is installed that adds a view."""
    packages = workplace.folder / "packages"
    (packages / "toy-1.0.dist-info").mkdir(parents=True)
    (packages / "toy-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (packages / "toy-1.0.dist-info" / "entry_points.txt").write_text("[imgsyncfs.views]\ntoys = toy_view:TOYS\n")
    (packages / "toy_view.py").write_text(module)
    path = os.pathsep.join(filter(None, [str(packages), os.environ.get("PYTHONPATH")]))
    return replace(workplace, environment={**workplace.environment, "PYTHONPATH": path})


def test_a_view_of_another_package_is_there_beside_our_own(tmp_path: Path) -> None:
    workplace = with_view(workplace_with(tmp_path, DATASET, count=2), VIEW.format(name="toys"))
    with workplace.mounted() as mountpoint:
        top = mountpoint / ".views" / "toys" / DATASET
        assert (top / "count.txt").read_text() == "2\n"
        assert sorted(path.name for path in (top / "toys").iterdir()) == [
            "img_00000.jpg", "img_00000.xml", "img_00001.jpg", "img_00001.xml",
        ]  # fmt: skip
        assert (mountpoint / ".views" / "labelme" / DATASET).is_dir()


def test_a_view_of_another_package_is_copied_as_ours_are(tmp_path: Path) -> None:
    workplace = with_view(workplace_with(tmp_path, DATASET, count=2), VIEW.format(name="toys"))
    workplace.run("sync", tmp_path / "target", DATASET, "--view", "toys")
    folder = tmp_path / "target" / DATASET
    copied = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    assert {"count.txt", "toys/img_00000.jpg", "toys/img_00000.xml"} <= copied
    assert "Nothing to transfer" in workplace.run("sync", tmp_path / "target", DATASET, "--view", "toys").stdout


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("1 / 0\n", "cannot be loaded (ZeroDivisionError"),
        ("TOYS = 1\n", "it is a int, no View"),
        (VIEW.format(name="labelme"), "the name 'labelme' is taken"),
        (VIEW.format(name="a/b"), "is no name of a directory"),
        (VIEW.format(name=".toys"), "is no name of a directory"),
    ],
)
def test_a_view_that_cannot_be_had_is_named_and_left_out(tmp_path: Path, module: str, reason: str) -> None:
    workplace = with_view(workplace_with(tmp_path, DATASET, count=1), module)
    done = workplace.run("sync", "--help")
    assert "The view 'toys' of toy_view:TOYS is left out: " in done.stderr
    assert reason in done.stderr
    assert "labelme" in done.stdout
