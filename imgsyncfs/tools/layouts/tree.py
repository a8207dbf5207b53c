"""The files of a folder that is published or converted, directory by directory as they are asked for.

A folder with everything in one directory is listed once, whatever lies below it: nobody waits for what is not read.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from imgsyncfs.errors import printable
from imgsyncfs.pictures.images import IMAGE_EXTENSIONS
from imgsyncfs.tools.fingerprints import file_fingerprint
from imgsyncfs.tools.pairing import LeftOut

DEEPEST = 8
"""Directories further down are not looked at: links may lead round in circles."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file as the folder shows it.

    Attributes:
        path: within the folder, with slashes.
        byte_count: its length.
        modified_ns: when its content was last written, Unix nanoseconds.
        fingerprint: changes with the file's content, however its times were set.
    """

    path: str
    byte_count: int
    modified_ns: int
    fingerprint: str

    @property
    def name(self) -> str:
        """Its plain name."""
        return posixpath.basename(self.path)

    @property
    def directory(self) -> str:
        """The path of the directory that it is in; empty for the folder itself."""
        return posixpath.dirname(self.path)


@dataclass(frozen=True)
class _Directory:
    files: Mapping[str, FoundFile]
    directories: tuple[str, ...]
    left_out: tuple[LeftOut, ...]


class FolderTree:
    """What a folder holds. Paths within it have slashes, and the folder's own is empty.

    All methods raise OSError for a directory that cannot be listed, or a file that cannot be read.

    Args:
        folder: its path.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[str, _Directory] = {}

    def files(self, directory: str = "") -> Mapping[str, FoundFile]:
        """The ordinary files in a directory, by their names; none if there is no such directory."""
        return self._directory(directory).files

    def directories(self, directory: str = "") -> tuple[str, ...]:
        """The names of the directories in a directory, in order; hidden ones too."""
        return self._directory(directory).directories

    def left_out(self, directory: str = "") -> tuple[LeftOut, ...]:
        """What lies in a directory and is neither a file nor a directory, or cannot be looked at."""
        return self._directory(directory).left_out

    def has_directory(self, path: str) -> bool:
        """Whether there is such a directory."""
        parent, name = posixpath.split(path)
        return not path or (name in self.directories(parent) if not parent or self.has_directory(parent) else False)

    def find(self, path: str) -> FoundFile | None:
        """The file of a path; None if there is none."""
        directory, name = posixpath.split(path)
        return self.files(directory).get(name) if self.has_directory(directory) else None

    def below(self, directory: str = "") -> Iterator[str]:
        """The paths of a directory and of all below it, in order; hidden ones are passed over."""
        if directory.count("/") >= DEEPEST:
            return
        yield directory
        for name in self.directories(directory):
            if not name.startswith("."):
                yield from self.below(posixpath.join(directory, name))

    def read(self, file: FoundFile, byte_count: int = -1) -> bytes:
        """The content of a file, or so much of its beginning."""
        with (self.folder / file.path).open("rb") as stream:
            return stream.read(byte_count)

    def _directory(self, path: str) -> _Directory:
        known = self._known.get(path)
        if known is None:
            known = self._known[path] = self._listed(path)
        return known

    def _listed(self, path: str) -> _Directory:
        files: dict[str, FoundFile] = {}
        directories: list[str] = []
        left_out: list[LeftOut] = []
        with os.scandir(self.folder / path) as entries:
            for entry in entries:
                place = posixpath.join(path, entry.name)
                try:
                    if entry.is_dir():
                        directories.append(entry.name)
                        continue
                    status = entry.stat()
                    is_file = entry.is_file()
                except OSError as error:
                    reason = f"it cannot be looked at ({error.strerror}); check the link and its rights"
                    left_out.append(LeftOut(printable(place), reason))
                    continue
                if not is_file:
                    left_out.append(LeftOut(printable(place), "it is no ordinary file"))
                    continue
                # The time of the last change of any kind is in it as well: copying with the times kept hides from the
                # other one.
                fingerprint = f"{file_fingerprint(self.folder / place, status)}-{status.st_ctime_ns:x}"
                files[entry.name] = FoundFile(place, status.st_size, status.st_mtime_ns, fingerprint)
        return _Directory(dict(sorted(files.items())), tuple(sorted(directories)), tuple(left_out))


def joined(*parts: str) -> str:
    """A path within a folder, from its parts; what leads out of the folder begins with two dots."""
    path = posixpath.normpath(posixpath.join("", *parts))
    return "" if path == "." else path


def is_image(name: str) -> bool:
    """Whether a file is an image by its name."""
    stem, dot, ext = name.rpartition(".")
    return bool(stem and dot) and ext.lower() in IMAGE_EXTENSIONS
