"""A view with directories of its own: which files are where, by name and in listings that are read in pieces."""

from __future__ import annotations

import numpy as np
import pytest

from imgsyncfs.catalog.listing import Listing, build_listing
from imgsyncfs.catalog.rows import AnnotationRow, DatasetRow, ImageRow
from imgsyncfs.formats.registry import FORMATS, FormatDescription
from imgsyncfs.library.dataset_files import FileKey, FileSources, NodeNumbers
from imgsyncfs.library.nodes import FIRST_POSITION
from imgsyncfs.library.numbers import DOCUMENT, IMAGE, address
from imgsyncfs.library.view_files import LABEL, ViewFiles
from imgsyncfs.library.views.contract import DatasetFacts, Directory, Document, Layout, View

COUNT = 200
ROW = DatasetRow("d", "1.0.0", "rgb", ("person",), (), ("bbox",), COUNT, "", "file:///d", 1, 5)
TOP, TRAIN, TRAIN_IMAGES, TRAIN_LABELS, VALID, VALID_IMAGES, VALID_LABELS = range(7)


class SplitView(View):
    """Every fifth image in ``valid``, as trainers want it."""

    name = "split"

    @property
    def target(self) -> FormatDescription | None:
        return FORMATS["rolabelimg"]

    def layout(self, listing: Listing, facts: DatasetFacts) -> Layout:  # noqa: ARG002
        valid = np.arange(len(listing)) % 5 == 0
        return Layout(
            (
                Directory(TOP, b""),
                Directory(TOP, b"train"),
                Directory(TRAIN, b"images"),
                Directory(TRAIN, b"labels"),
                Directory(TOP, b"valid"),
                Directory(VALID, b"images"),
                Directory(VALID, b"labels"),
            ),
            np.where(valid, VALID_IMAGES, TRAIN_IMAGES),
            np.where(valid, VALID_LABELS, TRAIN_LABELS),
        )

    def documents(self, listing: Listing, layout: Layout, facts: DatasetFacts) -> list[Document]:  # noqa: ARG002
        return [
            Document(TOP, b"data.yaml", lambda: b"names: []\n"),
            Document(TRAIN_IMAGES, b"about.txt", f"{len(layout.directories)}".encode),
        ]


def image(index: int) -> ImageRow:
    return ImageRow(f"i{index:04d}", "jpg", 30, 40, 3, 100, "", f"b{index}", 0, index, "e", 7)


def annotation(index: int) -> AnnotationRow:
    return AnnotationRow(f"i{index:04d}", 1, 1, 50, "", f"a{index}", 0, "e", 8)


@pytest.fixture(scope="module")
def files() -> ViewFiles:
    # Every third image has no annotation.
    listing = build_listing(ROW, map(image, range(COUNT)), [annotation(each) for each in range(COUNT) if each % 3])
    nowhere: FileSources = FileSources(None, None, ())  # type: ignore[arg-type]  # nothing is read
    return ViewFiles(listing, SplitView(), nowhere)


def listed(files: ViewFiles, directory: int, *, at_once: int) -> list[str]:
    """The names in a directory, as the kernel reads them: so many at a time."""
    names: list[str] = []
    position = FIRST_POSITION
    while True:
        part: list[tuple[bytes, int]] = [(name, after) for name, _, after in files.directories_of(directory, position)]
        part += [(name, after) for name, _, _, after in files.entries_from(position, directory=directory)]
        if not part:
            return names
        names += [name.decode() for name, _ in part[:at_once]]
        position = part[:at_once][-1][1]


@pytest.mark.parametrize("at_once", [1, 2, 7, 1000])
def test_each_directory_lists_its_files_once_however_it_is_read(files: ViewFiles, at_once: int) -> None:
    indices = {TRAIN: [each for each in range(COUNT) if each % 5], VALID: [*range(0, COUNT, 5)]}
    assert listed(files, TOP, at_once=at_once) == ["train", "valid", "data.yaml"]
    for split in (TRAIN, VALID):
        assert listed(files, split, at_once=at_once) == ["images", "labels"]
        documents = ["about.txt"] if split == TRAIN else []
        images = [f"i{each:04d}.jpg" for each in indices[split]]
        assert listed(files, split + 1, at_once=at_once) == documents + images
        assert listed(files, split + 2, at_once=at_once) == [f"i{each:04d}.xml" for each in indices[split] if each % 3]


def test_a_file_is_found_in_its_directory_and_in_no_other(files: ViewFiles) -> None:
    for directory in range(7):
        assert files.find(b"i0010.jpg", directory) == (FileKey(IMAGE, 10) if directory == VALID_IMAGES else None)
        assert files.find(b"i0011.xml", directory) == (FileKey(LABEL, 11) if directory == TRAIN_LABELS else None)
    assert files.find(b"i0012.xml", TRAIN_LABELS) is None
    assert files.find(b"i0011.json", TRAIN_LABELS) is None
    assert files.find(b"i0011.png", TRAIN_IMAGES) is None


def test_directories_are_found_by_name_and_know_the_one_above(files: ViewFiles) -> None:
    assert files.child(TOP, b"valid") == VALID
    assert files.child(VALID, b"labels") == VALID_LABELS
    assert files.child(VALID, b"valid") is None
    assert files.parent(VALID_LABELS) == VALID
    assert files.parent(7) is None
    assert files.directory_name(VALID_LABELS) == b"valid/labels"


def test_each_file_has_its_name_and_its_directory(files: ViewFiles) -> None:
    assert (files.name(FileKey(IMAGE, 10)), files.directory_of(FileKey(IMAGE, 10))) == (b"i0010.jpg", VALID_IMAGES)
    assert (files.name(FileKey(LABEL, 11)), files.directory_of(FileKey(LABEL, 11))) == (b"i0011.xml", TRAIN_LABELS)
    assert files.has(FileKey(LABEL, 11))
    assert not files.has(FileKey(LABEL, 12))
    assert not files.has(FileKey(LABEL + 1, 11))


def test_a_document_of_the_dataset_is_made_when_somebody_looks_and_read_like_a_file(files: ViewFiles) -> None:
    key = files.find(b"data.yaml", TOP)
    assert key == FileKey(DOCUMENT, 0)
    assert files.find(b"data.yaml", TRAIN) is None
    assert files.attributes(key).size == 10
    assert files.read(key, 3, 4) == b"es: "
    numbers = NodeNumbers(3, files.listing)
    assert numbers.key(address(numbers.number(DOCUMENT, 1))) == FileKey(DOCUMENT, 1)
    assert not files.has(FileKey(DOCUMENT, 2))


class LossyView(SplitView):
    """One that cannot show everything."""

    name = "lossy"
    has_splits = True


def lossy(files: ViewFiles) -> ViewFiles:
    nowhere: FileSources = FileSources(None, None, ())  # type: ignore[arg-type]  # nothing is read
    return ViewFiles(files.listing, LossyView(), nowhere, missing=LookupError)


def test_losses_are_listed_at_the_top_once_they_are_known(files: ViewFiles) -> None:
    shown = lossy(files)
    assert "LOSSES.txt" not in listed(shown, TOP, at_once=1)
    shown.note_losses(has_losses=False)
    assert "LOSSES.txt" not in listed(shown, TOP, at_once=1)
    shown.note_losses(has_losses=True)
    assert listed(shown, TOP, at_once=1).count("LOSSES.txt") == 1
    assert "LOSSES.txt" not in listed(shown, TRAIN_IMAGES, at_once=7)


def test_losses_that_become_known_move_no_other_entry(files: ViewFiles) -> None:
    shown = lossy(files)

    def positions() -> dict[bytes, int]:
        return {name: after for name, _, _, after in shown.entries_from(FIRST_POSITION, directory=TOP)}

    before = positions()
    shown.note_losses(has_losses=True)
    after = positions()
    assert after.pop(b"LOSSES.txt") not in before.values()
    assert after == before


def test_whether_there_are_losses_is_asked_for_when_somebody_looks(files: ViewFiles) -> None:
    shown = lossy(files)
    key = shown.find(b"LOSSES.txt")
    assert key is not None
    assert not shown.is_certain(key)
    with pytest.raises(LookupError):
        shown.attributes(key)
    shown.note_losses(has_losses=False)
    assert shown.find(b"LOSSES.txt") is None
    with pytest.raises(FileNotFoundError):
        shown.attributes(key)


def test_a_view_that_is_copied_has_no_losses_of_its_own(files: ViewFiles) -> None:
    nowhere: FileSources = FileSources(None, None, ())  # type: ignore[arg-type]  # nothing is read
    assert ViewFiles(files.listing, LossyView(), nowhere).find(b"LOSSES.txt") is None
