"""What a failure of a database means: which of our errors it is, and what to do."""

from __future__ import annotations

from dataclasses import dataclass

from imgsyncfs.errors import CatalogError, ImgsyncfsError


class DuplicateRow(CatalogError):
    """A row whose key is there already: somebody else wrote it in the meantime."""


@dataclass(frozen=True)
class FaultKind:
    """One kind of failure.

    Attributes:
        error: the error to be raised.
        remedy: what to do, the end of a sentence.
    """

    error: type[ImgsyncfsError]
    remedy: str
