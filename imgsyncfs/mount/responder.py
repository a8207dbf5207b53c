"""A responder: one process with one thread that reads the kernel's requests and answers them.

All that it needs lies in mapped listings, the tree of directories and the cache. What is not there yet it hands to the
coordinator, with the request, and takes the next one; the coordinator has the request tried again when it can be
answered. It is the only one that knows of waiting requests, so a responder that dies takes none with it.

The loop: requests are received without waiting. If there is none, the responder may ask on for a while before it
sleeps (`imgsyncfs.mount.polling`). Only one of those that sleep is woken for a request (EPOLLEXCLUSIVE).

One boundary: every exception becomes an errno here, and a line in the log of errors.
"""

from __future__ import annotations

import errno
import logging
import mmap
import os
import select
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from imgsyncfs.cache import CacheReader, OpenExtent, extents_folder
from imgsyncfs.fetching.contents import ContentReader, Piece
from imgsyncfs.library.dataset_files import DatasetFiles, FileKey, FileSources
from imgsyncfs.library.error_log import LOSS
from imgsyncfs.library.kept_renderings import SharedRenderings
from imgsyncfs.library.library import file_sources
from imgsyncfs.library.nodes import DIRECTORY_MODE, FILE_MODE, FIRST_POSITION, Attributes, Owner
from imgsyncfs.library.numbers import (
    CONTROL,
    DIRECTORY,
    NAMED,
    ROOT,
    address,
    dataset_number,
    file_number,
    is_above_files,
)
from imgsyncfs.library.tree import Tree, TreeChange, TreeNode
from imgsyncfs.library.views.contract import FilePart
from imgsyncfs.mount import protocol
from imgsyncfs.mount.answer_pipe import LEAST_BYTES, AnswerPipe
from imgsyncfs.mount.board import Board
from imgsyncfs.mount.cached_extents import CachedExtents, NotHere
from imgsyncfs.mount.errors import error_number, error_report
from imgsyncfs.mount.mapped_datasets import MappedDatasets, Revision, content_of
from imgsyncfs.mount.polling import Polling
from imgsyncfs.stores.allowed import check_allowed
from imgsyncfs.workers.messages import Message, receive, send

logger = logging.getLogger(__name__)

NOTE_SECONDS = 1.0
"""How often the coordinator is told which extents were used."""

MOST_USED_IN_MESSAGE = 200

REQUESTS_AT_ONCE = 8
"""Requests answered before the coordinator's messages are looked for."""

EXTENTS_AT_ONCE = 32
"""Extents that a request waits for at the same time: no more than are kept open if each is in memory."""


class Responder:
    """Answers requests.

    Args:
        number: of its slot on the board.
        device: descriptor of the kernel's device.
        connection: to the coordinator.
        board: shared with it.
        setup: ``cache_dir``, ``siblings``, ``owner`` and ``list_hidden`` of the mount.
    """

    def __init__(
        self, number: int, device: int, connection: socket.socket, board: Board, setup: dict[str, Any]
    ) -> None:
        self._device = device
        self._connection = connection
        self._board = board
        self._slot = board.slots[number]
        self._request = self._slot.request
        self._lists_hidden: bool = setup["list_hidden"]
        self._owner = Owner(*setup["owner"])
        self._cache = CacheReader(
            extents_folder(Path(setup["cache_dir"])), verified=board.verified, counts=self._slot.cache_counts
        )
        self._allowed: tuple[str, ...] = ()
        extents = CachedExtents(self._cache, lambda: self._board.reads_ahead, self._tell)
        contents = ContentReader(extents, lambda url: check_allowed(url, self._allowed))
        self._sources: FileSources = file_sources(
            contents, setup["siblings"], SharedRenderings(board.renderings), self._report_loss, is_limited=True
        )
        self._tree = Tree()
        self._datasets = MappedDatasets(self._sources)
        self._buffer = memoryview(mmap.mmap(-1, protocol.MOST_READ))
        self._pipe = AnswerPipe(device)
        self._head = bytearray(protocol.OUT_HEADER.size)
        self._answered = self._handled = 0
        self._tried: dict[str, Any] = {}
        self._has_begun = False
        self._pieces: dict[int, list[bytes]] = {}
        self._noted, self._answered_then = time.monotonic(), 0
        self._operations: dict[int, Callable[[int, int, int], None]] = {
            protocol.LOOKUP: self._look_up,
            protocol.GETATTR: self._getattr,
            protocol.READ: self._read,
            protocol.READDIR: self._readdir,
            protocol.READLINK: self._readlink,
            protocol.STATFS: self._statfs,
            protocol.INTERRUPT: self._interrupt,
        }

    def run(self) -> None:
        """Answer until the mount or the coordinator ends."""
        # Nothing is answered before the state is known.
        while not self._has_begun:
            message = receive(self._connection)
            if message is None:
                return
            self._handle(message)
        self._connection.setblocking(False)
        sleeping = select.epoll()
        sleeping.register(self._device, select.EPOLLIN | select.EPOLLEXCLUSIVE)
        sleeping.register(self._connection, select.EPOLLIN)
        polling = Polling()
        in_row = 0
        while True:
            length = self._next_request()
            if length < 0:
                return
            if length:
                polling.note_request()
                operation = self._answer(length)
                self._slot.put_down()
                polling.note_answer(operation)
                in_row += 1
            if in_row == REQUESTS_AT_ONCE:
                timeout: float | None = 0.0
            elif length or polling.goes_on():
                continue
            else:
                # Uses that were not told yet wake it once more; after that, an idle mount takes no time at all.
                timeout = NOTE_SECONDS if self._answered != self._answered_then else None
            self._note()
            in_row = 0
            for descriptor, _ in sleeping.poll(timeout):
                if descriptor == self._connection.fileno() and not self._receive_all():
                    return

    def _next_request(self) -> int:
        """Receive a request onto the board; returns its length, 0 if there is none, below 0 at the end of the mount."""
        try:
            return os.readv(self._device, [self._request])
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno == errno.ENODEV:
                self._tell({"ended": True})
                return -1
            if error.errno in {errno.EINTR, errno.ENOENT}:
                # The request was taken back before it could be received.
                return 0
            raise

    # Requests.

    def _answer(self, length: int) -> int:
        """Answer the request on the board; returns its operation."""
        operation: int
        _, operation, unique, node, *_ = protocol.IN_HEADER.unpack_from(self._request)
        self._answered += 1
        try:
            answer = self._operations.get(operation)
            if answer is not None and node & CONTROL and node & NAMED:
                self._hand_over(length)
            elif answer is not None:
                answer(unique, node, length)
            elif operation == protocol.DESTROY:
                self._write(protocol.answer(unique, b""))
            elif operation not in protocol.UNANSWERED:
                # OPEN and OPENDIR too: the kernel then opens everything by itself.
                self._write(protocol.refusal(unique, errno.ENOSYS))
        except NotHere as missing:
            self._send({**missing.wanted, **self._tried}, bytes(self._request[:length]))
        except Exception as error:  # noqa: BLE001  # the boundary: it becomes an errno, and a line in the log
            self._refuse(operation, unique, node, length, error)
        return operation

    def _refuse(self, operation: int, unique: int, node: int, length: int, error: Exception) -> None:
        name = protocol.OPERATION_NAMES.get(operation, "")
        report = error_report(error, self._path(operation, node, length), name)
        # Before the answer: whoever sees the error looks into the log.
        if report is not None:
            self._tell({"error": report})
        self._write(protocol.refusal(unique, error_number(error, name)))

    def _write(self, message: bytes) -> None:
        protocol.write_quietly(self._device, message)

    def _hand_over(self, length: int) -> None:
        self._send({"hand": True}, bytes(self._request[:length]))

    def _name(self, length: int) -> bytes:
        """The name that a look-up is for: what follows the header, without its NUL."""
        return bytes(self._request[protocol.IN_HEADER.size : length - 1])

    def _look_up(self, unique: int, parent: int, length: int) -> None:
        name = self._name(length)
        if name in {b".", b".."}:
            # Asked by whoever exports the mount over NFS, which knows nodes by their numbers alone.
            self._answer_entry(unique, parent if name == b"." else self._parent(parent))
            return
        if not is_above_files(parent):
            if not self._is_inner_directory(parent):
                raise OSError(errno.ENOTDIR, "no directory")
        elif number := self._children(parent).get(name):
            self._answer_entry(unique, number)
            return
        dataset = self._dataset_of(parent)
        if not dataset:
            self._write(protocol.absence_answer(unique))
            return
        revision = self._datasets.mapped(dataset).current
        directory = address(parent).file
        child = revision.files.child(directory, name)
        if child is not None:
            self._answer_entry(unique, file_number(dataset, child, DIRECTORY))
            return
        key = revision.files.find(name, directory)
        if key is None:
            self._write(protocol.absence_answer(unique))
            return
        number = revision.numbers.number(*key)
        self._datasets.note_found(number, revision, key)
        self._answer_file(unique, number, revision.files, key)

    def _answer_file(self, unique: int, number: int, files: DatasetFiles, key: FileKey) -> None:
        try:
            attributes = files.attributes(key)
            valid = protocol.FOREVER
        except NotHere:
            # Its size is missing, or even whether it is there. The directory is locked during a look-up, so the name is
            # given at once, and the kernel asks for the attributes.
            attributes, valid = Attributes(FILE_MODE, 0, files.modified_at(key)), 0
        lasting = protocol.FOREVER if files.is_certain(key) else 0
        answer = protocol.entry_answer(unique, number, attributes, self._owner, entry_valid=lasting, attr_valid=valid)
        self._write(answer)

    def _answer_entry(self, unique: int, number: int) -> None:
        self._write(protocol.entry_answer(unique, number, self._attributes(number), self._owner))

    def _parent(self, number: int) -> int:
        if is_above_files(number):
            return self._node(number).parent
        place = address(number)
        files = self._datasets.mapped(place.dataset).current.files
        if place.kind == DIRECTORY:
            above = files.parent(place.file) or 0
        else:
            revision, key = self._file(number)
            above = revision.files.directory_of(key)
        return file_number(place.dataset, above, DIRECTORY)

    def _is_inner_directory(self, number: int) -> bool:
        """Whether a node is a directory within a dataset's, in a view."""
        place = address(number)
        return (
            not is_above_files(number)
            and place.kind == DIRECTORY
            and self._datasets.mapped(place.dataset).current.files.parent(place.file) is not None
        )

    def _attributes(self, number: int) -> Attributes:
        if is_above_files(number):
            return self._node(number).attributes
        if self._is_inner_directory(number):
            listing = self._datasets.mapped(address(number).dataset).current.listing
            return Attributes(DIRECTORY_MODE, 0, listing.facts.updated_at)
        revision, key = self._file(number)
        return revision.files.attributes(key)

    def _getattr(self, unique: int, number: int, _length: int) -> None:
        self._write(protocol.attr_answer(unique, number, self._attributes(number), self._owner))

    def _read(self, unique: int, number: int, _length: int) -> None:
        _, offset, size, *_ = protocol.READ_IN.unpack_from(self._request, protocol.IN_HEADER.size)
        revision, key = self._file(number)
        size = min(size, protocol.MOST_READ)
        assembly = revision.files.assembly(key)
        if assembly is not None:
            parts = [*assembly.parts(offset, size)]
            pieces = self._places_of(number, revision, parts)
            if self._pipe.send(unique, pieces):
                return
            size = self._assemble(revision, parts, pieces)
        else:
            piece = revision.files.piece(key, offset, size) if size >= LEAST_BYTES else None
            if piece is not None and self._pipe.send(unique, (piece,)):
                return
            size = revision.files.read_into(key, offset, self._buffer[:size])
        protocol.OUT_HEADER.pack_into(self._head, 0, protocol.OUT_HEADER.size + size, 0, unique)
        try:
            os.writev(self._device, (self._head, self._buffer[:size]))
        except FileNotFoundError:
            logger.debug("Nobody waits for %d any more.", unique)

    def _places_of(self, number: int, revision: Revision, parts: Iterable[bytes | FilePart]) -> list[bytes | Piece]:
        """Where the parts of a file lie that is put together.

        Raises:
            NotHere: extents are not in the cache: all that are needed, so that they come at the same time.
        """
        missing: dict[str, NotHere] = {}
        found: list[bytes | Piece] = []
        for part in parts:
            if isinstance(part, bytes):
                found.append(part)
                continue
            try:
                found += revision.files.pieces(FileKey(part.kind, part.image), part.offset, part.length)
            except NotHere as one:
                missing.setdefault(one.extent, one)
                if len(missing) == EXTENTS_AT_ONCE:
                    break
        if missing:
            wanted = [one.wanted for one in missing.values()]
            places = [place for each in wanted for place in each["places"]]
            raise NotHere({**wanted[0], "places": places, "path": self._path_in_dataset(number)})
        return found

    def _assemble(self, revision: Revision, parts: Iterable[bytes | FilePart], pieces: Iterable[bytes | Piece]) -> int:
        """Put a part of a file together in the buffer; returns its length."""
        size = 0
        for piece in pieces:
            start, size = size, size + (len(piece) if isinstance(piece, bytes) else piece.length)
            room = self._buffer[start:size]
            if isinstance(piece, bytes):
                room[:] = piece
            elif piece.extent.read_into(piece.position, room) < piece.length:
                # Somebody cut a cached file short. Whoever reads the stored files one by one says of which blob it is.
                return self._read_parts(revision, parts)
        return size

    def _read_parts(self, revision: Revision, parts: Iterable[bytes | FilePart]) -> int:
        size = 0
        for part in parts:
            start, size = size, size + (len(part) if isinstance(part, bytes) else part.length)
            room = self._buffer[start:size]
            if isinstance(part, bytes):
                room[:] = part
            else:
                revision.files.read_into(FileKey(part.kind, part.image), part.offset, room)
        return size

    def _readlink(self, unique: int, number: int, _length: int) -> None:
        target = self._node(number).target if is_above_files(number) else b""
        if not target:
            raise OSError(errno.EINVAL, "no symlink")
        self._write(protocol.answer(unique, target))

    def _statfs(self, _unique: int, _number: int, length: int) -> None:
        self._hand_over(length)

    def _interrupt(self, _unique: int, _number: int, _length: int) -> None:
        # The request waits at the coordinator: here, none would be seen to have been interrupted before its answer.
        (interrupted,) = protocol.INTERRUPT_IN.unpack_from(self._request, protocol.IN_HEADER.size)
        self._tell({"interrupted": interrupted})

    def _readdir(self, unique: int, number: int, _length: int) -> None:
        _, position, size, *_ = protocol.READ_IN.unpack_from(self._request, protocol.IN_HEADER.size)
        dataset = self._dataset_of(number)
        if is_above_files(number):
            children = self._children(number)
        elif not self._is_inner_directory(number):
            raise OSError(errno.ESTALE, "this directory is gone")
        if dataset:
            entries = self._dataset_entries(dataset, address(number).file, position)
        else:
            entries = self._tree_entries(children, position, is_root=number == ROOT)
        dots = ((number, 1, b"."), (self._parent(number), FIRST_POSITION, b".."))[position:]
        parts = [protocol.directory_entry(inode, after, name, DIRECTORY_MODE) for inode, after, name in dots]
        taken = sum(map(len, parts))
        for part in entries:
            taken += len(part)
            if taken > size:
                break
            parts.append(part)
        self._write(protocol.answer(unique, b"".join(parts)))

    def _dataset_entries(self, dataset: int, directory: int, position: int) -> Iterator[bytes]:
        mapped = self._datasets.mapped(dataset)
        revision = mapped.current
        earlier = mapped.earlier[-1].listing if mapped.earlier else None
        number, entry, files = revision.numbers.number, protocol.directory_entry, revision.files
        position = max(position, FIRST_POSITION)
        for name, child, after in files.directories_of(directory, position):
            yield entry(file_number(dataset, child, DIRECTORY), after, name, DIRECTORY_MODE)
        for name, kind, image, after in files.entries_from(position, earlier=earlier, directory=directory):
            yield entry(number(kind, image), after, name, FILE_MODE)

    def _tree_entries(self, children: Mapping[bytes, int], position: int, *, is_root: bool) -> Iterator[bytes]:
        nodes = self._tree.nodes
        first = max(0, position - FIRST_POSITION)
        for place, (name, number) in enumerate(islice(children.items(), first, None), first):
            # In the root, what begins with a dot is found by its name alone: whoever walks sees each image once.
            if is_root and name.startswith(b".") and not self._lists_hidden:
                continue
            yield protocol.directory_entry(number, FIRST_POSITION + place + 1, name, nodes[number].attributes.mode)

    def _node(self, number: int) -> TreeNode:
        """The directory above the datasets' files, or symlink, with a number.

        Raises:
            NotHere: it is not known here.
        """
        node = self._tree.nodes.get(number)
        if node is None:
            raise NotHere({"want": "tree", "number": number})
        return node

    def _children(self, number: int) -> Mapping[bytes, int]:
        """What is in a directory above the datasets' files.

        Raises:
            NotHere: nobody has looked into it yet, or it is not known here.
        """
        if not self._tree.is_open(number):
            raise NotHere({"want": "tree", "number": number})
        return self._tree.children(number)

    def _dataset_of(self, number: int) -> int:
        """The number of the dataset whose directory a node is; 0 if it is another directory."""
        return 0 if number & NAMED or number == ROOT else address(number).dataset

    def _file(self, number: int) -> tuple[Revision, FileKey]:
        found = None if is_above_files(number) else self._datasets.file(number)
        if found is None:
            raise OSError(errno.ESTALE, "this file is gone")
        return found

    def _path(self, operation: int, number: int, length: int) -> str:
        """The path that a request is for, for messages."""
        with suppress(Exception):
            if operation == protocol.LOOKUP:
                return f"{self._path(0, number, 0)}/{self._name(length).decode(errors='backslashreplace')}"
            node = self._tree.nodes.get(number)
            if node is None:
                return self._path_in_dataset(number)
            above = "" if number == ROOT else self._path(0, node.parent, 0)
            return f"{above}/{node.name.decode()}" if node.name else ""
        return "?"

    def _path_in_dataset(self, number: int) -> str:
        place = address(number)
        top = self._path(0, dataset_number(place.dataset), 0)
        if place.kind == DIRECTORY:
            files = self._datasets.mapped(place.dataset).current.files
            return f"{top}/{files.directory_name(place.file).decode(errors='backslashreplace')}"
        revision, key = self._file(number)
        files = revision.files
        inner = b"/".join(filter(None, (files.directory_name(files.directory_of(key)), files.name(key))))
        return f"{top if top != '?' else f'/{revision.listing.dataset_id}'}/{inner.decode(errors='backslashreplace')}"

    # Messages.

    def _report_loss(self, message: str, cause: str) -> None:
        self._tell({"error": {"message": message, "cause": cause, "kind": LOSS, "stale": False}})

    def _tell(self, header: dict[str, Any]) -> None:
        self._send(header, b"")

    def _send(self, header: dict[str, Any], request: bytes) -> None:
        while True:
            try:
                send(self._connection, header, request)
            except BlockingIOError:
                select.select((), (self._connection,), (), NOTE_SECONDS)
            except OSError:
                # The coordinator is gone, and this is the end.
                os._exit(0)
            else:
                return

    def _note(self) -> None:
        """Tell what was counted, and now and then which extents were used."""
        self._slot.note(self._answered, self._handled, self._sources.renderer.count)
        now = time.monotonic()
        if now - self._noted > NOTE_SECONDS:
            self._noted, self._answered_then = now, self._answered
            used = self._cache.take_used()
            for start in range(0, len(used), MOST_USED_IN_MESSAGE):
                self._tell({"used": used[start : start + MOST_USED_IN_MESSAGE]})

    def _receive_all(self) -> bool:
        """Do what the coordinator says; returns whether it is there."""
        while True:
            try:
                message = receive(self._connection)
            except BlockingIOError:
                return True
            if message is None:
                return False
            self._handle(message)

    def _handle(self, message: Message) -> None:
        header = message.header
        if "retry" in header:
            self._request[: len(message.payload)] = message.payload
            self._tried = {name: header[name] for name in ("tries", "deadline")}
            self._answer(len(message.payload))
            self._tried = {}
            self._slot.put_down()
        elif "piece" in header:
            self._pieces.setdefault(header["piece"], []).append(message.payload)
        elif "content" in header:
            content = b"".join(self._pieces.pop(header["content"], []))
            self._cache.keep(header["key"], OpenExtent(content=content, length=len(content)))
        elif "tree" in header:
            (descriptor,) = message.descriptors
            self._tree.take(TreeChange.from_bytes(content_of(descriptor)))
            self._allowed = tuple(header["allowed"])
        elif "listing" in header:
            self._datasets.take_listing(header, message.descriptors)
        elif "documents" in header:
            self._datasets.take_document(header, message.descriptors)
        elif "drop" in header:
            self._datasets.drop(header["dataset"], header["drop"])
        elif "barrier" in header:
            self._tell({"barrier": header["barrier"]})
        elif "begin" in header:
            self._has_begun = True
        self._handled += 1
        self._slot.note(self._answered, self._handled, self._sources.renderer.count)


def respond(arguments: dict[str, Any], descriptors: list[int]) -> None:
    """Be a responder, in a process that was forked for it (`imgsyncfs.workers.template.Run`).

    Args:
        arguments: ``number``, of the slot, ``responders``, how many slots there are, and the setup of a `Responder`.
        descriptors: of the kernel's device, the board, and the socket to the coordinator.
    """
    device, board, connection = descriptors
    Responder(
        arguments["number"],
        device,
        socket.socket(fileno=connection),
        Board(arguments["responders"], board),
        arguments,
    ).run()
