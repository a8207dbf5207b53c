"""The interface of layouts, and what reading a folder gives: images, each with the sources of its annotation."""

from __future__ import annotations

import posixpath
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from imgsyncfs.errors import LayoutError, printable
from imgsyncfs.formats.registry import FormatDescription
from imgsyncfs.tools.fingerprints import fingerprint
from imgsyncfs.tools.layouts.tree import FolderTree, FoundFile, is_image
from imgsyncfs.tools.pairing import LeftOut, stem_fault

if TYPE_CHECKING:
    # Late: numpy comes with it, and folders without documents need none of it.
    from imgsyncfs.formats.dataset_documents.contract import DatasetDocument, DocumentReading

SPLIT_NAMES = {"train": "train", "training": "train", "valid": "valid", "val": "valid", "validation": "valid"}
SPLIT_NAMES |= {"test": "test", "testing": "test"}
"""What tools call the directories of a split, to one name for each."""

_NAMED_TWINS = 3
"""How many pairs of images of one stem an error names."""


@dataclass(frozen=True, slots=True)
class AnnotationFile:
    """An annotation in a file of its own.

    Attributes:
        file: which one.
        format: of the file; None if its content is to tell.
        classes: names of the classes that have numbers in the file.
    """

    file: FoundFile
    format: FormatDescription | None = None
    classes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.file.path

    @property
    def fingerprint(self) -> str:
        """Changes with whatever its reading depends on."""
        if self.format is None:
            return self.file.fingerprint
        said = "\0".join((self.format.name, *self.classes)).encode(errors="backslashreplace")
        return f"{self.file.fingerprint}-{fingerprint(b'classes', said)}"


@dataclass(frozen=True, slots=True)
class AnnotationEntry:
    """An annotation that is an entry of a whole-dataset document.

    Attributes:
        file: the document.
        document: its kind.
        reading: what it says of the image.
    """

    file: FoundFile
    document: DatasetDocument
    reading: DocumentReading

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.file.path} ({self.reading.image.path})"

    @property
    def fingerprint(self) -> str:
        """Changes with what the document says of this image, not with the rest of it."""
        kind = type(self.document).__name__.encode()
        return fingerprint(b"entry", kind, self.name.encode(errors="surrogateescape"), repr(self.reading).encode())


AnnotationSource: TypeAlias = "AnnotationFile | AnnotationEntry"
"""Where the annotation of an image comes from."""


@dataclass(frozen=True, slots=True)
class FoundImage:
    """An image of a folder.

    Attributes:
        file: the image.
        sources: of its annotation, in the order in which they are believed; none if nobody has looked at it.
    """

    file: FoundFile
    sources: tuple[AnnotationSource, ...] = ()

    @property
    def stem(self) -> str:
        """Its name without extension."""
        return self.file.name.rpartition(".")[0]

    @property
    def ext(self) -> str:
        """Its extension without the dot, in the letter case it has."""
        return self.file.name.rpartition(".")[2]


@dataclass(frozen=True)
class FolderContents:
    """What a folder holds.

    Attributes:
        layout: the layout that it was read as.
        images: by stem, in the order of their characters; each stem once.
        left_out: files that go with no image, and images that cannot be taken.
        notes: what else there is to say, each a sentence without its full stop.
    """

    layout: FolderLayout
    images: tuple[FoundImage, ...]
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()


class FolderLayout(ABC):
    """How a tool arranges images and annotations in a folder.

    Attributes:
        name: how users call it; small letters.
        title: the tool's name in prose.
        is_beside: whether annotations are files beside their images.
    """

    name: str
    title: str
    is_beside: bool = False

    @abstractmethod
    def recognizes(self, tree: FolderTree, *, is_named: bool = False) -> bool:
        """Recognize a folder in this layout by a cheap look.

        Args:
            tree: the folder.
            is_named: whether somebody says that it is one: then less is enough.
        """

    @abstractmethod
    def read(self, tree: FolderTree) -> FolderContents:
        """Read a folder in this layout.

        Raises:
            LayoutError: it contradicts itself, or lacks what its annotations need.
            OSError: it cannot be read.
        """

    def contents(
        self,
        tree: FolderTree,
        images: Iterable[FoundImage],
        left_out: Sequence[LeftOut] = (),
        notes: Sequence[str] = (),
    ) -> FolderContents:
        """Put together what was found in directories.

        Args:
            tree: the folder.
            images: each file once, in any order.
            left_out: as of `FolderContents`.
            notes: likewise; a note about splits is added.

        Raises:
            LayoutError: two images have one stem.
        """
        found: dict[str, FoundImage] = {}
        twins: list[str] = []
        faults: list[LeftOut] = []
        for image in sorted(images, key=lambda image: (image.stem, image.file.path)):
            fault = stem_fault(image.stem)
            if fault is not None:
                faults.append(LeftOut(printable(image.file.path), fault))
            elif image.stem in found:
                twins.append(f"{printable(found[image.stem].file.path)} and {printable(image.file.path)}")
            else:
                found[image.stem] = image
        if twins:
            more = f"; and {len(twins) - _NAMED_TWINS} more" if len(twins) > _NAMED_TWINS else ""
            raise LayoutError(
                f"Images in {tree.folder} have one name, and a dataset has each name once: "
                f"{'; '.join(twins[:_NAMED_TWINS])}{more}. Rename them, or take each directory by itself."
            )
        taken = {image.file.path for image in found.values()}
        named = {entry.path for entry in (*left_out, *faults)}
        faults += [
            LeftOut(printable(file.path), f"images are elsewhere in the layout of {self.title}; put it there")
            for file in images_in(tree, [""])
            if file.path not in taken and printable(file.path) not in named
        ]
        ordered = sorted([*left_out, *faults], key=lambda entry: entry.path)
        return FolderContents(self, tuple(found.values()), tuple(ordered), (*notes, *split_note(found.values())))


def images_in(tree: FolderTree, directories: Iterable[str]) -> list[FoundFile]:
    """The images in some directories, not below them."""
    return [file for path in directories for name, file in tree.files(path).items() if is_image(name)]


def split_of(path: str) -> str:
    """The split that a path within a folder names; empty if it names none."""
    parts = [SPLIT_NAMES.get(part.lower(), "") for part in posixpath.dirname(path).split("/")]
    return next(filter(None, parts), "")


def split_note(images: Iterable[FoundImage]) -> list[str]:
    """Say that a folder's own division of its images is not taken over, if it has one."""
    counts = Counter(filter(None, (split_of(image.file.path) for image in images)))
    if len(counts) < 2:
        return []
    listed = ", ".join(f"{name} {counts[name]:,}" for name in dict.fromkeys(SPLIT_NAMES.values()) if counts[name])
    note = (
        f"the folder's own division of its images ({listed}) is not taken over: a catalog divides images by their "
        "names, as `imgsyncfs split` shows and changes"
    )
    return [note]
