"""Opening beneath a folder: links lead about within it and never out, with openat2 and without."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples

from imgsyncfs.stores.beneath import LinkLeadsOut, Opener, open_beneath, open_by_openat2, open_by_walk

OPENERS = [open_by_openat2, open_by_walk]
NAMES = ("a", "b", "c")
PATHS = st.lists(st.sampled_from([*NAMES, "..", "."]), min_size=1, max_size=4).map("/".join)
NOT_THERE = "|".join(os.strerror(number) for number in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP))
BENEATH = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join)


@contextmanager
def opened_folder(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def content(folder: Path, name: str, opener: Opener) -> bytes:
    with opened_folder(folder) as root:
        descriptor = open_beneath(root, str(folder), name, os.O_RDONLY, opener=opener)
    try:
        return os.read(descriptor, 100)
    finally:
        os.close(descriptor)


def make(top: Path, inner: str, *, link: str | None) -> None:
    """Make a link, or a file, and the folders above it, unless something is in the way."""
    path = top / inner
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if link is None:
            path.write_bytes(b"content")
        else:
            path.symlink_to(link)
    except OSError:
        pass


@pytest.mark.parametrize("opener", OPENERS)
@settings(max_examples=examples(150), deadline=None)
@given(
    files=st.lists(st.tuples(st.booleans(), BENEATH), max_size=4),
    links=st.lists(st.tuples(BENEATH, PATHS, st.sampled_from(["", "/root/", "/outside/"])), max_size=5),
    name=BENEATH,
)
def test_a_name_opens_what_it_leads_to_or_nothing_if_that_is_outside(
    opener: Opener, files: list[tuple[bool, str]], links: list[tuple[str, str, str]], name: str
) -> None:
    with tempfile.TemporaryDirectory() as place:
        top = Path(os.path.realpath(place))
        root_path = top / "root"
        root_path.mkdir()
        (top / "outside").mkdir()
        for within, inner in files:
            make(root_path if within else top / "outside", inner, link=None)
        for inner, target, base in links:
            make(root_path, inner, link=f"{top}{base}{target}" if base else target)
        leads_to = Path(os.path.realpath(root_path / name))
        with opened_folder(root_path) as root:
            if not (root_path / name).exists():
                with pytest.raises((LinkLeadsOut, OSError)):
                    open_beneath(root, str(root_path), name, os.O_PATH, opener=opener)
            elif not leads_to.is_relative_to(root_path):
                with pytest.raises(LinkLeadsOut):
                    open_beneath(root, str(root_path), name, os.O_PATH, opener=opener)
            else:
                descriptor = open_beneath(root, str(root_path), name, os.O_PATH, opener=opener)
                found = Path(f"/proc/self/fd/{descriptor}").readlink()
                os.close(descriptor)
                assert found == leads_to


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize("target", ["a/missing/..", "a/file/.."])
def test_a_link_by_way_of_what_is_no_folder_leads_to_nothing(tmp_path: Path, opener: Opener, target: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to(target)
    with opened_folder(tmp_path) as root, pytest.raises(OSError, match=NOT_THERE):
        open_beneath(root, str(tmp_path), "link", os.O_PATH, opener=opener)


@pytest.mark.parametrize("opener", OPENERS)
def test_the_folder_itself_is_opened_by_a_dot(tmp_path: Path, opener: Opener) -> None:
    with opened_folder(tmp_path) as root:
        descriptor = open_beneath(root, str(tmp_path), ".", os.O_RDONLY | os.O_DIRECTORY, opener=opener)
    assert os.path.samestat(os.fstat(descriptor), tmp_path.stat())
    os.close(descriptor)


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize("name", ["../outside", "a/../../outside", "/etc/hostname"])
def test_a_name_that_goes_up_or_is_absolute_is_refused(tmp_path: Path, opener: Opener, name: str) -> None:
    (tmp_path / "root/a").mkdir(parents=True)
    (tmp_path / "outside").write_bytes(b"content")
    with pytest.raises(LinkLeadsOut):
        content(tmp_path / "root", name, opener)


@pytest.mark.parametrize("opener", OPENERS)
def test_a_link_of_proc_is_refused(tmp_path: Path, opener: Opener) -> None:
    (tmp_path / "outside").write_bytes(b"content")
    (tmp_path / "root").mkdir()
    with (tmp_path / "outside").open("rb") as stream:
        (tmp_path / "root/link").symlink_to(f"/proc/self/fd/{stream.fileno()}")
        with pytest.raises(LinkLeadsOut):
            content(tmp_path / "root", "link", opener)


@pytest.mark.parametrize("opener", OPENERS)
def test_a_folder_whose_own_path_has_a_link_serves_absolute_links_by_either_path(
    tmp_path: Path, opener: Opener
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/x").write_bytes(b"content")
    (tmp_path / "root").symlink_to("real")
    (tmp_path / "real/one").symlink_to(tmp_path / "real/x")
    (tmp_path / "real/other").symlink_to(tmp_path / "root/x")
    assert content(tmp_path / "root", "one", opener) == content(tmp_path / "root", "other", opener) == b"content"


def test_a_name_with_a_nul_is_refused_and_not_cut_short(tmp_path: Path) -> None:
    with opened_folder(tmp_path) as root, pytest.raises(ValueError, match="NUL"):
        open_beneath(root, str(tmp_path), "x\0y", os.O_RDONLY)


@pytest.mark.parametrize("opener", OPENERS)
def test_no_descriptor_is_left_open(tmp_path: Path, opener: Opener) -> None:
    (tmp_path / "root/a/b").mkdir(parents=True)
    (tmp_path / "root/out").symlink_to("..")
    before = sum(1 for _ in Path("/proc/self/fd").iterdir())
    with opened_folder(tmp_path / "root") as root:
        for name in ("a/b", "a/b/missing", "out/x", "a/missing/x"):
            try:
                os.close(open_beneath(root, str(tmp_path / "root"), name, os.O_PATH, opener=opener))
            except OSError:
                continue
    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) == before
