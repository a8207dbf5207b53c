"""A reader of DOTA's text that is as strict as mmrotate's: ten fields a row, no header, no blank in a name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DotaRow:
    """What a detector is trained with: four corners, a class, and how difficult the object is."""

    corners: tuple[tuple[float, float], ...]
    name: str
    difficulty: int


def read_dota(content: bytes) -> list[DotaRow]:
    """Read a file; raises whatever mmrotate would."""
    rows = []
    for line in content.decode("utf-8").split("\n")[:-1] if content else ():
        fields = line.split()
        x1, y1, x2, y2, x3, y3, x4, y4 = map(float, fields[:8])
        name, difficulty = fields[8:]
        rows.append(DotaRow(((x1, y1), (x2, y2), (x3, y3), (x4, y4)), name, int(difficulty)))
    return rows
