"""Files that take long to render: each is rendered by a process of its own, within limits of time and memory.

A responder renders only what takes some milliseconds (`takes_long`): others wait for it meanwhile. How long the rest
takes depends on what somebody has published: a million boxes take gigabytes, and twenty masks of 16,384 x 16,384
pixels, 1.6 kB of annotation, minutes. So a process is forked for each, and killed when its time is over. It puts what
it made into the cache, where responders find it, so that it is rendered once and not for each part that is read.
"""

from __future__ import annotations

import importlib
import logging
import math
import os
import resource
import threading
from dataclasses import asdict
from functools import cache
from hashlib import blake2b
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from imgsyncfs import __version__
from imgsyncfs.annotations.class_choice import ClassChoice
from imgsyncfs.cache import CacheWriter, extents_folder
from imgsyncfs.errors import ImgsyncfsError
from imgsyncfs.formats.registry import CONVERTIBLE, HOUSE, FormatDescription, ImageInfo, Loss
from imgsyncfs.library.listed_annotations import listed_image, scaled_annotation, shown_annotation
from imgsyncfs.library.views.registry import find_view
from imgsyncfs.settings.library import LibrarySettings
from imgsyncfs.workers.frames import write_frame
from imgsyncfs.workers.limits import limit, limit_memory
from imgsyncfs.workers.process import describe_error

if TYPE_CHECKING:
    # Not imported otherwise: numpy comes with it, and a mount's start need not wait for that.
    from imgsyncfs.annotations.house_format import Annotation
    from imgsyncfs.catalog.listing import Listing

logger = logging.getLogger(__name__)

QUICK_BYTES = 64 << 10
"""An annotation of this length renders within 40 ms in every format."""

QUICK_PIXELS = 4 << 20
"""So do masks that cover so many pixels together: a PNG of as many takes 65 ms."""

LEAST_MASK_PIXELS = 16 << 10
"""What the smallest mask counts as."""

MOST_UNCACHED_BYTES = 64 << 20
"""The longest file that is handed to a responder if the cache has no room for it."""

RUN = "imgsyncfs.library.rendered_alone:render_alone"

_KEY_PREFIX = "rendering|"

_OWN_PACKAGE = __name__.partition(".")[0]


class RenderingLimits(NamedTuple):
    """What the rendering of one file may take.

    Attributes:
        seconds: of time, and of a core.
        byte_count: of memory, beside what the process has before.
    """

    seconds: float = 60.0
    byte_count: int = 2 << 30


class TakesLong(Exception):  # no error: another process renders it
    """A file is not for this process to render."""


class RenderingPlace(NamedTuple):
    """Which file is to be rendered.

    Attributes:
        listing: the dataset's.
        image: index of the image in it; it has an annotation.
        target: the format.
        view: name of the view that it is in; empty for the dataset's own directory.
        classes: of the dataset, in its order.
        longest_side: of the picture that is shown in the image's place, in pixels; None for the image itself.
    """

    listing: Listing
    image: int
    target: FormatDescription
    view: str
    classes: tuple[str, ...]
    longest_side: int | None = None

    @property
    def key(self) -> str:
        """Its name in the cache: another one whenever its content would be another."""
        listing = self.listing
        parts = [__version__, _version_of(self.target), self.view, self.target.name, listing.dataset_id, listing.key]
        digest = blake2b(
            orjson.dumps([*parts, self.image, self.classes, self.longest_side]), digest_size=20
        ).hexdigest()
        return f"{_KEY_PREFIX}{listing.dataset_id}/{digest}"

    @property
    def name(self) -> str:
        """The annotation's name, for messages."""
        return f"{self.listing.dataset_id}/{self.listing.stem(self.image).decode()}.json"


@cache
def _version_of(target: FormatDescription) -> str:
    package = target.place.partition(":")[0].partition(".")[0]
    if package == _OWN_PACKAGE:
        return ""
    return " ".join([f"{name} {version(name)}" for name in packages_distributions().get(package, [])])


def takes_long(annotation: Annotation) -> bool:
    """Whether the masks of an annotation may take long to draw.

    Raises:
        AnnotationError: the run lengths of a mask are damaged.
    """
    # Late, as above.
    from imgsyncfs.annotations.geometry import mask_bounds
    from imgsyncfs.annotations.house_format import Mask, ObjectLabel

    masks = [
        item
        for label in annotation.labels
        if isinstance(label, ObjectLabel)
        for item in label.objects
        if isinstance(item, Mask)
    ]
    pixels = len(masks) * LEAST_MASK_PIXELS
    if pixels + sum(mask.size[0] * mask.size[1] for mask in masks) <= QUICK_PIXELS:
        return False
    for mask in masks:
        bounds = mask_bounds(mask.size, mask.counts)
        if bounds is not None:
            x1, y1, x2, y2 = bounds
            pixels += (x2 - x1 + 1) * (y2 - y1 + 1)
        if pixels > QUICK_PIXELS:
            return True
    return False


def alone_arguments(
    place: RenderingPlace, settings: LibrarySettings, limits: RenderingLimits, *, reports_losses: bool
) -> dict[str, Any]:
    """The arguments for `render_alone`, which hold no secret."""
    listing, index = place.listing, place.image
    image = listed_image(listing, index, longest_side=place.longest_side)
    return {
        "view": place.view,
        "target": place.target.name,
        "choice": asdict(listing.facts.choice),
        "image": asdict(image),
        "stored_size": listing.image_info(index)[:2],
        "longest_side": place.longest_side,
        "key": place.key,
        "reports_losses": reports_losses,
        "limits": [*limits],
        "cache": {
            "folder": str(extents_folder(Path(settings.cache_dir))),
            "size_limit": settings.cache_size,
            "keep_free": settings.keep_free,
        },
    }


def render_alone(arguments: dict[str, Any], descriptors: list[int]) -> None:
    """Render a file, in a process that was forked for it (`imgsyncfs.workers.template.Run`).

    Args:
        arguments: of `alone_arguments`.
        descriptors: of the annotation, of the classes (JSON), of the file for the answer, and of a pipe that ends with
            whoever asks.
    """
    source, classes, answer, asking = descriptors
    threading.Thread(target=_end_with, args=(asking,), daemon=True).start()
    os.nice(10)
    # What is imported is not what is rendered.
    importlib.import_module(_target(arguments).place.partition(":")[0])
    limits = RenderingLimits(*arguments["limits"])
    limit(resource.RLIMIT_CPU, math.ceil(limits.seconds))
    limit_memory(limits.byte_count)
    with os.fdopen(answer, "wb") as stream:
        try:
            header, content = _rendered(arguments, _content(source), orjson.loads(_content(classes)))
        except MemoryError:
            header, content = {"is_beyond": True}, b""
        except Exception as error:
            if not isinstance(error, ImgsyncfsError):
                logger.exception("A file could not be rendered: %s", arguments["image"]["name"])
            header, content = {"error": describe_error(error)}, b""
        write_frame(stream, header, content)


def _rendered(arguments: dict[str, Any], source: bytes, classes: list[str]) -> tuple[dict[str, Any], bytes]:
    annotation = shown_annotation(source, ClassChoice.from_fields(arguments["choice"]))
    if arguments["longest_side"] is not None:
        annotation = scaled_annotation(annotation, tuple(arguments["stored_size"]), arguments["longest_side"])
    image = ImageInfo(**{**arguments["image"], "classes": tuple(classes)})
    made = _target(arguments).render(annotation, image)
    losses = [[loss.what, loss.count, loss.reason] for loss in made.losses] if arguments["reports_losses"] else []
    kept = arguments["cache"]
    writer = CacheWriter(Path(kept["folder"]), size_limit=kept["size_limit"], keep_free=kept["keep_free"])
    is_kept = writer.put(arguments["key"], made.content)
    writer.close()
    header = {"length": len(made.content), "is_kept": is_kept, "losses": losses}
    return header, b"" if is_kept or len(made.content) > MOST_UNCACHED_BYTES else made.content


def _target(arguments: dict[str, Any]) -> FormatDescription:
    target = find_view(arguments["view"]).target if arguments["view"] else CONVERTIBLE[arguments["target"]]
    return CONVERTIBLE[HOUSE] if target is None else target


def losses_in(header: dict[str, Any]) -> list[Loss]:
    """What a file does not show, from the header of the answer."""
    return [Loss(*loss) for loss in header["losses"]]


def _end_with(asking: int) -> None:
    os.read(asking, 1)
    os._exit(1)


def _content(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as file:
        file.seek(0)
        return file.read()
