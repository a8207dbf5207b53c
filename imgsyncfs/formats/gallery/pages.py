"""The gallery's pages: files of this package, with what is known of a dataset filled in.

Libraries in ``page/vendor`` are carried as their makers publish them; ``scripts/renew_gallery_libraries`` renews them.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

from imgsyncfs.formats.ascii_json import encode_ascii_json

PAGE_FILES = (
    "gallery.css",
    "gallery.js",
    "images.js",
    "plots.js",
    "shapes.js",
    "summary.html",
    "summary.js",
    "theme.js",
    "vendor/LICENSES.txt",
    "vendor/d3.min.js",
    "vendor/plot.umd.min.js",
)
"""What a dataset's page loads, below the directory ``page``."""


@cache
def page_file(name: str) -> bytes:
    """The content of one of `PAGE_FILES`, or of another file of the page."""
    content = files(__package__) / "page"
    for part in name.split("/"):
        content = content / part
    return content.read_bytes()


def dataset_page(dataset: dict[str, Any]) -> bytes:
    """A dataset's ``index.html``.

    Args:
        dataset: ``id``, ``label_version``, ``revision``, ``images``, the number of them, ``at_once``, how many of them
            each script of shapes is about.
    """
    return _filled("dataset.html", title=escape(dataset["id"]), data=_in_script(dataset))


def cover(dataset_id: str, image: str) -> bytes:
    """The script that says which picture stands for a dataset.

    Args:
        dataset_id: the dataset.
        image: the path of the picture from the dataset's page on; empty if there is none.
    """
    return b"imgsyncfsCover(%b);\n" % encode_ascii_json([dataset_id, image])


def catalog_page(datasets: Sequence[dict[str, Any]]) -> bytes:
    """The page of all datasets.

    Everything is in the one file; it asks each dataset's gallery for its picture when it comes into view.

    Args:
        datasets: ``id``, ``images``, the number of them, ``label_version``, ``image_type``, ``label_type``,
            ``classes``, ``projects`` and ``note`` of each.
    """
    script = page_file("theme.js") + page_file("catalog.js")
    digest = base64.b64encode(hashlib.sha256(script).digest()).decode()
    style = page_file("gallery.css").decode() + page_file("catalog.css").decode()
    return _filled("catalog.html", style=style, script=script.decode(), digest=digest, data=_in_script(datasets))


def _filled(name: str, **values: str) -> bytes:
    """A page with each ``@NAME@`` in it replaced. What stands in for one is not looked through again."""
    parts = page_file(name).decode().split("@")
    known = {key.upper(): value for key, value in values.items()}
    return "".join(known.get(part, part) for part in parts).encode()


def _in_script(document: Any) -> str:
    """JSON that can stand between the tags of a script: ``<`` would end it, whatever it is part of."""
    return encode_ascii_json(document).decode().replace("<", "\\u003c")
