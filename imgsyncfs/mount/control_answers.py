"""Answers for the control files (`imgsyncfs.library.control_files`) and for ``df``, as messages to the kernel."""

from __future__ import annotations

import errno
import itertools

from imgsyncfs.library.control_files import CONTROL_NUMBER, ControlFiles
from imgsyncfs.library.library import Library
from imgsyncfs.library.nodes import DIRECTORY_MODE, FILE_MODE, Attributes, Owner
from imgsyncfs.library.numbers import ROOT
from imgsyncfs.mount import protocol


class ControlAnswers:
    """Answers requests about control files. Any thread may use it; `df` may wait for the database.

    Args:
        library: the catalog's datasets.
        control: the files.
        owner: whom everything belongs to.
    """

    def __init__(self, library: Library, control: ControlFiles, owner: Owner) -> None:
        self._library = library
        self._control = control
        self._owner = owner

    def answer(self, request: bytes) -> bytes:
        """The answer to a request; for ``refresh`` itself, whoever refreshes has it.

        Args:
            request: as the kernel sent it.

        Raises:
            OSError: the file is too old to be kept, or is no directory.
        """
        _, operation, unique, number, *_ = protocol.IN_HEADER.unpack_from(request)
        if operation == protocol.STATFS:
            rows = self._library.rows.values()
            total_bytes = self._library.volume.total_bytes()
            return protocol.statfs_answer(unique, total_bytes=total_bytes, files=sum(row.size for row in rows))
        if operation == protocol.LOOKUP:
            return self._look_up(unique, number, request[protocol.IN_HEADER.size : -1])
        if operation == protocol.GETATTR:
            attributes = self._directory() if number == CONTROL_NUMBER else self._control.attributes(number)
            if attributes is None:
                raise OSError(errno.ESTALE, "this file is gone")
            return protocol.attr_answer(unique, number, attributes, self._owner)
        _, offset, size, *_ = protocol.READ_IN.unpack_from(request, protocol.IN_HEADER.size)
        if operation == protocol.READDIR and number == CONTROL_NUMBER:
            return protocol.answer(unique, self._entries(offset, size))
        content = self._control.read(number, offset, size) if operation == protocol.READ else None
        if content is None:
            raise OSError(errno.ESTALE if operation == protocol.READ else errno.ENOTDIR, "this file is gone")
        return protocol.answer(unique, content)

    def _look_up(self, unique: int, number: int, name: bytes) -> bytes:
        if name == b"..":
            return protocol.entry_answer(unique, ROOT, Attributes(DIRECTORY_MODE, 0, self._control.since), self._owner)
        if name == b".":
            attributes = self._directory() if number == CONTROL_NUMBER else self._control.attributes(number)
            if attributes is None:
                raise OSError(errno.ESTALE, "this file is gone")
            return protocol.entry_answer(unique, number, attributes, self._owner)
        file = self._control.look_up(name)
        if file is None:
            return protocol.absence_answer(unique)
        valid = protocol.FOREVER if file.lasts else 0
        return protocol.entry_answer(unique, file.number, file.attributes, self._owner, entry_valid=valid)

    def _directory(self) -> Attributes:
        return Attributes(DIRECTORY_MODE, 0, self._control.since)

    def _entries(self, position: int, size: int) -> bytes:
        names = [(b".", DIRECTORY_MODE), (b"..", DIRECTORY_MODE), *((name, FILE_MODE) for name in self._control.names)]
        parts, taken = [], 0
        for place, (name, mode) in enumerate(itertools.islice(names, position, None), position):
            # Their numbers change with each look-up; any that is not 0 will do here.
            number = CONTROL_NUMBER if name == b"." else ROOT if name == b".." else CONTROL_NUMBER + place
            part = protocol.directory_entry(number, place + 1, name, mode)
            taken += len(part)
            if taken > size:
                break
            parts.append(part)
        return b"".join(parts)
