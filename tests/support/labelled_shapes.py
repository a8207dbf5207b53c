"""Pictures of leaves and fruit with their masks and outlines, for what shows such labels."""

from __future__ import annotations

import random
from math import cos, pi, sin
from pathlib import Path

import numpy as np
import orjson
from PIL import Image, ImageDraw

from imgsyncfs.annotations.geometry import compress_counts, encode_run_length

SIZE = (480, 360)

_FRUIT = {"apple": (196, 52, 44), "pear": (186, 178, 62), "plum": (98, 60, 128)}
_LEAF = (74, 122, 58)
_TABLE = (214, 200, 178)


def write_masks(folder: Path, *, count: int) -> Path:
    """A folder of pictures, each with fruit as masks, one of them with a hole, and leaves as polygons."""
    folder.mkdir(parents=True, exist_ok=True)
    chance = random.Random(17)
    for number in range(count):
        picture = Image.new("RGB", SIZE, _TABLE)
        pen = ImageDraw.Draw(picture)
        for y in range(0, SIZE[1], 24):
            pen.line([(0, y), (SIZE[0], y)], fill=(204, 189, 166), width=2)
        places = [(80 + 160 * column, 95 + 170 * row) for column in range(3) for row in range(2)]
        chance.shuffle(places)
        leaves = []
        for _ in range(chance.randint(1, 2)):
            outline = _leaf(chance, *places.pop())
            pen.polygon(outline, fill=_LEAF)
            leaves.append({"class": "leaf", "points": [list(point) for point in outline]})
        masks = []
        names = list(_FRUIT)
        for place in range(chance.randint(2, 4)):
            name = names[(number + place) % len(names)]
            stencil = _fruit(chance, name, *places.pop(), is_ring=place == 0)
            picture.paste(_FRUIT[name], (0, 0), stencil)
            counts = compress_counts(encode_run_length(np.asarray(stencil) > 0))
            masks.append({"class": name, "rle": {"size": [SIZE[1], SIZE[0]], "counts": counts}})
        picture.save(folder / f"table_{number:03}.jpg", quality=88)
        labels = [{"label_type": "seg", "object": masks}, {"label_type": "poly", "object": leaves}]
        annotation = {
            "anno_version": "0.2.0",
            "label_checked": int(number % 4 != 3),
            "height": SIZE[1],
            "width": SIZE[0],
            "depth": 3,
            "ext": "jpg",
            "labels": labels,
        }
        (folder / f"table_{number:03}.json").write_bytes(orjson.dumps(annotation))
    return folder


def _leaf(chance: random.Random, x: float, y: float) -> list[tuple[float, float]]:
    turn, length = chance.uniform(0, pi), chance.uniform(60, 85)
    points = []
    for step in range(24):
        along = pi * step / 12
        right, down = length * cos(along), 0.36 * length * sin(along) * (1 - 0.4 * cos(along))
        points.append((x + right * cos(turn) - down * sin(turn), y + right * sin(turn) + down * cos(turn)))
    return [(round(px, 1), round(py, 1)) for px, py in points]


def _fruit(chance: random.Random, name: str, x: float, y: float, *, is_ring: bool) -> Image.Image:
    stencil = Image.new("L", SIZE)
    pen = ImageDraw.Draw(stencil)
    x, y, radius = x + chance.uniform(-15, 15), y + chance.uniform(-15, 15), chance.uniform(34, 52)
    pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=255)
    if name == "pear":
        pen.ellipse([x - 0.55 * radius, y - 1.7 * radius, x + 0.55 * radius, y], fill=255)
    if is_ring:
        pen.ellipse([x - 0.4 * radius, y - 0.4 * radius, x + 0.4 * radius, y + 0.4 * radius], fill=0)
    return stencil
