"""The view gallery: its files are known from the listing alone, and each image is in one script of shapes."""

from __future__ import annotations

import pytest

from imgsyncfs.catalog.listing import Listing, build_listing
from imgsyncfs.catalog.rows import DatasetRow, ImageRow
from imgsyncfs.library.views.contract import DatasetFacts, Document
from imgsyncfs.library.views.gallery import MOST_SCRIPTS, GalleryView

ROW = DatasetRow("d", "1.0.0", "rgb", ("person",), (), ("bbox",), 0, "", "file:///d", 1, 5)


def listing_of(count: int) -> Listing:
    images = [ImageRow(f"i{n:06d}", "jpg", 30, 40, 3, 100, "", f"b{n}", 0, n, "e", 7) for n in range(count)]
    return build_listing(ROW, images, [])


def documents(listing: Listing) -> dict[str, Document]:
    """By their paths."""
    view, facts = GalleryView(), DatasetFacts()
    layout = view.layout(listing, facts)
    return {
        f"{layout.path(each.directory).decode()}/{each.name.decode()}": each
        for each in view.documents(listing, layout, facts)
    }


@pytest.mark.parametrize(("count", "scripts"), [(0, 0), (1, 1), (250, 1), (251, 2), (10_000, 40), (80_000, 250)])
def test_each_image_is_in_one_script_of_shapes(count: int, scripts: int) -> None:
    runs = [each.images for name, each in documents(listing_of(count)).items() if name.startswith("data/shapes-")]
    assert len(runs) == scripts <= MOST_SCRIPTS
    assert [index for run in runs if run is not None for index in run] == list(range(count))


def test_the_picture_of_a_dataset_is_its_first_image() -> None:
    make = documents(listing_of(3))["data/cover.js"].make
    assert make is not None
    assert make() == b'imgsyncfsCover(["d","images/i000000.jpg"]);\n'


def test_a_dataset_without_images_has_no_picture() -> None:
    make = documents(listing_of(0))["data/cover.js"].make
    assert make is not None
    assert make() == b'imgsyncfsCover(["d",""]);\n'


def test_the_libraries_that_are_carried_come_with_their_licences() -> None:
    found = documents(listing_of(1))
    licences = found["page/vendor/LICENSES.txt"].make
    assert licences is not None
    for name, version in (("d3", "7.9.0"), ("@observablehq/plot", "0.6.17")):
        assert f"{name} {version} (ISC)" in licences().decode()
    for script, words in (("d3.min.js", b"d3js.org v7.9.0"), ("plot.umd.min.js", b"@observablehq/plot v0.6.17")):
        make = found[f"page/vendor/{script}"].make
        assert make is not None
        assert words in make()[:200]
