"""Draw the places of the demo pictures, and say where in them people can stand."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from demo_figures import Canvas, Frame, draw_bust, draw_face, draw_standing, random_look, shade

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from demo_figures import Colour, Look, Point

WALLS: tuple[Colour, ...] = ((214, 208, 196), (196, 206, 212), (206, 212, 200), (222, 210, 200))
FLOORS: tuple[Colour, ...] = ((150, 128, 104), (132, 134, 138), (120, 126, 112), (160, 148, 132))
WOODS: tuple[Colour, ...] = ((150, 108, 70), (178, 140, 98), (108, 84, 64))

LENS_HEIGHT = 3.0
PERSON_HEIGHT = 1.7
PERSON_WIDTH = 0.55
"""Metres: where the fisheye lens hangs, and how tall and wide people are."""


def draw_room(canvas: Canvas, random: np.random.Generator) -> float:
    """Draw a room seen from the side; returns where the floor begins, in pixels from the top."""
    width, height = canvas.width, canvas.height
    horizon = 0.55 * height
    wall, floor = WALLS[random.integers(len(WALLS))], FLOORS[random.integers(len(FLOORS))]
    canvas.rectangle(0, 0, width, horizon, wall)
    canvas.rectangle(0, horizon, width, height, floor)
    canvas.rectangle(0, horizon - 0.015 * height, width, horizon, shade(wall, 0.8))
    for lane in range(-6, 7):
        canvas.line(
            [(width / 2 + lane * 0.09 * width, horizon), (width / 2 + lane * 0.3 * width, height)],
            shade(floor, 0.93),
            1,
        )
    for window in range(int(random.integers(1, 4))):
        left = (0.07 + 0.33 * window + float(random.uniform(0, 0.06))) * width
        canvas.rectangle(left, 0.08 * height, left + 0.2 * width, 0.36 * height, (244, 244, 240))
        canvas.rectangle(left + 0.01 * width, 0.1 * height, left + 0.095 * width, 0.34 * height, (172, 204, 226))
        canvas.rectangle(left + 0.105 * width, 0.1 * height, left + 0.19 * width, 0.34 * height, (182, 210, 228))
    left = float(random.uniform(0.6, 0.85)) * width
    canvas.rectangle(left, 0.42 * height, left + 0.12 * width, 0.62 * height, WOODS[random.integers(len(WOODS))])
    return horizon


def draw_desk(canvas: Canvas, frame: Frame, colour: Colour) -> None:
    """Draw the desk that somebody's bust stands behind; its front edge begins where the frame ends."""
    left, right = frame.x - 1.2 * frame.across, frame.x + 1.2 * frame.across
    top = frame.y + frame.along / 2
    canvas.rectangle(left, top, right, top + 0.16 * frame.along, colour)
    canvas.rectangle(left, top + 0.16 * frame.along, right, top + 0.7 * frame.along, shade(colour, 0.78))


def people_in_room(
    canvas: Canvas, random: np.random.Generator, count: int, *, hands_raised: bool = False
) -> list[tuple[Frame, Look]]:
    """Choose where people stand in a room, the far ones first."""
    slot = canvas.width / count
    people = []
    for number in range(count):
        tall = float(random.uniform(0.42, 0.62)) * canvas.height
        across = min(tall * float(random.uniform(0.32, 0.38)), 0.85 * slot)
        x = slot * (number + 0.5) + float(random.uniform(-0.5, 0.5)) * (slot - across) * 0.9
        feet = 0.5 * canvas.height + 0.72 * tall
        people.append(
            (Frame(x, feet - tall / 2, across, tall), random_look(random, hand_raised=hands_raised and number % 2 == 0))
        )
    return sorted(people, key=lambda person: person[0].y + person[0].along / 2)


def faces_in_room(
    canvas: Canvas, random: np.random.Generator, count: int, *, masked: bool = False
) -> list[tuple[Frame, Look]]:
    """Choose where faces are, in one row (up to three) or two rows."""
    rows = [count] if count <= 3 else [count // 2, count - count // 2]
    faces = []
    for row, in_row in enumerate(rows):
        slot = canvas.width / in_row
        tall = (
            min(0.6 * slot, 0.42 * canvas.height / len(rows)) * float(random.uniform(0.85, 1.0)) * (1.2 if row else 1.0)
        )
        for number in range(in_row):
            size = tall * float(random.uniform(0.9, 1.1))
            x = slot * (number + 0.5) + float(random.uniform(-0.08, 0.08)) * slot
            y = canvas.height * (row + 0.42) / len(rows) + float(random.uniform(-0.04, 0.04)) * canvas.height
            faces.append((Frame(x, y, 0.78 * size, size), random_look(random, masked=masked)))
    return faces


def draw_portrait(canvas: Canvas, frame: Frame, look: Look, backdrop: Colour) -> None:
    """Draw one face before a plain backdrop."""
    canvas.rectangle(0, 0, canvas.width, canvas.height, backdrop)
    canvas.ellipse(frame.x, frame.y, 0.9 * frame.along, 0.95 * frame.along, shade(backdrop, 1.08))
    draw_face(canvas, frame, look)


@dataclass(frozen=True)
class Fisheye:
    """A fisheye lens under the ceiling that looks straight down: equidistant projection, 180 degrees across.

    Attributes:
        size: width and height of the picture, pixels.
    """

    size: int

    @property
    def centre(self) -> float:
        """The lens's axis, in pixels from the left and from the top."""
        return self.size / 2

    def radius(self, distance: float, height: float = 0.0) -> float:
        """Return how many pixels from the centre a thing is seen, `distance` metres away and `height` metres up."""
        return self.size / math.pi * math.atan2(distance, LENS_HEIGHT - height)

    def floor_point(self, x: float, y: float) -> Point:
        """Return where a point of the floor, in metres from the axis, is seen."""
        distance = math.hypot(x, y)
        scale = self.radius(distance) / distance if distance else 0.0
        return self.centre + x * scale, self.centre + y * scale

    def floor_line(self, start: Point, stop: Point) -> list[Point]:
        """Return the curve that a straight line on the floor becomes."""
        steps = [step / 40 for step in range(41)]
        return [
            self.floor_point(start[0] + (stop[0] - start[0]) * step, start[1] + (stop[1] - start[1]) * step)
            for step in steps
        ]

    def person_box(self, angle: float, distance: float) -> tuple[float, float, float, float, float]:
        """Return the box (x, y, w, h, a) of somebody standing there: w goes outwards from the centre, h across."""
        feet, head = self.radius(distance - 0.15), self.radius(distance + 0.1, PERSON_HEIGHT)
        middle = (feet + head) / 2
        across = PERSON_WIDTH * self.size / math.pi / math.hypot(distance, LENS_HEIGHT - 0.75 * PERSON_HEIGHT) * 1.15
        x, y = self.centre + middle * math.cos(angle), self.centre + middle * math.sin(angle)
        return x, y, head - feet, across, math.atan2(y - self.centre, x - self.centre) % math.pi

    def frame(self, box: Sequence[float]) -> Frame:
        """Return the frame for somebody in a box (x, y, w, h, a) whose head points away from the centre."""
        x, y, w, h, a = box
        outwards = (x - self.centre) * math.cos(a) + (y - self.centre) * math.sin(a) >= 0
        return Frame(x, y, across=h, along=w, turn=a + math.pi / 2 if outwards else a - math.pi / 2)

    def draw_floor(self, canvas: Canvas, random: np.random.Generator) -> None:
        """Draw the room: walls all around, a tiled floor, some tables."""
        floor, wall = FLOORS[random.integers(len(FLOORS))], WALLS[random.integers(len(WALLS))]
        wood = WOODS[random.integers(len(WOODS))]
        canvas.rectangle(0, 0, self.size, self.size, (8, 8, 10))
        canvas.ellipse(self.centre, self.centre, self.centre - 2, self.centre - 2, shade(wall, 0.82))
        half_width, half_depth = 14.0, 11.0
        corners = [
            (-half_width, -half_depth),
            (half_width, -half_depth),
            (half_width, half_depth),
            (-half_width, half_depth),
        ]
        outline: list[Point] = []
        for start, stop in zip(corners, corners[1:] + corners[:1], strict=True):
            outline += self.floor_line(start, stop)
        canvas.polygon(outline, floor)
        for number in range(-4, 5):
            canvas.line(
                self.floor_line((number * 2.8, -half_depth), (number * 2.8, half_depth)),
                shade(floor, 0.9),
                self.size / 360,
            )
            canvas.line(
                self.floor_line((-half_width, number * 2.4), (half_width, number * 2.4)),
                shade(floor, 0.9),
                self.size / 360,
            )
        for _ in range(int(random.integers(2, 4))):
            x, y = float(random.uniform(-5, 4)), float(random.uniform(-5, 4))
            table = [(x, y), (x + 1.8, y), (x + 1.8, y + 0.9), (x, y + 0.9)]
            edge: list[Point] = []
            for start, stop in zip(table, table[1:] + table[:1], strict=True):
                edge += self.floor_line(start, stop)
            canvas.polygon(edge, wood)

    def places(self, random: np.random.Generator, count: int) -> Iterator[tuple[float, float]]:
        """Choose (angle, distance) where people stand, none before another."""
        start = float(random.uniform(0, 2 * math.pi))
        for number in range(count):
            angle = start + 2 * math.pi * (number + float(random.uniform(-0.22, 0.22))) / count
            yield angle, float(random.uniform(1.0, 4.8))


def draw_person_under_lens(canvas: Canvas, lens: Fisheye, box: Sequence[float], look: Look) -> None:
    """Draw somebody in a box (x, y, w, h, a): the whole figure in a long box, head and shoulders in another."""
    frame = lens.frame(box)
    if frame.along >= 1.35 * frame.across:
        draw_standing(canvas, frame, look)
    else:
        draw_bust(canvas, frame, look)
