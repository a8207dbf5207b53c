"""Text in previews: fonts that have the letters, plates below it, and places where plates hide little.

Pillow's own scalable font is used, so that no font file is needed. It has little more than ASCII: for other letters
fontconfig is asked for a font of the system, and letters that no font has are written as escapes.
"""

from __future__ import annotations

import functools
import logging
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from typing import cast

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from imgsyncfs.annotations.class_colours import Colour
from imgsyncfs.errors import printable
from imgsyncfs.pictures.shapes import DARK

logger = logging.getLogger(__name__)

Box = tuple[float, float, float, float]
"""(x1, y1, x2, y2) in pixels."""

_Boxes = npt.NDArray[np.float64]

_SIDE_PER_FONT_SIZE = 46
_SIDE_PER_CAPTION_FONT_SIZE = 32
_SMALLEST_FONT = 10
_LEAST_LINES = 6
"""A font below 10 pixels is illegible; only a picture lower than 6 lines of text has one."""

_LONGEST_TEXT = 200
_FONTCONFIG_SECONDS = 5.0
_NO_CHARACTER = "\uffff"
_CAPTION_COLOUR: Colour = (255, 255, 255)
_CAPTION_OPACITY = 0.78
_CAPTION_PART = 0.6
"""The caption takes at most this part of the picture's height."""

_MOST_HIDDEN = 0.4
"""A plate is left out if more than this part of it, or of an object, would be hidden and its text stands elsewhere."""

MOST_SOUGHT = 2000
"""After so many texts, only those that stand nowhere yet get one."""

_COST_OF_PLATES, _COST_OF_OBJECTS, _COST_OF_MOVING, _COST_OF_LATER_WISH = 3.0, 1.0, 0.3, 0.02
"""Weights of a place: plates hidden, objects hidden, distance moved in plate heights, rank among the wishes."""


@dataclass(frozen=True)
class Lettering:
    """A text that can be drawn.

    Attributes:
        text: without what cannot be drawn.
        font: has all of its letters.
        size: (width, height) of its plate, in pixels.
        padding: between the plate's edge and the text.
    """

    text: str
    font: ImageFont.FreeTypeFont
    size: tuple[int, int]
    padding: int


@dataclass(frozen=True)
class Plate:
    """A text at its place.

    Attributes:
        lettering: what is written.
        corner: (x, y) of the plate's top left corner.
        colour: of the plate.
    """

    lettering: Lettering
    corner: tuple[int, int]
    colour: Colour


@dataclass(frozen=True)
class Anchor:
    """Where an object wants its text.

    Attributes:
        box: around the part of the object that is in the picture.
        top: (x, y) of its highest point, for a box the top left corner.
        text: what is to be written.
        colour: of the plate.
        centred: the text is centred on `top` instead of beginning there.
    """

    box: Box
    top: tuple[float, float]
    text: str
    colour: Colour
    centred: bool


def font_size_for(size: tuple[int, int], side_per_font_size: float = _SIDE_PER_FONT_SIZE) -> int:
    """Give the size of letters, in pixels, for a picture of (width, height) pixels."""
    wanted = max(_SMALLEST_FONT, round(sqrt(size[0] * size[1]) / side_per_font_size))
    return max(1, min(wanted, size[1] // _LEAST_LINES))


def place_plates(
    anchors: Iterable[Anchor], size: tuple[int, int], *, gap: float, taken: Sequence[Box] = ()
) -> list[Plate]:
    """Find places for the texts of objects: beside the object, within the picture, on other things only at need.

    Args:
        anchors: of the objects; the first ones get the best places.
        size: (width, height) of the picture.
        gap: pixels to keep between an object's box and its text.
        taken: where something else is written.

    Returns:
        The plates. Where there is no room for a text that stands elsewhere already, it is left out: the colour still
        tells the class.
    """
    anchors = list(anchors)
    objects = np.array([anchor.box for anchor in anchors], dtype=np.float64).reshape(-1, 4)
    occupied = np.empty((len(taken) + len(anchors), 4))
    occupied[: len(taken)] = np.array(taken, dtype=np.float64).reshape(-1, 4)
    count = len(taken)
    plates: list[Plate] = []
    written: set[str] = set()
    font_size = font_size_for(size)
    for index, anchor in enumerate(anchors):
        if index >= MOST_SOUGHT and (anchor.text in written or len(plates) >= 2 * MOST_SOUGHT):
            # Each text is compared with all objects.
            continue
        lettering = lettering_for(anchor.text, font_size, size[0])
        wishes = _wishes(anchor, lettering.size, gap)
        corners = [_within(wish, lettering.size, size) for wish in wishes]
        boxes = np.array([_box_at(corner, lettering.size) for corner in corners], dtype=np.float64)
        near = _near(objects, boxes)
        near[index] = False
        costs, hidden = _costs(
            boxes,
            moved=np.abs(boxes[:, :2] - wishes),
            itself=objects[index : index + 1],
            others=objects[near],
            occupied=occupied[:count][_near(occupied[:count], boxes)],
        )
        best = int(costs.argmin())
        if hidden[best] > _MOST_HIDDEN and anchor.text in written:
            continue
        written.add(anchor.text)
        plates.append(Plate(lettering, corners[best], anchor.colour))
        occupied[count] = boxes[best]
        count += 1
    return plates


def draw_plates(picture: Image.Image, plates: Iterable[Plate]) -> None:
    """Draw texts on plates in their colours, with a dark rim."""
    pen = ImageDraw.Draw(picture)
    for plate in plates:
        x1, y1, x2, y2 = _box_at(plate.corner, plate.lettering.size)
        rim = max(1, plate.lettering.padding // 3)
        pen.rectangle([x1, y1, x2 - 1, y2 - 1], fill=plate.colour, outline=DARK, width=rim)
        _write(pen, plate.lettering, plate.corner, DARK)


def draw_caption(picture: Image.Image, lines: Sequence[str], objects: _Boxes) -> list[Box]:
    """Write lines about the whole picture on a dark plate, in the corner where it hides least.

    Args:
        picture: RGB.
        lines: what to write; what does not fit is counted in the last line.
        objects: (n, 4) of x1, y1, x2, y2: what should not be hidden.

    Returns:
        Where the caption is: one box, or none if there are no lines.
    """
    if not lines:
        return []
    font_size = font_size_for(picture.size, _SIDE_PER_CAPTION_FONT_SIZE)
    line_height = lettering_for("", font_size, picture.width).size[1]
    room = max(1, int(_CAPTION_PART * picture.height / line_height))
    if len(lines) > room:
        lines = [*lines[: room - 1], f"... {len(lines) - room + 1} more"]
    letterings = [lettering_for(line, font_size, picture.width) for line in lines]
    width = max(each.size[0] for each in letterings)
    height = sum(each.size[1] for each in letterings)
    right, bottom = max(0, picture.width - width), max(0, picture.height - height)
    corner = min(
        ((0, 0), (right, 0), (0, bottom), (right, bottom)),
        key=lambda each: _overlaps(objects, np.array([_box_at(each, (width, height))])).sum(),
    )
    stencil = Image.new("L", (width, height), round(255 * _CAPTION_OPACITY))
    picture.paste(DARK, corner, stencil)
    pen = ImageDraw.Draw(picture)
    x, y = corner
    for each in letterings:
        _write(pen, each, (x, y), _CAPTION_COLOUR)
        y += each.size[1]
    return [_box_at(corner, (width, height))]


def lettering_for(text: str, font_size: int, width: int) -> Lettering:
    """Make a text fit to be drawn.

    Args:
        text: anything; control characters are escaped.
        font_size: in pixels.
        width: most that its plate may be wide, in pixels; a longer text is cut and ends in dots.

    Returns:
        The text with a font.
    """
    padding = max(1, round(font_size / 5))
    shown, font = _readable(printable(text[:_LONGEST_TEXT]), font_size)
    room = max(1, width - 2 * padding)
    if font.getlength(shown) > room:
        fitting = len(shown)
        while fitting > 1 and font.getlength(shown[:fitting] + "...") > room:
            fitting -= 1
        shown = shown[:fitting] + "..."
    ascent, descent = font.getmetrics()
    size = (min(width, ceil(font.getlength(shown)) + 2 * padding), ascent + descent + padding)
    return Lettering(shown, font, size, padding)


def _wishes(anchor: Anchor, plate: tuple[int, int], gap: float) -> list[tuple[float, float]]:
    """Where the top left corner of a plate may be, the best first: above, below, right, left, and within the object."""
    x1, y1, x2, y2 = anchor.box
    width, height = plate
    left = anchor.top[0] - (width / 2 if anchor.centred else gap)
    return [
        (left, y1 - gap - height),
        (left, y2 + gap),
        (x2 + gap, y1),
        (x1 - gap - width, y1),
        (left, y1 + gap),
        (left, y2 - gap - height),
    ]


def _costs(boxes: _Boxes, *, moved: _Boxes, itself: _Boxes, others: _Boxes, occupied: _Boxes) -> tuple[_Boxes, _Boxes]:
    """How bad (n, 4) places for a plate are that were `moved` (n, 2) from where they were wished.

    Gives (n,) costs, and (n,) the largest part of a plate, or of an object by it, that is hidden.
    """
    height = boxes[0, 3] - boxes[0, 1]
    areas = _areas(boxes)
    on_plates = _overlaps(occupied, boxes).sum(axis=1) / areas
    # A small object may be hidden as a whole by a part of the plate.
    on_others = (_overlaps(others, boxes) / np.minimum(areas[:, None], _areas(others))).max(axis=1, initial=0.0)
    on_itself = _overlaps(itself, boxes)[:, 0] / areas
    costs = (
        _COST_OF_PLATES * on_plates
        + _COST_OF_OBJECTS * (on_others + on_itself / 2)
        + _COST_OF_MOVING * (moved[:, 0] * 0.2 + moved[:, 1]) / height
        + _COST_OF_LATER_WISH * np.arange(len(boxes))
    )
    return costs, np.maximum(on_plates, on_others)


def _near(boxes: _Boxes, places: _Boxes) -> npt.NDArray[np.bool_]:
    """Which of (n, 4) boxes meet the box around all places: few, so that the arithmetic on them is short."""
    low, high = places[:, :2].min(axis=0), places[:, 2:].max(axis=0)
    meets: npt.NDArray[np.bool_] = ((boxes[:, :2] < high) & (boxes[:, 2:] > low)).all(axis=1)
    return meets


def _within(wish: tuple[float, float], plate: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """The corner nearest to a wish at which a plate lies within the picture, as far as it can."""
    x, y = (max(0, min(round(wish[axis]), size[axis] - plate[axis])) for axis in (0, 1))
    return x, y


def _box_at(corner: tuple[int, int], size: tuple[int, int]) -> Box:
    return corner[0], corner[1], corner[0] + size[0], corner[1] + size[1]


def _overlaps(boxes: _Boxes, others: _Boxes) -> _Boxes:
    """The areas, in pixels, that (m, 4) boxes share with (n, 4) others, as (n, m)."""
    low = np.maximum(boxes[None, :, :2], others[:, None, :2])
    high = np.minimum(boxes[None, :, 2:], others[:, None, 2:])
    areas: _Boxes = np.clip(high - low, 0, None).prod(axis=2)
    return areas


def _areas(boxes: _Boxes) -> _Boxes:
    """The areas of (n, 4) boxes, in pixels; of one without any, 1."""
    areas: _Boxes = np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), 1.0)
    return areas


def _write(pen: ImageDraw.ImageDraw, lettering: Lettering, corner: tuple[int, int], colour: Colour) -> None:
    place = (corner[0] + lettering.padding, corner[1] + lettering.padding // 2)
    pen.text(place, lettering.text, fill=colour, font=lettering.font)


@functools.lru_cache(maxsize=1024)
def _readable(text: str, font_size: int) -> tuple[str, ImageFont.FreeTypeFont]:
    """A text and a font that has all of its letters; letters that none has are escaped."""
    font = _default_font(font_size)
    missing = _missing(text, font)
    if not missing:
        return text, font
    other = _system_font(frozenset(missing), font_size)
    if other is not None and not _missing(text, other):
        return text, other
    return "".join(ascii(letter)[1:-1] if letter in missing else letter for letter in text), font


def _missing(text: str, font: ImageFont.FreeTypeFont) -> list[str]:
    """The letters of a text that a font shows as its sign for an unknown one."""
    unknown = _glyph(font, _NO_CHARACTER)
    return [letter for letter in dict.fromkeys(text) if letter.strip() and _glyph(font, letter) == unknown]


def _glyph(font: ImageFont.FreeTypeFont, letter: str) -> tuple[tuple[int, int], bytes]:
    image = font.getmask(letter)
    return image.size, bytes(image)


@functools.lru_cache(maxsize=32)
def _default_font(size: int) -> ImageFont.FreeTypeFont:
    # Always a scalable one when a size is asked for.
    return cast("ImageFont.FreeTypeFont", ImageFont.load_default(size))


@functools.lru_cache(maxsize=256)
def _system_font(letters: frozenset[str], size: int) -> ImageFont.FreeTypeFont | None:
    """The font that fontconfig thinks best for some letters; None if there is no fontconfig or no font."""
    charset = " ".join(f"{ord(letter):x}" for letter in sorted(letters))
    command = ["fc-match", "--format=%{file}\n%{index}", f":charset={charset}"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=_FONTCONFIG_SECONDS, check=True)
        file, _, index = found.stdout.partition("\n")
        return ImageFont.truetype(file, size, index=int(index or 0))
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        logger.info("no font of the system for %s: %s", ascii("".join(sorted(letters))), error)
        return None
