"""Draw the people and faces of the demo pictures.

A figure is drawn inside a `Frame`: a box in the picture, upright or turned, in which the figure touches all four sides.
The box that labels the figure is therefore right by construction, whatever its size and angle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from collections.abc import Iterable

Colour = tuple[int, int, int]
Point = tuple[float, float]

SUPERSAMPLING = 2
"""Everything is drawn at twice its size and reduced: soft edges look better, and cost fewer bytes in a JPEG."""

SKINS: tuple[Colour, ...] = ((244, 208, 177), (224, 172, 126), (198, 134, 92), (141, 85, 54), (96, 62, 44))
HAIRS: tuple[Colour, ...] = ((40, 30, 26), (84, 56, 36), (142, 98, 54), (186, 158, 108), (150, 150, 152))
CLOTHES: tuple[Colour, ...] = (
    (178, 62, 58),
    (54, 94, 150),
    (72, 128, 92),
    (222, 176, 72),
    (120, 88, 140),
    (226, 226, 222),
    (62, 68, 80),
    (206, 122, 82),
)
TROUSERS: tuple[Colour, ...] = ((44, 52, 76), (66, 66, 70), (112, 100, 84), (88, 104, 128))
MASKS: tuple[Colour, ...] = ((150, 200, 224), (236, 240, 240), (58, 62, 70))


class Canvas:
    """A picture being drawn, in pixels of the finished one."""

    def __init__(self, width: int, height: int, colour: Colour) -> None:
        self.width = width
        self.height = height
        self._large = Image.new("RGB", (width * SUPERSAMPLING, height * SUPERSAMPLING), colour)
        self._draw = ImageDraw.Draw(self._large)

    def polygon(self, points: Iterable[Point], colour: Colour) -> None:
        """Fill a polygon."""
        self._draw.polygon([(x * SUPERSAMPLING, y * SUPERSAMPLING) for x, y in points], fill=colour)

    def line(self, points: Iterable[Point], colour: Colour, thickness: float) -> None:
        """Draw a line through points."""
        width = max(1, round(thickness * SUPERSAMPLING))
        self._draw.line(
            [(x * SUPERSAMPLING, y * SUPERSAMPLING) for x, y in points], fill=colour, width=width, joint="curve"
        )

    def rectangle(self, x1: float, y1: float, x2: float, y2: float, colour: Colour) -> None:
        """Fill an upright rectangle."""
        self.polygon([(x1, y1), (x2, y1), (x2, y2), (x1, y2)], colour)

    def ellipse(self, x: float, y: float, radius_x: float, radius_y: float, colour: Colour) -> None:
        """Fill an upright ellipse around (x, y)."""
        self.polygon(_ellipse_points(0, 0, radius_x, radius_y, at=(x, y)), colour)

    def finished(self) -> Image.Image:
        """Return the picture at its own size."""
        return self._large.resize((self.width, self.height), Image.Resampling.BOX)


def _ellipse_points(
    x: float,
    y: float,
    radius_x: float,
    radius_y: float,
    *,
    at: Point = (0.0, 0.0),
    start: float = 0.0,
    stop: float = 360.0,
) -> list[Point]:
    """Return points on an ellipse, from one angle to another in degrees, clockwise from +x."""
    return [
        (at[0] + x + radius_x * math.cos(math.radians(degrees)), at[1] + y + radius_y * math.sin(math.radians(degrees)))
        for degrees in np.linspace(start, stop, 24 + round(max(radius_x, radius_y) / 4)).tolist()
    ]


@dataclass(frozen=True)
class Frame:
    """A box in the picture that a figure fills.

    Attributes:
        x: centre of the box, pixels.
        y: centre of the box, pixels.
        across: the box's length from one shoulder to the other, pixels.
        along: the box's length from head to foot, pixels.
        turn: how far the figure is turned clockwise from standing upright, radians.
    """

    x: float
    y: float
    across: float
    along: float
    turn: float = 0.0

    def points(self, local: Iterable[Point]) -> list[Point]:
        """Move points counted from the box's top middle, x to the right shoulder, y to the feet, into the picture's."""
        cosine, sine = math.cos(self.turn), math.sin(self.turn)
        moved = ((x, y - self.along / 2) for x, y in local)
        return [(self.x + x * cosine - y * sine, self.y + x * sine + y * cosine) for x, y in moved]


@dataclass(frozen=True)
class Look:
    """What somebody looks like.

    Attributes:
        skin, hair, clothes, trousers: colours.
        masked: the colour of a mask over mouth and nose, or None.
        mouth: how far the corners of the mouth are raised: -1 sad, 0 calm, 1 happy.
        hand_raised: the right hand is up.
        long_hair: the hair falls beside the face.
    """

    skin: Colour
    hair: Colour
    clothes: Colour
    trousers: Colour
    masked: Colour | None = None
    mouth: float = 0.3
    hand_raised: bool = False
    long_hair: bool = False


def random_look(random: np.random.Generator, *, masked: bool = False, hand_raised: bool = False) -> Look:
    """Dress somebody."""
    return Look(
        skin=SKINS[random.integers(len(SKINS))],
        hair=HAIRS[random.integers(len(HAIRS))],
        clothes=CLOTHES[random.integers(len(CLOTHES))],
        trousers=TROUSERS[random.integers(len(TROUSERS))],
        masked=MASKS[random.integers(len(MASKS))] if masked else None,
        mouth=float(random.uniform(-0.3, 1.0)),
        hand_raised=hand_raised,
        long_hair=bool(random.random() < 0.4),
    )


def shade(colour: Colour, factor: float) -> Colour:
    """Make a colour darker (below 1) or lighter (above 1)."""
    red, green, blue = (min(255, round(part * factor)) for part in colour)
    return red, green, blue


def draw_standing(canvas: Canvas, frame: Frame, look: Look) -> None:
    """Draw somebody standing, seen from the side or, in a turned frame, from under a fisheye lens."""
    half, tall = frame.across / 2, frame.along
    head = min(0.075 * tall, 0.42 * half)
    shoulder_y, hip_y = 2.3 * head, 0.55 * tall
    limb = 0.2 * half

    def fill(points: list[Point], colour: Colour) -> None:
        canvas.polygon(frame.points(points), colour)

    for side in (-1, 1):
        fill(
            [
                (0, hip_y - limb),
                (side * 0.55 * half, hip_y - limb),
                (side * 0.6 * half, tall - 0.03 * tall),
                (side * 0.2 * half, tall - 0.03 * tall),
            ],
            look.trousers,
        )
        fill(
            [
                (side * 0.12 * half, tall - 0.04 * tall),
                (side * 0.62 * half, tall - 0.04 * tall),
                (side * 0.72 * half, tall),
                (side * 0.12 * half, tall),
            ],
            (34, 32, 34),
        )
    for side in (-1, 1):
        raised = look.hand_raised and side == 1
        hand_y = 0.0 if raised else hip_y + 0.02 * tall
        turn = -1 if raised else 1
        outer, inner = side * half, side * (half - limb * 1.4)
        fill(
            [
                (side * 0.55 * half, shoulder_y),
                (side * 0.85 * half, shoulder_y),
                (outer, hand_y + turn * -limb),
                (inner, hand_y + turn * -limb),
            ],
            shade(look.clothes, 0.88),
        )
        fill(
            [
                (outer, hand_y),
                (outer, hand_y + turn * -1.6 * limb),
                (inner, hand_y + turn * -1.6 * limb),
                (inner, hand_y),
            ],
            look.skin,
        )
    fill(
        [
            (-0.72 * half, shoulder_y + 0.02 * tall),
            (-0.45 * half, shoulder_y - 0.3 * head),
            (0.45 * half, shoulder_y - 0.3 * head),
            (0.72 * half, shoulder_y + 0.02 * tall),
            (0.58 * half, hip_y),
            (-0.58 * half, hip_y),
        ],
        look.clothes,
    )
    fill(
        [(-0.4 * head, 1.6 * head), (0.4 * head, 1.6 * head), (0.4 * head, shoulder_y), (-0.4 * head, shoulder_y)],
        shade(look.skin, 0.9),
    )
    if look.long_hair:
        fill(_ellipse_points(0, 1.25 * head, 1.0 * head, 1.2 * head), look.hair)
    fill(_ellipse_points(0, head, 0.85 * head, head), look.hair)
    fill(_ellipse_points(0, 1.2 * head, 0.72 * head, 0.78 * head), look.skin)


def draw_bust(canvas: Canvas, frame: Frame, look: Look) -> None:
    """Draw head, shoulders and arms: somebody who sits, or who stands right under a fisheye lens."""
    half, tall = frame.across / 2, frame.along
    head = min(0.26 * tall, 0.6 * half)

    def fill(points: list[Point], colour: Colour) -> None:
        canvas.polygon(frame.points(points), colour)

    shoulder_y = 1.5 * head
    fill(_ellipse_points(0, tall, half, tall - shoulder_y, start=180, stop=360), look.clothes)
    for side in (-1, 1):
        fill(
            [(side * half, tall), (side * 0.62 * half, tall), (side * 0.55 * half, 0.72 * tall)],
            shade(look.clothes, 0.82),
        )
    fill(
        [(-0.4 * head, 1.5 * head), (0.4 * head, 1.5 * head), (0.3 * head, 2.3 * head), (-0.3 * head, 2.3 * head)],
        shade(look.skin, 0.9),
    )
    if look.long_hair:
        fill(_ellipse_points(0, 1.25 * head, head, 1.15 * head), look.hair)
    fill(_ellipse_points(0, head, 0.88 * head, head), look.hair)
    fill(_ellipse_points(0, 1.22 * head, 0.72 * head, 0.78 * head), look.skin)


def draw_face(canvas: Canvas, frame: Frame, look: Look) -> None:
    """Draw a face that fills the frame from hair to chin and from ear to ear, with a neck and shoulders below it."""
    half, tall = frame.across / 2, frame.along

    def fill(points: list[Point], colour: Colour) -> None:
        canvas.polygon(frame.points(points), colour)

    fill(_ellipse_points(0, 2.15 * tall, 1.9 * half, tall, start=180, stop=360), look.clothes)
    fill(
        [(-0.42 * half, 0.8 * tall), (0.42 * half, 0.8 * tall), (0.5 * half, 1.3 * tall), (-0.5 * half, 1.3 * tall)],
        shade(look.skin, 0.86),
    )
    if look.long_hair:
        fill(
            [
                *_ellipse_points(0, 0.5 * tall, 0.98 * half, 0.5 * tall, start=180, stop=360),
                (0.98 * half, tall),
                (-0.98 * half, tall),
            ],
            look.hair,
        )
    fill(_ellipse_points(0, 0.44 * tall, 0.92 * half, 0.44 * tall), look.hair)
    for side in (-1, 1):
        fill(_ellipse_points(side * 0.86 * half, 0.54 * tall, 0.14 * half, 0.09 * tall), shade(look.skin, 0.92))
    fill(_ellipse_points(0, 0.57 * tall, 0.84 * half, 0.43 * tall), look.skin)
    fill(
        [
            *_ellipse_points(0, 0.45 * tall, 0.86 * half, 0.45 * tall, start=195, stop=345),
            (0.5 * half, 0.24 * tall),
            (-0.55 * half, 0.22 * tall),
        ],
        look.hair,
    )
    for side in (-1, 1):
        eye = side * 0.36 * half
        fill(_ellipse_points(eye, 0.52 * tall, 0.17 * half, 0.045 * tall), (250, 250, 248))
        fill(_ellipse_points(eye, 0.52 * tall, 0.08 * half, 0.042 * tall), (48, 36, 32))
        brow = 0.43 * tall
        fill(
            [
                (eye - 0.2 * half, brow + 0.01 * tall),
                (eye, brow - 0.02 * tall),
                (eye + 0.2 * half, brow + 0.01 * tall),
                (eye, brow + 0.012 * tall),
            ],
            shade(look.hair, 0.8),
        )
    if look.masked is not None:
        fill(
            [
                (-0.8 * half, 0.6 * tall),
                (0, 0.54 * tall),
                (0.8 * half, 0.6 * tall),
                (0.62 * half, 0.85 * tall),
                (0, tall),
                (-0.62 * half, 0.85 * tall),
            ],
            look.masked,
        )
        for fold in (0.7, 0.78):
            canvas.line(
                frame.points([(-0.6 * half, fold * tall), (0, (fold + 0.03) * tall), (0.6 * half, fold * tall)]),
                shade(look.masked, 0.85),
                0.012 * tall,
            )
        return
    fill([(0, 0.55 * tall), (0.13 * half, 0.69 * tall), (-0.13 * half, 0.69 * tall)], shade(look.skin, 0.85))
    smile = 0.04 * tall * look.mouth
    mouth = [(x / 6 * 0.34 * half, 0.8 * tall + smile * (1 - 2 * (x / 6) ** 2)) for x in range(-6, 7)]
    canvas.line(frame.points(mouth), (172, 70, 70), 0.026 * tall)
