"""Mount a team's whole catalog of image datasets as plain directories."""

from __future__ import annotations

__version__ = "0.1.0"
