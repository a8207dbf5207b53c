"""A mount is read-only, and what is not there is not there."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.mounting import Workplace, demo_workplace

FISHEYE = "original_20200207_fisheye_rbbox"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """The demo catalog, made once."""
    return demo_workplace(tmp_path_factory.mktemp("read-only"))


@pytest.fixture(scope="module")
def mountpoint(demo: Workplace) -> Iterator[Path]:
    """The demo, mounted."""
    with demo.mounted() as mounted:
        yield mounted


@pytest.fixture
def workplace(demo: Workplace, tmp_path: Path) -> Workplace:
    """The demo catalog, to be mounted elsewhere with a cache of its own."""
    return Workplace(demo.catalog, tmp_path)


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
    for path in (mountpoint, mountpoint / FISHEYE, mountpoint / ".by", mountpoint / ".imgsyncfs"):
        assert (path.stat().st_mode & 0o777, path.stat().st_uid) == (0o755, os.getuid())
    for entry in [*(mountpoint / FISHEYE).iterdir(), mountpoint / ".imgsyncfs" / "status.json"]:
        assert (entry.stat().st_mode & 0o777, entry.stat().st_uid) == (0o644, os.getuid())


def test_nobody_is_told_that_anything_may_be_written_to(mountpoint: Path) -> None:
    for path in (mountpoint, mountpoint / FISHEYE, mountpoint / FISHEYE / f"{FISHEYE}_00079.jpg"):
        assert not os.access(path, os.W_OK)
        assert os.access(path, os.R_OK)


def test_a_copy_can_be_edited_and_removed_by_whoever_made_it(mountpoint: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(mountpoint / FISHEYE, tmp_path / "copy")
    for path in (copy, *copy.iterdir()):
        assert path.stat().st_mode & stat.S_IWUSR


@pytest.mark.parametrize("arguments", [("--umask", "077"), ("-o", "umask=077")])
def test_the_umask_says_what_nobody_may(workplace: Workplace, arguments: tuple[str, ...]) -> None:
    with workplace.mounted(*arguments) as mounted:
        assert (mounted / FISHEYE).stat().st_mode & 0o777 == 0o700
        assert (mounted / FISHEYE / f"{FISHEYE}_00079.xml").stat().st_mode & 0o777 == 0o600


def test_a_umask_that_is_none_is_refused(workplace: Workplace) -> None:
    done = workplace.run("mount", workplace.folder / "mnt", "--umask", "9", status=1)
    assert "--umask takes an octal number" in done.stderr


def test_what_begins_with_a_dot_is_there_and_not_listed(mountpoint: Path) -> None:
    names = os.listdir(mountpoint)  # noqa: PTH208  # as programs do that walk
    assert FISHEYE in names
    assert not [name for name in names if name.startswith(".")]
    assert (mountpoint / ".by" / "image_type" / "fisheye360" / FISHEYE / f"{FISHEYE}_00079.jpg").exists()
    assert (mountpoint / ".imgsyncfs" / "README.txt").exists()
    assert (mountpoint / ".subscriptions").is_dir()
    images = [path for path in mountpoint.rglob("*.jpg") if path.name == f"{FISHEYE}_00079.jpg"]
    assert len(images) == 1


@pytest.mark.parametrize("arguments", [("--list-hidden",), ("-o", "list_hidden")])
def test_whoever_wants_to_sees_the_hidden_directories(workplace: Workplace, arguments: tuple[str, ...]) -> None:
    with workplace.mounted(*arguments) as mounted:
        assert {".by", ".imgsyncfs", ".subscriptions"} < set(os.listdir(mounted))  # noqa: PTH208  # likewise
