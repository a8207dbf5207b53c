"""Fingerprints of inputs: they change with an input's content, so that findings about it can be kept."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from imgsyncfs.stores.contract import BlobInfo


def file_fingerprint(path: Path, status: os.stat_result) -> str:
    """A fingerprint of a file, given what `Path.stat` says: it changes when the file is moved, resized or written."""
    return fingerprint(b"file", os.fsencode(path.absolute()), b"%d %d" % (status.st_size, status.st_mtime_ns))


def blob_fingerprint(store_url: str, info: BlobInfo) -> str:
    """A fingerprint of a blob, given what its store says: it changes when the blob is replaced."""
    return fingerprint(
        b"blob", os.fsencode(store_url), os.fsencode(info.blob), b"%d" % info.byte_count, os.fsencode(info.etag)
    )


def fingerprint(*parts: bytes) -> str:
    """A fingerprint of bytes: it changes with any of them."""
    return hashlib.blake2b(b"\0".join(parts), digest_size=20).hexdigest()
