"""A real notebook, run by Jupyter's kernel and saved as a page: what people see of datasets and images."""

from __future__ import annotations

import base64
import io
import subprocess
import sys

import lxml.html
import numpy as np
import orjson
import pytest
from lxml.etree import _Element
from PIL import Image
from support.mounting import Workplace

from imgsyncfs.tools.demo import make_demo

FISHEYE = "original_20200207_fisheye_rbbox"

PERSON = (74, 222, 80)
"""The colour in which this class is drawn."""

CELLS = (
    "import imgsyncfs\n\ncatalog = imgsyncfs.connect()\ncatalog.datasets",
    f"dataset = catalog.datasets['{FISHEYE}']\ndataset",
    f"dataset['{FISHEYE}_00079']",
    "list(dataset)",
    "from imgsyncfs import ImageSynchronizer\n\nsync = ImageSynchronizer.synchronizer()",
    f"sync.subscribe(['{FISHEYE}'])\nsync.update_subscription('copies')",
    "catalog.close()",
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> list[_Element]:
    """What the page shows below each cell that shows something."""
    folder = tmp_path_factory.mktemp("notebook")
    workplace = Workplace(str(make_demo(folder / "demo").catalog), folder)
    empty: dict[str, object] = {"cell_type": "code", "metadata": {}, "execution_count": None, "outputs": []}
    cells = [{**empty, "source": cell} for cell in CELLS]
    notebook = folder / "notebook.ipynb"
    notebook.write_bytes(orjson.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}))
    done = subprocess.run(
        [sys.executable, "-m", "nbconvert", "--execute", "--to", "html", "--stdout", notebook],
        env=workplace.variables(),
        capture_output=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    divisions = lxml.html.fromstring(done.stdout.decode()).iterfind(".//div")
    return [each for each in divisions if "jp-OutputArea" in each.get("class", "").split()]


def test_the_datasets_are_a_table_with_a_row_each(page: list[_Element]) -> None:
    rows = page[0].findall(".//tr")
    assert len(rows) == 1 + 22
    assert FISHEYE in [row.findtext("td") for row in rows]


def test_a_dataset_is_a_table_of_what_the_catalog_says(page: list[_Element]) -> None:
    shown = {row.findtext("th"): row.findtext("td") for row in page[1].findall(".//tr")}
    assert (shown["dataset_id"], shown["size"]) == (FISHEYE, "4")


def test_an_image_is_a_picture_that_fits_the_page_and_has_its_boxes_in_it(page: list[_Element]) -> None:
    [image] = page[2].findall(".//img")
    picture = Image.open(io.BytesIO(base64.b64decode(image.get("src", "").partition("base64,")[2])))
    assert picture.size == (800, 800)
    assert np.all(np.asarray(picture) == PERSON, axis=2).sum() > 1000


def test_many_images_are_a_line_each(page: list[_Element]) -> None:
    assert "".join(map(str, page[3].itertext())).count("LabelledImage(") == 4


def test_a_synchronization_shows_no_empty_lines(page: list[_Element]) -> None:
    # A browser shows a carriage return in a page as a line's end.
    parts = ["".join(map(str, part.itertext())).rstrip("\n") for part in page[5].iterfind(".//pre")]
    lines = [line for part in parts for line in part.splitlines()]
    assert all(line.strip() for line in lines)
    assert lines[-1] == "Synchronization complete!"
