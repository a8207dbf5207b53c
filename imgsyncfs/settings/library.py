"""The settings of a library: passed on by commands that do not import the library itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class LibrarySettings:
    """The settings of a library.

    Attributes:
        catalog: URL, without a password.
        password: for the catalog, or None.
        stores: the config file's section with credentials.
        cache_dir: folder of the disk cache, an absolute path.
        cache_size: most bytes that it takes up.
        keep_free: bytes of its disk to leave free.
        allowed_stores: URLs of stores that may be read beside the catalog's own.
        timeout: seconds that a read waits at most.
        siblings: names of the formats that stand beside each image.
        subscription: show only the datasets of the subscription of this name; None shows all.
        config: the config file that the credentials are from, an absolute path; empty for none.
        profile: the profile in it; empty for none.
        offline: ask neither the database nor a store: show what was saved, and read what is cached.
        log_in: what processes need to log in with Entra ID, see `imgsyncfs.workers.environment.log_in_section`.
    """

    catalog: str
    password: str | None = field(repr=False)
    stores: dict[str, dict[str, str]] = field(repr=False)
    cache_dir: str
    cache_size: int
    timeout: float
    siblings: tuple[str, ...]
    subscription: str | None = None
    keep_free: int = 0
    allowed_stores: tuple[str, ...] = ()
    offline: bool = False
    config: str = ""
    profile: str = ""
    log_in: dict[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> LibrarySettings:
        """Back from `dataclasses.asdict` by way of JSON."""
        tuples = {name: tuple(fields[name]) for name in ("siblings", "allowed_stores")}
        return cls(**{**fields, **tuples})
