"""Tar files of samples: what `tarfile` and webdataset make of them, and that any part of one is what it should be."""

from __future__ import annotations

import io
import random
import tarfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples

from imgsyncfs.catalog.listing import Listing, build_listing
from imgsyncfs.catalog.naming import file_name_fault
from imgsyncfs.catalog.rows import AnnotationRow, DatasetRow, ImageRow
from imgsyncfs.errors import ConfigurationError
from imgsyncfs.library.dataset_files import FileSources
from imgsyncfs.library.numbers import ANNOTATION, IMAGE
from imgsyncfs.library.tar_shards import END_BYTES, TarShard, TarShards, header_bytes, member_header
from imgsyncfs.library.view_files import ViewFiles
from imgsyncfs.library.views.contract import Assembly, DatasetFacts, Layout
from imgsyncfs.library.views.registry import find_view
from imgsyncfs.library.views.webdataset import WebDatasetView

ROW = DatasetRow("original_20200207_fisheye_rbbox", "1.0.0", "", (), (), (), 0, "", "file:///data", 7, 1_600_000_000)
IMAGE_ROW = ImageRow("x", "jpg", 480, 640, 3, 1000, "", "images-0.pack", 0, 0, "", 1_500_000_000)
ANNOTATION_ROW = AnnotationRow("x", 1, 2, 50, "", "annotations-0.pack", 0, "", 1_500_000_001)


@dataclass(frozen=True)
class Sample:
    """What a sample is made of: lengths in bytes, None for what it does not have."""

    stem: str
    image: int = 100
    annotation: int | None = 50
    ext: str = "jpg"
    number: int = -1
    time: int = 1_500_000_000


def listing_of(samples: Sequence[Sample]) -> Listing:
    images, annotations, place = [], [], 0
    for each in samples:
        row = replace(IMAGE_ROW, name=each.stem, ext=each.ext, byte_count=each.image, modified_at=each.time)
        images.append(replace(row, blob_offset=place))
        place += each.image
        if each.annotation is not None:
            annotations.append(
                replace(ANNOTATION_ROW, name=each.stem, byte_count=each.annotation, modified_at=each.time)
            )
    return build_listing(ROW, images, annotations)


def classes_of(listing: Listing, samples: Sequence[Sample]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    numbers = {each.stem: each.number for each in samples}
    return np.array([numbers[listing.stem(index).decode()] for index in range(len(listing))], np.int64)


def content(kind: int, stem: str, length: int) -> bytes:
    """The content of a stored file, another one for each."""
    return random.Random(zlib.crc32(f"{kind} {stem}".encode())).randbytes(length)


def read(listing: Listing, shard: Assembly, offset: int, size: int) -> bytes:
    parts = []
    for part in shard.parts(offset, size):
        if isinstance(part, bytes):
            parts.append(part)
            continue
        files = listing.images if part.kind == IMAGE else listing.annotations
        whole = content(part.kind, listing.stem(part.image).decode(), files.size_and_time(part.image)[0])
        assert part.offset + part.length <= len(whole)
        parts.append(whole[part.offset : part.offset + part.length])
    return b"".join(parts)


def all_of(listing: Listing, shard: Assembly) -> bytes:
    return read(listing, shard, 0, shard.byte_count)


def in_order(listing: Listing) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.arange(len(listing))


def is_stem(stem: str) -> bool:
    return file_name_fault(stem) is None and file_name_fault(f"{stem}.jpeg") is None


STEMS = st.text(st.sampled_from("ab01.%_ é图"), min_size=1, max_size=8) | st.text(min_size=1, max_size=100)
SAMPLES = st.lists(
    st.builds(
        Sample,
        STEMS.map(lambda stem: stem.replace("\0", "")).filter(is_stem),
        image=st.integers(0, 2000),
        annotation=st.none() | st.integers(0, 1200),
        ext=st.sampled_from(["jpg", "png", "jpeg"]),
        number=st.integers(-1, 120),
        time=st.integers(0, 2_000_000_000),
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda each: each.stem,
)


@settings(max_examples=examples(150), deadline=None)
@given(SAMPLES, st.integers(1, 12_000), st.booleans(), st.data())
def test_tarfile_reads_every_member_of_every_sample_and_any_part_is_the_slice_of_the_whole(
    samples: list[Sample], shard_bytes: int, with_classes: bool, data: st.DataObject
) -> None:
    listing = listing_of(samples)
    assert len(listing) == len(samples)
    classes = classes_of(listing, samples) if with_classes else None
    expected = []
    for each in sorted(samples, key=lambda sample: sample.stem.encode()):
        expected.append((f"{each.stem}|.{each.ext}", content(IMAGE, each.stem, each.image), each.time))
        if each.annotation is not None:
            expected.append((f"{each.stem}|.json", content(ANNOTATION, each.stem, each.annotation), each.time))
        if with_classes and each.number >= 0:
            expected.append((f"{each.stem}|.cls", str(each.number).encode(), each.time))
    found = []
    for shard in TarShards(listing, classes).cut(in_order(listing), shard_bytes):
        whole = all_of(listing, shard)
        assert len(whole) == shard.byte_count
        assert len(whole) <= shard_bytes or len(shard.images) == 1
        with tarfile.open(fileobj=io.BytesIO(whole), mode="r|") as archive:
            for member in archive:
                stream = archive.extractfile(member)
                assert stream is not None
                stem, dot, ext = member.name.partition(".")
                found.append((f"{unquote(stem)}|{dot}{ext}", stream.read(), member.mtime))
                assert (member.mode, member.uid, member.gid, member.type) == (0o644, 0, 0, tarfile.REGTYPE)
        start = data.draw(st.integers(0, len(whole)))
        size = data.draw(st.integers(0, len(whole) + 10))
        assert read(listing, shard, start, size) == whole[start : start + size]
    assert found == expected


@settings(max_examples=examples(100), deadline=None)
@given(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=300)
    | st.integers(60, 1200).map("x".__mul__),
    st.integers(0, 2**40) | st.sampled_from([8**11 - 1, 8**11]),
    st.integers(-(2**40), 2**40),
)
def test_the_length_of_a_header_is_known_before_it_is_made(name: str, byte_count: int, time: int) -> None:
    header = member_header(name.encode(), byte_count, time)
    lengths = header_bytes(np.array([len(name.encode())]), np.array([name.isascii()]), np.array([byte_count]))
    assert len(header) == lengths[0]
    with tarfile.open(fileobj=io.BytesIO(header + bytes(END_BYTES))) as archive:
        member = archive.next()
        assert member is not None
        assert (member.name, member.size) == (name.rstrip("/"), byte_count)
        assert member.mtime == max(0, min(time, 8**11 - 1))


def test_a_plain_header_is_the_one_that_tarfile_writes() -> None:
    member = tarfile.TarInfo("image_00001.jpg")
    member.size, member.mtime = 97_123, 1_700_000_000
    assert member_header(b"image_00001.jpg", 97_123, 1_700_000_000) == member.tobuf(tarfile.USTAR_FORMAT)


def test_webdataset_finds_each_image_by_its_name_whatever_dots_are_in_it(tmp_path: Path) -> None:
    stems = ["a", "a.1", "a.2", "a.1.2", ".a", "100%", "a%2E1", "ä.b", "__x__", "n" * 200]
    samples = [Sample(stem, number=place) for place, stem in enumerate(stems)]
    listing = listing_of(samples)
    (shard,) = TarShards(listing, classes_of(listing, samples)).cut(in_order(listing), 1 << 20)
    (tmp_path / "train-000000.tar").write_bytes(all_of(listing, shard))
    dataset = webdataset.WebDataset(str(tmp_path / "train-000000.tar"), shardshuffle=False)
    found = {unquote(sample["__key__"]): sample for sample in dataset}
    assert found.keys() == set(stems)
    for place, stem in enumerate(stems):
        assert found[stem]["jpg"] == content(IMAGE, stem, 100)
        assert found[stem]["json"] == content(ANNOTATION, stem, 50)
        assert found[stem]["cls"] == str(place).encode()


def test_samples_follow_each_other_as_their_images_lie_in_packs() -> None:
    rows = [
        replace(IMAGE_ROW, name=f"i{place}", blob=f"images-{place % 2}.pack", blob_offset=9000 - 1000 * place)
        for place in range(9)
    ]
    (shard,) = shards_of(build_listing(ROW, rows, ()), None, 1 << 20).values()
    assert shard.images.tolist() == [8, 6, 4, 2, 0, 7, 5, 3, 1]


def test_each_split_has_tar_files_of_its_own_and_one_without_images_has_none() -> None:
    samples = [Sample(f"i{place}") for place in range(6)]
    listing = listing_of(samples)
    shards = shards_of(listing, np.array([2, 0, 2, 0, 0, 2], np.uint8), 6000)
    assert {name: shard.images.tolist() for name, shard in shards.items()} == {
        "train-000000.tar": [1, 3],
        "train-000001.tar": [4],
        "test-000000.tar": [0, 2],
        "test-000001.tar": [5],
    }


def test_a_sample_that_is_larger_than_a_tar_file_may_be_has_one_of_its_own() -> None:
    listing = listing_of([Sample("a"), Sample("b", image=50_000), Sample("c")])
    shards = shards_of(listing, None, 5000)
    assert [shard.images.tolist() for shard in shards.values()] == [[0], [1], [2]]


def test_a_dataset_without_images_has_no_tar_files() -> None:
    assert shards_of(build_listing(ROW, (), ()), None, 5000) == {}


def test_the_name_of_the_view_may_say_how_long_a_tar_file_is() -> None:
    view = find_view("webdataset:2M")
    assert view.name == "webdataset:2M"
    listing = listing_of([Sample(f"i{place}", image=700_000) for place in range(5)])
    assemblies = [document.assembly for document in view.documents(listing, Layout(), DatasetFacts())]
    lengths = [assembly.byte_count for assembly in assemblies if assembly is not None]
    assert len(lengths) == 3
    assert max(lengths) <= 2 << 20
    for wrong in ("webdataset:big", "webdataset:10", "plain:2M"):
        with pytest.raises(ConfigurationError):
            find_view(wrong)


def shards_of(listing: Listing, splits: object, shard_bytes: int) -> dict[str, TarShard]:
    """The tar files of the view by their names, as they are found in its directory."""
    nowhere: FileSources = FileSources(None, None, ())  # type: ignore[arg-type]  # nothing is read
    facts = DatasetFacts((), splits)  # type: ignore[arg-type]  # numpy's array
    files = ViewFiles(listing, WebDatasetView(shard_bytes), nowhere, facts=facts)
    shards = {}
    for name, kind, place, _ in files.entries_from(2):
        key = files.find(name)
        assert key is not None
        assert (key.kind, key.image) == (kind, place)
        assembly = files.assembly(key)
        assert isinstance(assembly, TarShard)
        assert files.attributes(key).size == assembly.byte_count
        shards[name.decode()] = assembly
    assert files.find(b"i0.jpg") is None
    return shards
