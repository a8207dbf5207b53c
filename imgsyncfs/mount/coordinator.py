"""The coordinator: brings what the responders lack, and answers for the control files.

A request that a responder could not answer lies here until what it needs has come; then a responder tries it again.
It waits at most the timeout, whatever it needs one after the other, and then fails. The kernel asks once more for a
page that could not be read: that request has what is left of the first one's time. So waiting costs no thread, here or
there. Whoever is ended while it waits is let go at once: the kernel says which request was interrupted (INTERRUPT), and
waits for its answer all the same.

Threads: `take` and `tick` run on the thread that receives from responders and never wait. Listings are loaded, control
files made, and directories above the datasets' files, by threads of their own; others bring documents and pictures of
views (`imgsyncfs.mount.documents`, `imgsyncfs.mount.pictures`). Extents arrive on the workers' listening threads.
`Coordinator._lock` guards the table of waiting requests, and of those that failed just now; it is held for dictionary
operations only.
"""

from __future__ import annotations

import errno
import heapq
import itertools
import logging
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from imgsyncfs.cache.documents import KeptDocument
from imgsyncfs.errors import CacheError, StoreError
from imgsyncfs.fetching.contents import locate
from imgsyncfs.fetching.fetcher import InFlight
from imgsyncfs.fetching.job import Outcome
from imgsyncfs.formats.registry import Loss
from imgsyncfs.library.control_files import ControlFiles, refresh_answer
from imgsyncfs.library.library import Library
from imgsyncfs.library.nodes import Owner
from imgsyncfs.library.rendered_alone import RenderingPlace
from imgsyncfs.library.renderings import loss_report
from imgsyncfs.mount import protocol
from imgsyncfs.mount.control_answers import ControlAnswers
from imgsyncfs.mount.documents import DocumentFlights, DocumentPart, WantedDocument
from imgsyncfs.mount.errors import error_number, error_report
from imgsyncfs.mount.namespace import Namespace
from imgsyncfs.mount.pictures import MadePicture, PictureFlights
from imgsyncfs.mount.renderings import RenderingFlights
from imgsyncfs.mount.responders import Responders
from imgsyncfs.mount.slow_waits import SLOW_SECONDS, SlowWaits
from imgsyncfs.workers.messages import Message

if TYPE_CHECKING:
    # Not imported otherwise: numpy comes with it, and a mount's start need not wait for that.
    from imgsyncfs.catalog.listing import Listing

logger = logging.getLogger(__name__)

LISTING_THREADS = 4
"""Listings that are loaded at once: from the disk in milliseconds, from the database in seconds."""

CONTROL_THREADS = 2

IDLE_SECONDS = 60.0
"""How long to wait for messages if no request has a deadline."""

DOCUMENTS_AT_ONCE = 2
"""One about a few images need not wait for one about a million."""

PIECE_BYTES = 32 << 10
"""The part of an extent that goes in one message."""

MOST_TRIES = 2
"""After as many times that an extent came and was gone before it was read, its content is sent with the answer."""

MOST_TRIES_IN_ALL = 64
"""A request that needs more extents than can be kept at the same time would be tried for ever."""

INTERRUPTED_SECONDS = 1.0
"""How long an interruption is kept whose request is not here: one responder may be quicker than another."""

LOOK_SECONDS = 0.2
"""How often to look whether a reader is to end that was interrupted by something else before."""

AGAIN_SECONDS = 0.2
"""How soon the kernel asks once more for a page that could not be read: at once, unless the machine is overloaded."""

ENDING_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGKILL, signal.SIGTERM)

Wanted: TypeAlias = tuple[str, int]
"""What requests wait for that is brought once for all of them: ``listing`` and a dataset's number, or ``tree`` and that
of a node above the datasets' files."""


@dataclass
class _Waiting:
    """A request that waits.

    Attributes:
        responder: whose it is.
        request: as it came.
        deadline: when it fails, in seconds of the monotonic clock.
        tries: how often it was tried again already.
        flights: of the extents that it waits for; none if it waits for a listing or the tree.
        path: of the file, if the responder has said it.
        listing: number of the dataset whose listing it waits for.
        branch: number of the node above the datasets' files that it waits for.
        document: the document of a view that it waits for.
        picture: index of the image whose picture in a view it waits for; below 0 if it waits for none.
        is_refresh: whether it waits until the catalog has been asked for changes.
        rendering: name of the annotation that it waits for as another process renders it.
        missing: how many of the extents have not come yet.
        since: when it came, in seconds of the monotonic clock.
    """

    responder: int
    request: bytes
    deadline: float
    tries: int = 0
    flights: tuple[InFlight, ...] = ()
    path: str = ""
    listing: int = 0
    branch: int = 0
    document: WantedDocument | None = None
    picture: int = -1
    is_refresh: bool = False
    rendering: str = ""
    missing: int = field(init=False)
    since: float = field(init=False, default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.missing = len(self.flights)


class Coordinator:
    """Brings what responders lack.

    Args:
        library: the catalog's datasets.
        namespace: the listings that the responders have.
        control: the control files.
        owner: whom everything belongs to.
        stale: called when a blob is no longer what the catalog says.
        refresh: has the catalog asked for changes; see `imgsyncfs.mount.refresh.Refresher.now`.
    """

    def __init__(
        self,
        library: Library,
        namespace: Namespace,
        control: ControlFiles,
        *,
        owner: Owner,
        stale: Callable[[], None],
        refresh: Callable[[Callable[[str], None]], None],
    ) -> None:
        self._library = library
        self._namespace = namespace
        self._control = control
        self._control_answers = ControlAnswers(library, control, owner)
        self._stale = stale
        self._refresh = refresh
        self._lock = threading.Lock()
        self._answered = threading.Condition(self._lock)
        self._waiting: dict[int, _Waiting] = {}
        self._bringing: dict[Wanted, list[int]] = {}
        self._interrupted: dict[int, float] = {}
        self._failed: dict[tuple[int, int], tuple[float, float]] = {}
        self._deadlines: list[tuple[float, int]] = []
        self.slow = SlowWaits()
        self._transfers = itertools.count(1)
        self._listings = ThreadPoolExecutor(LISTING_THREADS, thread_name_prefix="listing")
        # One of its own: a listing does not wait for the names of a view.
        self._branches = ThreadPoolExecutor(1, thread_name_prefix="tree")
        self._controls = ThreadPoolExecutor(CONTROL_THREADS, thread_name_prefix="control")
        self.documents = DocumentFlights(library, namespace)
        self._pictures = PictureFlights(library, namespace)
        self.renderings = RenderingFlights(library, self._report_loss)
        self._responders: Responders | None = None
        self._device = -1

    def begin(self, responders: Responders, device: int) -> None:
        """Use these responders, and answer the kernel, from now on."""
        self._responders, self._device = responders, device

    def waiting(self) -> int:
        """How many requests wait for an extent."""
        with self._lock:
            return sum(bool(each.flights) for each in self._waiting.values())

    def finish(self, seconds: float) -> None:
        """Wait until nothing that was asked for waits any more: it has been answered, or refused."""
        with self._answered:
            self._answered.wait_for(lambda: not self._waiting, seconds)

    def close(self) -> None:
        """End the threads; what they do is not waited for."""
        self._listings.shutdown(wait=False, cancel_futures=True)
        self._branches.shutdown(wait=False, cancel_futures=True)
        self._controls.shutdown(wait=False, cancel_futures=True)
        self.documents.close()
        self._pictures.close()
        self.renderings.close()

    def take(self, responder: int, message: Message) -> None:
        """Take what a responder sent."""
        header, request = message.header, message.payload
        if "want" in header:
            self._want(responder, header, request)
        elif "interrupted" in header:
            self._interrupted[header["interrupted"]] = time.monotonic() + INTERRUPTED_SECONDS
        elif "hand" in header:
            self._take_over(responder, request)
        elif "reached" in header:
            self._reached(header["reached"])
        elif "used" in header:
            self._library.cache.note_uses(header["used"])
        elif "error" in header:
            self._report(header["error"])

    def _want(self, responder: int, header: dict[str, Any], request: bytes) -> None:
        """Bring what a responder lacks."""
        wanted = header["want"]
        if wanted == "extents":
            self._want_extents(responder, header, request)
        elif wanted == "listing":
            self._want_listing(responder, header, header["number"], request)
        elif wanted == "tree":
            self._want_branch(responder, header, header["number"], request)
        elif wanted == "document":
            self._want_document(responder, header, request)
        elif wanted == "picture":
            self._want_picture(responder, header, request)
        elif wanted == "rendering":
            self._want_rendering(responder, header, request)

    def tick(self) -> float:
        """Fail the requests whose timeout is over; returns when to look again, in seconds from now."""
        now = time.monotonic()
        for unique in list(self._interrupted):
            self._look_at_interrupted(unique, now)
        with self._lock:
            for read in [read for read, (since, _) in self._failed.items() if since + AGAIN_SECONDS < now]:
                del self._failed[read]
        while self._deadlines and self._deadlines[0][0] <= now:
            _, unique = heapq.heappop(self._deadlines)
            with self._lock:
                waiting = self._waiting.get(unique)
            if waiting is not None and waiting.deadline <= now and self._take_off(unique, waiting):
                self._end_late(waiting)
        pause = LOOK_SECONDS if self._interrupted else IDLE_SECONDS
        return min(pause, self._deadlines[0][0] - now) if self._deadlines else pause

    # Requests that wait.

    def _set_aside(self, waiting: _Waiting) -> int:
        """Have a request wait until it is taken off; returns its number (``unique``). On the receiving thread."""
        unique: int = protocol.IN_HEADER.unpack_from(waiting.request)[2]
        with self._lock:
            self._waiting[unique] = waiting
        heapq.heappush(self._deadlines, (waiting.deadline, unique))
        return unique

    def _deadline(self, header: dict[str, Any], request: bytes) -> float:
        """Until when a request waits: what was said when it waited first, or the time that its reader has left."""
        if "deadline" in header:
            deadline: float = header["deadline"]
            return deadline
        now = time.monotonic()
        with self._lock:
            since, deadline = self._failed.pop(_reader_of(request), (0.0, 0.0))
        return deadline if now < since + AGAIN_SECONDS else now + self._library.settings.timeout

    def _take_off(self, unique: int, waiting: _Waiting) -> bool:
        """Have a request wait no longer; says whether it did: whoever is told so sees to its answer."""
        with self._lock:
            if self._waiting.get(unique) is not waiting:
                return False
            del self._waiting[unique]
            self._answered.notify_all()
        for flight in waiting.flights:
            self._library.fetcher.leave(flight)
        waited = time.monotonic() - waiting.since
        if waited >= SLOW_SECONDS:
            self.slow.note(waited, self._path_of(waiting))
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("%s waited %.3f s", self._path_of(waiting), waited)
        return True

    def _end_late(self, waiting: _Waiting) -> None:
        """Answer a request whose time is over, and which waits no longer."""
        if waiting.is_refresh:
            seconds = self._library.settings.timeout
            self._tell_refreshed(waiting.request, f"the catalog has not answered within {seconds:g} s; ask again later")
        else:
            self._fail(waiting, self._too_late(waiting))

    def _too_late(self, waiting: _Waiting) -> Exception:
        if waiting.flights:
            late = next((flight for flight in waiting.flights if not flight.outcome.done()), waiting.flights[0])
            return self._library.fetcher.too_late(late.extent)
        if waiting.picture >= 0:
            return CacheError("the picture is still being made; look again in a while, or raise the timeout")
        if waiting.rendering:
            return CacheError(
                f"{waiting.rendering} is still being rendered; look again in a while, or raise the timeout"
            )
        if waiting.document is not None:
            progress = self.documents.progress(waiting.document)
            return CacheError(f"it is still being written, from all annotations: {progress}; look again in a while")
        if waiting.branch:
            return CacheError("its names are still being made; look again in a while, or raise the timeout")
        return self._library.mirror.too_late(self._namespace.name_of(waiting.listing))

    def _look_at_interrupted(self, unique: int, now: float) -> None:
        """Let a request go whose reader is to end. On the receiving thread.

        A reader that another signal has interrupted goes on waiting, as it would for a file on a disk. It may be ended
        later, of which the kernel says nothing more.
        """
        with self._lock:
            waiting = self._waiting.get(unique)
        if waiting is None:
            if self._interrupted[unique] < now:
                del self._interrupted[unique]
        elif _is_to_end(waiting.request) and self._take_off(unique, waiting):
            del self._interrupted[unique]
            protocol.write_quietly(self._device, protocol.refusal(unique, errno.EINTR))

    # Extents.

    def _want_extents(self, responder: int, header: dict[str, Any], request: bytes) -> None:
        listing = self._namespace.listing(header["dataset"], header["listing"])
        path = header.get("path", "")
        if listing is None:
            self._refuse(request, OSError(errno.ESTALE, "the listing is gone"), path or "?")
            return
        tries = header.get("tries", 0)
        if tries == MOST_TRIES_IN_ALL:
            failure = CacheError(
                "The cache has no room for what one read needs; let it have more.", option="cache_size"
            )
            self._refuse(request, failure, path or self._path_in_dataset(request))
            return
        flights: list[InFlight] = []
        try:
            for place in header["places"]:
                flights += self._sent_for(responder, listing, place, tries)
        except StoreError as error:
            for flight in flights:
                self._library.fetcher.leave(flight)
            self._refuse(request, error, path or self._path_in_dataset(request))
            return
        if not flights:
            self._retry(responder, request, tries + 1, self._deadline(header, request))
            return
        self._library_reads_ahead()
        deadline = min(self._deadline(header, request), *(flight.deadline for flight in flights))
        unique = self._set_aside(_Waiting(responder, request, deadline, tries, tuple(flights), path))
        # Not with the flights, which have the futures, which have this: they would wait for the garbage collector, with
        # the listing that the extents are of.
        for outcome in [flight.outcome for flight in flights]:
            outcome.add_done_callback(lambda outcome: self._came(unique, outcome))

    def _sent_for(self, responder: int, listing: Listing, place: dict[str, Any], tries: int) -> list[InFlight]:
        """Have an extent fetched that a responder lacks; none is returned if it has come meanwhile."""
        files = listing.annotations if place["annotation"] else listing.images
        index, offset = place["image"], place["offset"]
        extent = locate(listing, files, index, offset)
        if not tries and self._library.cache.holds(extent.key):
            # It has come since the responder looked.
            return []
        kept = self._library.extents.opened(extent.key)
        if kept is not None:
            # The cache had no room for it when it was fetched for another responder.
            self._send_content(responder, extent.key, kept.read(0, kept.length))
            return []
        return [self._library.extents.start(extent, listing, files, index, offset, inline=tries >= MOST_TRIES)]

    def _came(self, unique: int, outcome: Future[Outcome]) -> None:
        """Have a request tried again whose extents have come. Runs on a worker's listening thread."""
        with self._lock:
            waiting = self._waiting.get(unique)
        flights = waiting.flights if waiting is not None else ()
        flight = next((each for each in flights if each.outcome is outcome), None)
        if waiting is None or flight is None:
            return
        try:
            stored, content = outcome.result()
        except Exception as error:  # noqa: BLE001  # the boundary: it becomes an errno, and a line in the log
            if self._take_off(unique, waiting):
                self._fail(waiting, error)
            return
        if content or not stored:
            self._send_content(waiting.responder, flight.extent.key, content)
        with self._lock:
            waiting.missing -= 1
            is_last = not waiting.missing
        if is_last and self._take_off(unique, waiting):
            self._retry(waiting.responder, waiting.request, waiting.tries + 1, waiting.deadline)

    def _send_content(self, responder: int, key: str, content: bytes) -> None:
        """Send an extent that the cache has no room for."""
        transfer = next(self._transfers)
        if self._responders is not None:
            for start in range(0, len(content), PIECE_BYTES):
                self._responders.send(responder, {"piece": transfer}, content[start : start + PIECE_BYTES])
            self._responders.send(responder, {"content": transfer, "key": key})

    def _retry(self, responder: int, request: bytes, tries: int, deadline: float) -> None:
        """Have a responder try a request again.

        Args:
            responder: its number.
            request: as it came.
            tries: how often it was tried again already, this time included.
            deadline: until when it waits if it lacks something else, in seconds of the monotonic clock.
        """
        if self._responders is not None:
            self._responders.send(responder, {"retry": True, "tries": tries, "deadline": deadline}, request)

    def _reached(self, place: dict[str, Any]) -> None:
        listing = self._namespace.listing(place["dataset"], place["listing"])
        if listing is not None:
            files = listing.annotations if place["annotation"] else listing.images
            self._library.extents.reached(listing, files, place["image"], place["offset"])
            self._library_reads_ahead()

    def _library_reads_ahead(self) -> None:
        if self._responders is not None:
            self._responders.board.reads_ahead = self._library.extents.readahead.running

    # Listings, and the tree.

    def _want_listing(self, responder: int, header: dict[str, Any], number: int, request: bytes) -> None:
        """Have a request wait for a listing, which is loaded once for all of them."""
        deadline = self._deadline(header, request)
        unique = self._set_aside(_Waiting(responder, request, deadline, listing=number))
        if self._is_first(("listing", number), unique):
            self._listings.submit(self._bring, ("listing", number), self._namespace.load)

    def _want_branch(self, responder: int, header: dict[str, Any], number: int, request: bytes) -> None:
        """Have a request wait for a node above the datasets' files, and what is in it."""
        deadline = self._deadline(header, request)
        unique = self._set_aside(_Waiting(responder, request, deadline, branch=number))
        if self._is_first(("tree", number), unique):
            self._branches.submit(self._bring, ("tree", number), self._namespace.open)

    def _is_first(self, wanted: Wanted, unique: int) -> bool:
        """Note that a request waits for something; says whether it is the first."""
        with self._lock:
            first = wanted not in self._bringing
            self._bringing.setdefault(wanted, []).append(unique)
        return first

    def _bring(self, wanted: Wanted, bring: Callable[[int], None]) -> None:
        failure: Exception | None = None
        try:
            bring(wanted[1])
        except Exception as error:  # noqa: BLE001  # the boundary: it becomes an errno, and a line in the log
            failure = error
        self._answer_brought(wanted, failure)

    def _answer_brought(self, wanted: Wanted, failure: Exception | None) -> None:
        """Have the requests tried again that waited for something, or fail."""
        with self._lock:
            ready = {unique: self._waiting.get(unique) for unique in self._bringing.pop(wanted)}
        for unique, waiting in ready.items():
            if waiting is None or not self._take_off(unique, waiting):
                continue
            if failure is None:
                self._retry(waiting.responder, waiting.request, 0, waiting.deadline)
            else:
                self._fail(waiting, failure)

    # Documents of views.

    def _want_document(self, responder: int, header: dict[str, Any], request: bytes) -> None:
        """Have a request wait for a long document, which is brought once for all of them."""
        wanted = WantedDocument(
            header["dataset"],
            header["place"],
            header["file"],
            header["is_losses"],
            tuple([DocumentPart(*part) for part in header["parts"]]),
            header["counts_labels"],
        )
        if self._namespace.has_document(wanted.number, wanted.place, is_losses=wanted.is_losses):
            # It has come since the responder looked.
            self._retry(responder, request, 0, self._deadline(header, request))
            return
        deadline = self._deadline(header, request)
        unique = self._set_aside(_Waiting(responder, request, deadline, listing=wanted.number, document=wanted))
        flight = self.documents.start(wanted)
        flight.add_done_callback(lambda outcome: self._document_came(unique, wanted, outcome))

    def _document_came(self, unique: int, wanted: WantedDocument, outcome: Future[KeptDocument]) -> None:
        """Have a request tried again whose document has been brought. Runs on a thread that brings documents."""
        with self._lock:
            waiting = self._waiting.get(unique)
        if waiting is None or waiting.document is not wanted or not self._take_off(unique, waiting):
            return
        try:
            outcome.result()
        except CancelledError:
            # The mount ends.
            return
        except Exception as error:  # noqa: BLE001  # the boundary: it becomes an errno, and a line in the log
            self._fail(waiting, error)
            return
        self._retry(waiting.responder, waiting.request, 0, waiting.deadline)

    # Pictures of views.

    def _want_picture(self, responder: int, header: dict[str, Any], request: bytes) -> None:
        """Have a request wait for a picture, which is made once for all of them."""
        number, index, tries = header["dataset"], header["image"], header.get("tries", 0)
        deadline = self._deadline(header, request)
        unique = self._set_aside(_Waiting(responder, request, deadline, tries, listing=number, picture=index))
        flight = self._pictures.start(number, index)
        flight.add_done_callback(lambda made: self._made_came(unique, made))

    def _made_came(self, unique: int, made: Future[MadePicture]) -> None:
        """Have a request tried again whose picture, or file, has been made. Runs on a thread that has it made."""
        with self._lock:
            waiting = self._waiting.get(unique)
        if waiting is None or not (waiting.picture >= 0 or waiting.rendering) or not self._take_off(unique, waiting):
            return
        try:
            key, content = made.result()
        except CancelledError:
            # The mount ends.
            return
        except Exception as error:  # noqa: BLE001  # the boundary: it becomes an errno, and a line in the log
            self._fail(waiting, error)
            return
        if content:
            self._send_content(waiting.responder, key, content)
        self._retry(waiting.responder, waiting.request, waiting.tries + 1, waiting.deadline)

    # Files that take long to render.

    def _want_rendering(self, responder: int, header: dict[str, Any], request: bytes) -> None:
        """Have a request wait for a file that another process renders, once for all of them."""
        number, tries = header["number"], header.get("tries", 0)
        place = self._namespace.rendering_place(
            number, header["dataset"], header["listing"], header["image"], header["target"]
        )
        if place is None or tries >= MOST_TRIES_IN_ALL:
            failure: Exception = OSError(errno.ESTALE, "the listing is gone")
            if place is not None:
                failure = CacheError(
                    "The cache does not keep what was rendered; let it have more.", option="cache_size"
                )
            self._refuse(request, failure, self._path_in_dataset(request))
            return
        deadline = self._deadline(header, request)
        unique = self._set_aside(_Waiting(responder, request, deadline, tries, listing=number, rendering=place.name))
        self.renderings.start(place).add_done_callback(lambda made: self._made_came(unique, made))

    def _report_loss(self, place: RenderingPlace, loss: Loss) -> None:
        message, cause = loss_report(place.listing, place.listing.stem(place.image).decode(), place.view, loss)
        self._library.errors.report(message, cause=cause)

    # Control files, and df.

    def _take_over(self, responder: int, request: bytes) -> None:
        """Take a request that is answered here. On the receiving thread."""
        header = protocol.IN_HEADER.unpack_from(request)
        if header[1] != protocol.READ or not self._control.asks_for_refresh(header[3]):
            self._controls.submit(self._answer, request)
            return
        waiting = _Waiting(responder, request, self._deadline({}, request), is_refresh=True)
        unique = self._set_aside(waiting)
        self._refresh(lambda trouble: self._refreshed(unique, waiting, trouble))

    def _answer(self, request: bytes) -> None:
        try:
            message = self._control_answers.answer(request)
        except Exception as error:  # noqa: BLE001  # the boundary: it becomes an errno, and a line in the log
            self._refuse(request, error, "/.imgsyncfs")
        else:
            protocol.write_quietly(self._device, message)

    def _refreshed(self, unique: int, waiting: _Waiting, trouble: str) -> None:
        """Answer a request whose refresh is done. Runs on the thread that refreshes."""
        if self._take_off(unique, waiting):
            self._tell_refreshed(waiting.request, trouble)

    def _tell_refreshed(self, request: bytes, trouble: str) -> None:
        unique = protocol.IN_HEADER.unpack_from(request)[2]
        _, offset, size, *_ = protocol.READ_IN.unpack_from(request, protocol.IN_HEADER.size)
        content = refresh_answer(int(self._library.mirror.table.read_at), trouble)
        protocol.write_quietly(self._device, protocol.answer(unique, content[offset : offset + size]))

    # Errors.

    def _fail(self, waiting: _Waiting, error: Exception) -> None:
        """Refuse a request that has waited."""
        if protocol.IN_HEADER.unpack_from(waiting.request)[1] == protocol.READ:
            with self._lock:
                self._failed[_reader_of(waiting.request)] = (time.monotonic(), waiting.deadline)
        self._refuse(waiting.request, error, self._path_of(waiting))

    def _refuse(self, request: bytes, error: Exception, path: str) -> None:
        _, operation, unique, *_ = protocol.IN_HEADER.unpack_from(request)
        name = protocol.OPERATION_NAMES.get(operation, "")
        report = error_report(error, path, name)
        if report is not None:
            self._report(report)
        # After the report: whoever sees the error looks into the log.
        protocol.write_quietly(self._device, protocol.refusal(unique, error_number(error, name)))

    def _report(self, report: dict[str, Any]) -> None:
        if report["stale"]:
            self._stale()
        self._library.errors.report(report["message"], cause=report["cause"], kind=report["kind"])

    def _path_of(self, waiting: _Waiting) -> str:
        if waiting.flights or waiting.picture >= 0:
            return waiting.path or self._path_in_dataset(waiting.request)
        if waiting.document is not None:
            return f"/{self._namespace.name_of(waiting.listing)}/{waiting.document.file}"
        if waiting.branch:
            return self._namespace.path_above(waiting.branch)
        return "/" + self._namespace.name_of(waiting.listing)

    def _path_in_dataset(self, request: bytes) -> str:
        _, operation, _, number, *_ = protocol.IN_HEADER.unpack_from(request)
        name = request[protocol.IN_HEADER.size : -1] if operation == protocol.LOOKUP else b""
        return self._namespace.path_of(number, name)


def _reader_of(request: bytes) -> tuple[int, int]:
    """The node that a request is about, and the thread that it is from."""
    header = protocol.IN_HEADER.unpack_from(request)
    return header[3], header[6]


def _is_to_end(request: bytes) -> bool:
    """Whether the thread that made a request, and waits in the kernel, has been sent a signal that is to end it.

    Not if that cannot be told, because its process is in a namespace that is not below ours.
    """
    thread = protocol.IN_HEADER.unpack_from(request)[6]
    try:
        status = Path(f"/proc/{thread}/status").read_text()
    except OSError:
        return False
    pending = 0
    for line in status.splitlines():
        name, _, value = line.partition(":")
        if name in {"SigPnd", "ShdPnd"}:
            pending |= int(value, 16)
    return any(pending & 1 << number - 1 for number in ENDING_SIGNALS)
