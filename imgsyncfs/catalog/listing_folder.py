"""Where the listings of a dataset are saved."""

from __future__ import annotations

import hashlib
from pathlib import Path


def listing_folder(folder: Path, dataset_id: str) -> Path:
    """The folder of the saved listings of a dataset, or of a selection, within that of all listings."""
    return folder / hashlib.sha256(dataset_id.encode(errors="surrogatepass")).hexdigest()[:32]
