"""The tools that people use on paths work on a mount, sizes are exact, and looking around reads no blob."""

from __future__ import annotations

import mmap
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
from PIL import Image
from support.http_proxy import HttpProxy
from support.mounting import Workplace, demo_workplace, store_requests, write_folder
from support.services import Container

FISHEYE = "original_20200207_fisheye_rbbox"


@pytest.fixture(scope="module")
def mountpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The demo, mounted."""
    with demo_workplace(tmp_path_factory.mktemp("tools")).mounted() as mounted:
        yield mounted


def command(*arguments: str | Path, cwd: Path | None = None) -> str:
    """Run a program that must succeed."""
    done = subprocess.run(list(map(str, arguments)), cwd=cwd, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, f"{arguments}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def all_files(folder: Path) -> list[Path]:
    """Every file below a folder, hidden directories too."""
    return sorted(Path(root) / name for root, _, names in os.walk(folder) for name in names)


def test_every_size_is_the_number_of_bytes_that_are_read(mountpoint: Path) -> None:
    files = all_files(mountpoint)
    assert len(files) > 200
    for file in files:
        size = file.stat().st_size
        assert (file.name, len(file.read_bytes())) == (file.name, size)


def test_find_sees_each_image_once(mountpoint: Path) -> None:
    images = command("find", mountpoint, "-name", "*.jpg").split("\n")[:-1]
    assert len(images) == len({Path(image).name for image in images}) > 40
    assert all(Path(image).parent.parent == mountpoint for image in images)


def test_ls_lists_everything_recursively(mountpoint: Path) -> None:
    listed = command("ls", "-lR", mountpoint)
    assert f"{FISHEYE}_00079.labelme.json" in listed


def test_cp_tar_and_rsync_copy_every_byte(mountpoint: Path, tmp_path: Path) -> None:
    command("cp", "-r", mountpoint / FISHEYE, tmp_path / "cp")
    command("rsync", "-a", f"{mountpoint / FISHEYE}/", f"{tmp_path / 'rsync'}/")
    command("tar", "-cf", tmp_path / "all.tar", FISHEYE, cwd=mountpoint)
    (tmp_path / "tar").mkdir()
    command("tar", "-xf", tmp_path / "all.tar", "-C", tmp_path / "tar")
    for copy in (tmp_path / "cp", tmp_path / "rsync", tmp_path / "tar" / FISHEYE):
        assert command("diff", "-r", mountpoint / FISHEYE, copy) == ""


def test_rsync_finds_nothing_to_do_the_second_time(mountpoint: Path, tmp_path: Path) -> None:
    command("rsync", "-a", f"{mountpoint}/", f"{tmp_path}/")
    assert FISHEYE not in command("rsync", "-a", "--itemize-changes", f"{mountpoint}/{FISHEYE}", f"{tmp_path}/")


def test_df_shows_the_size_of_the_catalog_and_no_file_system_that_is_full(mountpoint: Path) -> None:
    size, used, available, percent = command(
        "df", "--block-size=1", "--output=size,used,avail,pcent", mountpoint
    ).split()[-4:]
    images = sum(path.stat().st_size for path in mountpoint.rglob("*.jpg"))
    assert images <= int(size) < images + 512
    assert (used, available, percent) == ("0", "0", "-")
    assert command("df", "--output=ipcent", mountpoint).split()[-1] in {"0%", "-"}


def test_md5sum_confirms_what_it_saw(mountpoint: Path, tmp_path: Path) -> None:
    sums = tmp_path / "sums"
    sums.write_text(command("md5sum", *sorted((mountpoint / FISHEYE).iterdir())))
    assert "FAILED" not in command("md5sum", "-c", sums)


def test_grep_searches_annotations_and_siblings(mountpoint: Path) -> None:
    found = command("grep", "-rl", "person", mountpoint / FISHEYE).split()
    assert {Path(path).suffix for path in found} == {".json", ".xml"}


def test_a_file_can_be_mapped_into_memory(mountpoint: Path) -> None:
    image = mountpoint / FISHEYE / f"{FISHEYE}_00079.jpg"
    with image.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert mapped[-2:] == b"\xff\xd9"
        assert mapped[:] == image.read_bytes()


def test_opencv_and_pillow_decode_every_image(mountpoint: Path) -> None:
    for image in sorted(mountpoint.glob("*/*.jpg")):
        decoded = cv2.imread(str(image))
        assert decoded is not None
        height, width, _ = decoded.shape
        with Image.open(image) as opened:
            opened.load()
            assert opened.size == (width, height)


def test_df_shows_the_mount_and_no_free_room(mountpoint: Path) -> None:
    room = os.statvfs(mountpoint)
    assert (room.f_bavail, room.f_namemax) == (0, 255)
    assert room.f_files > 40


def test_find_ls_and_scandir_send_no_request_to_the_store(container: Container, tmp_path: Path) -> None:
    with HttpProxy(container.azurite.port) as proxy:
        connection = container.azurite.connection_string_through(proxy.port)
        workplace = Workplace(str(tmp_path / "catalog.db"), tmp_path, {"AZURE_STORAGE_CONNECTION_STRING": connection})
        workplace.run("init", "--store", container.url)
        workplace.run("publish", write_folder(tmp_path / "one", count=20), "--name", "original_20260105_rgb_rbbox")
        with workplace.mounted() as mountpoint:
            before = len(proxy.requests)
            command("find", mountpoint, "-type", "f")
            command("ls", "-R", mountpoint)
            with os.scandir(mountpoint / "original_20260105_rgb_rbbox") as entries:
                assert sum(entry.is_file() for entry in entries) == 80
            for image in (mountpoint / "original_20260105_rgb_rbbox").glob("*.jpg"):
                image.stat()
            assert len(proxy.requests) == before
            assert store_requests(mountpoint) == 0


def test_reading_a_packed_dataset_takes_one_request_an_extent_and_none_the_second_time(
    container: Container, tmp_path: Path
) -> None:
    with HttpProxy(container.azurite.port) as proxy:
        connection = container.azurite.connection_string_through(proxy.port)
        workplace = Workplace(str(tmp_path / "catalog.db"), tmp_path, {"AZURE_STORAGE_CONNECTION_STRING": connection})
        workplace.run("init", "--store", container.url)
        workplace.run("publish", write_folder(tmp_path / "one", count=50), "--name", "original_20260105_rgb_rbbox")
        with workplace.mounted() as mountpoint:
            before = len(proxy.requests)
            files = all_files(mountpoint / "original_20260105_rgb_rbbox")
            assert len(files) == 200
            for _ in range(2):
                for file in files:
                    file.read_bytes()
            # Images lie in one extent, annotations in another.
            assert len(proxy.requests) - before == 2
