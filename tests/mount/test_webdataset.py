"""webdataset's view: tar files that nothing is stored of, as tar and webdataset read them."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import webdataset
from support.http_proxy import Fault, HttpProxy
from support.mounting import (
    Workplace,
    box_annotation,
    copy_of,
    eventually,
    local_workplace,
    mount_status,
    noise_image,
    store_requests,
    write_folder,
    write_image,
)
from support.services import Container
from support.syncing import open_library

from imgsyncfs.library.dataset_files import FileKey
from imgsyncfs.library.numbers import DOCUMENT
from imgsyncfs.library.views.registry import find_view

DATASET = "original_20260401_rgb_rbbox"
OTHER = "original_20260402_rgb_rbbox"
IMAGES = 24
NEVER = ("--refresh", "3600")
VIEW = ("--view", "webdataset:2M")
DOTTED = ("odd.name", "odd.other", "50%")


def write_samples(folder: Path) -> Path:
    """Images of 700 kB, which fill several extents, and some odd ones; the last has no annotation."""
    folder.mkdir()
    for number in range(IMAGES):
        stem = f"img_{number:05}"
        noise_image(folder / f"{stem}.png", seed=number)
        if number < IMAGES - 1:
            (folder / f"{stem}.json").write_bytes(box_annotation(x=10 + number, size=(480, 480)))
    for stem in DOTTED:
        write_image(folder / f"{stem}.jpg")
        (folder / f"{stem}.json").write_bytes(box_annotation())
    return folder


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A catalog of two datasets: one of large images, one that is small and divided by single images."""
    workplace = local_workplace(tmp_path_factory.mktemp("webdataset"))
    workplace.run("publish", write_samples(workplace.folder / "one"), "--name", DATASET)
    workplace.run("publish", write_folder(workplace.folder / "two", count=40), "--name", OTHER)
    for dataset in (DATASET, OTHER):
        workplace.run("split", dataset, "60/20/20", "--group-by", r"(\d+)$")
    return workplace


@pytest.fixture
def workplace(published: Workplace, tmp_path: Path) -> Workplace:
    """A copy of that catalog."""
    return copy_of(published, tmp_path)


@pytest.fixture(scope="module")
def shared(published: Workplace) -> Iterator[Path]:
    """A mount that its tests only read, with many tar files of the first dataset."""
    with published.mounted(*NEVER, *VIEW) as mountpoint:
        yield mountpoint


def shards_in(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def stored_in(mountpoint: Path, dataset: str) -> dict[str, bytes]:
    """The images and annotations of a dataset, by name."""
    folder = mountpoint / ".views" / "plain" / dataset
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_each_split_has_tar_files_and_their_sizes_are_known_before_anything_is_read(workplace: Workplace) -> None:
    with workplace.mounted(*NEVER) as mountpoint:
        folder = mountpoint / ".views" / "webdataset" / OTHER
        shards = shards_in(folder)
        assert [path.name for path in shards] == ["test-000000.tar", "train-000000.tar", "valid-000000.tar"]
        sizes = [path.stat().st_size for path in shards]
        assert store_requests(mountpoint) == 0
        assert [len(path.read_bytes()) for path in shards] == sizes


def test_tar_lists_and_unpacks_what_sync_copies(shared: Path, published: Workplace, tmp_path: Path) -> None:
    published.run("sync", tmp_path / "synced", DATASET, "--view", "plain")
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    shards = shards_in(shared / DATASET)
    assert len(shards) > 6
    names: list[str] = []
    for shard in shards:
        assert shard.stat().st_size <= 2 << 20
        listed = subprocess.run(["tar", "-tf", shard], check=True, capture_output=True, text=True)
        assert listed.stderr == ""
        names += listed.stdout.splitlines()
        subprocess.run(["tar", "-xf", shard, "-C", unpacked], check=True)
    written = {path.name: path for path in unpacked.iterdir()}
    assert len(names) == len(set(names)) == len(written)
    synced = {
        path.name: path
        for path in (tmp_path / "synced" / DATASET).iterdir()
        if path.suffix in {".jpg", ".png", ".json"}
    }
    as_in_tar = {_in_tar(name): path for name, path in synced.items()}
    assert written.keys() == as_in_tar.keys()
    for name, path in as_in_tar.items():
        assert written[name].read_bytes() == path.read_bytes()


def _in_tar(name: str) -> str:
    stem, _, ext = name.rpartition(".")
    return f"{stem.replace('%', '%25').replace('.', '%2E')}.{ext}"


def test_webdataset_reads_every_image_with_its_annotation(shared: Path) -> None:
    stored = stored_in(shared, DATASET)
    seen = {}
    for split in ("train", "valid", "test"):
        shards = [str(path) for path in shards_in(shared / DATASET) if path.name.startswith(split)]
        for sample in webdataset.WebDataset(shards, shardshuffle=False, empty_check=False):
            seen[sample["__key__"].replace("%2E", ".").replace("%25", "%")] = sample
    assert seen.keys() == {name.rpartition(".")[0] for name in stored}
    for stem, sample in seen.items():
        ext = "png" if stem.startswith("img") else "jpg"
        assert sample[ext] == stored[f"{stem}.{ext}"]
        assert sample.get("json") == stored.get(f"{stem}.json")


def test_webdatasets_decoders_make_pictures_and_dictionaries(shared: Path) -> None:
    (shard,) = [str(path) for path in shards_in(shared / OTHER) if path.name.startswith("train")]
    samples = [*webdataset.WebDataset(shard, shardshuffle=False).decode("pil").to_tuple("jpg", "json")]
    assert samples
    assert {image.size for image, _ in samples} == {(64, 48)}
    assert {annotation["anno_version"] for _, annotation in samples} == {"0.2.0"}


def test_many_read_any_part_of_many_tar_files_at_once(shared: Path) -> None:
    shards = shards_in(shared / DATASET)
    whole = {path: path.read_bytes() for path in shards}

    def is_right(number: int) -> bool:
        path = shards[number % len(shards)]
        offset = number * 7919 % len(whole[path])
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            return os.pread(descriptor, 100_000, offset) == whole[path][offset : offset + 100_000]
        finally:
            os.close(descriptor)

    with ThreadPoolExecutor(8) as readers:
        assert all(readers.map(is_right, range(200)))


def test_a_publish_gives_other_tar_files_and_who_has_one_open_reads_on(workplace: Workplace, tmp_path: Path) -> None:
    with workplace.mounted(*NEVER) as mountpoint:
        path = mountpoint / ".views" / "webdataset" / DATASET / "train-000000.tar"
        before = path.read_bytes()
        with path.open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            beginning = stream.read(1000)
            write_folder(tmp_path / "more", count=30)
            workplace.run("publish", tmp_path / "more", "--name", DATASET)
            assert json.loads((mountpoint / ".imgsyncfs" / "datasets.json").read_bytes())
            after = path.read_bytes()
            assert len(after) != len(before)
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            assert beginning + stream.read() == before
        with tarfile.open(path) as archive:
            assert any(name.startswith("img_000") for name in archive.getnames())


def test_a_store_that_is_away_is_an_error_and_the_log_names_the_tar_file(workplace: Workplace) -> None:
    store = workplace.folder / "store"
    with workplace.mounted(*NEVER, "--timeout", "5", *VIEW) as mountpoint:
        path = mountpoint / DATASET / "train-000001.tar"
        size = path.stat().st_size
        store.rename(workplace.folder / "away")
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            path.read_bytes()
        log = (mountpoint / ".imgsyncfs" / "errors.log").read_text()
        assert f"/{DATASET}/train-000001.tar" in log
        (workplace.folder / "away").rename(store)
        # The store is asked again after a pause.
        assert eventually(lambda: _length(path) == size)


def _length(path: Path) -> int:
    """How many bytes are read; below 0 for an error."""
    try:
        return len(path.read_bytes())
    except OSError:
        return -1


def test_a_library_reads_the_same_tar_files_without_a_mount(published: Workplace, shared: Path) -> None:
    with open_library(published.folder, cache="another-cache") as library:
        files = library.view_files(DATASET, find_view("webdataset:2M"))
        for place, document in enumerate(files.documents):
            key = FileKey(DOCUMENT, place)
            mounted = (shared / DATASET / document.name.decode()).read_bytes()
            assert files.read(key, 0, files.attributes(key).size) == mounted
            assert files.read(key, 100_000, 50) == mounted[100_000:100_050]


def test_a_cache_that_is_smaller_than_what_is_read_delays_and_does_not_stop_a_reader(workplace: Workplace) -> None:
    with workplace.mounted(*NEVER, "--cache-size", "1M") as mountpoint:
        stored = stored_in(mountpoint, DATASET)
        with tarfile.open(mountpoint / ".views" / "webdataset" / DATASET / "train-000000.tar") as archive:
            for member in archive:
                stream = archive.extractfile(member)
                assert stream is not None
                assert stream.read() == stored[member.name.replace("%2E", ".").replace("%25", "%")]


def test_what_a_read_needs_from_many_blobs_is_asked_for_at_once(container: Container, tmp_path: Path) -> None:
    with HttpProxy(container.azurite.port) as proxy:
        connection = container.azurite.connection_string_through(proxy.port)
        workplace = Workplace(str(tmp_path / "catalog.db"), tmp_path, {"AZURE_STORAGE_CONNECTION_STRING": connection})
        workplace.run("init", "--store", container.url)
        workplace.run("publish", write_folder(tmp_path / "one", count=20), "--name", OTHER, "--loose")
        with workplace.mounted(*NEVER) as mountpoint, ThreadPoolExecutor(1) as reader:
            shard = max(shards_in(mountpoint / ".views" / "webdataset" / OTHER), key=lambda path: path.stat().st_size)
            proxy.forget()
            with proxy.fault(Fault(hold=True)):
                reader.submit(shard.read_bytes)
                # None of them is answered; one after the other, there would be three.
                proxy.wait_for_requests(16)
            with shard.open("rb") as stream, tarfile.open(fileobj=stream) as archive:
                assert len(archive.getnames()) >= 16


def test_a_first_read_asks_for_each_extent_once(container: Container, tmp_path: Path) -> None:
    with HttpProxy(container.azurite.port) as proxy:
        connection = container.azurite.connection_string_through(proxy.port)
        workplace = Workplace(str(tmp_path / "catalog.db"), tmp_path, {"AZURE_STORAGE_CONNECTION_STRING": connection})
        workplace.run("init", "--store", container.url)
        workplace.run("publish", write_samples(tmp_path / "one"), "--name", DATASET)
        with workplace.mounted(*NEVER) as mountpoint:
            proxy.forget()
            for _ in range(2):
                for shard in shards_in(mountpoint / ".views" / "webdataset" / DATASET):
                    shutil.copyfile(shard, tmp_path / "copy.tar")
            fetched = mount_status(mountpoint)["store"]["bytes"]
            assert len(proxy.requests) == proxy.count("GET", ".pack")
        with container.azurite.client() as client:
            lengths = [blob.size for blob in client.get_container_client(container.name).list_blobs()]
        assert fetched == sum(lengths)
