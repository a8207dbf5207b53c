"""Open a folder in labelme's window and print what it shows of each image, as JSON; run by a Python that has labelme.

    python labelme_window.py FOLDER SCREENSHOT

{IMAGE: {"title", "shapes": [...], "flags": {...}}}, shapes as `labelme_reader` has them, and a picture of the window as
it shows the last image. Needs a screen, such as Xvfb's. A message that the window would show ends the program.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

reader: Any = importlib.import_module("labelme_reader")  # it lies beside; mypy knows it as support.labelme_reader


def show(folder: Path, screenshot: Path) -> dict[str, Any]:
    """What the window shows of each image in its list, in the list's order."""
    window_code = reader.window_module()
    widgets = window_code.QtWidgets
    application = widgets.QApplication(sys.argv[:1])
    # As with --no-auto-save.
    window = window_code.MainWindow(
        config_file=None, config_overrides={"auto_save": False}, file_or_dir=str(folder), output_dir=None
    )
    window.show_error_message = refuse
    window.show()
    shown = {}
    for path in window.image_list:
        window._load_file(image_or_label_path=path)
        application.processEvents()
        shapes = map(window_code._shape_to_dict, window._canvas_widgets.canvas.shapes)
        shown[path] = {
            "title": window.windowTitle(),
            "shapes": [reader.seen_shape(shape) for shape in shapes],
            "flags": window._annotation.flags,
        }
    if not window.grab().save(str(screenshot)):
        raise OSError(f"no picture of the window in {screenshot}")
    return shown


def refuse(*words: Any, **named: Any) -> None:
    """Instead of a box that waits for a click."""
    raise RuntimeError(f"{words} {named}")


if __name__ == "__main__":
    json.dump(show(Path(sys.argv[1]), Path(sys.argv[2])), sys.stdout)
