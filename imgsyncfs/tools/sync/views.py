"""Views: a dataset in the layout that a tool expects, where that is not the layout of its directory.

labelme looks for ``x.json`` beside ``x.jpg``, which is the house annotation's name in a dataset's directory; roLabelImg
looks for ``x.xml``. A view has the images, and for each one at most one annotation, under the name that its tool looks
for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from imgsyncfs.errors import ConfigurationError
from imgsyncfs.formats.registry import FORMATS, FormatDescription
from imgsyncfs.settings.values import did_you_mean


@dataclass(frozen=True)
class View:
    """A layout.

    Attributes:
        name: how users call it.
        target: the format of its annotations; None for images alone.
        suffix: what follows an image's stem in its annotation's name.
    """

    name: str
    target: FormatDescription | None
    suffix: str


VIEWS: Mapping[str, View] = MappingProxyType(
    {
        **{name: View(name, known, known.view_suffix) for name, known in FORMATS.items()},
        "plain": View("plain", None, ""),
    }
)


def find_view(name: str) -> View:
    """The view of a name.

    Raises:
        ConfigurationError: there is none; the message lists those there are, near ones first.
    """
    if name in VIEWS:
        return VIEWS[name]
    raise ConfigurationError(f"There is no view {name!r}; {did_you_mean(name, VIEWS)}")
