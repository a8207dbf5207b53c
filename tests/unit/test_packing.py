"""Packs: where files lie in them, and what they are called."""

from __future__ import annotations

import hashlib
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgsyncfs.blob_layout import EXTENT_BYTES, PACK_BYTES, SEAL_BYTES, has_seal
from imgsyncfs.tools.publish.packing import Pack, plan_packs, write_pack

EXTENT = 64
PACK = 256
ROOM = EXTENT - SEAL_BYTES

contents_of_files = st.lists(st.binary(max_size=ROOM), max_size=60)


def described(contents: list[bytes]) -> list[tuple[int, str]]:
    return [(len(content), hashlib.md5(content).hexdigest()) for content in contents]


def planned(contents: list[bytes], prefix: str = "a/images") -> list[Pack]:
    return plan_packs(described(contents), prefix=prefix, extent_bytes=EXTENT, pack_bytes=PACK)


@given(contents_of_files)
def test_no_file_crosses_an_extent_and_no_pack_is_too_long(contents: list[bytes]) -> None:
    for pack in planned(contents):
        assert pack.byte_count <= PACK
        for member in pack.members:
            last = member.offset + max(member.byte_count, 1) - 1
            assert member.byte_count == 0 or member.offset // EXTENT == last // EXTENT
            assert member.offset % EXTENT + member.byte_count <= ROOM


@given(contents_of_files)
def test_every_file_is_found_at_its_offset_in_the_bytes_of_its_pack(contents: list[bytes]) -> None:
    seen = []
    for pack in planned(contents):
        target = io.BytesIO()
        md5 = write_pack(pack, contents.__getitem__, target, extent_bytes=EXTENT)
        written = target.getvalue()
        assert len(written) == pack.byte_count
        assert hashlib.md5(written).hexdigest() == md5
        for member in pack.members:
            assert written[member.offset : member.offset + member.byte_count] == contents[member.index]
            seen.append(member.index)
    assert seen == list(range(len(contents)))


def sealed_extents(pack: Pack, contents: list[bytes]) -> list[bytes]:
    """The extents of a pack as they are written."""
    target = io.BytesIO()
    write_pack(pack, contents.__getitem__, target, extent_bytes=EXTENT)
    written = target.getvalue()
    return [written[start : start + EXTENT] for start in range(0, len(written), EXTENT)]


@given(contents_of_files)
def test_every_extent_bears_its_seal(contents: list[bytes]) -> None:
    for pack in planned(contents):
        extents = sealed_extents(pack, contents)
        assert all(has_seal(pack.blob, number * EXTENT, extent) for number, extent in enumerate(extents))


@given(st.lists(st.binary(min_size=1, max_size=ROOM), min_size=1, max_size=20), st.data())
def test_a_seal_is_broken_by_any_change_and_fits_nowhere_else(contents: list[bytes], data: st.DataObject) -> None:
    pack = planned(contents)[0]
    extent = sealed_extents(pack, contents)[0]
    place = data.draw(st.integers(0, len(extent) - 1))
    changed = extent[:place] + bytes([extent[place] ^ 1]) + extent[place + 1 :]
    assert not has_seal(pack.blob, 0, changed)
    assert not has_seal(pack.blob, EXTENT, extent)
    assert not has_seal("a/images-0123456789abcdef.pack", 0, extent)
    assert not has_seal(pack.blob, 0, extent[:place])


@given(contents_of_files)
def test_the_same_files_make_the_same_packs(contents: list[bytes]) -> None:
    assert planned(contents) == planned(list(contents))


@given(st.lists(st.binary(min_size=1, max_size=ROOM), min_size=1, max_size=20), st.data())
def test_a_pack_with_other_content_has_another_name(contents: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(contents) - 1))
    changed = contents.copy()
    changed[index] = bytes([changed[index][0] ^ 1]) + changed[index][1:]
    names = [[pack.blob for pack in planned(files)] for files in (contents, changed)]
    assert len(names[0]) == len(names[1])
    assert names[0] != names[1]


@given(contents_of_files)
def test_files_lie_as_close_as_the_extents_allow(contents: list[bytes]) -> None:
    for pack in planned(contents):
        end = 0
        for member in pack.members:
            gap = member.offset - end
            assert gap == 0 or (
                member.offset % EXTENT == 0 and gap < EXTENT and end % EXTENT + member.byte_count > ROOM
            )
            end = member.offset + member.byte_count


def test_a_pack_is_named_by_its_prefix_and_sixteen_hexadecimal_digits() -> None:
    (pack,) = planned([b"one", b"two"], prefix="original_20200207_fisheye_rbbox/images")
    prefix, _, digest = pack.blob.removesuffix(".pack").rpartition("-")
    assert prefix == "original_20200207_fisheye_rbbox/images"
    assert len(digest) == 16
    assert int(digest, 16) >= 0


def test_a_pack_is_closed_at_64_mebibytes() -> None:
    packs = plan_packs([(1_000_000, "0" * 32)] * 200, prefix="a/images")
    assert len(packs) == 4
    assert all(PACK_BYTES - EXTENT_BYTES < pack.byte_count <= PACK_BYTES for pack in packs[:-1])


def test_no_files_make_no_pack() -> None:
    assert plan_packs([], prefix="a/images") == []


def test_a_file_longer_than_an_extent_is_refused() -> None:
    with pytest.raises(ValueError, match="fits in no extent"):
        plan_packs([(EXTENT_BYTES + 1, "")], prefix="a/images")
