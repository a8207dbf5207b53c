"""Images and one document about all of them, or one for each split: COCO, CVAT for images, Hugging Face.

Source: the exports of Roboflow (``train/_annotations.coco.json`` beside the images), CVAT (``annotations.xml`` and
``images``; for COCO ``annotations/instances_default.json``), COCO itself (``annotations/instances_val2017.json``,
``val2017``), FiftyOne (``labels.json``, ``data``) and Hugging Face's image folders (``metadata.jsonl``).

A document names its images by paths that are relative to it, to ``images``, to the directory of a split, or to a folder
on somebody's machine: the image in the folder counts whose path has most of its last parts in common.
"""

from __future__ import annotations

import importlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PureWindowsPath
from typing import TYPE_CHECKING

from imgsyncfs.errors import AnnotationError, LayoutError, printable
from imgsyncfs.tools.layouts.contract import (
    SPLIT_NAMES,
    AnnotationEntry,
    FolderContents,
    FolderLayout,
    FoundImage,
    images_in,
)
from imgsyncfs.tools.layouts.tree import FolderTree, FoundFile, is_image, joined
from imgsyncfs.tools.pairing import LeftOut

if TYPE_CHECKING:
    # Late: numpy and lxml come with it, and folders without documents need none of it.
    from imgsyncfs.formats.dataset_documents.contract import DatasetDocument

IMAGE_DIRECTORIES = ("images", "data")
"""Where a document's images may be, beside its own directory and those of splits."""

_NAMED_MISSING = 3
"""How many images that are not there are named of each document."""

_BEGINNING_BYTES = 4096
"""So much of a document tells it from other files."""


@dataclass(frozen=True)
class DocumentLayout(FolderLayout):
    """Images and documents about them.

    Attributes:
        name: how users call it.
        title: the tool's name in prose.
        place: ``module:Class`` of the `DatasetDocument`.
        names: expressions for the names of documents, by the directory that they are looked for in: ``""`` the folder,
            ``"*"`` each directory in it that may be a split's, or the name of one.
        suffix: of any document, which the folder may have instead where somebody names the layout.
        sign: an expression that is found near the beginning of a document.
    """

    name: str
    title: str
    place: str
    names: Mapping[str, str]
    suffix: str
    sign: re.Pattern[bytes]

    def recognizes(self, tree: FolderTree, *, is_named: bool = False) -> bool:
        """Recognize a document by its name; where the layout is named, any one of its kind."""
        return bool(self._documents(tree) or (is_named and self._others(tree)))

    def read(self, tree: FolderTree) -> FolderContents:
        """Read the documents and find their images; see `FolderLayout.read`."""
        files = self._documents(tree) or self._others(tree)
        entries = [entry for file in files for entry in self._entries(tree, file)]
        index = _ImageIndex(tree, files)
        sources: defaultdict[str, list[AnnotationEntry]] = defaultdict(list)
        missing: defaultdict[str, list[str]] = defaultdict(list)
        for entry in entries:
            image = index.find(entry)
            if image is None:
                missing[entry.file.path].append(entry.reading.image.path)
            else:
                sources[image.path].append(entry)
        images = [FoundImage(file, tuple(sources[file.path])) for file in index.images(sources)]
        listed = ", ".join(printable(file.path) for file in files)
        notes = [f"it was read as {self.title} ({listed})"]
        return self.contents(tree, images, [_missing(path, names) for path, names in missing.items()], notes)

    @cached_property
    def _document(self) -> DatasetDocument:
        module, _, attribute = self.place.partition(":")
        made: DatasetDocument = getattr(importlib.import_module(module), attribute)()
        return made

    def _entries(self, tree: FolderTree, file: FoundFile) -> Iterator[AnnotationEntry]:
        try:
            for reading in self._document.read(tree.read(file)):
                yield AnnotationEntry(file, self._document, reading)
        except AnnotationError as error:
            raise LayoutError(f"{tree.folder / file.path} cannot be read as {self.title}: {error}.") from error

    def _documents(self, tree: FolderTree) -> list[FoundFile]:
        """The documents that have a usual name."""
        found = []
        for place, expression in self.names.items():
            directories = tree.directories() if place == "*" else [place] if tree.has_directory(place) else []
            for directory in directories:
                if place == "*" and directory.lower() not in SPLIT_NAMES:
                    continue
                found += [
                    file
                    for name, file in tree.files(directory).items()
                    if re.fullmatch(expression, name, re.IGNORECASE)
                ]
        return [file for file in found if self._is_document(tree, file)]

    def _others(self, tree: FolderTree) -> list[FoundFile]:
        """The only file of this kind in the folder or in ``annotations``."""
        for directory in ("", "annotations"):
            files = tree.files(directory) if tree.has_directory(directory) else {}
            found = [
                file
                for name, file in files.items()
                if name.lower().endswith(self.suffix) and self._is_document(tree, file)
            ]
            if len(found) == 1:
                return found
        return []

    def _is_document(self, tree: FolderTree, file: FoundFile) -> bool:
        return self.sign.search(tree.read(file, _BEGINNING_BYTES)) is not None


class _ImageIndex:
    """Finds the images that documents name.

    Args:
        tree: the folder.
        documents: the documents in it.
    """

    def __init__(self, tree: FolderTree, documents: Iterable[FoundFile]) -> None:
        self._tree = tree
        self._homes = dict.fromkeys(file.directory for file in documents)
        self._by_name: dict[str, list[FoundFile]] | None = None

    def find(self, entry: AnnotationEntry) -> FoundFile | None:
        """The image of an entry; None if there is none, or no telling which."""
        parts = [part for part in PureWindowsPath(entry.reading.image.path).parts if part not in ("/", "\\", "..")]
        if not parts:
            return None
        home, split = entry.file.directory, entry.reading.split
        exact = (
            joined(home, *parts),
            *(joined(*above, name, *parts) for name in IMAGE_DIRECTORIES for above in ((home,), ())),
            *(joined(home, *between, split, *parts) for between in (("images",), ()) if split),
        )
        found = next(filter(None, map(self._tree.find, exact)), None)
        if found is not None and is_image(found.name):
            return found
        alike = self._named(parts[-1])
        if not alike:
            return None
        common = {file.path: _common_parts(file.path.split("/"), parts) for file in alike}
        best = [file for file in alike if common[file.path] == max(common.values())]
        near = [file for file in best if home in (file.directory, "") or file.directory.startswith(f"{home}/")]
        return next((chosen[0] for chosen in (best, near) if len(chosen) == 1), None)

    def images(self, found: Iterable[str]) -> list[FoundFile]:
        """All images: those of documents, and those in the same directories that no document names."""
        paths = [*found]
        directories = dict.fromkeys([*self._homes, *(path.rpartition("/")[0] for path in paths)])
        for home in self._homes:
            for name in IMAGE_DIRECTORIES:
                place = joined(home, name)
                directories.update(dict.fromkeys(self._tree.below(place) if self._tree.has_directory(place) else ()))
        return images_in(self._tree, directories)

    def _named(self, name: str) -> Sequence[FoundFile]:
        if self._by_name is None:
            self._by_name = {}
            for file in images_in(self._tree, self._tree.below()):
                self._by_name.setdefault(file.name, []).append(file)
        return self._by_name.get(name, ())


def _common_parts(one: Sequence[str], other: Sequence[str]) -> int:
    """How many parts two paths have in common at their ends."""
    count = 0
    for a, b in zip(reversed(one), reversed(other), strict=False):
        if a != b:
            break
        count += 1
    return count


def _missing(document: str, names: Sequence[str]) -> LeftOut:
    more = ", …" if len(names) > _NAMED_MISSING else ""
    listed = ", ".join(printable(name) for name in names[:_NAMED_MISSING])
    reason = f"{len(names):,} of its images are not in the folder, or several have their names ({listed}{more})"
    return LeftOut(printable(document), f"{reason}; put them there, or leave it so")


_COCO_NAME = r"_annotations\.coco\.json"

COCO = DocumentLayout(
    "coco",
    "COCO",
    "imgsyncfs.formats.dataset_documents.coco:CocoDocument",
    {
        "": rf"{_COCO_NAME}|instances.*\.json|labels\.json",
        "*": _COCO_NAME,
        "annotations": r"instances.*\.json",
    },
    ".json",
    re.compile(rb'"(info|licenses|categories|images|annotations)"'),
)
CVAT = DocumentLayout(
    "cvat",
    "CVAT for images",
    "imgsyncfs.formats.dataset_documents.cvat:CvatDocument",
    {"": r"annotations\.xml"},
    ".xml",
    re.compile(rb"<annotations[\s>]"),
)
HUGGING_FACE = DocumentLayout(
    "hf",
    "Hugging Face",
    "imgsyncfs.formats.dataset_documents.hugging_face:HuggingFaceDocument",
    {"": r"metadata\.jsonl", "*": r"metadata\.jsonl"},
    ".jsonl",
    re.compile(rb'"objects"'),
)
