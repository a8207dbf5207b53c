"""The contestants of the benchmark: who reads what, from where, and how much of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from bench_mounts import (
    Mounted,
    mounted_adlfs,
    mounted_floor,
    mounted_imgsyncfs,
    mounted_juicefs,
    mounted_local,
    mounted_rclone,
    mounted_rclone_local,
    native_files,
    native_files_on_disk,
)
from bench_places import Place
from bench_workload import BENCH, LIST, LIST_ID, LOOSE_ID, PACKED_ID, Workload

Mount = Callable[..., AbstractContextManager[Mounted]]


@dataclass(frozen=True)
class Contestant:
    """Something that shows the files.

    Attributes:
        name: in the rows.
        mount: makes it, given the workload, the folder of its disk cache and the port of a proxy (0 for none). One with
            a disk cache also takes ``cache_bytes``, the most that it keeps (0 for the default).
        folders: where each folder of the workload is, below the mount point; empty for what asks the server itself.
        place: where its bytes come from.
        ours: it is this project's.
        begins_cold: what it reads first is cold; else it shows files as they lie on this machine, as from a disk cache.
        disk_cache: what was read stays on disk, for the next mount.
        page_cache: what was read is opened and read again without asking anyone but the kernel.
        loose: in Azurite every file is a blob of its own.
        share: the part of the images that it reads; more would take minutes, and the rate is the same.
        delayed_share: the part behind the delay.
        stat_share: the part whose attributes it is asked for.
        only: the scenes in which it takes part, by their first measures; None for all.
    """

    name: str
    mount: Mount
    folders: Mapping[str, str]
    place: Place = "azurite"
    ours: bool = False
    begins_cold: bool = True
    disk_cache: bool = False
    page_cache: bool = False
    loose: bool = True
    share: float = 1.0
    delayed_share: float = 1.0
    stat_share: float = 1.0
    only: tuple[str, ...] | None = None

    @property
    def remote(self) -> bool:
        """Whether the files come from Azurite, which logs what it is asked."""
        return self.place == "azurite"

    @property
    def counted(self) -> bool:
        """Whether it is known what is asked of the store: Azurite logs it, and this project's mount counts it."""
        return self.remote or self.ours

    @property
    def entries(self) -> int:
        """How many entries a listing shows for each of the images to list; stores hold these images alone."""
        return 4 if self.ours or self.place == "files" else 1

    def paths(self, mounted: Mounted, folder: str, names: Sequence[str]) -> list[str]:
        """The paths of files of a folder of the workload."""
        directory = self.directory(mounted, folder)
        return [f"{directory}/{name}" for name in names]

    def directory(self, mounted: Mounted, folder: str) -> str:
        """The path of a folder of the workload."""
        return str(mounted.path / self.folders[folder])


@contextlib.contextmanager
def mounted_by(
    contestant: Contestant, workload: Workload, cache: Path, port: int = 0, *, cache_bytes: int = 0, refresh: int = 0
) -> Iterator[Mounted]:
    """A contestant's mount; another limit or refresh only where it has one."""
    limit = {"cache_bytes": cache_bytes} if cache_bytes else {}
    if refresh and contestant.ours:
        limit["refresh"] = refresh
    with contestant.mount(workload, cache, port, **limit) as mounted:
        yield mounted


def contestants(*, quick: bool) -> dict[str, Contestant]:
    """All of them by name.

    Args:
        quick: there are a tenth of the files, and some take part in fewer scenes.
    """
    plain = {BENCH: BENCH, LIST: LIST}
    # A minute has room for each where a target compares with it, and where it costs little.
    local_scenes = ("cold_order", "list", "stat") if quick else None
    ours = Contestant("", mounted_imgsyncfs, {}, ours=True, disk_cache=True, page_cache=True)
    everyone = (
        replace(ours, name="packed", folders={BENCH: PACKED_ID, LIST: LIST_ID}, loose=False),
        replace(ours, name="loose", folders={BENCH: LOOSE_ID, LIST: LIST_ID}),
        replace(ours, name="local", mount=mounted_local, folders={BENCH: PACKED_ID}, place="local", loose=False),
        Contestant(
            "juicefs",
            mounted_juicefs,
            plain,
            place="juicefs",
            disk_cache=True,
            share=1.0 if quick else 1 / 3,
            only=("cold_local", "list", "stat") if quick else None,
        ),
        Contestant("rclone", mounted_rclone, plain, disk_cache=True, share=1 / 3, delayed_share=0.1),
        Contestant("rclone_local", mounted_rclone_local, {BENCH: "."}, place="files", disk_cache=True, share=1 / 3),
        Contestant(
            "adlfs",
            mounted_adlfs,
            plain,
            share=0.1,
            delayed_share=0.05,
            stat_share=0.1,
            # Each of its mounts takes seconds to start.
            only=() if quick else None,
        ),
        Contestant(
            "native",
            native_files,
            plain,
            place="files",
            begins_cold=False,
            page_cache=True,
            only=local_scenes,
        ),
        Contestant("on_disk", native_files_on_disk, plain, place="files", page_cache=True),
        Contestant("floor", mounted_floor, plain, place="files", begins_cold=False, only=local_scenes),
        Contestant("http", native_files, {}, delayed_share=0.1, only=("cold_8",) if quick else None),
    )
    return {contestant.name: contestant for contestant in everyone}
