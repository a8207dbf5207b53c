"""A writer of documents with little memory."""

from __future__ import annotations

from typing import Any

from imgsyncfs.library.documents import DocumentWriter

MOST_MEMORY = 100 << 20


class FrugalWriter(DocumentWriter):
    """Writes documents as a mount does, within 100 MiB of memory."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings, most_memory=MOST_MEMORY)
