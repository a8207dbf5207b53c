"""Load files with labelme's own reader and print what it sees, as JSON; run by a Python that has labelme.

    python labelme_reader.py FILE...      {FILE: {"shapes": [{"label", "points", "shape_type"}], "flags": {...}}}
    python labelme_reader.py --save FILE  loads the file as labelme's window does, and writes over it as its Save does

The image that a file names must lie beside it. A file that labelme refuses ends the program with labelme's own error.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")


def load(name: str) -> dict[str, Any]:
    """What labelme sees in a file: shapes as its canvas holds them, flags as its list shows them."""
    app = importlib.import_module("labelme.app")
    seen = importlib.import_module("labelme._label_file").read_label_file(name)
    shapes = app._shapes_from_dicts(shape_dicts=seen.shapes, label_flags=None)
    return {
        "shapes": [
            {
                "label": shape.label,
                "points": [[point.x(), point.y()] for point in shape.points],
                "shape_type": shape.shape_type,
            }
            for shape in shapes
        ],
        "flags": seen.flags,
    }


def save(name: str) -> None:
    """Load a file and save it, as labelme does it without an edit."""
    app = importlib.import_module("labelme.app")
    files = importlib.import_module("labelme._label_file")
    seen = files.read_label_file(name)
    image = importlib.import_module("PyQt5.QtGui").QImage.fromData(seen.image_data)
    shapes = app._shapes_from_dicts(shape_dicts=seen.shapes, label_flags=None)
    files.write_label_file(
        name,
        shapes=[app._shape_to_dict(shape) for shape in shapes],
        image_path=seen.image_path,
        image_height=image.height(),
        image_width=image.width(),
        other_data=seen.other_data,
        flags=seen.flags,
    )


if __name__ == "__main__":
    if sys.argv[1] == "--save":
        save(sys.argv[2])
    else:
        json.dump({name: load(name) for name in sys.argv[1:]}, sys.stdout)
