"""Look into a folder that is to be published: which images and annotations lie there. Reads no file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imgsyncfs.errors import PublishError
from imgsyncfs.tools.pairing import LeftOut, PairedNames, pair_names, printable
from imgsyncfs.tools.publish.findings import file_fingerprint

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file as the folder shows it.

    Attributes:
        name: its plain name.
        byte_count: its length.
        modified_ns: when its content was last written, Unix nanoseconds.
        fingerprint: changes with the file's content, however its times were set.
    """

    name: str
    byte_count: int
    modified_ns: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class FoundPair:
    """An image and the annotations beside it, as the folder shows them.

    Attributes:
        names: which files belong together.
        image: the image.
        annotations: in the order in which they are believed.
    """

    names: PairedNames
    image: FoundFile
    annotations: tuple[FoundFile, ...]


def scan_folder(folder: Path) -> tuple[list[FoundPair], list[LeftOut]]:
    """List a folder's images with their annotations.

    Args:
        folder: is not searched below its own level.

    Returns:
        The images by stem, in the order of their characters; and what is left out.

    Raises:
        PublishError: there is no such folder, or it cannot be listed.
    """
    files: dict[str, FoundFile] = {}
    left_out = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                found = _look_at(folder, entry)
                if isinstance(found, LeftOut):
                    left_out.append(found)
                else:
                    files[entry.name] = found
    except OSError as error:
        raise PublishError(
            f"The folder {folder} cannot be listed ({error.strerror}); check its path and rights."
        ) from error
    pairs, others = pair_names(files)
    found_pairs = [
        FoundPair(names, files[names.image], tuple(files[name] for name in names.annotations)) for names in pairs
    ]
    return found_pairs, sorted(left_out + others, key=lambda entry: entry.path)


def _look_at(folder: Path, entry: os.DirEntry[str]) -> FoundFile | LeftOut:
    try:
        if entry.is_dir():
            return LeftOut(
                printable(entry.name) + "/", "sub-folders are not searched; publish it under an id of its own"
            )
        status = entry.stat()
        if not entry.is_file():
            return LeftOut(printable(entry.name), "it is no ordinary file")
    except OSError as error:
        return LeftOut(
            printable(entry.name), f"it cannot be looked at ({error.strerror}); check the link and its rights"
        )
    # The time of the last change of any kind is in it as well: copying with the times kept hides from the other one.
    fingerprint = f"{file_fingerprint(folder / entry.name, status)}-{status.st_ctime_ns:x}"
    return FoundFile(entry.name, status.st_size, status.st_mtime_ns, fingerprint)
