"""Secrets that a mount is given are found nowhere outside of the processes that need them."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.mounting import Workplace, demo_workplace, mount_status, process_ids, write_folder
from support.services import Container

from imgsyncfs.settings.config_file import PASSWORD_VARIABLE
from imgsyncfs.workers.environment import SECRET_VARIABLES

DATASET = "original_20260105_rgb_rbbox"
SECRET = "tell-nobody"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """The demo catalog, made once."""
    return demo_workplace(tmp_path_factory.mktemp("secrets"))


def readable_by_others(process: int) -> bytes:
    """What the system shows of a process: its command and its environment."""
    return b"".join(Path(f"/proc/{process}/{name}").read_bytes() for name in ("cmdline", "environ"))


def test_no_secret_is_in_a_process_the_cache_a_control_file_or_a_log(demo: Workplace, tmp_path: Path) -> None:
    planted = dict.fromkeys(SECRET_VARIABLES, SECRET)
    assert PASSWORD_VARIABLE in planted
    workplace = Workplace(demo.catalog, tmp_path, planted)
    with workplace.mounted() as mountpoint:
        assert list((mountpoint / ".views" / "coco").iterdir())
        (mountpoint / "original_20200207_fisheye_rbbox" / "no_such_file").exists()
        for process in process_ids(mountpoint):
            assert SECRET.encode() not in readable_by_others(process)
        assert SECRET not in str(mount_status(mountpoint))
        assert SECRET not in (mountpoint / ".imgsyncfs" / "errors.log").read_text()
    assert SECRET not in workplace.log()
    kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert kept
    assert not [path for path in kept if SECRET.encode() in path.read_bytes()]


def test_a_store_is_read_with_the_environments_key_that_its_processes_do_not_have(
    container: Container, tmp_path: Path
) -> None:
    workplace = Workplace(str(tmp_path / "catalog.db"), tmp_path, container.environment)
    workplace.run("init", "--store", container.url)
    workplace.run("publish", write_folder(tmp_path / "one", count=2), "--name", DATASET)
    with workplace.mounted() as mountpoint:
        assert (mountpoint / DATASET / "img_00001.jpg").read_bytes() == (
            tmp_path / "one" / "img_00001.jpg"
        ).read_bytes()
        for process in process_ids(mountpoint):
            assert container.azurite.key.encode() not in readable_by_others(process)
