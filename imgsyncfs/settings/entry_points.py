"""What other packages add to a table of ours: formats, views."""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Callable, Mapping
from typing import TypeVar

from imgsyncfs.errors import ConfigurationError

logger = logging.getLogger(__name__)

Plugin = TypeVar("Plugin")


def with_entry_points(
    group: str,
    own: Mapping[str, Plugin],
    *,
    noun: str,
    kind: type[Plugin],
    name_of: Callable[[Plugin], str],
    check: Callable[[Plugin, Mapping[str, Plugin]], None],
) -> dict[str, Plugin]:
    """Adds the objects of an entry point group to our own. One that cannot be used is left out, and a warning says why.

    Args:
        group: of the entry points, which are taken in the order of their names.
        own: what there is already, by name.
        noun: what one of them is called in the warning.
        kind: the class that each must have.
        name_of: gives the key of one.
        check: raises ConfigurationError if one cannot stand beside those that there are.

    Returns:
        Our own, then the others, by name.
    """
    known = dict(own)
    for point in sorted(importlib.metadata.entry_points(group=group), key=lambda point: point.name):
        try:
            plugin = _loaded(point, kind)
            check(plugin, known)
        except ConfigurationError as error:
            logger.warning("The %s %r of %s is left out: %s.", noun, point.name, point.value, error)
            logger.debug("This was why.", exc_info=True)
        else:
            known[name_of(plugin)] = plugin
    return known


def _loaded(point: importlib.metadata.EntryPoint, kind: type[Plugin]) -> Plugin:
    try:
        plugin = point.load()
    except Exception as error:
        raise ConfigurationError(
            f"it cannot be loaded ({type(error).__name__}: {error}); repair or remove its package"
        ) from error
    if not isinstance(plugin, kind):
        raise ConfigurationError(f"it is a {type(plugin).__name__}, no {kind.__name__}; repair or remove its package")
    return plugin
