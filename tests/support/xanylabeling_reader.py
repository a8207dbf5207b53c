"""Load files with X-AnyLabeling's own reader and print what it sees, as JSON; run by a Python that has it.

    python xanylabeling_reader.py FOLDER...   for each of the folders' files {FILE: {"shapes", "checked", "flags"}}

A shape has "label", "points", "shape_type" and "direction". The image that a file names must lie beside it. A file that
X-AnyLabeling refuses ends the program with its own error.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any


def load(path: Path) -> dict[str, Any]:
    """What X-AnyLabeling sees in a file."""
    seen = importlib.import_module("anylabeling.views.labeling.label_file").LabelFile(str(path))
    shapes = [shape.to_dict() for shape in seen.shapes]
    return {
        "shapes": [{key: shape.get(key) for key in ("label", "points", "shape_type", "direction")} for shape in shapes],
        "checked": seen.other_data["checked"],
        "flags": seen.flags,
    }


if __name__ == "__main__":
    json.dump(
        {str(path): load(path) for folder in sys.argv[1:] for path in sorted(Path(folder).glob("*.json"))}, sys.stdout
    )
