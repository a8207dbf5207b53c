"""Runs the benchmark: rounds of scenes, in each of which the contestants take turns, between set-up and clean-up."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import signal
import subprocess
import tempfile
import time
from argparse import Namespace
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import FrameType

from bench_commands import BenchError
from bench_contestants import Contestant, contestants
from bench_idle import play_idle
from bench_memory import prepare
from bench_million import FIGURES, play_million
from bench_mounts import unmount_below
from bench_places import Place, content, fill
from bench_report import as_json, as_table, describe_machine, notes
from bench_rows import MANY_CORES_ROWS, ROWS, Row, Source
from bench_scenes import (
    MANY_READERS,
    ReadPlan,
    play_document,
    play_listing,
    play_pictures,
    play_reading,
    play_stat,
    play_stat_8,
    play_tar_files,
    play_torch,
    play_training,
)
from bench_select import FIGURES as SELECT_FIGURES
from bench_select import play_select
from bench_servers import Delay, PostgreSql, running_azurite, running_delay, running_postgresql
from bench_stage import Results, Scene, Stage
from bench_stalled import NORMAL, STALLED, play_stalled
from bench_workload import Workload, make_files
from rich.console import Console
from rich.status import Status

ROUNDS, QUICK_ROUNDS = 3, 2
IMAGES, LISTED = 3_000, 10_000
QUICK_IMAGES, QUICK_LISTED = 300, 1_000
MANY_CORES_IMAGES = 12_000
LISTED_PER_IMAGE = 10
"""With ``--images``, at most so many small ones to list."""

QUICK_SECONDS = 35.0
"""With ``--quick``, what is not the first round begins no new scene after this time."""

DELAY_SECONDS = 0.02
TABLE_COLUMNS = 160
PIP = ".venv-bench/bin/pip"


def _reading(plan: ReadPlan) -> Scene:
    measures = (plan.cold, *filter(None, (plan.again, plan.remounted, plan.second_epoch)))
    return Scene(measures, functools.partial(play_reading, plan=plan), delayed=plan.delayed)


def _without_azurite(readers: int) -> Scene:
    many = f"_{readers}" if readers > 1 else ""
    plan = ReadPlan(f"cold_local{many}", readers, again=f"warm_local{many}", remounted=f"disk_local{many}")
    return _reading(plan)


SCENES = (
    _reading(ReadPlan("cold_order", again="warm", remounted="disk")),
    _reading(ReadPlan("cold_8", readers=MANY_READERS, remounted="disk_8")),
    _reading(ReadPlan("cold_epoch", second_epoch="second_epoch")),
    _reading(ReadPlan("cold_shuffled_8", readers=MANY_READERS, shuffled=True)),
    _reading(ReadPlan("cold_order_20ms", delayed=True)),
    _reading(ReadPlan("full_cache", cache_share=1 / 3)),
    Scene(("list", "ls", "relist", "decode"), play_listing),
    Scene(("stat", "render"), play_stat),
    Scene(("stat_8", "render_8", "view_yolo"), play_stat_8),
    Scene(("preview_8",), play_pictures),
    Scene(("coco_10000",), play_document),
    Scene(("webdataset",), play_tar_files),
    *map(_without_azurite, (1, 4, 8, 14)),
    Scene(("train",), play_training, modules=("torch", "torchvision")),
    Scene(("torch_dataset", "torch_dataset_again", "torch_paths", "torch_paths_again"), play_torch, modules=("torch",)),
    Scene((*STALLED, *NORMAL), play_stalled, delayed=True),
    Scene(("idle_requests",), play_idle, once=True, database=True),
    Scene(FIGURES, play_million, once=True),
    Scene(SELECT_FIGURES, play_select, once=True),
)


def chosen_rows(keys: Sequence[str], *, quick: bool = False, many_cores: bool = False) -> list[Row]:
    """The rows to be measured.

    Args:
        keys: their names; none for all.
        quick: leave out, unless they are named, those that take long; with the targets of ``--quick``.
        many_cores: of the rows of ``--many-cores``.

    Raises:
        BenchError: there is no such row.
    """
    rows = MANY_CORES_ROWS if many_cores else ROWS
    known = dict.fromkeys(row.key for row in rows)
    for key in keys:
        if key not in known:
            raise BenchError(f"there is no row {key}; there are {', '.join(known)}")
    chosen = [row for row in rows if (row.key in keys if keys else row.quick or not quick)]
    return [row.with_quick_targets() for row in chosen] if quick else chosen


def run(options: Namespace) -> int:
    """Measures, prints the table and writes the JSON; returns the exit status.

    Args:
        options: ``quick``, ``many_cores``, ``images``, ``rows``, ``rounds``, ``json``; see ``scripts/bench --help``.
    """
    console = Console()
    results = Results()
    everyone = contestants(quick=options.quick)
    begin = time.monotonic()
    try:
        rows = chosen_rows(options.rows, quick=options.quick, many_cores=options.many_cores)
        with _ended_by_signals(), console.status("starting") as status:
            _measure(rows, results, everyone, options, status)
    except BenchError as error:
        console.print(f"bench: {error}", markup=False, highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("bench: interrupted; everything is unmounted and stopped")
        return 130
    wide = console if console.is_terminal and console.width >= TABLE_COLUMNS else Console(width=TABLE_COLUMNS)
    wide.print(as_table(rows, results))
    for note in [*_remarks(rows, everyone), *notes(rows, results)]:
        wide.print(f"  {note}", markup=False, highlight=False)
    wide.print(f"  {time.monotonic() - begin:.0f} s in all", highlight=False)
    if options.json is not None:
        document = as_json(rows, results, describe_machine())
        options.json.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    for text in results.errors:
        wide.print(f"ERROR: {text}", markup=False, highlight=False)
    return 1 if results.errors else 0


def _measure(
    rows: Sequence[Row], results: Results, everyone: dict[str, Contestant], options: Namespace, status: Status
) -> None:
    """Set everything up, play the rounds, and clean up whatever happens."""
    wanted = frozenset(source for row in rows for source in row.measured)
    scenes = [scene for scene in SCENES if any(measure in scene.measures for measure, _ in wanted)]
    begin = time.monotonic()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="imgsyncfs-bench-"))).resolve()
        # After an interruption in the middle of anything.
        stack.callback(unmount_below, folder)
        folder.chmod(0o711)  # PostgreSQL, as a user of its own where this runs as root, must be able to pass through
        status.update("making the images and filling the places that they are read from")
        _note_absences(results, scenes, everyone)
        places = {everyone[name].place for _, name in wanted}
        workload, database, delay = _set_up(stack, folder, scenes, places, options)
        rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
        for number in range(rounds):
            stage = Stage(workload, results, number, wanted, delay, database)
            for scene in scenes:
                late = options.quick and number > 0 and time.monotonic() - begin > QUICK_SECONDS
                if late or (scene.once and number > 0):
                    continue
                for contestant in in_turn(scene, wanted, everyone, number):
                    if (scene.measures[0], contestant.name) in results.failures:
                        continue
                    spent = f"{time.monotonic() - begin:.0f} s"
                    status.update(f"round {number + 1} of {rounds}, {scene.measures[0]}: {contestant.name} ({spent})")
                    _play(scene, stage, contestant)


def _set_up(
    stack: contextlib.ExitStack, folder: Path, scenes: Sequence[Scene], places: Collection[Place], options: Namespace
) -> tuple[Workload, PostgreSql | None, Delay | None]:
    """Make the workload, and start the servers that scenes need."""
    servers = folder / "servers"
    images, listed = (QUICK_IMAGES, QUICK_LISTED) if options.quick else (IMAGES, LISTED)
    if options.many_cores:
        images, listed = MANY_CORES_IMAGES, 0
    if options.images is not None:
        images, listed = options.images, min(listed, LISTED_PER_IMAGE * options.images)
    # The servers start one after the other while the files are made.
    with ThreadPoolExecutor(1) as executor:
        azurite = executor.submit(stack.enter_context, running_azurite(servers)) if "azurite" in places else None
        database = None
        if any(scene.database for scene in scenes):
            database = executor.submit(stack.enter_context, running_postgresql(servers))
        workload = make_files(folder, images=images, listed=listed)
        if azurite is not None:
            workload = replace(workload, server=azurite.result())
        fill(workload, places)
        delay = None
        if workload.server is not None and any(scene.delayed for scene in scenes):
            delay = stack.enter_context(running_delay(workload.server.port, DELAY_SECONDS))
        return workload, database.result() if database is not None else None, delay


def in_turn(scene: Scene, wanted: Collection[Source], everyone: dict[str, Contestant], number: int) -> list[Contestant]:
    """The contestants of a scene that this round needs; another one begins each time."""
    needed = {name for measure, name in wanted if measure in scene.measures}
    playing = [one for one in everyone.values() if one.name in needed and _takes_part(one, scene)]
    first = number % max(1, len(playing))
    return playing[first:] + playing[:first]


def _note_absences(results: Results, scenes: Sequence[Scene], everyone: dict[str, Contestant]) -> None:
    for scene in scenes:
        missing = " and ".join(name for name in scene.modules if importlib.util.find_spec(name) is None)
        for one in everyone.values():
            if missing:
                reason = f"{missing} missing; install them with {PIP} install {' '.join(scene.modules)}"
            elif not _takes_part(one, scene):
                reason = "not with --quick"
            else:
                continue
            results.failures.update({(measure, one.name): reason for measure in scene.measures})


def _takes_part(contestant: Contestant, scene: Scene) -> bool:
    return contestant.only is None or scene.measures[0] in contestant.only


def _play(scene: Scene, stage: Stage, contestant: Contestant) -> None:
    """Play a scene; who fails has no numbers in it, nor in later rounds."""
    workload = stage.workload
    prepare(content(workload, contestant.place))
    try:
        scene.play(stage, contestant)
    except (BenchError, OSError, subprocess.SubprocessError) as error:
        stage.results.fail(scene.measures, contestant, " ".join(str(error).split()))


def _remarks(rows: Sequence[Row], everyone: dict[str, Contestant]) -> Iterator[str]:
    """What is to be known about contestants: who reads less than all (the rates are of that), and from where."""
    shown = {name for row in rows for _, name in row.sources.values()}
    for one in everyone.values():
        if one.name in shown and min(one.share, one.delayed_share) < 1:
            behind = f", {one.delayed_share:.0%} of those behind the delay" if one.delayed_share < one.share else ""
            yield f"{one.name} reads {one.share:.0%} of the files{behind}"
    natively = [(row.key, *row.sources["native"]) for row in rows if "native" in row.sources]
    if keys := [key for key, measure, name in natively if name == "on_disk" and not measure.startswith("warm")]:
        yield f"native files come from the disk, and what the others read from memory: {', '.join(keys)}"


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Have SIGTERM and SIGINT end the block once; another one does not disturb the clean-up."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, interrupt) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
