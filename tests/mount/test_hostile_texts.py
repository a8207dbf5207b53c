"""Texts of a catalog are shown and not done: by terminals, by SQL, by lines of a log."""

from __future__ import annotations

import os
import pty
import re
import shlex
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from support.mounting import (
    Workplace,
    box_annotation,
    copy_of,
    workplace_with,
    write_folder,
    write_image,
)

from imgsyncfs.catalog import open_catalog

DATASET = "original_20260105_rgb_rbbox"

HOSTILE = "a\x1b]0;title\x07\x9b2J\n2026-01-01T00:00:00 forged\u202egpj.\u2028[/red][bold"
"""A window's title, a cleared screen, a line of its own, letters from right to left, markup that does not fit."""

# All that a terminal would do something at, but for the newline and return at the ends of lines and rich's colours.
DONE_BY_TERMINALS = re.compile(
    r"\x1b(?!\[[0-9;?]*[A-Za-z])|"
    "[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]"
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A catalog in which every text that may be anything is hostile."""
    workplace = workplace_with(tmp_path_factory.mktemp("hostile"), DATASET, count=4)
    with closing(sqlite3.connect(workplace.catalog)) as connection, connection:
        connection.execute("UPDATE datasets SET note = ?, classes = ?, projects = ?", (HOSTILE, "[]", "[]"))
        columns = [column for _, column, *_ in connection.execute("PRAGMA table_info(datasets)")]
        row = dict(zip(columns, connection.execute("SELECT * FROM datasets").fetchone(), strict=True))
        for changes in ({"dataset_id": HOSTILE}, {"dataset_id": f"{DATASET}x", "store": f"ftp://{HOSTILE}"}):
            values = [*{**row, **changes}.values()]
            connection.execute(f"INSERT INTO datasets VALUES ({','.join('?' * len(values))})", values)
        connection.execute("INSERT INTO subscriptions VALUES (?, '[]', '[]', 1)", (HOSTILE,))
        connection.execute("INSERT INTO subscriptions VALUES (?, '[', '[]', 1)", (f"{HOSTILE}2",))
        connection.execute("UPDATE images SET name = ? WHERE name = 'img_00001'", (f"../{HOSTILE}",))
        connection.execute("UPDATE images SET name = ? WHERE name = 'img_00002'", (HOSTILE,))
        connection.execute("UPDATE annotations SET name = ? WHERE name = 'img_00002'", (HOSTILE,))
    return workplace


@pytest.fixture
def workplace(prepared: Workplace, tmp_path: Path) -> Workplace:
    """A copy of it."""
    return copy_of(prepared, tmp_path)


def on_a_terminal(workplace: Workplace, *arguments: str | Path) -> str:
    """What a command shows on a terminal of 300 columns, whatever it ends with."""
    leader, follower = pty.openpty()
    command = shlex.join([sys.executable, "-m", "imgsyncfs", *map(str, arguments)])
    process = subprocess.Popen(
        ["sh", "-c", f"stty cols 300 rows 50 -onlcr; exec {command}"],
        env={**workplace.variables(), "TERM": "dumb", "NO_COLOR": "1"},
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
    )
    os.close(follower)
    shown = b""
    with process, os.fdopen(leader, "rb", buffering=0) as terminal:
        try:
            while part := terminal.read(1 << 16):
                shown += part
        except OSError:
            pass  # nobody has the other end any more
    return shown.decode(errors="surrogateescape")


def check_nothing_is_done(shown: str) -> None:
    """No text was a command to a terminal, or a line of its own, and no program failed over it."""
    found = DONE_BY_TERMINALS.search(shown)
    assert found is None, shown[max(0, found.start() - 100) : found.end() + 20]
    assert not re.search("^2026-01-01T00:00:00 forged", shown, re.MULTILINE)
    assert "Traceback" not in shown


@pytest.mark.parametrize(
    "command",
    ["datasets", "subscriptions", "selections", "prefetch --all", "pin --list", "cache stats", "sync COPY --all"],
)
def test_what_a_catalog_says_is_shown_on_a_terminal_and_not_done(workplace: Workplace, command: str) -> None:
    words = command.replace("COPY", str(workplace.folder / "copy")).split()
    if command == "cache stats":
        workplace.run("prefetch", DATASET)
    shown = on_a_terminal(workplace, *words)
    assert shown
    check_nothing_is_done(shown)
    if command in {"datasets", "subscriptions"}:
        assert r"\x1b]0;title\x07" in shown


def test_in_a_pipe_a_dataset_is_one_line_with_nothing_to_do(workplace: Workplace) -> None:
    lines = workplace.run("datasets").stdout.splitlines()
    assert len(lines) == 3
    assert {line.count("\t") for line in lines} == {7}
    check_nothing_is_done("\n".join(lines))


def test_what_goes_with_a_publish_is_named_and_not_done(workplace: Workplace) -> None:
    # A dataset's id that breaks the grammar comes from a row that was written by hand.
    (workplace.folder / "one" / "b\x1b[2J.jpg").write_bytes(b"no image")
    shown = on_a_terminal(workplace, "publish", workplace.folder / "one", "--name", DATASET)
    assert "No longer in it" in shown
    assert r"b\x1b[2J.jpg" in shown
    check_nothing_is_done(shown)


def test_a_mount_names_hostile_rows_in_lines_of_its_own_making(workplace: Workplace) -> None:
    mountpoint = workplace.folder / "mnt"
    mountpoint.mkdir()
    shown = on_a_terminal(workplace, "mount", mountpoint)
    try:
        check_nothing_is_done(shown)
        assert "title" in shown
        for path in (mountpoint / DATASET).iterdir():
            path.read_bytes()
        check_nothing_is_done((mountpoint / ".imgsyncfs" / "errors.log").read_text())
        check_nothing_is_done(on_a_terminal(workplace, "status", mountpoint))
        # Whatever a name is, it is one name and leads nowhere else.
        names = {path.name for path in (mountpoint / DATASET).iterdir()}
        assert {name.partition(".")[0] for name in names if name.startswith("img")} == {"img_00000", "img_00003"}
        assert {path.resolve().parent for path in (mountpoint / DATASET).iterdir()} == {(mountpoint / DATASET)}
    finally:
        workplace.run("umount", mountpoint)
    check_nothing_is_done(workplace.log())


SQL = "x'); DROP TABLE images; --\" OR '1'='1"


def test_texts_that_look_like_sql_are_texts(address: tuple[str, str | None], tmp_path: Path) -> None:
    url, password = address
    environment = {} if password is None else {"IMGSYNCFS_PASSWORD": password}
    workplace = Workplace(url, tmp_path, environment)
    workplace.run("init", "--store", f"file://{tmp_path}/store")
    folder = write_folder(tmp_path / "one", count=2)
    write_image(folder / f"{SQL}.jpg")
    (folder / f"{SQL}.json").write_bytes(box_annotation(name=SQL))
    workplace.run("publish", folder, "--name", DATASET, "--note", SQL, "--projects", SQL)
    workplace.run("select", "chosen", "--where", f"class={SQL}")
    workplace.run("subscribe", "mine", "--where", f"projects={SQL}")
    commands: list[list[str]] = [
        ["subscribe", SQL, DATASET],
        ["select", SQL, "--first", "1"],
        ["split", DATASET, "--group-by", SQL],
        ["datasets", "--where", f"note={SQL}"],
        ["subscriptions", SQL],
        ["prefetch", SQL],
    ]
    for command in commands:
        assert "Traceback" not in workplace.run(*command, status=None).stderr
    with open_catalog(url, password=password) as catalog:
        assert {image.name for image in catalog.images(DATASET)} == {"img_00000", "img_00001", SQL}
        [row] = catalog.datasets()
        assert (row.note, row.projects) == (SQL, (SQL,))
    with workplace.mounted() as mountpoint:
        chosen = [path.name for path in (mountpoint / ".selections" / "chosen").glob("*.jpg")]
        assert chosen == [f"{DATASET}--{SQL}.jpg"]
        assert (mountpoint / ".subscriptions" / "mine" / DATASET / f"{SQL}.jpg").is_file()
