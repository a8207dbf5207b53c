"""Images and annotations as a listing and a view show them.

Those of a selection may have other names for classes, or leave some out; those of a view may be of smaller images.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from imgsyncfs.annotations.class_choice import ClassChoice
from imgsyncfs.errors import AnnotationError
from imgsyncfs.formats.contract import ImageInfo
from imgsyncfs.pictures.kinds import PICTURE_DEPTH, PICTURE_EXT

if TYPE_CHECKING:
    # Not imported otherwise: numpy comes with it, and a mount's start need not wait for that.
    from imgsyncfs.annotations.house_format import Annotation
    from imgsyncfs.catalog.listing import Listing


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


def listed_image(listing: Listing, index: int, *, longest_side: int | None = None) -> ImageInfo:
    """An image as a view shows it.

    Args:
        listing: of the image.
        index: of the image in it.
        longest_side: of the picture that is shown in its place, in pixels; None for the image itself.
    """
    height, width, depth = listing.image_info(index)
    stem = listing.stem(index).decode()
    if longest_side is None:
        sizes = (height or None, width or None, depth or None)
        return ImageInfo(listing.dataset_id, stem, listing.ext(index), *sizes, listing.orientation(index))
    if not height or not width:
        return ImageInfo(listing.dataset_id, stem, PICTURE_EXT, depth=PICTURE_DEPTH)
    # Late, as above.
    from imgsyncfs.annotations.resizing import Size, fitted_size

    size = fitted_size(Size(height, width), longest_side)
    return ImageInfo(listing.dataset_id, stem, PICTURE_EXT, size.height, size.width, PICTURE_DEPTH)


def listed_annotation(content: bytes, listing: Listing, index: int, *, longest_side: int | None = None) -> Annotation:
    """An annotation as a view shows it.

    Args:
        content: the blob's.
        listing: of its image.
        index: of the image in it.
        longest_side: as for `listed_image`; the annotation is in the picture's pixels then.

    Raises:
        AnnotationError: it does not parse, or how large its image is is not known; the message does not name the file.
    """
    annotation = shown_annotation(content, listing.facts.choice)
    if longest_side is None:
        return annotation
    height, width, _ = listing.image_info(index)
    return scaled_annotation(annotation, (height, width), longest_side)


def scaled_annotation(annotation: Annotation, stored_size: tuple[int, int], longest_side: int) -> Annotation:
    """An annotation in the pixels of a picture that is shown in its image's place.

    Args:
        annotation: in the image's.
        stored_size: (height, width) of the image, 0 where the catalog does not say it.
        longest_side: of the picture, in pixels.

    Raises:
        AnnotationError: how large its image is is not known; the message does not name the file.
    """
    # Late, as above.
    from imgsyncfs.annotations.house_format import UnknownLabel
    from imgsyncfs.annotations.resizing import Size, fitted_size, resized, resized_shape
    from imgsyncfs.formats.remarks import labelme_shape

    height, width = stored_size
    if not height or not width:
        raise AnnotationError("the catalog does not say how large its image is, so its labels cannot be scaled")
    before = Size(height, width)
    after = fitted_size(before, longest_side)
    annotation = resized(annotation, before, after)
    labels = [
        UnknownLabel({**label.content, "shape": resized_shape(shape, before, after)})
        if isinstance(label, UnknownLabel) and (shape := labelme_shape(label)) is not None
        else label
        for label in annotation.labels
    ]
    return replace(annotation, depth=PICTURE_DEPTH, ext=PICTURE_EXT, labels=tuple(labels))
