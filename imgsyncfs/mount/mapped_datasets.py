"""The datasets of a responder: listings that the coordinator has sent, mapped, and what belongs to them."""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass, field
from typing import Any

from imgsyncfs.catalog.listing import Listing, ListingFiles, map_listing
from imgsyncfs.library.dataset_files import DatasetFiles, FileKey, FileSources, NodeNumbers, sizes_length
from imgsyncfs.library.numbers import address
from imgsyncfs.library.picture_files import MOST_SIZES, files_in_view
from imgsyncfs.library.rendered_alone import RenderingPlace
from imgsyncfs.library.view_files import ViewFiles
from imgsyncfs.library.views.contract import DatasetFacts
from imgsyncfs.library.views.registry import find_view
from imgsyncfs.mount.cached_extents import NotHere
from imgsyncfs.workers.messages import close_all

MOST_FOUND = 512
"""Files found last: the kernel asks for each several times."""


@dataclass
class Revision:
    """A revision of a dataset that can be read."""

    files: DatasetFiles
    numbers: NodeNumbers

    @property
    def listing(self) -> Listing:
        """Its listing."""
        return self.files.listing


@dataclass
class MappedDataset:
    """A dataset's revisions: the one that names lead to, and earlier ones that may be open."""

    current: Revision
    earlier: list[Revision] = field(default_factory=list)


class MappedDatasets:
    """The datasets that can be read, by their numbers.

    Args:
        sources: where contents come from.
    """

    def __init__(self, sources: FileSources) -> None:
        self._sources = sources
        self._datasets: dict[int, MappedDataset] = {}
        self._found: dict[int, tuple[Revision, FileKey]] = {}

    def mapped(self, dataset: int) -> MappedDataset:
        """The revisions of a dataset.

        Raises:
            NotHere: none has been needed yet.
        """
        mapped = self._datasets.get(dataset)
        if mapped is None:
            raise NotHere({"want": "listing", "number": dataset})
        return mapped

    def file(self, number: int) -> tuple[Revision, FileKey] | None:
        """The file of a node number, and the revision that has it; None if it is gone.

        Raises:
            NotHere: the dataset's listing has not been needed yet.
        """
        found = self._found.get(number)
        if found is not None:
            return found
        place = address(number)
        mapped = self.mapped(place.dataset)
        for revision in (mapped.current, *reversed(mapped.earlier)):
            key = revision.numbers.key(place)
            if key is not None and revision.files.has(key):
                self.note_found(number, revision, key)
                return revision, key
        return None

    def note_found(self, number: int, revision: Revision, key: FileKey) -> None:
        """Note which file a node number is of: it will be asked for again at once."""
        if len(self._found) >= MOST_FOUND:
            self._found.clear()
        self._found[number] = (revision, key)

    def take_listing(self, header: dict[str, Any], descriptors: list[int]) -> None:
        """Map a listing; see `imgsyncfs.mount.namespace.HeldListing.message`."""
        meta, columns, sizes, *facts_file = descriptors
        dataset = header["dataset"]
        listing = map_listing(ListingFiles(meta, columns), name=header["listing"], is_checked=True)
        length = sizes_length(listing, max(len(self._sources.siblings) + 1, MOST_SIZES))
        room = memoryview(mmap.mmap(sizes, length))
        os.close(sizes)
        if header["view"]:
            files: DatasetFiles = files_in_view(
                listing,
                find_view(header["view"]),
                self._sources,
                facts=DatasetFacts.from_bytes(content_of(*facts_file)) if facts_file else None,
                missing=lambda place: self._no_document(dataset, place),
                no_picture=lambda index: NotHere({"want": "picture", "dataset": dataset, "image": index}),
                sizes=room,
                no_rendering=lambda place: _no_rendering(dataset, place),
            )
        else:
            files = DatasetFiles(
                listing, self._sources, sizes=room, no_rendering=lambda place: _no_rendering(dataset, place)
            )
        revision = Revision(files, NodeNumbers(dataset, listing))
        mapped = self._datasets.get(dataset)
        if mapped is None:
            self._datasets[dataset] = MappedDataset(revision)
        elif header["is_current"] and mapped.current.listing.key != listing.key:
            mapped.earlier.append(mapped.current)
            mapped.current = revision
            self._found.clear()
        elif not header["is_current"]:
            mapped.earlier.insert(0, revision)

    def take_document(self, header: dict[str, Any], descriptors: list[int]) -> None:
        """Take over a document of a view, that one is gone, or whether there are losses."""
        files = self._view_files(header["documents"])
        if files is None:
            close_all(descriptors)
        elif "has_losses" in header:
            files.note_losses(has_losses=header["has_losses"])
        elif "gone" in header:
            files.drop_document(header["gone"])
        else:
            files.take_document(header["place"], *descriptors, length=header["length"])

    def drop(self, dataset: int, key: str) -> None:
        """Let go of an earlier revision, by the key of its listing; of all of the dataset with an empty one."""
        mapped = self._datasets.get(dataset)
        if mapped is not None:
            mapped.earlier = [revision for revision in mapped.earlier if revision.listing.key != key]
        if not key:
            self._datasets.pop(dataset, None)
        self._found.clear()

    def _view_files(self, dataset: int) -> ViewFiles | None:
        mapped = self._datasets.get(dataset)
        files = mapped.current.files if mapped is not None else None
        return files if isinstance(files, ViewFiles) else None

    def _no_document(self, dataset: int, place: int) -> NotHere:
        files = self._view_files(dataset)
        if files is None:
            return NotHere({"want": "listing", "number": dataset})
        is_losses = place == files.losses_place
        return NotHere(
            {
                "want": "document",
                "dataset": dataset,
                "place": place,
                "file": files.path(place),
                "is_losses": is_losses,
                "parts": [(part, files.path(part)) for part in files.documents_of_losses()] if is_losses else [],
                "counts_labels": files.counts_labels,
            }
        )


def _no_rendering(dataset: int, place: RenderingPlace) -> NotHere:
    return NotHere(
        {
            "want": "rendering",
            "number": dataset,
            "dataset": place.listing.dataset_id,
            "listing": place.listing.key,
            "image": place.image,
            "target": place.target.name,
        }
    )


def content_of(descriptor: int) -> bytes:
    """The content of a file in memory, which is closed."""
    content = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    os.close(descriptor)
    return content
