"""Images in one directory, and their annotation files under the same names in another one: Pascal VOC and DOTA.

Source: the development kits of VOC 2012 and DOTA, mmrotate's ``annfiles``, and CVAT's exports of VOC, in which each
directory has one for each subset.
"""

from __future__ import annotations

import posixpath
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping

from imgsyncfs.errors import printable
from imgsyncfs.formats.registry import FORMATS, FormatDescription
from imgsyncfs.tools.layouts.beside import BesideLayout
from imgsyncfs.tools.layouts.contract import SPLIT_NAMES, AnnotationFile, FolderContents, FolderLayout, FoundImage
from imgsyncfs.tools.layouts.tree import FolderTree, FoundFile, is_image, joined
from imgsyncfs.tools.pairing import LeftOut

NO_IMAGE = "there is no image of this name; put the image in its place, or remove it"

_IGNORED_ENDINGS = (".npy", ".cache", ".db", ".txt")
"""What tools keep beside images: decoded ones, tables of labels, lists."""


class SideBySideLayout(FolderLayout):
    """Images and annotations in two directories.

    Attributes:
        format: of the annotations.
    """

    format: FormatDescription

    @abstractmethod
    def pairs(self, tree: FolderTree) -> Iterator[tuple[str, str]]:
        """The directories of images, and for each the one that has their annotations."""

    def recognizes(self, tree: FolderTree, *, is_named: bool = False) -> bool:
        """Recognize the two directories; where it is named, annotations beside the images as well."""
        return any(True for _ in self.pairs(tree)) or (is_named and self._beside.recognizes(tree))

    def read(self, tree: FolderTree) -> FolderContents:
        """Pair images and annotations by name; see `FolderLayout.read`."""
        pairs = [*self.pairs(tree)]
        if not pairs:
            return self._beside.read(tree)
        images: list[FoundImage] = []
        left_out: list[LeftOut] = []
        for images_path, labels_path in pairs:
            found, others = paired(tree, images_path, labels_path, self.format.view_suffix)
            images += [
                FoundImage(image, () if label is None else (AnnotationFile(label, self.format),))
                for image, label in found
            ]
            left_out += others
        return self.contents(tree, images, left_out)

    @property
    def _beside(self) -> BesideLayout:
        return BesideLayout(self.format)


class VocLayout(SideBySideLayout):
    """``JPEGImages`` and ``Annotations``, perhaps below ``VOCdevkit/VOC2012``; or ``images`` and ``annotations``."""

    name = "voc"
    title = "Pascal VOC"
    format = FORMATS["voc"]

    def pairs(self, tree: FolderTree) -> Iterator[tuple[str, str]]:
        """See `SideBySideLayout.pairs`."""
        kits = [name for name in tree.directories() if name.lower() == "vocdevkit"]
        for kit in ["", *kits]:
            years = [name for name in tree.directories(kit) if name.lower().startswith("voc2")]
            for place in [kit, *(joined(kit, year) for year in years)]:
                for images, labels in (("jpegimages", "annotations"), ("images", "annotations")):
                    yield from _both(tree, place, images, (labels,), self.format.view_suffix)


class DotaLayout(SideBySideLayout):
    """``images`` and ``labelTxt``, or mmrotate's ``annfiles``; perhaps in a directory for each split."""

    name = "dota"
    title = "DOTA"
    format = FORMATS["dota"]

    def pairs(self, tree: FolderTree) -> Iterator[tuple[str, str]]:
        """See `SideBySideLayout.pairs`."""
        splits = [name for name in tree.directories() if name.lower() in SPLIT_NAMES]
        for place in ["", *splits]:
            yield from _both(tree, place, "images", ("labeltxt", "annfiles"), self.format.view_suffix)


def paired(
    tree: FolderTree, images_path: str, labels_path: str, suffix: str
) -> tuple[list[tuple[FoundFile, FoundFile | None]], list[LeftOut]]:
    """Pair the images in and below a directory with the files of the same path in another one.

    Args:
        tree: the folder.
        images_path: the directory of images.
        labels_path: the directory of annotation files, perhaps the same; its own directories have those of the other.
        suffix: of annotation files.

    Returns:
        The images, each with its annotation file if it has one; and what goes with no image.
    """
    found: list[tuple[FoundFile, FoundFile | None]] = []
    left_out: list[LeftOut] = []
    taken: set[str] = set()
    for directory in tree.below(images_path):
        beside = joined(labels_path, posixpath.relpath(directory or ".", images_path or "."))
        labels = tree.files(beside) if tree.has_directory(beside) else {}
        for name, file in tree.files(directory).items():
            if is_image(name):
                label = _label(labels, name.rpartition(".")[0], suffix)
                found.append((file, label))
                taken.update([] if label is None else [label.path])
            elif directory != beside and not name.startswith(".") and not name.lower().endswith(_IGNORED_ENDINGS):
                left_out.append(LeftOut(printable(file.path), "it is no image of a known kind"))
        left_out += tree.left_out(directory)
    return found, [*left_out, *orphans(tree, labels_path, suffix, taken)]


def orphans(tree: FolderTree, labels_path: str, suffix: str, taken: Iterable[str]) -> list[LeftOut]:
    """The annotation files in and below a directory that go with no image; `taken` are the paths of those that do."""
    known = {*taken}
    return [
        LeftOut(printable(file.path), NO_IMAGE)
        for directory in (tree.below(labels_path) if tree.has_directory(labels_path) else ())
        for name, file in tree.files(directory).items()
        if name.lower().endswith(suffix) and name.lower() != "classes.txt" and file.path not in known
    ]


def _label(labels: Mapping[str, FoundFile], stem: str, suffix: str) -> FoundFile | None:
    """The file of a stem; a suffix in capitals counts as well."""
    for ending in (suffix, suffix.upper()):
        if f"{stem}{ending}" in labels:
            return labels[f"{stem}{ending}"]
    return None


def _both(tree: FolderTree, place: str, images: str, labels: Iterable[str], suffix: str) -> Iterator[tuple[str, str]]:
    """The two directories of these names in another one, if both are there and annotations are in the second."""
    names = {name.lower(): name for name in tree.directories(place)}
    for label in labels:
        if images in names and label in names:
            labels_path = joined(place, names[label])
            if any(name.lower().endswith(suffix) for path in tree.below(labels_path) for name in tree.files(path)):
                yield joined(place, names[images]), labels_path
                return
