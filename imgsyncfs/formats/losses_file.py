"""``LOSSES.txt``: what a dataset's files in a tool's layout do not show, for people to read."""

from __future__ import annotations

from collections.abc import Iterable

from imgsyncfs.formats.contract import Loss

LOSSES_NAME = "LOSSES.txt"


def losses_text(view: str, dataset: str, losses: Iterable[Loss]) -> bytes:
    """Write what a view of a dataset does not show.

    Args:
        view: name of the view, or of the format.
        dataset: id of the dataset, or name of the folder.
        losses: any number for each kind of thing; those of one kind are added up.

    Returns:
        UTF-8, a line for each kind in the order in which kinds came up first; empty if nothing is lost: then there is
        no such file.
    """
    counts: dict[tuple[str, str], int] = {}
    for loss in losses:
        kind = (loss.what, loss.reason)
        counts[kind] = counts.get(kind, 0) + loss.count
    lines = [f"{count:,} {what}: {reason}\n" for (what, reason), count in counts.items() if count]
    if not lines:
        return b""
    return "".join([f"{view} does not show of {dataset}:\n", *lines]).encode(errors="backslashreplace")
