"""Which folders and files others may change, and where a cache lies that is given a shared one."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from imgsyncfs.errors import CacheError
from imgsyncfs.settings.private_folders import (
    CACHE_NAMES,
    cache_folder,
    check_own_folder,
    make_own_folder,
    own_file_fault,
    own_folder_fault,
    path_fault,
)

SOMEBODY = 12345
"""No user of this machine."""


@pytest.fixture
def somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this process look like one of somebody else's, who could not even enter a folder of pytest's."""
    monkeypatch.setattr(os, "geteuid", lambda: SOMEBODY)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def shared(path: Path, mode: int = 0o1777) -> Path:
    """A folder that others may write to."""
    path.mkdir()
    path.chmod(mode)
    return path


@pytest.fixture
def way(tmp_path: Path) -> Path:
    """A folder on the way to others."""
    (tmp_path / "way" / "end").mkdir(parents=True)
    return tmp_path / "way"


def test_a_folder_that_is_ours_alone_has_no_fault(way: Path) -> None:
    assert path_fault(way / "end") is None


@pytest.mark.parametrize("missing", ["", "missing", "missing/further"])
def test_what_is_not_there_has_no_fault(way: Path, missing: str) -> None:
    assert path_fault(way / "new" / missing) is None
    assert own_folder_fault(way / "new" / missing) is None


@pytest.mark.parametrize("step", ["way", "way/end"])
def test_a_folder_that_everyone_may_write_to_is_named(way: Path, step: str) -> None:
    (way.parent / step).chmod(0o777)
    assert path_fault(way / "end") == f"everyone may write to {way.parent / step}"


@needs_root
@pytest.mark.parametrize("step", ["way", "way/end"])
def test_a_folder_that_a_group_may_write_to_is_named(way: Path, step: str) -> None:
    os.chown(way.parent / step, -1, SOMEBODY)
    (way.parent / step).chmod(0o775)
    assert path_fault(way / "end") == f"the group {SOMEBODY} may write to {way.parent / step}"


def test_the_group_that_is_a_users_own_may_write(way: Path) -> None:
    way.chmod(0o775)
    assert path_fault(way / "end") is None


@needs_root
@pytest.mark.parametrize("step", ["way", "way/end"])
def test_a_folder_of_somebody_else_is_named(way: Path, step: str) -> None:
    os.chown(way.parent / step, SOMEBODY, -1)
    assert path_fault(way / "end") == f"{way.parent / step} belongs to the user {SOMEBODY}"


@needs_root
@pytest.mark.usefixtures("somebody")
def test_a_folder_of_roots_on_the_way_is_no_fault_for_others(way: Path) -> None:
    os.chown(way / "end", SOMEBODY, SOMEBODY)
    assert path_fault(way / "end") is None
    assert own_folder_fault(way / "end") is None
    assert own_folder_fault(way) == f"{way} belongs to root"


def test_a_sticky_folder_on_the_way_is_no_fault(tmp_path: Path) -> None:
    (shared(tmp_path / "tmp") / "ours").mkdir()
    assert path_fault(tmp_path / "tmp" / "ours") is None


@needs_root
@pytest.mark.parametrize("kind", ["folder", "link"])
def test_what_somebody_else_has_in_a_sticky_folder_is_named(tmp_path: Path, way: Path, kind: str) -> None:
    theirs = shared(tmp_path / "tmp") / "theirs"
    if kind == "link":
        theirs.symlink_to(way)
    else:
        theirs.mkdir()
    os.chown(theirs, SOMEBODY, SOMEBODY, follow_symlinks=False)
    assert path_fault(theirs / "end") == f"{theirs} belongs to the user {SOMEBODY}"


def test_a_link_is_followed_and_where_it_leads_is_looked_at(tmp_path: Path, way: Path) -> None:
    (tmp_path / "link").symlink_to("way/../way")
    assert path_fault(tmp_path / "link" / "end") is None
    way.chmod(0o777)
    assert path_fault(tmp_path / "link" / "end") == f"everyone may write to {way}"


@pytest.mark.parametrize("absolute", [False, True])
def test_the_folder_that_holds_a_link_is_looked_at(tmp_path: Path, way: Path, absolute: bool) -> None:
    open_folder = shared(tmp_path / "open", 0o777)
    (open_folder / "link").symlink_to(way if absolute else "../way")
    assert path_fault(open_folder / "link" / "end") == f"everyone may write to {open_folder}"


def test_links_that_lead_in_a_circle_are_named(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    assert "cannot be looked at" in str(path_fault(tmp_path / "one"))


def test_a_list_that_lets_others_write_is_named(way: Path) -> None:
    # Version 2; owner rwx, a user rwx, group r-x, mask rwx, others ---.
    entries = [(1, 7, -1), (2, 7, SOMEBODY), (4, 5, -1), (16, 7, -1), (32, 0, -1)]
    content = struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", tag, rights, who & 0xFFFFFFFF) for tag, rights, who in entries
    )
    try:
        os.setxattr(way, "system.posix_acl_access", content)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        pytest.skip("this disk knows no access control lists")
    assert path_fault(way / "end") == f"an access control list lets others write to {way}"


@pytest.mark.parametrize("mode", [0o602, 0o622])
def test_a_file_that_others_may_write_to_is_named(way: Path, mode: int) -> None:
    (way / "file").touch()
    (way / "file").chmod(mode)
    assert path_fault(way / "file") == f"everyone may write to {way / 'file'}"


def test_a_device_and_a_pipe_of_the_shells_are_no_fault() -> None:
    assert path_fault(Path("/dev/null")) is None
    reading, writing = os.pipe()
    assert path_fault(Path(f"/dev/fd/{reading}")) is None
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("kind", ["link", "file"])
def test_an_own_folder_is_no_link_and_no_file(way: Path, kind: str) -> None:
    path = way / "made"
    if kind == "link":
        path.symlink_to(way / "end")
    else:
        path.touch()
    assert own_folder_fault(path) == f"{path} is {'a link' if kind == 'link' else 'no folder'}"
    for use in (make_own_folder, check_own_folder):
        with pytest.raises(CacheError, match=f"{path} is"):
            use(path)


def test_a_sticky_folder_is_nobodys_own(tmp_path: Path) -> None:
    folder = shared(tmp_path / "tmp")
    assert own_folder_fault(folder) == f"everyone may write to {folder}"


def test_a_file_is_our_own_or_not(way: Path) -> None:
    (way / "file").touch()
    (way / "link").symlink_to("file")
    os.mkfifo(way / "pipe")
    assert own_file_fault(way / "file", (way / "file").lstat()) is None
    assert own_file_fault(way / "link", (way / "link").lstat()) == f"{way / 'link'} is a link"
    assert own_file_fault(way / "pipe", (way / "pipe").lstat()) == f"{way / 'pipe'} is no regular file"


# The cache's folder.


def test_a_folder_that_is_not_there_yet_is_taken_and_made_for_us_alone(tmp_path: Path) -> None:
    given = tmp_path / "new" / "cache"
    assert cache_folder(given) == given
    assert not given.parent.exists()
    before = os.umask(0)
    try:
        make_own_folder(given)
    finally:
        os.umask(before)
    assert (mode_of(given.parent), mode_of(given)) == (0o700, 0o700)


@pytest.mark.parametrize("mode", [0o700, 0o750, 0o755])
def test_a_folder_of_our_own_is_taken_and_left_as_it_is(tmp_path: Path, mode: int) -> None:
    given = shared(tmp_path / "cache", mode)
    assert cache_folder(given) == given
    make_own_folder(given)
    assert mode_of(given) == mode


@pytest.mark.parametrize("mode", [0o1777, 0o3777, 0o1757])
def test_in_a_shared_folder_the_cache_has_one_of_its_own(tmp_path: Path, mode: int) -> None:
    given = shared(tmp_path / "tmp", mode)
    folder = cache_folder(given)
    assert folder == given / f"imgsyncfs-{os.geteuid()}"
    make_own_folder(folder)
    assert (mode_of(given), mode_of(folder) & 0o777) == (mode, 0o700)


@needs_root
def test_in_a_folder_of_roots_that_holds_other_things_the_cache_has_one_of_its_own(tmp_path: Path) -> None:
    given = shared(tmp_path / "var-cache", 0o755)
    (given / "apt").mkdir()
    assert cache_folder(given) == given / "imgsyncfs"
    make_own_folder(given / "imgsyncfs")
    assert (mode_of(given), cache_folder(given)) == (0o755, given / "imgsyncfs")


@needs_root
def test_a_folder_that_is_a_cache_already_goes_on_being_one(tmp_path: Path) -> None:
    given = tmp_path / "cache"
    (given / "extents").mkdir(parents=True)
    (given / "extents" / "cache.db").touch()
    (given / "notes.txt").touch()
    assert cache_folder(given) == given


@pytest.mark.parametrize("name", sorted(CACHE_NAMES))
def test_what_a_cache_holds_is_no_other_thing(tmp_path: Path, name: str) -> None:
    (tmp_path / "cache" / name).mkdir(parents=True)
    assert cache_folder(tmp_path / "cache") == tmp_path / "cache"


MAKERS: dict[str, Callable[[Path], object]] = {
    "missing": lambda _: None,
    "empty": lambda given: given.mkdir(),
    "shared": shared,
    "with other things": lambda given: (given / "other").mkdir(parents=True),
    "a link": lambda given: given.symlink_to(shared(given.with_name("target"))),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_all_who_are_given_a_folder_or_what_comes_of_it_agree(tmp_path: Path, kind: str) -> None:
    given = tmp_path / "given"
    MAKERS[kind](given)
    folder = cache_folder(given)
    for _ in range(2):
        assert cache_folder(given) == cache_folder(folder) == folder == folder.resolve()
        make_own_folder(folder)
        (folder / "extents").mkdir(exist_ok=True)


@pytest.mark.parametrize("mode", [0o777, 0o757])
def test_a_folder_that_everyone_may_write_to_is_refused_and_left_as_it_is(tmp_path: Path, mode: int) -> None:
    given = shared(tmp_path / "open", mode)
    for folder in (given, given / "cache"):
        with pytest.raises(CacheError, match=f"everyone may write to {given}; correct that, or choose another folder"):
            cache_folder(folder)
        with pytest.raises(CacheError, match="everyone may write"):
            make_own_folder(folder)
    assert (mode_of(given), list(given.iterdir())) == (mode, [])


@needs_root
def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    given = shared(tmp_path / "theirs", 0o755)
    os.chown(given, SOMEBODY, SOMEBODY)
    for folder in (given, given / "cache"):
        with pytest.raises(CacheError, match=f"{given} belongs to the user {SOMEBODY}"):
            cache_folder(folder)


@needs_root
def test_what_somebody_else_has_put_in_place_of_ours_is_refused(tmp_path: Path) -> None:
    folder = cache_folder(shared(tmp_path / "tmp"))
    folder.mkdir()
    os.chown(folder, SOMEBODY, SOMEBODY)
    with pytest.raises(CacheError, match=f"{folder} belongs to the user {SOMEBODY}"):
        make_own_folder(folder)


@pytest.mark.usefixtures("somebody")
def test_a_folder_and_a_file_of_ours_are_refused_to_somebody_else(way: Path) -> None:
    (way / "file").touch()
    with pytest.raises(CacheError, match=f"{way} belongs to"):
        make_own_folder(way)
    assert own_file_fault(way / "file", (way / "file").lstat()) is not None


def test_a_file_in_place_of_a_folder_is_named(way: Path) -> None:
    (way / "file").touch()
    with pytest.raises(CacheError, match=f"{way / 'file'} is no folder"):
        make_own_folder(cache_folder(way / "file"))
    with pytest.raises(CacheError, match="choose another folder"):
        make_own_folder(way / "file" / "cache")
