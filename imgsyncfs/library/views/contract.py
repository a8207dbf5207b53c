"""The interface of views: a dataset in the layout that a tool expects, where that is not the layout of its directory.

labelme looks for ``x.json`` beside ``x.jpg``, which is the house annotation's name in a dataset's directory; roLabelImg
looks for ``x.xml``. In a view an image has at most one annotation, under the name that its tool looks for. Whether a
view is a directory of a mount or a folder that was copied, it says itself where each file goes: real directories, no
links, since tools resolve these and then miss what lies beside.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from imgsyncfs.formats.contract import FormatDescription

if TYPE_CHECKING:
    # Not imported otherwise: numpy comes with it, and a mount's start need not wait for that.
    from imgsyncfs.catalog.listing import Listing
    from imgsyncfs.catalog.listing.columns import Column
    from imgsyncfs.formats.dataset_documents.contract import DocumentEntry, LossTally


class Directory(NamedTuple):
    """A directory of a view.

    Attributes:
        parent: the place of the directory that it is in; of the first one, its own.
        name: its own name; empty for the first one, which bears the dataset's.
    """

    parent: int
    name: bytes


_TOP = (Directory(0, b""),)


@dataclass(frozen=True)
class Layout:
    """Where the files of one revision of a dataset are in a view.

    Attributes:
        directories: the first is the dataset's own.
        images: the place of the directory of each image, by its index in the listing; None if all are in the first.
        labels: likewise of the annotations.
    """

    directories: tuple[Directory, ...] = _TOP
    images: Column | None = None
    labels: Column | None = None

    def image_directory(self, index: int) -> int:
        """The place of the directory that an image is in."""
        return 0 if self.images is None else int(self.images[index])

    def label_directory(self, index: int) -> int:
        """The place of the directory that an image's annotation is in."""
        return 0 if self.labels is None else int(self.labels[index])

    def path(self, place: int) -> bytes:
        """The path of a directory within the dataset's; empty for that itself."""
        parts = []
        while place:
            parent, name = self.directories[place]
            parts.append(name)
            place = parent
        return b"/".join(reversed(parts))


@dataclass(frozen=True)
class DatasetFacts:
    """What a view depends on beside the listing.

    Attributes:
        classes: of the dataset, in its order: a class's place is its number for trainers.
        splits: the `imgsyncfs.annotations.splits.Split` of each image, by its index in the listing, uint8; None where
            the view has no splits.
    """

    classes: tuple[str, ...] = ()
    splits: Column | None = None


def splits_of(content: bytes) -> Column:
    """The `DatasetFacts.splits` of their bytes, which another process has sent."""
    # Late, as above.
    import numpy as np

    return np.frombuffer(content, np.uint8)


class Document(NamedTuple):
    """A file about the dataset as a whole.

    A short one is made when somebody looks at it. One that all annotations have to be read for is written by a process
    of its own, and who looks at it waits.

    Attributes:
        directory: the place of its directory.
        name: its own name.
        make: gives the content of a short one.
        write: gives the chunks of a long one, from its images, the classes, and a tally of what it does not show.
        split: the `imgsyncfs.annotations.splits.Split` of the images that a long one is about; None for all.
        images: the images that a long one is about, by their indexes in the listing; None for all.
    """

    directory: int
    name: bytes
    make: Callable[[], bytes] | None = None
    write: Callable[[Iterable[DocumentEntry], Sequence[str], LossTally], Iterator[bytes]] | None = None
    split: int | None = None
    images: range | None = None


class View(ABC):
    """A layout for a tool. The default has all files of a dataset in one directory.

    Attributes:
        name: how users call it.
        has_splits: whether images are divided into train, validation and test.
        has_labels: whether images have an annotation each; else documents have them all.
    """

    name: str
    has_splits: bool = False
    has_labels: bool = True

    @property
    def target(self) -> FormatDescription | None:
        """The format of the annotations, whose suffix follows an image's stem; None, the default, for the house's."""
        return None

    def layout(self, listing: Listing, facts: DatasetFacts) -> Layout:  # noqa: ARG002 - for layouts that depend on them
        """Where the files of a revision go; the same revision has the same layout on every machine."""
        return Layout()

    def documents(self, listing: Listing, layout: Layout, facts: DatasetFacts) -> Sequence[Document]:  # noqa: ARG002 - for views that have some
        """The files about the dataset as a whole; by default there are none."""
        return ()
