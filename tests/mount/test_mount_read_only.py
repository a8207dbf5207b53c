"""A mount is read-only, and what is not there is not there."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.mounting import demo_workplace

FISHEYE = "original_20200207_fisheye_rbbox"


@pytest.fixture(scope="module")
def mountpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The demo, mounted."""
    with demo_workplace(tmp_path_factory.mktemp("read-only")).mounted() as mounted:
        yield mounted


def error_number(action: Callable[[], object]) -> int | None:
    """The errno that an action ends in."""
    try:
        action()
    except OSError as error:
        return error.errno
    return None


def test_every_kind_of_write_is_refused_as_on_a_read_only_file_system(mountpoint: Path) -> None:
    image = mountpoint / FISHEYE / f"{FISHEYE}_00079.jpg"
    sibling = image.with_suffix(".labelme.json")
    writes: dict[str, Callable[[], object]] = {
        "open for writing": lambda: image.open("r+b"),
        "append": lambda: sibling.open("ab"),
        "create": lambda: (image.parent / "new.jpg").open("xb"),
        "truncate": lambda: os.truncate(image, 0),
        "rename": lambda: image.rename(image.with_suffix(".jpeg")),
        "chmod": lambda: image.chmod(0o666),
        "chown": lambda: os.chown(image, 1000, 1000),
        "mkdir": (mountpoint / "original_20990101_rgb_bbox").mkdir,
        "rmdir": image.parent.rmdir,
        "unlink": image.unlink,
        "symlink": lambda: (image.parent / "link").symlink_to(image),
        "hard link": lambda: (image.parent / "link").hardlink_to(image),
        "set times": lambda: os.utime(image, (0, 0)),
        "unlink a control file": (mountpoint / ".imgsyncfs" / "errors.log").unlink,
    }
    assert {name: error_number(write) for name, write in writes.items()} == dict.fromkeys(writes, errno.EROFS)


@pytest.mark.parametrize(
    "path",
    [
        b"nothing",
        b".nothing",
        b".imgsyncfs/nothing",
        FISHEYE.encode() + b"/nothing.jpg",
        FISHEYE.encode() + b"/nothing",
        FISHEYE.encode() + b"/.xml",
        FISHEYE.encode() + b"/\xff\xfe.jpg",
        b"\xff\xfe",
        FISHEYE.encode() + f"/{FISHEYE}_00079.png".encode(),
        FISHEYE.encode() + f"/{FISHEYE}_00079.JPG".encode(),
    ],
)
def test_a_path_that_is_not_there_ends_in_enoent(mountpoint: Path, path: bytes) -> None:
    assert error_number(Path(os.fsdecode(os.fsencode(mountpoint) + b"/" + path)).stat) == errno.ENOENT


def test_a_path_below_a_file_is_no_directory(mountpoint: Path) -> None:
    assert error_number((mountpoint / FISHEYE / f"{FISHEYE}_00079.jpg" / "x").stat) == errno.ENOTDIR


def test_everything_belongs_to_the_one_who_mounted_and_may_be_read_by_all(mountpoint: Path) -> None:
    for path, mode in ((mountpoint, 0o555), (mountpoint / FISHEYE, 0o555)):
        assert (path.stat().st_mode & 0o777, path.stat().st_uid) == (mode, os.getuid())
    for entry in (mountpoint / FISHEYE).iterdir():
        assert (entry.stat().st_mode & 0o777, entry.stat().st_uid) == (0o444, os.getuid())
