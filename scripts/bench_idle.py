"""The row ``idle_requests``: what a mount asks of the store and of the database when everything was read before."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass

from bench_commands import BenchError, run_imgsyncfs
from bench_contestants import Contestant
from bench_mounts import Mounted, mounted_imgsyncfs
from bench_readers import Job, run_readers
from bench_scenes import READ_SECONDS
from bench_stage import Stage, cache_folder
from bench_workload import BENCH, PACKED, PACKED_ID

REFRESH_SECONDS = 1.0
REFRESHED_SECONDS = 30.0
"""The catalog is asked for changes so often, and the kernel for attributes; it has been asked at least once by then."""

QUESTION = re.compile(r"\b(?:SELECT|FETCH|INSERT|UPDATE|DELETE)\b", re.IGNORECASE)
"""All else is what the driver says about transactions and cursors."""

CONNECTING = "from pg_type where typname = 'lo'"
"""The driver asks this whenever it connects. The refresh does, when it comes to a thread that has not asked yet; what a
reader would connect for would be seen by itself."""

REFRESH_QUERY = re.compile(r"\bFROM\s+(?:datasets|subscriptions|catalog_settings)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Questions:
    """What a database was asked.

    Attributes:
        refresh: number of the refresh's queries.
        others: all others.
    """

    refresh: int
    others: tuple[str, ...]


def sorted_out(statements: Iterable[str]) -> Questions:
    """Tell the refresh's queries from what readers cause."""
    questions = [each for each in statements if QUESTION.search(each) and CONNECTING not in each]
    others = tuple(question for question in questions if not REFRESH_QUERY.search(question))
    return Questions(len(questions) - len(others), others)


def play_idle(stage: Stage, contestant: Contestant) -> None:
    """A whole dataset is listed, stat'ed and read, with PostgreSQL as the catalog; what is asked after that counts."""
    workload, database = stage.workload, stage.database
    if database is None:
        raise BenchError("there is no database")
    with cache_folder(workload) as cache:
        url, password = database.url, database.password
        variables = workload.variables(cache=cache, catalog=url, password=password)
        store = f"azure://{workload.azurite.account}/{PACKED}"
        run_imgsyncfs(variables, "init", "--store", store)
        # The packs are there already; only the rows are written.
        run_imgsyncfs(variables, "publish", workload.folder / BENCH, "--name", PACKED_ID)
        with mounted_imgsyncfs(workload, cache, catalog=url, password=password, refresh=REFRESH_SECONDS) as mounted:
            length = database.log_length()
            first = _pass(mounted)
            if not sorted_out(database.statements_since(length)).others:
                raise BenchError("the first pass asked the database nothing, so its log cannot be relied on")
            mark, length = workload.azurite.mark(), database.log_length()
            deadline = time.monotonic() + REFRESHED_SECONDS
            while True:
                if _pass(mounted) != first:
                    raise BenchError("a later pass read another number of bytes than the first")
                asked = sorted_out(database.statements_since(length))
                if asked.refresh:
                    break
                if time.monotonic() > deadline:
                    raise BenchError(f"the catalog was not asked for changes within {REFRESHED_SECONDS:.0f} s")
            requests = workload.azurite.requests_since(mark).all
    stage.results.add("idle_requests", contestant, requests + len(asked.others))
    stage.results.add("store_requests", contestant, requests)
    stage.results.add("database_statements", contestant, len(asked.others))
    stage.results.add("refresh_statements", contestant, asked.refresh)


def _pass(mounted: Mounted) -> int:
    """List, stat and read everything; returns the number of bytes."""
    directory = mounted.path / PACKED_ID
    run_readers([Job("list", [str(directory)])], seconds=READ_SECONDS)
    paths = [f"{directory}/{name}" for name in sorted(os.listdir(directory))]  # noqa: PTH208  # 12,000 names
    sizes = run_readers([Job("stat", paths)], seconds=READ_SECONDS).bytes
    read = run_readers([Job("read", paths)], seconds=READ_SECONDS).bytes
    if read != sizes:
        raise BenchError(f"{read} bytes were read of files that have {sizes}")
    return read
