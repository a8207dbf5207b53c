"""The views: the only place that lists them.

A view is a module with a `View`, and a line in `_OWN`, or one under the entry point group `ENTRY_POINTS` of another
package.
Each format has a flat view of its name, if it has none with directories.
"""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Mapping
from types import MappingProxyType

from imgsyncfs.catalog.naming import file_name_fault
from imgsyncfs.errors import ConfigurationError
from imgsyncfs.formats.registry import FORMATS, NUMBERED_FORMATS
from imgsyncfs.library.views.coco import CocoView
from imgsyncfs.library.views.contract import View
from imgsyncfs.library.views.cvat import CvatView
from imgsyncfs.library.views.dota import DotaView
from imgsyncfs.library.views.flat import FlatView
from imgsyncfs.library.views.hugging_face import HuggingFaceView
from imgsyncfs.library.views.voc import VocView
from imgsyncfs.library.views.yolo import YoloView
from imgsyncfs.settings.values import did_you_mean

logger = logging.getLogger(__name__)

ENTRY_POINTS = "imgsyncfs.views"

PLAIN = "plain"
"""Images and house annotations, and nothing that is rendered."""

_WITH_DIRECTORIES: tuple[View, ...] = (
    CocoView(),
    CvatView(),
    HuggingFaceView(),
    VocView(),
    DotaView(),
    *map(YoloView, NUMBERED_FORMATS),
)

_OWN: tuple[View, ...] = (
    FlatView(PLAIN),
    *(FlatView(name, known) for name, known in FORMATS.items() if all(view.name != name for view in _WITH_DIRECTORIES)),
    *_WITH_DIRECTORIES,
)


def _registered() -> dict[str, View]:
    known = {view.name: view for view in _OWN}
    for point in sorted(importlib.metadata.entry_points(group=ENTRY_POINTS), key=lambda point: point.name):
        try:
            view = _loaded(point)
            _check(view, known)
        except ConfigurationError as error:
            logger.warning("The view %r of %s is left out: %s.", point.name, point.value, error)
            logger.debug("This was why.", exc_info=True)
        else:
            known[view.name] = view
    return known


def _loaded(point: importlib.metadata.EntryPoint) -> View:
    try:
        view = point.load()
    except Exception as error:
        raise ConfigurationError(
            f"it cannot be loaded ({type(error).__name__}: {error}); repair or remove its package"
        ) from error
    if not isinstance(view, View):
        raise ConfigurationError(f"it is a {type(view).__name__}, no View; repair or remove its package")
    return view


def _check(view: View, known: Mapping[str, View]) -> None:
    name = view.name
    if name in known:
        raise ConfigurationError(f"the name {name!r} is taken; choose another")
    if name != name.strip().lower() or name.startswith(".") or file_name_fault(name) is not None:
        raise ConfigurationError(f"the name {name!r} is no name of a directory in small letters; change it")


VIEWS: Mapping[str, View] = MappingProxyType(_registered())


def find_view(name: str) -> View:
    """The view of a name.

    Raises:
        ConfigurationError: there is none; the message lists those there are, near ones first.
    """
    if name in VIEWS:
        return VIEWS[name]
    raise ConfigurationError(f"There is no view {name!r}; {did_you_mean(name, VIEWS)}")
