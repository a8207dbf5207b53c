"""The benchmark: its arithmetic, its readers and its proxy; and one run of it, with a few rows."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench_commands import BenchError, run
from bench_contestants import Contestant, contestants
from bench_idle import Questions, sorted_out
from bench_mounts import native_files
from bench_readers import Job, dealt, joined, run_readers
from bench_report import as_json, as_table, notes, row_values
from bench_rows import COLUMNS, MANY_CORES_ROWS, ROWS, Row, Target
from bench_run import SCENES, chosen_rows, in_turn
from bench_servers import Requests, count_requests, running_delay
from bench_stage import Results
from bench_workload import annotation, noise_jpeg
from PIL import Image
from rich.console import Console
from support.places import REPOSITORY

from imgsyncfs.annotations.house_format import parse_annotation

BENCH = REPOSITORY / "scripts" / "bench"
READ_SECONDS = 30.0

ISSUED_KEYS = (
    *("warm", "disk", "cold_order_loose", "cold_8_loose", "cold_order_packed", "cold_shuffled_packed"),
    *("cold_order_loose_20ms", "cold_order_packed_20ms", "list", "stat", "render", "relist", "million"),
    *(
        "idle_requests",
        "disk_8",
        "second_epoch",
        "stat_8",
        "render_8",
        "stalled",
        "decode",
        "cold_local",
        "cold_local_8",
    ),
)

WARM = Row(
    "warm",
    "files/s",
    {"ours": ("warm", "packed"), "native": ("warm", "native"), "rclone": ("warm", "rclone")},
    (Target(0.5, "native"),),
    {"http": "nothing is kept"},
)


def results_of(samples: dict[tuple[str, str], list[float]]) -> Results:
    results = Results()
    results.samples.update(samples)
    return results


def printed(row: Row, results: Results) -> str:
    text = io.StringIO()
    Console(width=200, file=text).print(as_table([row], results))
    return text.getvalue()


def access_line(target: str, *, method: str = "GET", status: int = 200) -> str:
    return f'127.0.0.1 - - [22/Nov/2026:22:58:00 +0000] "{method} {target} HTTP/1.1" {status} -'


def test_a_reading_of_a_blob_is_counted_apart_from_all_else() -> None:
    lines = [
        access_line("/account/loose/bench/a.jpg?sv=1&sig=x", status=206),
        access_line("/account/loose?restype=container&comp=list&prefix=bench"),
        access_line("/account/loose/bench/a.jpg", method="HEAD"),
        access_line("/account/loose/bench/gone.jpg", status=404),
        access_line("/account/loose/bench/a.jpg?comp=blocklist"),
        access_line("/account/loose/bench/b.jpg", method="PUT", status=201),
        "Azurite Blob service is successfully listening at http://127.0.0.1:10000",
    ]
    assert count_requests(lines) == Requests(contents=1, others=5)


def test_the_marks_of_the_benchmark_itself_are_not_counted() -> None:
    assert count_requests([access_line("/account/imgsyncfs-bench-mark-0a1b", status=400)]).all == 0


def test_a_rows_number_is_the_median_of_the_rounds() -> None:
    samples = {("warm", "packed"): [10.0, 1000.0, 30.0], ("warm", "native"): [20.0, 40.0]}
    values = row_values(WARM, samples)
    assert (values["ours"], values["native"]) == (30.0, 30.0)
    assert values["rclone"] is values["http"] is None


@pytest.mark.parametrize(
    ("target", "reached"),
    [
        (Target(0.5, "native"), True),
        (Target(0.51, "native"), False),
        (Target(50), True),
        (Target(49, at_most=True), False),
        (Target(0.5, "native", at_most=True), True),
        (Target(0.4, "native", at_most=True), False),
        (Target(2, "rclone"), None),
    ],
)
def test_a_target_is_reached_or_not_or_unknown(target: Target, reached: bool | None) -> None:
    assert target.is_reached({"ours": 50.0, "native": 100.0, "rclone": None}) is reached


def test_nothing_asked_is_within_a_limit_of_nothing() -> None:
    assert Target(0, at_most=True).is_reached({"ours": 0.0}) is True
    assert Target(0, at_most=True).is_reached({"ours": 1.0}) is False


def test_the_table_says_which_targets_are_reached() -> None:
    reached = results_of({("warm", "packed"): [60.0], ("warm", "native"): [100.0]})
    missed = results_of({("warm", "packed"): [40.0], ("warm", "native"): [100.0]})
    assert " 0.60 │ yes " in printed(WARM, reached)
    assert " 0.40 │ NO " in printed(WARM, missed)
    assert " - │ ? " in printed(WARM, results_of({("warm", "packed"): [40.0]}))


def test_the_json_has_a_number_or_null_for_each_column_and_says_why() -> None:
    results = results_of({("warm", "packed"): [60.0, 70.0], ("warm", "native"): [100.0]})
    results.failures["warm", "rclone"] = "rclone did not mount"
    row = as_json([WARM], results, {"cores": 2})["rows"]["warm"]
    assert {column: row[column] for column in COLUMNS} == {
        "ours": 65.0,
        "native": 100.0,
        "rclone": None,
        "juicefs": None,
        "adlfs": None,
        "floor": None,
        "http": None,
    }
    assert row["unit"] == "files/s"
    assert row["targets"] == [{"must": str(Target(0.5, "native")), "ratio": 0.65, "reached": True}]
    assert row["reasons"] == {"rclone": "rclone did not mount", "http": "nothing is kept"}


def test_a_target_may_refer_to_another_row_of_ours() -> None:
    [row] = chosen_rows(["render_8"])
    results = results_of({("render_8", "packed"): [5000.0], ("render", "packed"): [2000.0]})
    described = as_json([row], results, {})["rows"]["render_8"]
    assert described["render"] == 2000.0
    assert described["targets"] == [{"must": str(Target(1.7, "render")), "ratio": 2.5, "reached": True}]


def test_the_table_has_no_column_that_no_row_has() -> None:
    text = printed(WARM, results_of({("warm", "packed"): [60.0]}))
    assert "native" in text
    assert "juicefs" not in text


def test_figures_of_one_key_stand_beside_each_other_in_the_json() -> None:
    rows = [row for row in ROWS if row.key == "million"]
    results = results_of({("mount_seconds", "packed"): [0.8], ("memory_megabytes", "packed"): [280.0]})
    million = as_json(rows, results, {})["rows"]["million"]
    assert million["ours"]["mount_seconds"] == 0.8
    assert million["ours"]["memory_megabytes"] == 280.0
    assert million["unit"]["memory_megabytes"] == "MB"
    assert million["targets"]["mount_seconds"][0]["reached"] is True
    assert million["rclone"] is None


def test_why_there_is_no_number_is_said_once_for_all_rows() -> None:
    results = Results()
    results.failures["warm", "rclone"] = "rclone did not mount"
    floor = Row("floor", "files/s", {"rclone": ("warm", "rclone")}, absent={"rclone": "not measured"})
    assert notes([WARM, WARM, floor], results) == [
        "- rclone did not mount: rclone (warm)",
        "- not measured: rclone (floor)",
    ]


def test_every_row_that_was_asked_for_is_there() -> None:
    assert set(ISSUED_KEYS) <= {row.key for row in ROWS}


def test_every_number_is_measured_by_a_scene_and_a_contestant() -> None:
    measures = {measure for scene in SCENES for measure in scene.measures}
    sources = {source for row in (*ROWS, *MANY_CORES_ROWS) for source in row.sources.values()}
    assert {measure for measure, _ in sources} <= measures
    assert {name for _, name in sources} <= set(contestants(quick=False))


def test_every_target_compares_with_a_number_of_its_row() -> None:
    for row in (*ROWS, *MANY_CORES_ROWS):
        for target in (*row.targets, *(row.quick_targets or ())):
            assert not target.of or target.of in {*row.sources, *row.details}, row.name


def test_quick_leaves_out_the_million_unless_it_is_named() -> None:
    assert "million" not in {row.key for row in chosen_rows([], quick=True)}
    assert {row.key for row in chosen_rows(["million"], quick=True)} == {"million"}
    assert "million" in {row.key for row in chosen_rows([])}


def test_quick_has_targets_of_its_own_where_few_images_make_a_difference() -> None:
    keys = ["cold_order_packed", "cold_shuffled_packed"]
    assert [row.targets for row in chosen_rows(keys)] == [(Target(10, "rclone"),), (Target(4, "rclone"),)]
    assert [row.targets for row in chosen_rows(keys, quick=True)] == [(Target(8, "rclone"),), (Target(4, "rclone"),)]


def test_many_cores_has_rows_for_up_to_fourteen_readers_and_needs_no_server() -> None:
    rows = chosen_rows([], many_cores=True)
    assert {"disk_local", "disk_local_14", "cold_local_14", "warm_local_14", "train"} <= {row.key for row in rows}
    everyone = contestants(quick=False)
    assert "azurite" not in {everyone[name].place for row in rows for _, name in row.measured}


def test_an_unknown_row_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(BenchError, match="there is no row wram; there are warm, disk"):
        chosen_rows(["wram"])


def test_another_contestant_begins_each_round() -> None:
    everyone = {name: Contestant(name, native_files, {}) for name in ("packed", "rclone", "native", "unasked")}
    wanted = {("warm", "packed"), ("warm", "rclone"), ("disk", "native")}
    scene = next(scene for scene in SCENES if "warm" in scene.measures)
    order = [[one.name for one in in_turn(scene, wanted, everyone, number)] for number in range(4)]
    assert order[:3] == [
        ["packed", "rclone", "native"],
        ["rclone", "native", "packed"],
        ["native", "packed", "rclone"],
    ]
    assert order[3] == order[0]


def test_readers_go_through_the_names_in_order_together() -> None:
    assert dealt(["a", "b", "c", "d", "e"], 2) == [["a", "c", "e"], ["b", "d"]]


def test_readers_time_lasts_from_the_first_start_to_the_last_end() -> None:
    reading = joined(
        [
            {"items": 2, "bytes": 20, "begin": 10.0, "end": 11.0},
            {"items": 3, "bytes": 30, "begin": 10.5, "end": 14.0},
        ]
    )
    assert (reading.items, reading.bytes, reading.seconds, reading.rate) == (5, 50, 4.0, 1.25)


def test_readers_read_every_byte(tmp_path: Path) -> None:
    sizes = (0, 1, (1 << 20) + 1)
    for size in sizes:
        (tmp_path / str(size)).write_bytes(os.urandom(size))
    names = [str(tmp_path / str(size)) for size in sizes]
    reading = run_readers([Job("read", part) for part in dealt(names, 2)], seconds=READ_SECONDS)
    assert (reading.items, reading.bytes) == (3, sum(sizes))
    assert run_readers([Job("stat", names)], seconds=READ_SECONDS).bytes == sum(sizes)
    assert run_readers([Job("list", [str(tmp_path)])], seconds=READ_SECONDS).items == 3


def test_a_reader_deals_the_names_to_its_threads(tmp_path: Path) -> None:
    for number in range(7):
        (tmp_path / str(number)).write_bytes(bytes(number))
    names = [str(tmp_path / str(number)) for number in range(7)]
    for job in (Job("read", names, threads=3), Job("stat", names, threads=16)):
        reading = run_readers([job], seconds=READ_SECONDS)
        assert (reading.items, reading.bytes) == (7, 21)


def test_a_training_loop_decodes_every_image_once(tmp_path: Path) -> None:
    names = [tmp_path / f"{seed}.jpg" for seed in range(20)]
    for seed, path in enumerate(names):
        path.write_bytes(noise_jpeg(seed, 80, 72, 50))
    reading = run_readers([Job("decode", [str(path) for path in names])], seconds=READ_SECONDS)
    assert (reading.items, reading.bytes) == (20, 20 * 64 * 64 * 3)


def test_a_reader_that_fails_is_told_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="No such file or directory"):
        run_readers([Job("read", [str(tmp_path / "missing")])], seconds=READ_SECONDS)


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="PyTorch is installed")
def test_a_reader_that_cannot_start_is_told_with_its_reason() -> None:
    # More than a pipe holds: the job cannot be handed over.
    with pytest.raises(BenchError, match="No module named 'torch'"):
        run_readers([Job("train", ["name"] * 100_000)], seconds=READ_SECONDS)


def test_readers_that_hang_are_ended(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BenchError, match="did not end within 1 s"):
        run_readers([Job("read", [str(tmp_path / "pipe")])], seconds=1)


def test_a_command_that_fails_is_told_with_what_it_said() -> None:
    with pytest.raises(BenchError, match=r"ended with 3: no luck"):
        run(["sh", "-c", "echo no luck >&2; exit 3"], os.environ)


def test_a_command_that_hangs_is_ended() -> None:
    with pytest.raises(BenchError, match="did not end within 0 s"):
        run(["sleep", "60"], os.environ, seconds=0.1)


@contextlib.contextmanager
def echo_server() -> Iterator[int]:
    """A server that sends back what its one client sends; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def echo() -> None:
            connection, _ = server.accept()
            with connection:
                while chunk := connection.recv(65536):
                    connection.sendall(chunk)

        thread = threading.Thread(target=echo, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(READ_SECONDS)


def received(client: socket.socket, size: int) -> bytes:
    content = b""
    while len(content) < size:
        content += client.recv(65536)
    return content


def test_the_proxy_delays_what_is_asked_and_keeps_its_order() -> None:
    words = [os.urandom(1000) for _ in range(50)]
    with (
        echo_server() as port,
        running_delay(port, 0.05) as delay,
        socket.create_connection(("127.0.0.1", delay.port), timeout=READ_SECONDS) as client,
    ):
        begin = time.monotonic()
        for word in words:
            client.sendall(word)
        content = received(client, 50 * 1000)
        seconds = time.monotonic() - begin
    assert content == b"".join(words)
    # Fifty delays one after the other would be 2.5 s.
    assert 0.05 <= seconds < 2


def test_the_proxys_delay_can_be_prolonged_for_a_while() -> None:
    def answer_seconds(client: socket.socket) -> float:
        begin = time.monotonic()
        client.sendall(b"word")
        assert received(client, 4) == b"word"
        return time.monotonic() - begin

    with (
        echo_server() as port,
        running_delay(port, 0) as delay,
        socket.create_connection(("127.0.0.1", delay.port), timeout=READ_SECONDS) as client,
    ):
        with delay.prolonged(1):
            prolonged = answer_seconds(client)
        usual = answer_seconds(client)
    assert prolonged >= 1 > usual


def test_what_the_refresh_asks_is_told_from_what_readers_cause() -> None:
    cursor = 'BEGIN;declare "SQL_CUR1" cursor with hold for {};fetch 2000 in "SQL_CUR1"'
    listing = cursor.format("SELECT name FROM images WHERE dataset_id = 'x'")
    statements = [
        "select oid, typbasetype from pg_type where typname = 'lo'",
        cursor.format("SELECT dataset_id, revision FROM datasets"),
        'close "SQL_CUR1";commit',
        "select name\nfrom subscriptions",
        listing,
        'close "SQL_CUR1";commit',
    ]
    assert sorted_out(statements) == Questions(refresh=2, others=(listing,))


def test_images_of_the_workload_differ_and_can_be_decoded() -> None:
    contents = {noise_jpeg(seed, 384, 320, 85) for seed in range(3)}
    assert len(contents) == 3
    assert noise_jpeg(1, 384, 320, 85) in contents
    for content in contents:
        assert 80_000 < len(content) < 120_000
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            assert image.size == (384, 320)


def test_annotations_of_the_workload_are_house_annotations() -> None:
    parsed = parse_annotation(annotation(7, 384, 320))
    assert (parsed.width, parsed.height, len(parsed.labels)) == (384, 320, 1)


def run_bench(tmp_path: Path, *options: str) -> dict[str, Any]:
    """Run the benchmark; returns the rows of its JSON, and sees that it leaves nothing behind."""
    report = tmp_path / "bench.json"
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    done = subprocess.run(
        [BENCH, *options, "--rounds", "1", "--json", report],
        env={**os.environ, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        timeout=880,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert str(temporary) not in Path("/proc/self/mounts").read_text()
    assert list(temporary.iterdir()) == []
    rows: dict[str, Any] = json.loads(report.read_text())["rows"]
    assert all(key in done.stdout for key in rows)
    return rows


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_benchmark_runs_from_end_to_end_and_leaves_nothing_behind(tmp_path: Path) -> None:
    # PostgreSQL is not asked for, so that nobody else has to pass through.
    keys = ["warm", "cold_order_loose", "cold_8_loose", "cold_order_packed", "relist"]
    rows = run_bench(tmp_path, "--quick", "--images", "60", "--rows", ",".join(keys))
    assert list(rows) == keys
    assert rows["warm"]["requests"]["ours"] == 0
    assert rows["cold_order_packed"]["requests"]["ours"] > 0
    assert rows["cold_order_loose"]["ours"] > 0
    for key, columns in {
        "warm": ("ours", "native", "rclone", "juicefs", "floor"),
        "cold_8_loose": ("http",),
    }.items():
        for column in columns:
            assert rows[key][column] > 0, (key, column)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_many_readers_of_a_local_store_are_measured_without_a_server(tmp_path: Path) -> None:
    rows = run_bench(tmp_path, "--many-cores", "--images", "60", "--rows", "cold_local_4,disk_local_4")
    assert rows["cold_local_4"]["requests"]["ours"] > 0
    assert rows["disk_local_4"]["requests"]["ours"] == 0
    for row in rows.values():
        assert min(row[column] for column in ("ours", "native", "rclone", "juicefs")) > 0
