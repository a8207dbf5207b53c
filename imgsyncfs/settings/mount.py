"""The settings of a mount: passed from the command to the process behind the mount."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from imgsyncfs.settings.library import LibrarySettings


@dataclass(frozen=True)
class MountSettings:
    """The settings of a mount.

    Attributes:
        library: the catalog, the cache and the siblings.
        mountpoint: absolute path.
        refresh: interval at which the catalog is asked for changes, in seconds.
        options: for libfuse and the kernel, name to value or True.
        owner: (user id, group id) that everything belongs to.
        umask: the permissions that nobody has.
        list_hidden: show the directories that begin with a dot in the root's listing.
        view: name of the view that the root shows; empty for the datasets' own directories.
        responders: how many processes answer the kernel.
        is_cache_temporary: remove the cache folder when the mount ends.
    """

    library: LibrarySettings
    mountpoint: str
    refresh: float
    options: dict[str, str | bool]
    owner: tuple[int, int]
    umask: int = 0o022
    list_hidden: bool = False
    view: str = ""
    responders: int = 2
    is_cache_temporary: bool = False

    def to_frame(self) -> dict[str, Any]:
        """As JSON-able fields; see `from_frame`."""
        return asdict(self)

    @classmethod
    def from_frame(cls, fields: dict[str, Any]) -> MountSettings:
        """Back from `to_frame`."""
        library = LibrarySettings.from_fields(fields["library"])
        return cls(**{**fields, "library": library, "owner": tuple(fields["owner"])})
