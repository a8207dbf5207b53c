"""Folders of annotations as tests of conversions need them: made, edited by tools, compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from support.mounting import box_annotation, write_image
from support.rolabelimg_saves import save_in_rolabelimg

ORIGINALS = "ImageSynchronizer_annotation"

FULL: dict[str, Any] = {
    "anno_version": "0.2.0",
    "label_checked": 1,
    "height": 48,
    "width": 64,
    "depth": 3,
    "ext": "jpg",
    "labels": [
        {
            "label_type": "rbbox",
            "object": [{"class": "person", "x": 30.123456789, "y": 20, "w": 20, "h": 10, "a": 3.5, "id": 1}],
        },
        {"label_type": "poly", "object": [{"class": "arm", "points": [[1, 2], [30, 4], [5, 40]]}]},
        {"label_type": "clf", "label_name": "Gender", "label": "Female"},
        {"label_type": "reg", "label_name": "Age", "label": 42.5},
    ],
    "camera": 7,
}
"""An annotation with something that each tool cannot show; its numbers are not all as this project writes them."""


def make_folder(folder: Path, *stems: str, image: bool = True) -> Path:
    """A folder of small images with one rotated box each; the stem ``full`` gets `FULL`."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, stem in enumerate(stems or ("a", "b", "full")):
        if image:
            write_image(folder / f"{stem}.jpg", shade=number)
        content = orjson.dumps(FULL) if stem == "full" else box_annotation(x=20 + number)
        (folder / f"{stem}.json").write_bytes(content)
    return folder


def files_of(folder: Path, *, annotations_only: bool = True) -> dict[str, bytes]:
    """Each file's content by its name below the folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not (annotations_only and path.suffix in (".jpg", ".png", ".tif"))
    }


def edit_labelme(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit a file of labelme's and save it as labelme does."""
    document = orjson.loads(path.read_bytes())
    assert document["shapes"] is not None
    edit(document)
    path.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))


def rename_first(label: str) -> Callable[[dict[str, Any]], object]:
    """The edit that gives the first shape another label."""
    return lambda document: document["shapes"][0].update(label=label)


def save_with_rolabelimg(path: Path, *edits: tuple[str, str]) -> None:
    """Save an .xml as roLabelImg does, which knows nothing of what travels along, after texts were replaced."""
    save_in_rolabelimg(path, (48, 64, 3))
    text = path.read_text()
    for before, after in edits:
        assert before in text
        text = text.replace(before, after)
    path.write_text(text)
