"""The interface of views: a dataset in the layout that a tool expects, where that is not the layout of its directory.

labelme looks for ``x.json`` beside ``x.jpg``, which is the house annotation's name in a dataset's directory; roLabelImg
looks for ``x.xml``. In a view an image has at most one annotation, under the name that its tool looks for. Whether a
view is a directory of a mount or a folder that was copied, it says itself where each file goes: real directories, no
links, since tools resolve these and then miss what lies beside.
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import orjson

from imgsyncfs.catalog.rows import DatasetLabelsRow
from imgsyncfs.formats.contract import FormatDescription, Loss

if TYPE_CHECKING:
    # Not imported otherwise: numpy comes with it, and a mount's start need not wait for that.
    from imgsyncfs.catalog.listing import ImageValues, Listing
    from imgsyncfs.catalog.listing.columns import Column
    from imgsyncfs.formats.dataset_documents.contract import DocumentEntry, LossTally
    from imgsyncfs.library.rewritten_annotations import RewrittenAnnotations
    from imgsyncfs.pictures.kinds import PictureKind


class Directory(NamedTuple):
    """A directory of a view.

    Attributes:
        parent: the place of the directory that it is in; of the first one, its own.
        name: its own name; empty for the first one, which bears the dataset's.
    """

    parent: int
    name: bytes


_TOP = (Directory(0, b""),)

NOWHERE = -1
"""Stands for the place of the directory of an image that is not in a view."""


@dataclass(frozen=True)
class Layout:
    """Where the files of one revision of a dataset are in a view.

    Attributes:
        directories: the first is the dataset's own.
        images: the place of the directory of each image, by its index in the listing, or `NOWHERE`; None if all are in
            the first.
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


def without_images(listing: Listing) -> Layout:
    """The layout of a view in which no image is."""
    # Late, as above.
    import numpy as np

    return Layout(images=np.broadcast_to(np.int8(NOWHERE), (len(listing),)))


@dataclass(frozen=True)
class DatasetFacts:
    """What a view depends on beside the listing.

    Attributes:
        classes: of the dataset, in its order: a class's place is its number for trainers.
        splits: the `imgsyncfs.annotations.splits.Split` of each image, by its index in the listing, uint8; None where
            the view has no splits.
        values: the value of each image, for a view that depends on it.
    """

    classes: tuple[str, ...] = ()
    splits: Column | None = None
    values: ImageValues | None = None

    def to_bytes(self) -> bytes:
        """For another process; see `from_bytes`."""
        # Late, as above.
        import numpy as np

        parts = {"classes": np.frombuffer(orjson.dumps(self.classes), np.uint8)}
        if self.splits is not None:
            parts["splits"] = self.splits
        if self.values is not None:
            parts["values"] = np.frombuffer(self.values.to_bytes(), np.uint8)
        target = io.BytesIO()
        np.savez(target, **parts)  # type: ignore[arg-type]  # numpy's stubs take them for its options
        return target.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> DatasetFacts:
        """Back from `to_bytes`."""
        # Late, as above.
        import numpy as np

        from imgsyncfs.catalog.listing import ImageValues

        with np.load(io.BytesIO(content), allow_pickle=False) as parts:
            return cls(
                tuple(orjson.loads(parts["classes"].tobytes())),
                parts.get("splits"),
                ImageValues.from_bytes(parts["values"].tobytes()) if "values" in parts else None,
            )


class FilePart(NamedTuple):
    """A part of a stored file of the dataset.

    Attributes:
        kind: of the file, an image or an annotation, as in `imgsyncfs.library.numbers`.
        image: index of its image in the listing.
        offset: in the file, in bytes.
        length: in bytes.
    """

    kind: int
    image: int
    offset: int
    length: int


class Assembly(ABC):
    """A file that is put together from files of the dataset when it is read; nothing of it is kept."""

    @property
    @abstractmethod
    def byte_count(self) -> int:
        """Its length in bytes, known from the listing and from what the document needs."""

    @abstractmethod
    def parts(self, offset: int, size: int) -> Iterator[bytes | FilePart]:
        """What it is made of from an offset on.

        Args:
            offset: in bytes.
            size: how many bytes.

        Returns:
            The parts in their order: that many bytes together, fewer only where the file ends.
        """


class Document(NamedTuple):
    """A file about the dataset as a whole.

    A short one is made when somebody looks at it. One that all annotations have to be read for is written by a process
    of its own, and who looks at it waits. One that holds files of the dataset is put together when it is read.

    Attributes:
        directory: the place of its directory.
        name: its own name.
        make: gives the content of a short one.
        write: gives the chunks of a long one, from its images, the classes, and a tally of what it does not show.
        split: the `imgsyncfs.annotations.splits.Split` of the images that a long one is about; None for all.
        assembly: what one is put together from.
        images: the images that a long one is about, by their indexes in the listing; None for all.
        rewritten: what is known from a long one when it has been written, and what one that is put together needs.
    """

    directory: int
    name: bytes
    make: Callable[[], bytes] | None = None
    write: Callable[[Iterable[DocumentEntry], Sequence[str], LossTally], Iterator[bytes]] | None = None
    split: int | None = None
    assembly: Assembly | None = None
    images: range | None = None
    rewritten: RewrittenAnnotations | None = None


class View(ABC):
    """A layout for a tool. The default has all files of a dataset in one directory.

    Attributes:
        name: how users call it.
        has_splits: whether images are divided into train, validation and test.
        has_labels: whether images have an annotation each; else documents have them all.
        has_values: whether it depends on the value of a classification of each image.
        label_name: which classification that is; None for the first of each image.
        takes_label: whether its parameter is the name of a classification.
        documents_version: goes up when its documents get another content for the same revision: they are kept.
    """

    name: str
    has_splits: bool = False
    has_labels: bool = True
    has_values: bool = False
    label_name: str | None = None
    takes_label: bool = False
    documents_version: int = 0

    @property
    def picture(self) -> PictureKind | None:
        """What it shows in place of the images; None, the default, for the images themselves."""
        return None

    @property
    def target(self) -> FormatDescription | None:
        """The format of the annotations, whose suffix follows an image's stem; None, the default, for the house's."""
        return None

    @property
    def longest_side(self) -> int | None:
        """To which annotations are scaled, since its pictures are; None, the default, for annotations as they are."""
        return None

    def with_parameter(self, parameter: str) -> View | None:  # noqa: ARG002 - for views that take one
        """The view that users call ``<name>:<parameter>``; None, the default, if this one takes no parameter.

        Raises:
            ConfigurationError: it takes one, and not this.
        """
        return None

    def shows(self, labels: DatasetLabelsRow | None) -> bool:  # noqa: ARG002 - for views that depend on them
        """Whether a dataset is in the view; by default all are.

        Args:
            labels: what the dataset's annotations say; None if nobody knows.
        """
        return True

    def losses(self, listing: Listing, facts: DatasetFacts) -> Sequence[Loss]:  # noqa: ARG002 - for layouts that have some
        """What the layout itself does not show of a dataset; by default nothing is missing."""
        return ()

    def layout(self, listing: Listing, facts: DatasetFacts) -> Layout:  # noqa: ARG002 - for layouts that depend on them
        """Where the files of a revision go; the same revision has the same layout on every machine."""
        return Layout()

    def documents(self, listing: Listing, layout: Layout, facts: DatasetFacts) -> Sequence[Document]:  # noqa: ARG002 - for views that have some
        """The files about the dataset as a whole; by default there are none."""
        return ()
