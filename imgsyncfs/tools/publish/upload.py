"""Bring files into a store, small ones in packs, so that an interrupted upload goes on where it stopped.

Blobs bear names made from their content: what lies in the store under its name is finished and right, and is neither
read nor sent again. Each file is checked once more against its digest on its way out, so that a file that changed
meanwhile is never published under the findings of another content.
"""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imgsyncfs.blob_layout import EXTENT_BYTES, LOOSE_FILE_BYTES, PACK_BYTES
from imgsyncfs.errors import AnnotationError, PublishError, printable
from imgsyncfs.tools.publish.packing import Pack, plan_packs, write_pack
from imgsyncfs.workers.threads import map_in_order

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from imgsyncfs.stores.contract import Store
    from imgsyncfs.workers.progress import Progress

PACK_THREADS = 4
"""One upload fills a fast line, the others hide the making of packs. Each has up to 64 MiB in a temporary file."""

LOOSE_THREADS = 8
"""One small PUT waits for the server most of its time; beyond eight the Azure SDK's own work is the limit."""

LONGEST_BLOB_FILE_NAME = 200
"""Bytes. A local store's file system takes 255, and some of it is needed while the file is written."""


@dataclass(frozen=True, slots=True)
class UploadFile:
    """A file that is to be brought into a store.

    Attributes:
        stem: its name without the extension.
        ext: the extension without the dot.
        byte_count: its length.
        md5: digest of its content, in hexadecimal.
        read: gives the content.
    """

    stem: str
    ext: str
    byte_count: int
    md5: str
    read: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a file lies in a store.

    Attributes:
        blob: name of the blob.
        offset: where in it the file begins, in bytes.
    """

    blob: str
    offset: int


@dataclass(frozen=True, slots=True)
class Uploader:
    """Uploads one dataset's files.

    Attributes:
        store: where to.
        dataset_id: what the blobs' names begin with.
        present: the blobs that lie there already: name to length.
        loose: make every file a blob of its own.
        progress: in bytes.
        extent_bytes: length of a pack's extents.
        pack_bytes: greatest length of a pack.
    """

    store: Store
    dataset_id: str
    present: Mapping[str, int]
    loose: bool
    progress: Progress
    extent_bytes: int = EXTENT_BYTES
    pack_bytes: int = PACK_BYTES

    def upload(self, files: Sequence[UploadFile], *, kind: str) -> tuple[list[Placement], int]:
        """Bring files into the store.

        Args:
            files: in the dataset's order.
            kind: ``images`` or ``annotations``, which lie in packs of their own.

        Returns:
            Where each file lies, in the same order; and how many bytes were sent.

        Raises:
            PublishError: a file changed since it was checked, or there is no space for a temporary file.
            StoreError: what the store says.
        """
        placements: dict[int, Placement] = {}
        packed = [index for index, file in enumerate(files) if not self.loose and file.byte_count < LOOSE_FILE_BYTES]
        alone = sorted(set(range(len(files))).difference(packed))
        sent = 0
        counts = map_in_order(self._send_loose, (files[index] for index in alone), threads=LOOSE_THREADS)
        for index, count in zip(alone, counts, strict=True):
            placements[index] = Placement(self._loose_blob(files[index]), 0)
            sent += count
            self.progress.advance(files[index].byte_count)
        small = [files[index] for index in packed]
        packs = plan_packs(
            [(file.byte_count, file.md5) for file in small],
            prefix=f"{self.dataset_id}/{kind}",
            extent_bytes=self.extent_bytes,
            pack_bytes=self.pack_bytes,
        )
        # Files that are all alike make packs that are all alike: one blob.
        different = list({pack.blob: pack for pack in packs}.values())
        counts = map_in_order(lambda pack: self._send_pack(pack, small), different, threads=PACK_THREADS)
        for pack, count in zip(different, counts, strict=True):
            sent += count
            self.progress.advance(sum(member.byte_count for member in pack.members))
        for pack in packs:
            placements.update((packed[member.index], Placement(pack.blob, member.offset)) for member in pack.members)
        return [placements[index] for index in range(len(files))], sent

    def _send_loose(self, file: UploadFile) -> int:
        blob = self._loose_blob(file)
        if self.present.get(blob) == file.byte_count:
            return 0
        self.store.write(blob, _content(file), md5=file.md5)
        return file.byte_count

    def _send_pack(self, pack: Pack, files: Sequence[UploadFile]) -> int:
        if self.present.get(pack.blob) == pack.byte_count:
            return 0
        try:
            # A file without a name: whatever ends this process, nothing is left behind.
            with tempfile.TemporaryFile() as target:
                md5 = write_pack(pack, lambda index: _content(files[index]), target, extent_bytes=self.extent_bytes)
                target.flush()
                self.store.write(pack.blob, Path(f"/proc/self/fd/{target.fileno()}"), md5=md5)
        except OSError as error:
            raise PublishError(
                f"A pack cannot be written to the temporary folder ({error.strerror}); make room there, or set TMPDIR."
            ) from error
        return pack.byte_count

    def _loose_blob(self, file: UploadFile) -> str:
        name = f"{file.stem}.{file.md5[:12]}.{file.ext}"
        if len(name.encode()) > LONGEST_BLOB_FILE_NAME:
            name = f"{file.md5}.{file.ext}"
        return f"{self.dataset_id}/{name}"


def present_blobs(store: Store, dataset_id: str) -> dict[str, int]:
    """Return what lies in a store of a dataset already: blob name to length."""
    return {info.blob: info.byte_count for info in store.list(f"{dataset_id}/")}


def _content(file: UploadFile) -> bytes:
    """Read a file and see that it still is what was checked."""
    name = printable(f"{file.stem}.{file.ext}")
    try:
        content = file.read()
    except (PublishError, AnnotationError) as error:
        raise PublishError(f"{name} was checked, and now {error}; publish again.") from error
    if len(content) != file.byte_count or hashlib.md5(content, usedforsecurity=False).hexdigest() != file.md5:
        raise PublishError(f"{name} changed while it was being published; publish again.")
    return content
