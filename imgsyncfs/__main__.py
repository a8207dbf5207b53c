"""``python -m imgsyncfs`` is the command ``imgsyncfs``."""

from __future__ import annotations

from imgsyncfs.cli import main

if __name__ == "__main__":
    main()
