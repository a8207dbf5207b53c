"""Load files with labelme's own reader and print what it sees, as JSON; run by a Python that has labelme.

    python labelme_reader.py FILE...      {FILE: {"shapes": [{"label", "points", "shape_type", "mask"}], "flags"}}
    python labelme_reader.py FOLDER...    the same of all files in these
    python labelme_reader.py --save FILE  loads the file as labelme's window does, and writes over it as its Save does

A mask is what it covers of its box, row by row. The image that a file names must lie beside it. A file that labelme
refuses ends the program with labelme's own error.
Knows labelme 6 and labelme 7, which needs Python 3.12; their programs differ, their files hardly.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

IS_LABELME_6 = importlib.util.find_spec("labelme.app") is not None


def window_module() -> Any:
    """The module of labelme's window."""
    return importlib.import_module("labelme.app" if IS_LABELME_6 else "labelme._app")


def load(name: str) -> dict[str, Any]:
    """What labelme sees in a file: shapes as its canvas holds them, flags as its list shows them."""
    window = window_module()
    seen = importlib.import_module("labelme._label_file").read_label_file(filename=name)
    shapes = map(window._shape_to_dict, window._shapes_from_dicts(shape_dicts=seen.shapes, label_flags=None))
    return {
        "shapes": [seen_shape(shape) for shape in shapes],
        "flags": seen.flags,
    }


def seen_shape(shape: Any) -> dict[str, Any]:
    """What tests look at of a shape of labelme's."""
    mask = shape["mask"]
    return {
        **{key: shape[key] for key in ("label", "points", "shape_type")},
        "mask": None if mask is None else mask.astype(int).tolist(),
    }


def save(name: str) -> None:
    """Load a file and save it, as labelme does it without an edit."""
    window = window_module()
    files = importlib.import_module("labelme._label_file")
    seen = files.read_label_file(filename=name)
    width, height = importlib.import_module("PIL.Image").open(io.BytesIO(seen.image_data)).size
    shapes = [
        window._shape_to_dict(shape) for shape in window._shapes_from_dicts(shape_dicts=seen.shapes, label_flags=None)
    ]
    if IS_LABELME_6:
        content = {"image_path": seen.image_path, "other_data": seen.other_data, "flags": seen.flags, "shapes": shapes}
    else:
        content = {"annotation": dataclasses.replace(seen, shapes=shapes), "save_image_data": False}
    files.write_label_file(filename=name, image_height=height, image_width=width, **content)


if __name__ == "__main__":
    if sys.argv[1] == "--save":
        save(sys.argv[2])
    else:
        folders = [Path(name) for name in sys.argv[1:] if Path(name).is_dir()]
        names = [str(path) for folder in folders for path in sorted(folder.glob("*.json"))] if folders else sys.argv[1:]
        json.dump({name: load(name) for name in names}, sys.stdout)
