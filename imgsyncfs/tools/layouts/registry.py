"""The layouts of folders: the only place that lists them, and how the one of a folder is found."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from imgsyncfs.errors import LayoutError
from imgsyncfs.formats.registry import CONVERTIBLE, FORMATS, HOUSE, READABLE
from imgsyncfs.settings.values import did_you_mean
from imgsyncfs.tools.layouts.beside import BesideLayout
from imgsyncfs.tools.layouts.contract import FolderContents, FolderLayout
from imgsyncfs.tools.layouts.documents import COCO, CVAT, HUGGING_FACE
from imgsyncfs.tools.layouts.side_by_side import DotaLayout, VocLayout
from imgsyncfs.tools.layouts.tree import FolderTree
from imgsyncfs.tools.layouts.yolo import YoloLayout

_RECOGNIZED: tuple[FolderLayout, ...] = (YoloLayout(), COCO, CVAT, HUGGING_FACE, VocLayout(), DotaLayout())
"""What a folder is recognized as; only by their names are others taken."""

_WITH_DIRECTORIES = {layout.name: layout for layout in (*_RECOGNIZED, YoloLayout("yolo-obb"), YoloLayout("yolo-seg"))}

LAYOUTS: Mapping[str, FolderLayout] = MappingProxyType(
    {
        HOUSE: BesideLayout(CONVERTIBLE[HOUSE]),
        **{name: BesideLayout(known) for name, known in READABLE.items()},
        **_WITH_DIRECTORIES,
    }
)
"""All layouts that users may name."""

_BESIDE = BesideLayout()


def read_folder(folder: Path, *, layout: str | None = None) -> FolderContents:
    """Read a folder of images and annotations.

    Args:
        folder: its path.
        layout: a key of `LAYOUTS`, or an alias of a format; None to recognize it. Annotations beside the images come
            first: of a folder that has them, nothing else is asked.

    Returns:
        Its images with the sources of their annotations, as one of the layouts.

    Raises:
        LayoutError: there is no such layout, the folder is not in it, it may be in several, or it contradicts itself.
        OSError: it cannot be listed or read.
    """
    tree = FolderTree(folder)
    if layout is not None:
        wanted = find_layout(layout)
        if not wanted.recognizes(tree, is_named=True):
            raise LayoutError(_other_layout(tree, wanted))
        return wanted.read(tree)
    if _BESIDE.recognizes(tree):
        return _BESIDE.read(tree)
    found = _recognized(tree)
    if len(found) > 1:
        raise LayoutError(
            f"The folder {folder} looks like {_listed(found)}; say which one it is, "
            f"{' or '.join(known.name for known in found)}.",
            option="layout",
        )
    return (found[0] if found else _BESIDE).read(tree)


def find_layout(name: str) -> FolderLayout:
    """The layout of a name.

    Raises:
        LayoutError: there is none; the message names near ones.
    """
    wanted = name.strip().lower()
    aliases = {alias: known.name for known in FORMATS.values() for alias in known.aliases}
    found = LAYOUTS.get(aliases.get(wanted, wanted))
    if found is None:
        raise LayoutError(f"There is no layout {name!r}; {did_you_mean(wanted, LAYOUTS)}")
    return found


def _recognized(tree: FolderTree) -> list[FolderLayout]:
    return [known for known in _RECOGNIZED if known.recognizes(tree)]


def _other_layout(tree: FolderTree, wanted: FolderLayout) -> str:
    """Why a folder is not in a layout: what it looks like instead."""
    found = _recognized(tree) or ([_BESIDE] if _BESIDE.recognizes(tree) else [])
    if found:
        return f"The folder {tree.folder} is not in the layout of {wanted.title}; it looks like {_listed(found)}."
    return (
        f"The folder {tree.folder} is not in the layout of {wanted.title}: there are no annotations of it where that "
        "has them; check the path."
    )


def _listed(layouts: list[FolderLayout]) -> str:
    return " and ".join(known.title for known in layouts)
