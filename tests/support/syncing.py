"""What the tests of sync share: a library of a place, and what lies in a target folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from imgsyncfs.library.library import Library
from imgsyncfs.settings.library import LibrarySettings


@contextmanager
def open_library(
    folder: Path,
    *,
    cache: str = "cache",
    siblings: tuple[str, ...] = (),
    timeout: float = 10.0,
    stores: Mapping[str, Mapping[str, str]] | None = None,
    allowed_stores: tuple[str, ...] = (),
) -> Iterator[Library]:
    """The library of the catalog in a folder, as `publishing.open_place` makes it; another cache begins empty."""
    settings = LibrarySettings(
        catalog=f"sqlite://{folder}/catalog.db",
        password=None,
        stores={url: dict(section) for url, section in (stores or {}).items()},
        cache_dir=str(folder / cache),
        cache_size=1 << 30,
        timeout=timeout,
        siblings=siblings,
        allowed_stores=allowed_stores,
    )
    with Library(settings) as library:
        yield library


def read_again(library: Library) -> None:
    """Let a library see what has been published."""
    library.mirror.refresh()
    library.take_over()


def files_in(folder: Path) -> dict[str, bytes]:
    """Name to content of all files in a folder, temporary ones included; none if it is not there."""
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}
