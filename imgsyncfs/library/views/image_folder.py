"""The layout of image classification: ``<split>/<value>/x.jpg``, as torchvision's ImageFolder, timm and YOLO read it.

The value is that of a classification of each image: the first that its annotation has, or, in the view
``imagefolder:Gender``, that of the name. A directory is there only if an image is in it: to these readers each
directory is a class, hidden ones too, and one without images is an error.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from imgsyncfs.annotations.splits import Split
from imgsyncfs.catalog.naming import file_name_fault
from imgsyncfs.catalog.rows import DatasetLabelsRow
from imgsyncfs.formats.contract import Loss
from imgsyncfs.library.views.contract import NOWHERE, DatasetFacts, Directory, Layout, View
from imgsyncfs.library.views.split import SPLIT_NAMES

if TYPE_CHECKING:
    # Not imported otherwise: numpy comes with it, and a mount's start need not wait for that.
    from imgsyncfs.catalog.listing import Listing
    from imgsyncfs.catalog.listing.columns import Column

NAME = "imagefolder"

_NEVER_IN_NAMES = re.compile(r"[/\x00-\x1f\x7f]")
_LOOKS_ENCODED = re.compile(r"%(?=[0-9A-Fa-f]{2})")


class ImageFolderView(View):
    """Images in a directory for each value of a classification.

    Args:
        label_name: of the classification; None for the first of each image.
    """

    has_splits = True
    has_labels = False
    has_values = True
    takes_label = True

    def __init__(self, label_name: str | None = None) -> None:
        self.name = NAME if label_name is None else f"{NAME}:{label_name}"
        self.label_name = label_name

    def with_parameter(self, parameter: str) -> View | None:
        """The view for the classification of this name; see `View.with_parameter`."""
        return ImageFolderView(parameter) if self.label_name is None and parameter else None

    def shows(self, labels: DatasetLabelsRow | None) -> bool:
        """Datasets that have the classification; see `View.shows`."""
        if labels is None:
            return False
        return bool(labels.label_values) if self.label_name is None else self.label_name in labels.label_values

    def layout(self, listing: Listing, facts: DatasetFacts) -> Layout:
        """A directory for each value in each split that has images with it; see `View.layout`."""
        # Late, as above.
        import numpy as np

        if facts.values is None:
            return Layout(images=np.full(len(listing), NOWHERE, np.int32))
        names = [directory_name(value) for value in facts.values.values]
        splits = facts.splits if facts.splits is not None else np.zeros(len(listing), np.uint8)
        counts = _counts(facts, splits)
        directories = [Directory(0, b"")]
        places = np.full(counts.shape, NOWHERE, np.int32)
        for split, name in enumerate(SPLIT_NAMES):
            shown = [(names[number - 1] or b"", number) for number in np.flatnonzero(counts[split]) if number]
            shown = sorted(each for each in shown if each[0])
            if shown:
                top = len(directories)
                directories.append(Directory(0, name))
                places[split, [number for _, number in shown]] = np.arange(top + 1, top + 1 + len(shown))
                directories += [Directory(top, value) for value, _ in shown]
        return Layout(tuple(directories), places[splits, facts.values.numbers])

    def losses(self, listing: Listing, facts: DatasetFacts) -> Sequence[Loss]:
        """Images without a value, values that no directory can bear, classes that a split lacks; see `View.losses`."""
        # Late, as above.
        import numpy as np

        if facts.values is None:
            return ()
        splits = facts.splits if facts.splits is not None else np.zeros(len(listing), np.uint8)
        counts = _counts(facts, splits)
        totals = counts.sum(axis=0).tolist()
        what = "classification" if self.label_name is None else f"label {self.label_name}"
        losses = [Loss(f"images without a {what}", totals[0], "each directory of this layout is a value of it")]
        for value, count in zip(facts.values.values, totals[1:], strict=True):
            name = directory_name(value)
            if name is None:
                losses.append(Loss(f"images of {value!r:.60}", count, "no directory can bear that name"))
            elif name != value.encode():
                reason = f"no directory can bear that name; they are in {name.decode()}"
                losses.append(Loss(f"images as those of {value!r:.60}", count, reason))
        everywhere = int(np.count_nonzero(counts[:, 1:].sum(axis=0)))
        for split in Split:
            missing = everywhere - int(np.count_nonzero(counts[split, 1:]))
            if 0 < missing < everywhere:
                reason = (
                    "no image there has them; a reader that numbers classes by directory needs the numbers of train"
                )
                losses.append(Loss(f"classes in {SPLIT_NAMES[split].decode()}", missing, reason))
        return [loss for loss in losses if loss.count]


def _counts(facts: DatasetFacts, splits: Column) -> Column:
    """How many images each split has of each value, in a table of splits by numbers of values; 0 is for none."""
    # Late, as above.
    import numpy as np

    if facts.values is None:
        return np.zeros((len(SPLIT_NAMES), 1), np.int64)
    columns = len(facts.values.values) + 1
    together = splits.astype(np.int64) * columns + facts.values.numbers
    return np.bincount(together, minlength=len(SPLIT_NAMES) * columns).reshape(len(SPLIT_NAMES), columns)


def directory_name(value: str) -> bytes | None:
    """The name of a value's directory: the value itself, but for what no name may hold.

    That is percent-encoded, as in URLs, and so is a percent sign that would be taken for such a code: each value has a
    name of its own.

    Args:
        value: of a classification.

    Returns:
        The name; None if the value is empty or too long.
    """
    text = _NEVER_IN_NAMES.sub(lambda found: f"%{ord(found[0]):02X}", _LOOKS_ENCODED.sub("%25", value))
    if text.startswith("."):
        # Hidden ones count as classes, and are not seen.
        text = f"%2E{text[1:]}"
    return text.encode() if file_name_fault(text) is None else None
