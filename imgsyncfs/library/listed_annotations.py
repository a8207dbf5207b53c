"""Annotations as a listing shows them: those of a selection may have other names for classes, or leave some out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imgsyncfs.annotations.class_choice import ClassChoice

if TYPE_CHECKING:
    # Not imported otherwise: numpy comes with it, and a mount's start need not wait for that.
    from imgsyncfs.annotations.house_format import Annotation


def shown_annotation(content: bytes, choice: ClassChoice) -> Annotation:
    """Read a house annotation.

    Args:
        content: the blob's.
        choice: `imgsyncfs.catalog.listing.table.ListingFacts.choice` of the listing that it is shown in.

    Raises:
        AnnotationError: it does not parse; the message does not name the file.
    """
    # Late, as above.
    from imgsyncfs.annotations.house_format import parse_annotation

    return choice.applied(parse_annotation(content))
