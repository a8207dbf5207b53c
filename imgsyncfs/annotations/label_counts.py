"""What an annotation says, in short: the classes of its objects with their numbers, and its classifications.

A catalog keeps this of each annotation, so that nobody has to read annotations to know which classes there are, or
which images show a person.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    # Not imported otherwise: numpy comes with it, and who asks catalogs for labels need not wait for that.
    from imgsyncfs.annotations.house_format import Annotation


class LabelCount(NamedTuple):
    """One thing that an annotation says.

    Attributes:
        label_name: of a classification, for example ``Gender``; ``""`` for objects, and for flags of labelme's, which
            are classifications without a name.
        label_value: the class of the objects, or the classification's label, for example ``Female``.
        object_count: number of the objects of the class; 0 for a classification.
    """

    label_name: str
    label_value: str
    object_count: int


def count_labels(annotation: Annotation) -> tuple[LabelCount, ...]:
    """What an annotation says, each thing once, in the order in which the things first appear.

    Numbers about the whole image (``reg``) and labels of unknown types are not among them.
    """
    # Late, as above.
    from imgsyncfs.annotations.house_format import ClassificationLabel, ObjectLabel

    counts: Counter[tuple[str, str, bool]] = Counter()
    for label in annotation.labels:
        if isinstance(label, ObjectLabel):
            counts.update(("", item.class_name, True) for item in label.objects)
        elif isinstance(label, ClassificationLabel) and (label.label_name.strip() or label.label.strip()):
            counts[label.label_name.strip(), label.label.strip(), False] = 0
    return tuple(LabelCount(name, value, count) for (name, value, _), count in counts.items())
