"""The views: the only place that lists them.

A view is a module with a `View`, and a line in `_OWN`, or one under the entry point group `ENTRY_POINTS` of another
package.
Each format has a flat view of its name, if it has none with directories.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from types import MappingProxyType

from imgsyncfs.catalog.naming import file_name_fault
from imgsyncfs.errors import ConfigurationError
from imgsyncfs.formats.registry import FORMATS, NUMBERED_FORMATS
from imgsyncfs.library.views.coco import CocoView
from imgsyncfs.library.views.contract import View
from imgsyncfs.library.views.cvat import CvatView
from imgsyncfs.library.views.dota import DotaView
from imgsyncfs.library.views.flat import FlatView
from imgsyncfs.library.views.gallery import GalleryView
from imgsyncfs.library.views.hugging_face import HuggingFaceView
from imgsyncfs.library.views.voc import VocView
from imgsyncfs.library.views.yolo import YoloView
from imgsyncfs.settings.entry_points import with_entry_points
from imgsyncfs.settings.values import did_you_mean

ENTRY_POINTS = "imgsyncfs.views"

PLAIN = "plain"
"""Images and house annotations, and nothing that is rendered."""

_WITH_DIRECTORIES: tuple[View, ...] = (
    CocoView(),
    CvatView(),
    HuggingFaceView(),
    VocView(),
    DotaView(),
    GalleryView(),
    *map(YoloView, NUMBERED_FORMATS),
)

_OWN: tuple[View, ...] = (
    FlatView(PLAIN),
    *(FlatView(name, known) for name, known in FORMATS.items() if all(view.name != name for view in _WITH_DIRECTORIES)),
    *_WITH_DIRECTORIES,
)


def _check(view: View, known: Mapping[str, View]) -> None:
    name = view.name
    if name in known:
        raise ConfigurationError(f"the name {name!r} is taken; choose another")
    if name != name.strip().lower() or name.startswith(".") or file_name_fault(name) is not None:
        raise ConfigurationError(f"the name {name!r} is no name of a directory in small letters; change it")


VIEWS: Mapping[str, View] = MappingProxyType(
    with_entry_points(
        ENTRY_POINTS,
        {view.name: view for view in _OWN},
        noun="view",
        kind=View,
        name_of=attrgetter("name"),
        check=_check,
    )
)


def find_view(name: str) -> View:
    """The view of a name.

    Raises:
        ConfigurationError: there is none; the message lists those there are, near ones first.
    """
    if name in VIEWS:
        return VIEWS[name]
    raise ConfigurationError(f"There is no view {name!r}; {did_you_mean(name, VIEWS)}")
