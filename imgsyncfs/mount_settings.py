"""What a mount is told: passed from the command to the process behind the mount."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class MountSettings:
    """What a mount is told.

    Attributes:
        catalog: URL, without a password.
        password: for the catalog, or None.
        stores: the config file's section with credentials.
        mountpoint: absolute path.
        cache_dir: folder of the disk cache.
        cache_size: most bytes it keeps.
        refresh: seconds between two questions to the catalog.
        timeout: seconds that a read waits at most.
        siblings: names of the formats that stand beside each image.
        options: for libfuse and the kernel, name to value or True.
        owner: (user id, group id) that everything belongs to.
    """

    catalog: str
    password: str | None = field(repr=False)
    stores: dict[str, dict[str, str]] = field(repr=False)
    mountpoint: str
    cache_dir: str
    cache_size: int
    refresh: float
    timeout: float
    siblings: tuple[str, ...]
    options: dict[str, str | bool]
    owner: tuple[int, int]

    def to_frame(self) -> dict[str, Any]:
        """As JSON-able fields; see `from_frame`."""
        return asdict(self)

    @classmethod
    def from_frame(cls, fields: dict[str, Any]) -> MountSettings:
        """Back from `to_frame`."""
        return cls(**{**fields, "siblings": tuple(fields["siblings"]), "owner": tuple(fields["owner"])})
