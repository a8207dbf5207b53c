"""The classes of a dataset's objects, and the order that gives them their numbers in formats that number them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # Not imported otherwise: numpy comes with it, and a mount's start need not wait for that.
    from imgsyncfs.annotations.house_format import Annotation


def class_names(annotation: Annotation) -> set[str]:
    """The names of the classes of an annotation's objects."""
    # Late, as above.
    from imgsyncfs.annotations.house_format import ObjectLabel

    return {item.class_name for label in annotation.labels if isinstance(label, ObjectLabel) for item in label.objects}


def class_order(listed: Iterable[str], found: Iterable[str]) -> tuple[str, ...]:
    """Put the classes of a dataset in order, whichever file is read first.

    Args:
        listed: the dataset's column ``classes``, in its order; they keep their places though no object has them.
        found: the classes of its objects, in any order.

    Returns:
        The listed ones, then the others by name (by code points), each once.
    """
    known = dict.fromkeys(listed)
    return (*known, *sorted(set(found).difference(known)))
