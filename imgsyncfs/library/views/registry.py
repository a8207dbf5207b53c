"""The views: the only place that lists them.

A view is a module with a `View`, and a line in `_OWN`, or one under the entry point group `ENTRY_POINTS` of another
package.
Each format has a flat view of its name, if it has none with directories.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import attrgetter
from types import MappingProxyType

from imgsyncfs.catalog.naming import file_name_fault
from imgsyncfs.catalog.rows import DatasetLabelsRow
from imgsyncfs.errors import ConfigurationError
from imgsyncfs.formats.registry import FORMATS, NUMBERED_FORMATS
from imgsyncfs.library.views.coco import CocoView
from imgsyncfs.library.views.contract import View
from imgsyncfs.library.views.cvat import CvatView
from imgsyncfs.library.views.dota import DotaView
from imgsyncfs.library.views.flat import FlatView
from imgsyncfs.library.views.gallery import GalleryView
from imgsyncfs.library.views.hugging_face import HuggingFaceView
from imgsyncfs.library.views.image_folder import ImageFolderView
from imgsyncfs.library.views.preview import PreviewView
from imgsyncfs.library.views.resized import SIDES, ResizedView
from imgsyncfs.library.views.table import TableView
from imgsyncfs.library.views.voc import VocView
from imgsyncfs.library.views.webdataset import WebDatasetView
from imgsyncfs.library.views.yolo import YoloView
from imgsyncfs.settings.entry_points import with_entry_points
from imgsyncfs.settings.values import did_you_mean

ENTRY_POINTS = "imgsyncfs.views"

PLAIN = "plain"
"""Images and house annotations, and nothing that is rendered."""

PARAMETER_MARK = ":"
"""What stands between the name of a view and its parameter, as in ``imagefolder:Gender``."""

_WITH_DIRECTORIES: tuple[View, ...] = (
    CocoView(),
    CvatView(),
    HuggingFaceView(),
    ImageFolderView(),
    TableView(),
    WebDatasetView(),
    VocView(),
    DotaView(),
    GalleryView(),
    *map(YoloView, NUMBERED_FORMATS),
    PreviewView(),
    *(ResizedView(YoloView(name), side, is_in_pixels=False) for name in NUMBERED_FORMATS for side in SIDES),
    *(
        ResizedView(view, side)
        for view in (FlatView(PLAIN), FlatView("labelme", FORMATS["labelme"]), CocoView(), VocView())
        for side in SIDES
    ),
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
    is_odd = name != name.strip().lower() or name.startswith(".") or PARAMETER_MARK in name
    if is_odd or file_name_fault(name) is not None:
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
    """The view of a name, which may be followed by a parameter: ``imagefolder:Gender``, ``webdataset:16M``.

    Raises:
        ConfigurationError: there is none; the message lists those there are, near ones first. Or it does not take this
            parameter.
    """
    if name in VIEWS:
        return VIEWS[name]
    base, mark, parameter = name.partition(PARAMETER_MARK)
    found = VIEWS[base].with_parameter(parameter) if mark and base in VIEWS else None
    if found is not None:
        return found
    raise ConfigurationError(f"There is no view {name!r}; {did_you_mean(name, VIEWS)}")


def offered_views(labels: Iterable[DatasetLabelsRow]) -> dict[str, View]:
    """All views by name, those for a certain label among them.

    Args:
        labels: what annotations of datasets say: a view that takes a label is there for each of these that can be a
            directory's name.
    """
    names = sorted({name for row in labels for name in row.label_values if name})
    views = dict(VIEWS)
    for view in VIEWS.values():
        for name in names if view.takes_label else ():
            named = view.with_parameter(name)
            if named is not None and file_name_fault(named.name) is None:
                views[named.name] = named
    return views


def check_shown(view: View, labels: Mapping[str, DatasetLabelsRow]) -> None:
    """Refuse a view that is asked for by a label that no dataset has.

    Args:
        view: the view.
        labels: dataset id to what its annotations say, of the datasets of which that is known.

    Raises:
        ConfigurationError: the message lists the labels there are, near ones first.
    """
    if view.label_name is None or any(map(view.shows, labels.values())):
        return
    known = sorted({name for row in labels.values() for name in row.label_values if name})
    hint = did_you_mean(view.label_name, known) if known else "no dataset is known to have any."
    raise ConfigurationError(
        f"No dataset has the label {view.label_name!r}, which the view {view.name} is to show; {hint} What an earlier "
        "version published is known after: imgsyncfs init"
    )
