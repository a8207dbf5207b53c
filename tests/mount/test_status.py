"""How a mount says that it is doing: in one word, as a table, over and over, and for Prometheus."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.http_proxy import Fault, HttpProxy
from support.mounting import Workplace, copy_of, eventually, local_workplace, mount_status, write_folder
from support.services import Container

DATASET = "original_20260105_rgb_rbbox"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A catalog with one dataset of loose blobs in a local store."""
    workplace = local_workplace(tmp_path_factory.mktemp("published"))
    workplace.run("publish", write_folder(workplace.folder / "one", count=4), "--name", DATASET, "--loose")
    return workplace


@pytest.fixture
def workplace(published: Workplace, tmp_path: Path) -> Workplace:
    """A copy of that catalog."""
    return copy_of(published, tmp_path)


@contextmanager
def failing(workplace: Workplace) -> Iterator[Path]:
    """A mount in which an image could be read, and another one not."""
    next((workplace.folder / "store").rglob("img_00000.*.jpg")).unlink()
    with workplace.mounted() as mountpoint:
        (mountpoint / DATASET / "img_00001.jpg").read_bytes()
        with pytest.raises(OSError, match="Input/output error"):
            (mountpoint / DATASET / "img_00000.jpg").read_bytes()
        yield mountpoint


def test_a_mount_in_which_all_can_be_read_is_well(workplace: Workplace) -> None:
    with workplace.mounted() as mountpoint:
        (mountpoint / DATASET / "img_00001.jpg").read_bytes()
        assert mount_status(mountpoint)["health"] == "well"


def test_a_read_that_failed_lately_makes_a_mount_failing_and_is_counted_by_its_kind(workplace: Workplace) -> None:
    with failing(workplace) as mountpoint:
        status = mount_status(mountpoint)
        assert status["health"] == "failing"
        assert set(status["errors_by_kind"]) == {"blob missing"}
        assert status["errors_by_kind"]["blob missing"] == status["errors"]
        shown = workplace.run("status", mountpoint).stdout
    assert "failing" in shown
    assert "blob missing" in shown


def test_a_catalog_that_is_away_makes_a_mount_offline(workplace: Workplace) -> None:
    with workplace.mounted("--refresh", "0.2") as mountpoint:
        Path(workplace.catalog).rename(workplace.folder / "elsewhere.db")
        assert eventually(lambda: mount_status(mountpoint)["catalog"]["trouble"] != "")
        assert mount_status(mountpoint)["health"] in {"offline", "failing"}


def test_a_read_that_waited_for_long_is_counted_and_named(container: Container, tmp_path: Path) -> None:
    with HttpProxy(container.azurite.port) as proxy:
        connection = container.azurite.connection_string_through(proxy.port)
        workplace = Workplace(str(tmp_path / "catalog.db"), tmp_path, {"AZURE_STORAGE_CONNECTION_STRING": connection})
        workplace.run("init", "--store", container.url)
        workplace.run("publish", write_folder(tmp_path / "one", count=1), "--name", DATASET, "--loose")
        with workplace.mounted("--timeout", "2") as mountpoint:
            with proxy.fault(Fault(hold=True)), pytest.raises(OSError, match="Input/output error"):
                (mountpoint / DATASET / "img_00000.jpg").read_bytes()
            slow = mount_status(mountpoint)["slow"]
    assert slow["count"] >= 1
    assert slow["longest_path"] == f"/{DATASET}/img_00000.jpg"
    assert slow["longest_seconds"] > 1.5


def test_prometheus_reads_the_metrics_of_all_mounts(workplace: Workplace) -> None:
    with failing(workplace) as mountpoint:
        # The command fails as soon as any mount of this machine does not answer, be it another user's.
        text = workplace.run("status", "--prometheus", status=None).stdout
        families = {each.name: each for each in text_string_to_metric_families(text)}
        own = {
            name: [sample.value for sample in family.samples if sample.labels.get("mountpoint") == str(mountpoint)]
            for name, family in families.items()
        }
    assert own["imgsyncfs_healthy"] == [0]
    assert own["imgsyncfs_datasets"] == [1]
    assert own["imgsyncfs_cache_misses"][0] > 0
    assert families["imgsyncfs_store_requests"].type == "counter"
    [kind] = [
        s.labels["kind"] for s in families["imgsyncfs_errors"].samples if s.labels["mountpoint"] == str(mountpoint)
    ]
    assert kind == "blob missing"


def test_metrics_of_one_mount_are_of_no_other(workplace: Workplace, published: Workplace, tmp_path: Path) -> None:
    with workplace.mounted() as first, copy_of(published, tmp_path / "other").mounted():
        text = workplace.run("status", first, "--prometheus").stdout
    mountpoints = {
        sample.labels["mountpoint"]
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if "mountpoint" in sample.labels
    }
    assert mountpoints == {str(first)}


def test_watching_in_a_pipe_gives_a_line_every_second_until_the_mount_ends(workplace: Workplace) -> None:
    with (
        workplace.mounted() as mountpoint,
        subprocess.Popen(
            [sys.executable, "-m", "imgsyncfs", "status", str(mountpoint), "--watch"],
            env=workplace.variables(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as watching,
    ):
        assert watching.stdout is not None
        first = watching.stdout.readline()
        (mountpoint / DATASET / "img_00001.jpg").read_bytes()
        second = watching.stdout.readline()
        watching.send_signal(signal.SIGINT)
        _, complaints = watching.communicate(timeout=20)
    assert " well: 0 messages/s" in first
    assert " well: " in second
    assert "0 messages/s" not in second.partition("well: ")[2][:12]
    assert complaints == ""
    assert watching.returncode == 0


def test_a_signal_has_the_log_say_more_and_another_one_less(workplace: Workplace) -> None:
    with workplace.mounted() as mountpoint:
        process = mount_status(mountpoint)["process_id"]
        os.kill(process, signal.SIGUSR1)
        assert eventually(lambda: "The log says more from now on." in workplace.log())
        (mountpoint / DATASET / "img_00001.jpg").read_bytes()
        assert eventually(lambda: f"/{DATASET}/img_00001.jpg waited" in workplace.log())
        os.kill(process, signal.SIGUSR1)
        assert eventually(lambda: "The log says less from now on." in workplace.log())
        (mountpoint / DATASET / "img_00002.jpg").read_bytes()
    assert f"/{DATASET}/img_00002.jpg waited" not in workplace.log()


def test_one_way_to_show_a_status_excludes_the_others(workplace: Workplace) -> None:
    assert "exclude each other" in workplace.run("status", "--json", "--prometheus", status=1).stderr
