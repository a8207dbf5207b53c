"""Add up what the files of a dataset do not show.

Label files are about an image each. Documents may be about the same images: what several of them do not show counts
once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from imgsyncfs.formats.contract import Loss
from imgsyncfs.tools.sync.record import decode_losses
from imgsyncfs.tools.sync.source import SourceFile


@dataclass
class _Kind:
    """One kind of thing that is not shown.

    Attributes:
        first: where it comes up first.
        counts: number of the things by the name of the documents; label files have none.
    """

    first: tuple[bool, int, int]
    counts: dict[str, int] = field(default_factory=dict)


class DatasetLosses:
    """What the files of a dataset do not show, in all."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str], _Kind] = {}

    def add(self, source: SourceFile, encoded: str) -> None:
        """Add what a file does not show.

        Args:
            source: the file.
            encoded: `imgsyncfs.tools.sync.record.Entry.losses` of it.
        """
        for place, loss in enumerate(decode_losses(encoded) if encoded else ()):
            document = source.name if source.is_document else ""
            first = (source.is_document, source.position, place)
            kind = self._kinds.setdefault((loss.what, loss.reason), _Kind(first))
            kind.first = min(kind.first, first)
            kind.counts[document] = kind.counts.get(document, 0) + loss.count

    def united(self) -> list[Loss]:
        """Each kind once, in the order in which kinds come up in the dataset's order.

        Documents of one name are about different images, those of different names about the same ones.
        """
        kinds = sorted(self._kinds.items(), key=lambda item: item[1].first)
        return [Loss(what, max(kind.counts.values()), reason) for (what, reason), kind in kinds]
