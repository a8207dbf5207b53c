"""The rows of the benchmark's table: where each number comes from, and what it must reach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

COLUMNS = ("ours", "native", "rclone", "juicefs", "adlfs", "floor", "http")

NO_STORE = "no store behind it"
NOTHING_KEPT = "nothing is kept"
NO_DISK_CACHE = "no disk cache"
NO_FILES = "no files"
NO_SIBLINGS = "nothing is rendered"
NO_CATALOG = "no catalog"
OTHER_ENTRIES = "other entries are shown"
NOT_MEASURED = "not measured"
OWN_BLOBS = "keeps images in blobs of its own"


@dataclass(frozen=True)
class Target:
    """What a row must reach.

    Attributes:
        factor: times the other number, or the number itself.
        of: the column of the other number, or its name in the row's details; empty if there is none.
        at_most: less is better.
    """

    factor: float
    of: str = ""
    at_most: bool = False

    def __str__(self) -> str:
        sign = "≤" if self.at_most else "≥"
        times = f" × {self.of}" if self.of else ""  # noqa: RUF001  # as people write it
        return f"{sign} {self.factor:,g}{times}"

    def ratio(self, values: Mapping[str, float | None]) -> float | None:
        """Our own number, as a multiple of the other one if there is one; None if one of them is missing."""
        ours, other = values.get("ours"), values.get(self.of) if self.of else 1.0
        return None if ours is None or not other else ours / other

    def is_reached(self, values: Mapping[str, float | None]) -> bool | None:
        """Whether it is; None if a number is missing."""
        ratio = self.ratio(values)
        if ratio is None:
            return None
        return ratio <= self.factor if self.at_most else ratio >= self.factor


Source = tuple[str, str]
"""A measure and a contestant."""


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        key: in the JSON.
        unit: of the numbers.
        sources: column to what it shows.
        targets: what must be reached; all of them.
        absent: why other columns have no number.
        details: name to a number that only the JSON has, and that targets may refer to.
        quick_targets: the targets with ``--quick``, which has a tenth of the images; None if they are the same.
        figure: name of this number among several that the key has in the JSON.
        quick: whether ``--quick`` has it.
    """

    key: str
    unit: str
    sources: Mapping[str, Source]
    targets: tuple[Target, ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, Source] = field(default_factory=dict)
    quick_targets: tuple[Target, ...] | None = None
    figure: str = ""
    quick: bool = True

    @property
    def measured(self) -> frozenset[Source]:
        """All that it shows and compares."""
        return frozenset((*self.sources.values(), *self.details.values()))

    @property
    def name(self) -> str:
        """In the table."""
        return f"{self.key} {self.figure.replace('_', ' ')}".strip()

    def with_quick_targets(self) -> Row:
        """The row as ``--quick`` has it."""
        return self if self.quick_targets is None else replace(self, targets=self.quick_targets)


def _reading(measure: str, ours: str, *others: str) -> dict[str, Source]:
    return {"ours": (measure, ours), **{other: (measure, other) for other in others}}


_LOCAL = {"native": NO_STORE, "floor": NO_STORE, "juicefs": OWN_BLOBS}
_COLD = ("rclone", "adlfs", "http")
_FULL_CACHE = {**_LOCAL, "adlfs": NO_DISK_CACHE, "http": NOTHING_KEPT}
_DISK = {"adlfs": NO_DISK_CACHE, "http": NOTHING_KEPT}
_NO_SIBLINGS = dict.fromkeys(("native", "juicefs", "adlfs", "floor", "http"), NO_SIBLINGS)
_OTHER_ENTRIES = {"http": NO_FILES, **dict.fromkeys(("rclone", "juicefs", "adlfs", "floor"), OTHER_ENTRIES)}
_NO_CATALOG = dict.fromkeys(COLUMNS[1:], NO_CATALOG)
_NO_PEERS = dict.fromkeys(COLUMNS[1:], NOT_MEASURED)
_NO_AZURITE = dict.fromkeys(("adlfs", "floor", "http"), NOT_MEASURED)


def _million(figure: str, unit: str, *targets: Target) -> Row:
    return Row("million", unit, {"ours": (figure, "packed")}, targets, _NO_CATALOG, figure=figure, quick=False)


def _stalled(figure: str, unit: str) -> Row:
    return Row(
        "stalled",
        unit,
        {"ours": (f"stalled_{figure}", "loose")},
        (Target(0.8, "normal"),),
        _NO_PEERS,
        {"normal": (f"normal_{figure}", "loose")},
        figure=figure,
        quick=False,
    )


def _without_azurite(measure: str, *targets: Target, native: str = "", quick: bool = True) -> Row:
    """Reading from a local store, or from what was read there.

    Args:
        measure: how, and by how many readers.
        targets: what must be reached.
        native: another measure for native files, which are on the disk and not in memory.
        quick: whether ``--quick`` has it.
    """
    sources = {
        "ours": (measure, "local"),
        "native": (native or measure, "on_disk"),
        "rclone": (measure, "rclone_local"),
        "juicefs": (measure, "juicefs"),
    }
    return Row(measure, "files/s", sources, targets, _NO_AZURITE, quick=quick)


def _torch(again: str) -> tuple[Row, Row]:
    """PyTorch's data loader, two workers: reading paths, and around the mount; the first epoch, or another one."""
    paths, dataset = f"torch_paths{again}", f"torch_dataset{again}"
    no_peers = {"rclone": NOT_MEASURED, "juicefs": NOT_MEASURED, **_NO_AZURITE}
    return (
        Row(paths, "images/s", _reading(paths, "local", "native"), absent=no_peers, quick=False),
        Row(
            dataset,
            "images/s",
            {"ours": (dataset, "local")},
            (Target(0.8, "paths"),),
            _NO_PEERS,
            {"paths": (paths, "local")},
            quick=False,
        ),
    )


ROWS = (
    Row(
        "warm",
        "files/s",
        {
            **_reading("warm", "packed", "native", "rclone", "adlfs", "floor"),
            "juicefs": ("warm_local", "juicefs"),
        },
        (Target(0.5, "native"),),
        {"http": NOTHING_KEPT},
    ),
    Row(
        "disk",
        "files/s",
        {**_reading("disk", "packed", "native", "rclone", "floor"), "juicefs": ("disk_local", "juicefs")},
        (Target(0.8, "floor"),),
        _DISK,
    ),
    Row(
        "disk_8",
        "files/s",
        {**_reading("disk_8", "packed", "native", "rclone", "floor"), "juicefs": ("disk_local_8", "juicefs")},
        (Target(6, "rclone"),),
        _DISK,
    ),
    Row(
        "second_epoch",
        "files/s",
        _reading("second_epoch", "packed", "native", "rclone"),
        (Target(0.8, "native"),),
        {"http": NOTHING_KEPT, **dict.fromkeys(("juicefs", "adlfs", "floor"), NOT_MEASURED)},
        quick=False,
    ),
    Row(
        "disk_loose",
        "files/s",
        _reading("disk", "loose", "native", "rclone", "floor"),
        absent={"juicefs": NOT_MEASURED, **_DISK},
        quick=False,
    ),
    Row(
        "cold_order_loose",
        "files/s",
        _reading("cold_order", "loose", *_COLD),
        (Target(3, "rclone"),),
        _LOCAL,
        quick_targets=(Target(2.5, "rclone"),),
    ),
    Row(
        "cold_8_loose",
        "files/s",
        _reading("cold_8", "loose", *_COLD),
        (Target(1.5, "rclone"), Target(0.7, "http")),
        _LOCAL,
    ),
    Row(
        "cold_order_packed",
        "files/s",
        _reading("cold_order", "packed", *_COLD),
        (Target(10, "rclone"),),
        _LOCAL,
        quick_targets=(Target(8, "rclone"),),
    ),
    Row(
        "cold_shuffled_packed",
        "files/s",
        _reading("cold_shuffled_8", "packed", *_COLD),
        (Target(4, "rclone"),),
        _LOCAL,
    ),
    Row(
        "cold_order_loose_20ms",
        "files/s",
        _reading("cold_order_20ms", "loose", *_COLD),
        (Target(8, "rclone"),),
        _LOCAL,
    ),
    Row(
        "cold_order_packed_20ms",
        "files/s",
        _reading("cold_order_20ms", "packed", *_COLD),
        (Target(25, "rclone"),),
        _LOCAL,
    ),
    _without_azurite("cold_local"),
    _without_azurite("cold_local_8", quick=False),
    Row(
        "full_cache_loose",
        "files/s",
        _reading("full_cache", "loose", "rclone"),
        absent=_FULL_CACHE,
        quick=False,
    ),
    Row(
        "full_cache_packed",
        "files/s",
        _reading("full_cache", "packed", "rclone"),
        absent=_FULL_CACHE,
        quick=False,
    ),
    Row(
        "list",
        "entries/s",
        _reading("list", "packed", "native", "rclone", "juicefs", "adlfs", "floor"),
        (Target(20, "rclone"),),
        {"http": NO_FILES},
    ),
    Row(
        "stat",
        "files/s",
        _reading("stat", "packed", "native", "rclone", "juicefs", "adlfs", "floor"),
        (Target(2, "rclone"),),
        {"http": NO_FILES},
    ),
    Row(
        "render",
        "files/s",
        _reading("render", "packed", "rclone"),
        (Target(1500), Target(5, "rclone")),
        _NO_SIBLINGS,
    ),
    Row(
        "stat_8",
        "files/s",
        _reading("stat_8", "packed", "native", "rclone"),
        (Target(2, "rclone"),),
        {"http": NO_FILES, **dict.fromkeys(("juicefs", "adlfs", "floor"), NOT_MEASURED)},
    ),
    Row(
        "render_8",
        "files/s",
        _reading("render_8", "packed", "rclone"),
        (Target(1.7, "render"),),
        _NO_SIBLINGS,
        {"render": ("render", "packed")},
    ),
    Row(
        "view_yolo",
        "files/s",
        _reading("view_yolo", "packed"),
        (Target(4000),),
        {**_NO_SIBLINGS, "rclone": NO_FILES, "loose": NOT_MEASURED},
        quick=False,
    ),
    Row(
        "preview_8",
        "pictures/s",
        _reading("preview_8", "packed"),
        absent={**_NO_SIBLINGS, "rclone": NO_SIBLINGS},
        quick=False,
    ),
    Row(
        "coco_10000",
        "s",
        _reading("coco_10000", "packed"),
        (Target(3, at_most=True),),
        {**_NO_SIBLINGS, "rclone": NO_FILES},
        quick=False,
    ),
    Row(
        "webdataset",
        "images/s",
        {"ours": ("webdataset", "packed"), "rclone": ("cold_order", "rclone")},
        (Target(0.8, "images"), Target(5, "rclone")),
        _NO_PEERS,
        {"images": ("cold_order", "packed")},
        quick=False,
    ),
    Row(
        "render_loose",
        "files/s",
        _reading("render", "loose", "rclone"),
        absent=_NO_SIBLINGS,
        quick=False,
    ),
    Row("ls", "s", _reading("ls", "packed", "native"), absent=_OTHER_ENTRIES),
    Row("relist", "s", _reading("relist", "packed", "native"), (Target(1, "native", at_most=True),), _OTHER_ENTRIES),
    _stalled("stat", "files/s"),
    _stalled("list", "entries/s"),
    _million("mount_seconds", "s", Target(1, at_most=True)),
    _million("listing_seconds", "s", Target(5, at_most=True)),
    _million("readdir_seconds", "s"),
    _million("mount_again_seconds", "s", Target(1, at_most=True)),
    _million("saved_listing_seconds", "s", Target(1, at_most=True)),
    _million("saved_readdir_seconds", "s"),
    _million("memory_megabytes", "MB", Target(300, at_most=True)),
    _million("anonymous_megabytes", "MB"),
    _million("bytes_per_image", "bytes", Target(150, at_most=True)),
    Row(
        "select",
        "s",
        {"ours": ("select_seconds", "packed")},
        (Target(2, at_most=True),),
        _NO_CATALOG,
        {"command": ("select_command", "packed"), "listing": ("select_listing", "packed")},
        figure="seconds",
        quick=False,
    ),
    Row(
        "select",
        "s",
        {"ours": ("select_shown_seconds", "packed")},
        absent=_NO_CATALOG,
        figure="shown_seconds",
        quick=False,
    ),
    Row(
        "idle_requests",
        "requests",
        {"ours": ("idle_requests", "packed")},
        (Target(0, at_most=True),),
        _NO_CATALOG,
        details={name: (name, "packed") for name in ("store_requests", "database_statements", "refresh_statements")},
    ),
    Row(
        "decode",
        "images/s",
        _reading("decode", "packed", "rclone", "native"),
        (Target(0.75, "native"),),
        {"http": NO_FILES, **dict.fromkeys(("juicefs", "adlfs", "floor"), NOT_MEASURED)},
        quick=False,
    ),
    *_torch(""),
    *_torch("_again"),
)
"""Those that ``scripts/bench`` measures."""

MANY_CORES_ROWS = (
    _without_azurite("disk_local", Target(7_000), native="cold_local"),
    _without_azurite("disk_local_4", native="cold_local_4"),
    _without_azurite("disk_local_8", native="cold_local_8"),
    _without_azurite(
        "disk_local_14", Target(40_000), Target(3, "native"), Target(4, "juicefs"), native="cold_local_14"
    ),
    _without_azurite("cold_local"),
    _without_azurite("cold_local_4"),
    _without_azurite("cold_local_8"),
    _without_azurite("cold_local_14", Target(20_000), Target(3, "juicefs")),
    _without_azurite("warm_local"),
    _without_azurite("warm_local_4"),
    _without_azurite("warm_local_8"),
    _without_azurite("warm_local_14"),
    Row(
        "train",
        "images/s",
        {"ours": ("train", "local"), "native": ("train", "on_disk"), "juicefs": ("train", "juicefs")},
        (Target(0.97, "native"),),
        {"rclone": NOT_MEASURED, **_NO_AZURITE},
    ),
)
"""Those that ``scripts/bench --many-cores`` measures. There native files come from the disk, not from memory."""
