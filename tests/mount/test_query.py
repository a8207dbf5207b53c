"""The command query: SQL over the annotations of a catalog, without a mount."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import pty
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from support.mounting import Workplace, demo_workplace, eventually, mount_status, workplace_with, write_folder

from imgsyncfs.cache.documents import DOCUMENTS_FOLDER, SUFFIX
from imgsyncfs.tools.query import TABLES

DATASET = "original_20260401_rgb_rbbox"
OTHER = "original_20260402_rgb_rbbox"
SECONDS = 60.0

INTERRUPTIBLE = """
import signal
from imgsyncfs.cli import main
# Whoever runs the tests in the background has this ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A workplace whose catalog its tests leave as it is."""
    return demo_workplace(tmp_path_factory.mktemp("query"))


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    return workplace_with(tmp_path, DATASET, count=3)


def rows(workplace: Workplace, sql: str, *options: str) -> list[list[str]]:
    """The rows of a query as CSV has them, without the header."""
    return list(csv.reader(workplace.run("query", sql, "--csv", *options).stdout.splitlines()))[1:]


def refusal(workplace: Workplace, sql: str) -> str:
    """The one line that a query ends with that cannot be run."""
    done = workplace.run("query", sql, status=1)
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    return line


def tables_in(workplace: Workplace) -> dict[Path, int]:
    """The saved tables, with what tells each from one that is written again."""
    folder = Path(workplace.variables()["IMGSYNCFS_CACHE_DIR"])
    return {path: path.stat().st_ino for path in (folder / DOCUMENTS_FOLDER).glob(f"*{SUFFIX}")}


def processor_seconds(process: int) -> float:
    """What a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def on_a_terminal(workplace: Workplace, sql: str, *, columns: int = 80) -> str:
    """What a query shows on a terminal."""
    controller, terminal = pty.openpty()
    done = subprocess.Popen(
        [sys.executable, "-m", "imgsyncfs", "query", sql],
        env={**workplace.variables(), "COLUMNS": str(columns), "TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    shown = b""
    # Linux ends what a terminal gives with an error.
    try:
        while part := os.read(controller, 1 << 16):
            shown += part
    except OSError:
        pass
    os.close(controller)
    assert done.wait(SECONDS) == 0
    return shown.decode()


def test_classes_are_counted_as_the_house_annotations_have_them(workplace: Workplace) -> None:
    done = workplace.run("query", "SELECT class, count(*) AS objects FROM annotations GROUP BY class")
    assert [line.split() for line in done.stdout.splitlines()] == [["class", "objects"], ["person", "3"]]


def test_csv_has_all_rows_with_whole_values(demo: Workplace) -> None:
    sql = "SELECT 1/3 AS third, [1, 2] AS list, true AS yes, NULL AS nothing, 'a,b' AS text FROM range(1500)"
    lines = demo.run("query", sql, "--csv").stdout.splitlines()
    assert lines[:2] == ["third,list,yes,nothing,text", '0.3333333333333333,"[1,2]",true,,"a,b"']
    assert len(lines) == 1501


def test_a_table_of_many_rows_ends_and_says_so(demo: Workplace) -> None:
    done = demo.run("query", "SELECT * FROM range(1500)")
    assert len(done.stdout.splitlines()) == 1001
    assert done.stderr == "These are the first 1,000 rows; --csv has all, LIMIT fewer.\n"


def test_only_chosen_datasets_are_in_the_tables(workplace: Workplace) -> None:
    workplace.run("publish", write_folder(workplace.folder / "two", count=2), "--name", OTHER)
    workplace.run("subscribe", "other", OTHER)
    sql = "SELECT d.dataset, count(*) FROM images i JOIN datasets d USING (dataset) GROUP BY ALL ORDER BY ALL"
    assert rows(workplace, sql) == [[DATASET, "3"], [OTHER, "2"]]
    assert rows(workplace, sql, "--dataset", OTHER) == [[OTHER, "2"]]
    assert rows(workplace, sql, "--subscription", "other") == [[OTHER, "2"]]


def test_a_dataset_that_is_not_there_is_answered_with_those_that_are_near(workplace: Workplace) -> None:
    done = workplace.run("query", "SELECT 1", "--dataset", f"{DATASET}x", status=1)
    assert f"did you mean {DATASET}?" in done.stderr


def test_the_tables_have_the_columns_that_help_names(demo: Workplace) -> None:
    helped = demo.run("query", "--help").stdout
    for name, columns in TABLES.items():
        described = rows(demo, f"DESCRIBE {name}")
        assert [row[0] for row in described] == list(columns)
        assert all(f"\n    {column} " in helped for column in columns)


def test_an_image_checked_and_empty_is_found_by_a_join(demo: Workplace) -> None:
    sql = (
        "SELECT i.path FROM images i LEFT JOIN annotations a USING (dataset, image) "
        "WHERE i.is_labelled AND a.image IS NULL"
    )
    assert rows(demo, sql) == [["original_20200406_dewarp_bbox/original_20200406_dewarp_bbox_00002.jpg"]]


def test_a_second_query_reads_no_annotation_and_one_after_a_publish_does(workplace: Workplace) -> None:
    sql = "SELECT count(*) FROM annotations"
    assert rows(workplace, sql) == [["3"]]
    first = tables_in(workplace)
    (workplace.folder / "store").rename(workplace.folder / "away")
    assert rows(workplace, sql) == [["3"]]
    assert tables_in(workplace) == first
    (workplace.folder / "away").rename(workplace.folder / "store")
    workplace.run("publish", write_folder(workplace.folder / "one", count=5), "--name", DATASET)
    assert rows(workplace, sql) == [["5"]]
    assert len(tables_in(workplace)) == len(first) + 1 == 2


def test_a_damaged_table_is_written_again(workplace: Workplace) -> None:
    sql = "SELECT count(*) FROM images"
    assert rows(workplace, sql) == [["3"]]
    [path] = tables_in(workplace)
    content = path.read_bytes()
    path.write_bytes(b"x" + content[1:])
    assert rows(workplace, sql) == [["3"]]


def test_tables_are_counted_with_the_cache_and_cleared_with_it(workplace: Workplace) -> None:
    rows(workplace, "SELECT count(*) FROM annotations, images")
    assert len(tables_in(workplace)) == 2
    assert json.loads(workplace.run("cache", "stats", "--json").stdout)["documents"] == 2
    assert "2 documents of views" in workplace.run("cache", "clear", "--dataset", DATASET).stdout
    assert tables_in(workplace) == {}


def test_tables_keep_to_the_room_of_documents_and_all_datasets_are_counted_all_the_same(workplace: Workplace) -> None:
    workplace.run("publish", write_folder(workplace.folder / "other", count=2), "--name", OTHER)
    sql = "SELECT count(*) FROM annotations"
    assert rows(workplace, sql) == [["5"]]
    largest = max(path.stat().st_size for path in tables_in(workplace))
    workplace.run("cache", "clear")
    # A quarter of it has room for one.
    assert rows(workplace, sql, "--cache-size", str(4 * 4096 * (-(-largest // 4096)))) == [["5"]]
    assert len(tables_in(workplace)) == 1


def test_a_table_that_has_no_room_at_all_says_what_to_enlarge(workplace: Workplace) -> None:
    done = workplace.run("query", "SELECT count(*) FROM annotations", "--cache-size", "4K", status=1)
    assert f"annotations.parquet of {DATASET} cannot be kept" in done.stderr
    assert "--cache-size" in done.stderr


def test_a_mount_shows_the_table_that_a_query_has_kept(workplace: Workplace) -> None:
    rows(workplace, "SELECT count(*) FROM annotations")
    with workplace.mounted("--refresh", "3600") as mountpoint:
        assert (mountpoint / ".views" / "table" / DATASET / "annotations.parquet").stat().st_size
        counts = mount_status(mountpoint)["documents"]
        assert (counts["written"], counts["from_cache"]) == (0, 1)


def test_a_query_that_names_no_annotations_reads_none(workplace: Workplace) -> None:
    (workplace.folder / "store").rename(workplace.folder / "away")
    assert rows(workplace, "SELECT image FROM images ORDER BY 1") == [["img_00000"], ["img_00001"], ["img_00002"]]
    assert rows(workplace, "SELECT size FROM datasets") == [["3"]]


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("SELECT clas FROM annotations", 'Candidate bindings: "class"'),
        ("SELEC 1", 'syntax error at or near "SELEC"'),
        ("SELECT * FROM annotation", 'Did you mean "annotations"?'),
        ("SELECT CAST(image AS INT) FROM images", "Could not convert string"),
        ("", "is no statement; give one, such as"),
        ("SELECT 1; SELECT 2", "is several statements; give one"),
    ],
)
def test_what_is_wrong_with_a_query_is_told_in_one_sentence(workplace: Workplace, sql: str, reason: str) -> None:
    assert reason in refusal(workplace, sql)


def test_a_wrong_column_is_told_before_anything_is_read(workplace: Workplace) -> None:
    refusal(workplace, "SELECT clas FROM annotations")
    assert tables_in(workplace) == {}


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM glob('/*')",
        "COPY images TO 'out.csv'",
        "CREATE TABLE mine AS SELECT 1",
        "ATTACH 'mine.db'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "SELECT * FROM sql",
    ],
)
def test_a_query_reads_and_writes_nothing_but_the_tables(workplace: Workplace, sql: str) -> None:
    before = sorted(Path.cwd().iterdir())
    assert "imgsyncfs: " in refusal(workplace, sql)
    assert sorted(Path.cwd().iterdir()) == before


def test_annotations_that_do_not_parse_are_counted_each_time(workplace: Workplace) -> None:
    workplace.run("publish", write_folder(workplace.folder / "loose", count=2), "--name", OTHER, "--loose")
    [blob] = (workplace.folder / "store").rglob(f"{OTHER}/img_00000.*.json")
    broken = blob.read_bytes().replace(b'"x"', b'"q"')
    blob.chmod(0o644)
    blob.write_bytes(broken)
    with closing(sqlite3.connect(workplace.catalog)) as connection, connection:
        connection.execute(
            "UPDATE annotations SET md5 = ? WHERE name = 'img_00000' AND dataset_id = ?",
            (hashlib.md5(broken).hexdigest(), OTHER),
        )
    for _ in range(2):
        done = workplace.run("query", "SELECT count(*) FROM annotations", "--csv")
        assert done.stdout.splitlines()[1] == "4"
        assert "do not show 1 annotations that do not parse: mend them" in done.stderr


def test_on_a_terminal_as_many_columns_are_shown_as_fit(demo: Workplace) -> None:
    shown = on_a_terminal(demo, "SELECT image, path, md5 FROM images LIMIT 1", columns=60)
    assert "opensource_habbof_rgb_rbbox_00001" in shown
    assert "1 row\r\n" in shown
    assert "Not shown, for lack of room: path, md5; --csv has all columns." in shown


def test_what_a_name_holds_is_shown_and_not_done(demo: Workplace) -> None:
    shown = on_a_terminal(demo, "SELECT '[red]a' || chr(27) || '[2J' AS name")
    assert "[red]a\\x1b[2J" in shown


def test_a_reader_who_has_enough_ends_a_long_answer_without_a_word(demo: Workplace) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "imgsyncfs", "query", "SELECT * FROM range(1000000)", "--csv"],
        env=demo.variables(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == b"range\n"
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(SECONDS) == 0


def test_a_long_query_is_ended_by_ctrl_c(demo: Workplace) -> None:
    endless = "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range + b.range = 3"
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE, "query", endless],
        env=demo.variables(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    scratch = Path(demo.variables()["IMGSYNCFS_CACHE_DIR"])
    assert eventually(lambda: bool(list(scratch.glob("query-*"))))
    # DuckDB is at work, and has been for a while.
    began = processor_seconds(process.pid)
    assert eventually(lambda: processor_seconds(process.pid) > began + 0.5)
    process.send_signal(signal.SIGINT)
    try:
        _, errors = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    assert (process.returncode, errors.strip()) == (130, b"Interrupted.")
    assert not list(scratch.glob("query-*"))


@pytest.mark.parametrize(("module", "extra"), [("duckdb", "query"), ("pyarrow", "table")])
def test_without_what_runs_it_a_query_says_what_to_install(tmp_path: Path, module: str, extra: str) -> None:
    (tmp_path / f"{module}.py").write_text(f"raise ImportError('No module named {module}')\n")
    blocked = replace(Workplace(str(tmp_path / "none.db"), tmp_path), environment={"PYTHONPATH": str(tmp_path)})
    message = refusal(blocked, "SELECT 1")
    assert message.endswith(f"run: pip install 'imgsyncfs[{extra}]'")
