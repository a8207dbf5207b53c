"""Node numbers: 64 bits that say where a node is, so that nothing needs to be remembered of a look-up.

=========  ====================================================================================================
bits       meaning
=========  ====================================================================================================
63         0: some programs read inode numbers as signed
62         1 for a node that is named and not in a dataset: bits 0 to 60 are a digest of its path and content
61         with bit 62: the node is the coordinator's, a control file or their directory
40 to 61   without bit 62: the dataset's number, from 1; 0 for the root
6 to 39    the file's number (`imgsyncfs.catalog.listing.numbering`)
0 to 5     the kind of file: 0 a directory, 1 the image, 2 its annotation, from 3 on a sibling, 61 its annotation as a
           selection shows it; in a view 62 is a picture, 63 a document
=========  ====================================================================================================

A dataset's own directory has the file's number 0; in a view, the directories in it have others. A dataset has a number
for each view that it is looked at in, besides that of its directory.

The root is 1, as the kernel demands.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

ROOT = 1

DIRECTORY = 0
IMAGE = 1
ANNOTATION = 2
FIRST_SIBLING = 3
REWRITTEN = 61
"""An annotation with other names for classes, as a selection has them; it has the annotation's file number."""

PICTURE = 62
"""A picture that a view shows in place of an image; it has the image's file number."""

DOCUMENT = 63
"""A file about the dataset as a whole, in a view; its file number is its place among those of the view."""

KIND_BITS = 6
FILE_BITS = 34
DATASET_BITS = 22

MOST_DATASETS = (1 << DATASET_BITS) - 1
MOST_FILES = 1 << FILE_BITS

NAMED = 1 << 62
CONTROL = 1 << 61

_KIND_MASK = (1 << KIND_BITS) - 1
_FILE_MASK = (1 << FILE_BITS) - 1
_DATASET_SHIFT = KIND_BITS + FILE_BITS


class FileAddress(NamedTuple):
    """What the number of a node in a dataset says.

    Attributes:
        dataset: the dataset's number.
        file: the file's number among those of its kind.
        kind: `DIRECTORY`, `IMAGE`, `ANNOTATION`, or from `FIRST_SIBLING` on.
    """

    dataset: int
    file: int
    kind: int


def dataset_number(dataset: int) -> int:
    """The node number of a dataset's directory."""
    return dataset << _DATASET_SHIFT


def file_number(dataset: int, file: int, kind: int) -> int:
    """The node number of a file in a dataset; see `FileAddress`."""
    return (dataset << _DATASET_SHIFT) | (file << KIND_BITS) | kind


def address(number: int) -> FileAddress:
    """What a number says that is neither the root's nor a named node's."""
    return FileAddress(number >> _DATASET_SHIFT, (number >> KIND_BITS) & _FILE_MASK, number & _KIND_MASK)


def is_above_files(number: int) -> bool:
    """Whether a number is that of a directory or symlink above the datasets' files, a dataset's own directory included.

    Those are nodes of the tree (`imgsyncfs.library.tree`); all others are in a dataset.
    """
    return number & NAMED > 0 or number == ROOT or number & ((1 << _DATASET_SHIFT) - 1) == 0


def named_number(path: bytes, content: bytes, *, is_control: bool = False) -> int:
    """The node number of something outside the datasets.

    Args:
        path: within the mount.
        content: what tells this content from another under the same path.
        is_control: whether the coordinator answers for it.
    """
    digest = hashlib.blake2b(path + b"\0" + content, digest_size=8).digest()
    number = int.from_bytes(digest, "little") & (CONTROL - 1)
    return NAMED | number | (CONTROL if is_control else 0)
