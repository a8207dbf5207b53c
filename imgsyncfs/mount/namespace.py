"""The coordinator's namespace: which tree and which listings the responders answer from, and how they change.

A change goes like this: the responders get the new listings and the new tree; when all have taken them over, nobody
answers from the old ones any more; then the kernel is told which names have changed. What it knows besides stays true.

Files that were changed or removed may be open. Their numbers are answered from the old listing, which the responders
keep as long as the kernel knows one of them: it is asked, since it refuses a notification for a node that it has
forgotten.

Threads: `Namespace._lock` guards the tables. It is held while messages are sent to responders, so that each gets them
in one order, and never while a listing is loaded or directories are made. `Namespace._making` lets one thread at a time
make these: the refreshing one, or one that opens a branch for somebody who looks into it; it is taken first. `refresh`
runs on one thread, the only one that notifies the kernel: a notification waits for look-ups in the same directory,
whose answers other threads bring.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from imgsyncfs.cache.documents import KeptDocument
from imgsyncfs.catalog.rows import DatasetRow
from imgsyncfs.errors import CatalogError, NotInCatalog
from imgsyncfs.formats.registry import CONVERTIBLE, HOUSE
from imgsyncfs.library.control_files import CONTROL_NUMBER, ControlFiles
from imgsyncfs.library.dataset_facts import facts_for
from imgsyncfs.library.dataset_files import ANNOTATION_SUFFIX, sizes_length
from imgsyncfs.library.dataset_numbers import Place
from imgsyncfs.library.documents import facts_digest
from imgsyncfs.library.error_log import LOSS
from imgsyncfs.library.library import Library
from imgsyncfs.library.numbers import address, dataset_number
from imgsyncfs.library.picture_files import MOST_SIZES
from imgsyncfs.library.rendered_alone import RenderingPlace
from imgsyncfs.library.tree import TreeChange
from imgsyncfs.library.views.contract import DatasetFacts
from imgsyncfs.library.views.registry import check_shown, find_view
from imgsyncfs.mount import protocol
from imgsyncfs.mount.board import memory_file, shared_memory
from imgsyncfs.mount.held_listings import (
    HeldDataset,
    HeldListing,
    NumbersOf,
    Retired,
    document_message,
    is_known,
    losses_message,
)
from imgsyncfs.mount.mounted_tree import MountedTree

if TYPE_CHECKING:
    # Not imported otherwise: numpy comes with it, and a mount's start need not wait for that.
    from imgsyncfs.catalog.listing import Changes, Listing
    from imgsyncfs.mount.responders import Responders, State

logger = logging.getLogger(__name__)

SWITCH_SECONDS = 10.0
"""Until when all responders must have taken over a change."""

SETTLED_SECONDS = 1.0
"""A look-up that was answered before a change has reached the kernel's tables by then."""


class Shown(NamedTuple):
    """What a directory shows.

    Attributes:
        dataset_id: which dataset.
        view: name of the view that it is shown in.
        listing: of the revision.
        facts: digest of what the view depends on beside it.
    """

    dataset_id: str
    view: str
    listing: Listing
    facts: str


class Namespace:
    """The tree and the listings of a mount.

    Args:
        library: the catalog's datasets.
        control: the control files.
        view: name of the view that the root shows; empty for the datasets' own directories.

    Raises:
        ConfigurationError: it is for a label that no dataset has.
    """

    def __init__(self, library: Library, control: ControlFiles, *, view: str = "") -> None:
        self._library = library
        self._control = control
        self._view = view
        self._lock = threading.RLock()
        self._making = threading.Lock()
        self._datasets: dict[int, HeldDataset] = {}
        self._listings: dict[tuple[str, str], Listing] = {}
        self._whole_tree = -1
        self._is_outdated = False
        self._siblings = library.sources.siblings
        if view:
            check_shown(find_view(view), library.mirror.table.labels)
        self.notified = 0
        self._responders: Responders | None = None
        self._device = -1
        self._tree = MountedTree(library, view=view, since=control.since)

    def begin(self, responders: Responders, device: int) -> None:
        """Use these responders, and tell the kernel of changes, from now on."""
        self._responders, self._device = responders, device

    @contextmanager
    def state(self) -> Iterator[list[State]]:
        """The messages that a new responder needs; nothing changes while the block runs."""
        with self._lock:
            if self._whole_tree < 0:
                self._whole_tree = memory_file(self._tree.whole().to_bytes())
            messages = [self._tree_message(self._whole_tree)]
            for number, dataset in self._datasets.items():
                messages.append(dataset.current.message(number, is_current=True))
                messages += dataset.current.document_messages(number)
                messages += [each.held.message(number, is_current=False) for each in dataset.retired]
            yield messages

    def listing(self, dataset_id: str, key: str) -> Listing | None:
        """A listing that the responders have, whichever number its dataset has by now."""
        with self._lock:
            return self._listings.get((dataset_id, key))

    def rendering_place(self, number: int, dataset_id: str, key: str, index: int, target: str) -> RenderingPlace | None:
        """A file that is to be rendered.

        Args:
            number: of the dataset, in its view.
            dataset_id: its id.
            key: of the listing that it is shown from.
            index: of the image in it.
            target: name of the format.

        Returns:
            None if the listing is not in use any more.
        """
        with self._lock:
            dataset = self._datasets.get(number)
            held = [dataset.current, *(each.held for each in dataset.retired)] if dataset is not None else []
        found = next((each for each in held if (each.listing.dataset_id, each.listing.key) == (dataset_id, key)), None)
        if found is None:
            return None
        view = find_view(found.view) if found.view else None
        shown = CONVERTIBLE[target] if view is None else view.target or CONVERTIBLE[HOUSE]
        facts = found.read_facts()
        classes = facts.classes if facts is not None else ()
        longest_side = None if view is None else view.longest_side
        return RenderingPlace(found.listing, index, shown, found.view, classes, longest_side)

    def name_of(self, number: int) -> str:
        """The path of a dataset's directory by its number; empty if there is none."""
        with self._lock:
            place = self._tree.place(number)
        if place is None:
            return ""
        return place.dataset_id if place.view == self._view else f".views/{place.view}/{place.dataset_id}"

    def path_of(self, number: int, name: bytes = b"") -> str:
        """The path of a node in a dataset, or of a name in its directory; for messages."""
        place = address(number)
        path = f"/{self.name_of(place.dataset)}"
        with self._lock:
            dataset = self._datasets.get(place.dataset)
            held = [dataset.current, *(each.held for each in dataset.retired)] if dataset else []
        if not name and place.kind:
            found = (NumbersOf(place.dataset, each, ()).name(place) for each in held)
            name = next(filter(None, found), b"?")
        return f"{path}/{name.decode(errors='backslashreplace')}"

    def loaded(self) -> int:
        """How many listings are in use."""
        with self._lock:
            return len(self._datasets)

    def retired(self) -> int:
        """How many earlier revisions somebody has files open of, as far as is known."""
        with self._lock:
            return sum(len(dataset.retired) for dataset in self._datasets.values())

    def tree_status(self) -> dict[str, Any]:
        """How many directories and links there are, and the paths of those that were made for somebody who looked."""
        with self._lock:
            nodes, opened = self._tree.counts()
        return {"nodes": nodes, "looked_into": opened}

    def path_above(self, number: int) -> str:
        """The path of a node that is in no dataset; for messages."""
        with self._lock:
            return f"/{self._tree.path_to(number)}"

    def open(self, number: int) -> None:
        """Have the responders know a node that is in no dataset, and what is in it.

        Args:
            number: of the node.

        Raises:
            OSError: ESTALE: it is not there any more.
        """
        with self._making:
            for branch in self._tree.branches_to(number):
                self._show(self._tree.opening(branch))
            self._tree.save()
            if not self._tree.is_open(number):
                raise OSError(errno.ESTALE, "this directory is gone")

    def load(self, number: int) -> None:
        """Have the responders take over a dataset's listing, if they have not yet.

        Raises:
            CatalogError: it cannot be read, or there is no such dataset.
        """
        with self._lock:
            if number in self._datasets:
                return
            place = self._tree.place(number)
        if place is None:
            place = self._place_before(number)
        if place is None:
            raise NotInCatalog("The dataset is no longer in the catalog.")
        listing = self._library.mirror.listing(place.dataset_id)
        facts = self._facts(place, listing)
        if facts is not None:
            self._report_losses(place, listing, facts)
        with self._lock:
            if number not in self._datasets:
                digest = facts_digest(facts) if facts is not None else ""
                self._datasets[number] = HeldDataset(number, self._hold(listing, place.view, facts), digest)
                self._broadcast(self._datasets[number].current.message(number, is_current=True))

    def _place_before(self, number: int) -> Place | None:
        """What a dataset's number stood for in the mount before, if it does still."""
        with suppress(OSError):
            self.open(dataset_number(number))
        with self._lock:
            return self._tree.place(number)

    def place_of(self, number: int) -> tuple[Place, Listing] | None:
        """What a directory shows, by its number: which dataset in which view, and the listing; None if it is gone."""
        with self._lock:
            place, dataset = self._tree.place(number), self._datasets.get(number)
            return None if place is None or dataset is None else (place, dataset.current.listing)

    def shown(self, number: int) -> Shown | None:
        """What the directory of a view shows, by its number, with what tells its documents from others."""
        with self._lock:
            place, dataset = self._tree.place(number), self._datasets.get(number)
            if place is None or dataset is None:
                return None
            return Shown(place.dataset_id, place.view, dataset.current.listing, dataset.facts)

    def take_document(self, number: int, place: int, document: KeptDocument) -> None:
        """Have the responders take over a document that was written.

        Args:
            number: of the dataset in the view.
            place: of the document among those of the view.
            document: it.
        """
        with self._lock:
            dataset = self._datasets.get(number)
            if dataset is not None:
                dataset.current.documents[place] = document
                self._broadcast(document_message(number, place, document))

    def has_document(self, number: int, place: int, *, is_losses: bool = False) -> bool:
        """Whether the responders have a document, or know that there is no ``LOSSES.txt``."""
        with self._lock:
            dataset = self._datasets.get(number)
            if dataset is None:
                return False
            return place in dataset.current.documents or (is_losses and dataset.current.has_losses is False)

    def note_losses(self, number: int, *, has_losses: bool) -> None:
        """Have the responders know whether there is anything that a view does not show: ``LOSSES.txt`` is listed then.

        Args:
            number: of the dataset in the view.
            has_losses: whether there is.
        """
        with self._lock:
            dataset = self._datasets.get(number)
            if dataset is None or dataset.current.has_losses is has_losses:
                return
            dataset.current.has_losses = has_losses
            self._broadcast(losses_message(number, has_losses=has_losses))
        if has_losses and self._responders is not None:
            self._responders.wait_for_all(SWITCH_SECONDS)
            # Of the directory's entries, which the kernel keeps; unlike that of a name, it waits for no look-up.
            self._notify([protocol.inode_notification(dataset_number(number))])

    def drop_removed_documents(self) -> None:
        """Let go of documents that were removed from the cache: they take up room as long as somebody has them open."""
        with self._lock:
            for number, dataset in self._datasets.items():
                held = dataset.current.documents
                for place in [place for place, document in held.items() if document.is_removed()]:
                    del held[place]
                    self._broadcast(({"documents": number, "gone": place}, ()))

    def refresh(self, surely: bool) -> None:  # what `Refresher` calls
        """Take over what has changed in the catalog, and tell the kernel.

        Args:
            surely: ask the database, whatever the mark of changes says.

        Raises:
            CatalogError: the catalog, or a listing, cannot be read.
            ConfigurationError: the subscription that is shown is gone.
        """
        library = self._library
        library.cache.close_removed()
        self.drop_removed_documents()
        library.fetcher.note_used()
        library.fetcher.look_again()
        self._drop_forgotten()
        self._drop_nameless()
        changed = False
        # Looked at first, so that what changes meanwhile is seen the next time. Who asks surely waits for no store.
        answered = 0 if self._responders is None else self._responders.counts()["answered"]
        if surely or library.watch.is_due(requests=answered) or library.mirror.trouble:
            changed = library.mirror.refresh(surely=surely)
            library.watch.note_asked()
        else:
            library.mirror.confirm()
        if changed:
            library.take_over()
            self._is_outdated = True
        failure: CatalogError | None = None
        notifications: list[bytes] = []
        for row, place, number in self._outdated():
            if place.view:
                # A view of another revision is another one; what is open goes on being answered under the old number.
                self._renew(number)
                continue
            try:
                listing = library.mirror.listing(row.dataset_id)
            except CatalogError as error:
                failure = error
                continue
            notifications += self._switch(number, listing)
        if self._is_outdated:
            with self._making:
                change = self._tree.renewal()
                told = self._tree.told(change)
                self._show(change)
                self._tree.save()
            self._is_outdated = False
            notifications += [protocol.entry_notification(parent, name) for parent, name in told.entries]
            notifications += [protocol.inode_notification(number) for number in told.nodes]
        if changed:
            names = self._control.renew()
            notifications += [protocol.entry_notification(CONTROL_NUMBER, name) for name in names]
        if notifications and self._responders is not None:
            self._responders.wait_for_all(SWITCH_SECONDS)
            self._notify(dict.fromkeys(notifications))
        if failure is not None:
            raise failure

    def _outdated(self) -> list[tuple[DatasetRow, Place, int]]:
        """The directories of datasets whose listing in use is not that of their row."""
        # Not those of a lower revision alone: a catalog that was restored from a backup goes back to one.
        catalog_id = self._library.mirror.table.catalog_id
        with self._lock:
            return [
                (row, place, number)
                for number, dataset in self._datasets.items()
                if (place := self._tree.place(number)) is not None
                and self._tree.is_current(number)
                and (row := self._library.entry(place.dataset_id)) is not None
                and dataset.current.listing.key != row.listing_key(catalog_id)
            ]

    def _switch(self, number: int, listing: Listing) -> list[bytes]:
        """Have the responders switch to a new listing; returns what to notify the kernel of."""
        # Late, as above.
        from imgsyncfs.catalog.listing import changed, continues

        with self._lock:
            dataset = self._datasets[number]
            before = dataset.current
            if before.listing.key == listing.key:
                return []
        if not continues(listing, before.listing):
            # Another process has numbered its files anew. The dataset gets a number of its own, so nothing can be
            # mixed up; what is open goes on being answered under the old one.
            self._renew(number)
            return []
        changes = changed(before.listing, listing)
        numbers = NumbersOf(number, before, self._siblings_kinds())
        retired = Retired(
            before,
            time.monotonic(),
            numbers.all(changes.images.indices_before, changes.annotations.indices_before),
        )
        names = self._names_of(changes, before.listing, listing)
        parent = dataset_number(number)
        with self._lock:
            dataset.current = self._hold(listing)
            dataset.retired.append(retired)
            self._broadcast(dataset.current.message(number, is_current=True))
        return [*(protocol.entry_notification(parent, name) for name in names), protocol.inode_notification(parent)]

    def _renew(self, number: int) -> None:
        """Give what a dataset's number stands for another number, with the renewal of the tree."""
        with self._making:
            self._tree.renew(number)
        self._is_outdated = True

    def _names_of(self, changes: Changes, before: Listing, after: Listing) -> list[bytes]:
        """The names of files that came, went or have other content, each once."""
        suffixes = (ANNOTATION_SUFFIX, *(target.suffix.encode() for target in self._siblings))
        images = [
            *((before, index) for index in changes.images.indices_before),
            *((after, index) for index in changes.images.indices_after),
        ]
        names = [b"%b.%b" % (listing.stem(index), listing.ext(index).encode()) for listing, index in images]
        annotations = (*changes.annotations.added, *changes.annotations.removed, *changes.annotations.changed)
        names += [stem + suffix for stem in annotations for suffix in suffixes]
        return list(dict.fromkeys(names))

    def _siblings_kinds(self) -> tuple[int, ...]:
        return tuple(self._library.sources.by_kind)

    def _drop_forgotten(self) -> None:
        """Let go of earlier listings of which the kernel knows no file any more."""
        with self._lock:
            retired = [(dataset, each) for dataset in self._datasets.values() for each in dataset.retired]
        for dataset, each in retired:
            if time.monotonic() > each.since + SETTLED_SECONDS and not each.ask(self._device):
                with self._lock:
                    dataset.retired.remove(each)
                    self._forget(each.held.listing)
                    self._broadcast(({"drop": each.held.listing.key, "dataset": dataset.number}, ()))

    def _drop_nameless(self) -> None:
        """Let go of datasets that no name leads to, when the kernel knows their directories no more.

        It does as long as something in one is open; and after that, until it needs the memory.
        """
        now = time.monotonic()
        with self._lock:
            for number, dataset in self._datasets.items():
                is_nameless = not self._tree.has_dataset(number)
                dataset.nameless_since = (dataset.nameless_since or now) if is_nameless else None
            settled = [
                dataset
                for dataset in self._datasets.values()
                if dataset.nameless_since is not None and now > dataset.nameless_since + SETTLED_SECONDS
            ]
        for dataset in settled:
            if not dataset.retired and not is_known(self._device, dataset_number(dataset.number)):
                with self._lock:
                    del self._datasets[dataset.number]
                    self._tree.forget(dataset.number)
                    self._forget(dataset.current.listing)
                    self._broadcast(({"drop": "", "dataset": dataset.number}, ()))

    def _forget(self, listing: Listing) -> None:
        """Keep a listing no longer, unless it is in use under another number. Needs the lock."""
        place = listing.dataset_id, listing.key
        in_use = (
            held.listing
            for dataset in self._datasets.values()
            for held in (dataset.current, *(each.held for each in dataset.retired))
        )
        if all((each.dataset_id, each.key) != place for each in in_use):
            self._listings.pop(place, None)

    def _hold(self, listing: Listing, view: str = "", facts: DatasetFacts | None = None) -> HeldListing:
        """Keep a listing for the responders. Needs the lock."""
        self._listings[listing.dataset_id, listing.key] = listing
        sizes = shared_memory(sizes_length(listing, max(len(self._siblings) + 1, MOST_SIZES)))
        if facts is None:
            return HeldListing(listing, sizes)
        return HeldListing(listing, sizes, view, memory_file(facts.to_bytes()))

    def _facts(self, place: Place, listing: Listing) -> DatasetFacts | None:
        """What a view of a dataset depends on; None for the dataset's own directory.

        Raises:
            ConfigurationError: its split rule cannot be used.
            CatalogError: the values of its images cannot be read.
        """
        row = self._library.entry(place.dataset_id)
        if not place.view or row is None:
            return None
        return facts_for(find_view(place.view), listing, row, self._library.mirror)

    def _report_losses(self, place: Place, listing: Listing, facts: DatasetFacts) -> None:
        """Report what the layout of a view does not show of a dataset."""
        for loss in find_view(place.view).losses(listing, facts):
            shown = f"{loss.count} {loss.what}: {loss.reason}"
            cause = f"The view {place.view} of {place.dataset_id} does not show {shown}"
            self._library.errors.report(f"{cause}.", cause=cause, kind=LOSS)

    def _show(self, change: TreeChange) -> None:
        """Have the responders take over a change of the tree."""
        memory = memory_file(change.to_bytes())
        try:
            with self._lock:
                self._tree.take(change)
                if self._whole_tree >= 0:
                    os.close(self._whole_tree)
                    self._whole_tree = -1
                self._broadcast(self._tree_message(memory))
        finally:
            os.close(memory)

    def _tree_message(self, memory: int) -> State:
        return {"tree": True, "allowed": self._library.allowed}, (memory,)

    def _broadcast(self, state: State) -> None:
        if self._responders is not None:
            self._responders.broadcast(*state)

    def _notify(self, notifications: Iterable[bytes]) -> None:
        for message in notifications:
            protocol.write_quietly(self._device, message)
            self.notified += 1
