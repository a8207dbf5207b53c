"""The benchmark's numbers as a table for people and as JSON for programs."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import azurite_server
from bench_commands import installed
from bench_rows import COLUMNS, Row, Source
from bench_stage import Results
from rich.table import Table

VERSION_SECONDS = 20.0
MANY = 100

Numbers = Mapping[str, float | None]


def shown_columns(rows: Iterable[Row]) -> list[str]:
    """The columns of a table: those in which a row may have a number."""
    used = {column for row in rows for column in row.sources}
    return [column for column in COLUMNS if column in used]


def row_values(row: Row, samples: Mapping[Source, Sequence[float]]) -> dict[str, float | None]:
    """A row's numbers by column and detail: the medians over the rounds, None where there are none."""
    sources = {**row.details, **row.sources}
    return {name: _median(samples.get(sources.get(name, ("", "")))) for name in (*COLUMNS, *row.details)}


def row_reasons(row: Row, results: Results) -> dict[str, str]:
    """Why columns of a row have no number."""
    values = row_values(row, results.samples)
    missing = [column for column in COLUMNS if values[column] is None]
    reasons = {
        column: row.absent.get(column) or results.failures.get(row.sources.get(column, ("", "")), "")
        for column in missing
    }
    return {column: reason for column, reason in reasons.items() if reason}


def as_json(rows: Iterable[Row], results: Results, machine: Mapping[str, Any]) -> dict[str, Any]:
    """Everything for programs.

    Args:
        rows: in the order of the table.
        results: what was measured.
        machine: what it was measured on.

    Returns:
        ``machine``, ``errors`` and ``rows``: for each key the unit, a number or null for each column, and beside
        these the targets, what each sample was, the requests at the server (medians as well), and why there are nulls.
        Under a key with several figures (``million``) the column's value, the unit and the rest are objects with an
        entry for each figure.
    """
    described: dict[str, Any] = {}
    for row in rows:
        fields = _row_json(row, results)
        if not row.figure:
            described[row.key] = fields
            continue
        merged = described.setdefault(row.key, {**{name: {} for name in fields}, **dict.fromkeys(COLUMNS[1:])})
        for name, value in fields.items():
            if name not in COLUMNS[1:]:
                merged[name][row.figure] = value
    return {"machine": dict(machine), "errors": list(results.errors), "rows": described}


def _row_json(row: Row, results: Results) -> dict[str, Any]:
    values = row_values(row, results.samples)
    return {
        "unit": row.unit,
        **{name: _rounded(value) for name, value in values.items()},
        "targets": [
            {"must": str(target), "ratio": _rounded(target.ratio(values)), "reached": target.is_reached(values)}
            for target in row.targets
        ],
        "samples": {
            column: [_rounded(sample) for sample in results.samples[source]]
            for column, source in row.sources.items()
            if results.samples.get(source)
        },
        "requests": {
            column: _median(results.requests[source])
            for column, source in row.sources.items()
            if results.requests.get(source)
        },
        "reasons": row_reasons(row, results),
    }


def as_table(rows: Iterable[Row], results: Results) -> Table:
    """Everything for people."""
    rows = list(rows)
    columns = shown_columns(rows)
    table = Table(title="medians over the rounds")
    table.add_column("row", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("must reach", no_wrap=True)
    table.add_column("reaches", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for row in rows:
        values = row_values(row, results.samples)
        musts = "\n".join(str(target) for target in row.targets)
        ratios = "\n".join(_shown(target.ratio(values)) for target in row.targets)
        verdicts = "\n".join(verdict(target.is_reached(values)) for target in row.targets)
        table.add_row(row.name, row.unit, *(_shown(values[name]) for name in columns), musts, ratios, verdicts)
    return table


def verdict(reached: bool | None) -> str:
    """A word for whether a target is reached."""
    return {True: "[green]yes[/]", False: "[red]NO[/]", None: "[yellow]?[/]"}[reached]


def notes(rows: Iterable[Row], results: Results) -> list[str]:
    """Why the table has dashes: a line for each reason, with the columns and rows it is about."""
    rows = list(rows)
    columns = shown_columns(rows)
    found: dict[str, list[tuple[str, str]]] = {}
    for row in rows:
        for column, reason in row_reasons(row, results).items():
            if column in columns:
                found.setdefault(reason, []).append((column, row.key))
    return [
        f"- {reason}: {', '.join(dict.fromkeys(column for column, _ in places))}"
        f" ({', '.join(dict.fromkeys(key for _, key in places))})"
        for reason, places in found.items()
    ]


def describe_machine() -> dict[str, Any]:
    """What the numbers were measured on, and with which versions."""
    cpu = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return {
        "cpu": cpu[1] if cpu else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gigabytes": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "rclone": _program_version(installed("rclone"), "version"),
        "juicefs": _program_version(installed("juicefs"), "version"),
        "azurite": azurite_server.VERSION,
        "node": _program_version("node", "--version"),
        **{name: metadata.version(name) for name in ("adlfs", "fsspec", "fusepy", "azure-storage-blob", "imgsyncfs")},
    }


def _program_version(*command: str) -> str | None:
    """What a program says; None where it is not installed, which it need not be for all rows."""
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, capture_output=True, text=True, timeout=VERSION_SECONDS, check=True)
    return done.stdout.splitlines()[0].split()[-1].lstrip("v")


def _median(samples: Sequence[float] | None) -> float | None:
    return float(median(samples)) if samples else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _shown(value: float | None) -> str:
    if value is None:
        return "-"
    if value == int(value) or value >= MANY:
        return f"{value:,.0f}"
    return f"{value:,.2f}" if value < 10 else f"{value:,.1f}"
