"""Loose blobs that are fetched in several extents: a damaged byte is never taken for what was published."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import numpy as np
import orjson
import pytest
from azure.storage.blob import BlobBlock
from PIL import Image
from support.http_proxy import Fault, HttpProxy
from support.mounting import Workplace, copy_of, local_workplace
from support.old_catalogs import take_additions_away
from support.services import Container

from imgsyncfs.blob_layout import EXTENT_BYTES
from imgsyncfs.catalog import open_catalog

DATASET = "original_20260105_rgb_bbox"
LENGTH = 3 * EXTENT_BYTES
"""More than the images here have: they have three extents."""


def large_image(path: Path, *, seed: int = 1) -> bytes:
    """Write a PNG of some 10.8 MB that nothing compresses; return its content."""
    noise = np.random.default_rng(seed).integers(0, 256, (1900, 1900, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise).save(path, compress_level=0)
    return path.read_bytes()


def flip(path: Path, offset: int) -> None:
    """Change one bit of a file, and leave its time as it was."""
    before = path.stat()
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(offset)
        [byte] = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def blob_of(workplace: Workplace) -> Path:
    [blob] = (workplace.folder / "store").rglob("*.png")
    return blob


def forget_digests(workplace: Workplace) -> None:
    """Make of the catalog what an earlier version would have made."""
    with open_catalog(workplace.catalog) as catalog:
        take_additions_away(catalog)


def read_at(path: Path, offset: int) -> bytes:
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        return file.read(1000)


def unverified(mountpoint: Path) -> int:
    status = orjson.loads((mountpoint / ".imgsyncfs" / "status-x.json").read_bytes())
    count: int = status["store"]["unverified"]
    return count


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A catalog with one large image, which stays as it is."""
    workplace = local_workplace(tmp_path_factory.mktemp("published"))
    large_image(workplace.folder / "new" / "a.png")
    workplace.run("publish", workplace.folder / "new", "--name", DATASET)
    return workplace


@pytest.fixture
def workplace(published: Workplace, tmp_path: Path) -> Workplace:
    """A copy of that catalog."""
    return copy_of(published, tmp_path)


@pytest.fixture(scope="module")
def content(published: Workplace) -> bytes:
    """The image that was published."""
    return (published.folder / "new" / "a.png").read_bytes()


def test_a_large_image_is_read_as_it_was_published(workplace: Workplace, content: bytes) -> None:
    assert 2 * EXTENT_BYTES < len(content) < LENGTH
    with workplace.mounted() as mountpoint:
        assert (mountpoint / DATASET / "a.png").read_bytes() == content
        assert unverified(mountpoint) == 0


def test_the_extent_of_a_published_blob_that_has_a_flipped_bit_is_stale_and_the_others_are_read(
    workplace: Workplace, content: bytes
) -> None:
    flip(blob_of(workplace), EXTENT_BYTES + 5000)
    with workplace.mounted() as mountpoint:
        image = mountpoint / DATASET / "a.png"
        assert read_at(image, 0) == content[:1000]
        assert read_at(image, 2 * EXTENT_BYTES + 10) == content[2 * EXTENT_BYTES + 10 :][:1000]
        with pytest.raises(OSError, match=r"\[Errno 116\]"):
            read_at(image, EXTENT_BYTES)
        assert (
            "the digest of its extent at byte 4194304 differs" in (mountpoint / ".imgsyncfs" / "errors.log").read_text()
        )


def test_a_blob_of_an_earlier_versions_catalog_that_has_a_flipped_bit_is_stale(workplace: Workplace) -> None:
    forget_digests(workplace)
    flip(blob_of(workplace), 5000)
    with workplace.mounted() as mountpoint:
        image = mountpoint / DATASET / "a.png"
        for start in (2, 0, 1, 0):
            with pytest.raises(OSError, match=r"\[Errno 116\]"):
                read_at(image, start * EXTENT_BYTES)
        assert "its MD5 differs" in (mountpoint / ".imgsyncfs" / "errors.log").read_text()


def test_a_blob_of_an_earlier_versions_catalog_is_read_if_it_is_right(workplace: Workplace, content: bytes) -> None:
    forget_digests(workplace)
    with workplace.mounted() as mountpoint:
        assert (mountpoint / DATASET / "a.png").read_bytes() == content
        assert unverified(mountpoint) == 0


def test_publishing_again_gives_an_earlier_versions_catalog_the_digests(workplace: Workplace, content: bytes) -> None:
    forget_digests(workplace)
    workplace.run("publish", workplace.folder / "new", "--name", DATASET)
    flip(blob_of(workplace), 5000)
    with workplace.mounted() as mountpoint:
        image = mountpoint / DATASET / "a.png"
        with pytest.raises(OSError, match=r"\[Errno 116\]"):
            read_at(image, 0)
        assert read_at(image, EXTENT_BYTES) == content[EXTENT_BYTES:][:1000]


def test_indexing_a_folder_keeps_digests_of_extents(tmp_path: Path) -> None:
    workplace = local_workplace(tmp_path)
    content = large_image(tmp_path / "store" / "there" / "a.png")
    workplace.run("index", (tmp_path / "store" / "there").as_uri(), "--name", DATASET)
    flip(tmp_path / "store" / "there" / "a.png", 5000)
    with workplace.mounted() as mountpoint:
        image = mountpoint / DATASET / "a.png"
        assert read_at(image, EXTENT_BYTES) == content[EXTENT_BYTES:][:1000]
        with pytest.raises(OSError, match=r"\[Errno 116\]"):
            read_at(image, 0)


def test_what_nothing_can_check_is_read_and_status_says_so(workplace: Workplace, content: bytes) -> None:
    forget_digests(workplace)
    with sqlite3.connect(workplace.folder / "catalog.db") as connection:
        connection.execute("UPDATE images SET md5 = NULL")
    connection.close()
    with workplace.mounted() as mountpoint:
        assert (mountpoint / DATASET / "a.png").read_bytes() == content
        assert unverified(mountpoint) == 3
        assert "3 extents: neither the catalog nor the store has a digest" in workplace.run("status", mountpoint).stdout


def test_digests_of_files_that_are_gone_are_forgotten(workplace: Workplace) -> None:
    large_image(workplace.folder / "new" / "a.png", seed=2)
    workplace.run("publish", workplace.folder / "new", "--name", DATASET)
    with open_catalog(workplace.catalog) as catalog:
        [image] = catalog.images(DATASET)
        assert list(catalog.extent_digests(DATASET)) == [image.md5]


# Azure


@pytest.fixture
def indexed(content: bytes, container: Container, tmp_path: Path) -> tuple[Workplace, bytes, HttpProxy]:
    """A container whose blob was indexed and has no MD5, reached through a proxy that can damage what it passes on."""
    with container.azurite.client() as client:
        blob = client.get_blob_client(container.name, "a.png")
        blob.stage_block("MDAx", content)
        blob.commit_block_list([BlobBlock(block_id="MDAx")])
    proxy = HttpProxy(container.azurite.port)
    proxy.start()
    environment = {"AZURE_STORAGE_CONNECTION_STRING": container.azurite.connection_string_through(proxy.port)}
    workplace = Workplace(str(tmp_path / "catalog.db"), tmp_path, environment)
    workplace.run("init", "--store", container.url)
    workplace.run("index", container.url, "--name", DATASET)
    return workplace, content, proxy


def test_a_bit_that_flips_on_the_way_from_azure_is_asked_for_again(
    indexed: tuple[Workplace, bytes, HttpProxy],
) -> None:
    workplace, content, proxy = indexed
    with workplace.mounted() as mountpoint, proxy.fault(Fault(flip_at=100, methods=frozenset({"GET"}), count=2)):
        assert (mountpoint / DATASET / "a.png").read_bytes() == content
        assert unverified(mountpoint) == 0
    proxy.close()


def test_what_always_arrives_damaged_from_azure_is_an_error_and_never_shown(
    indexed: tuple[Workplace, bytes, HttpProxy],
) -> None:
    workplace, _, proxy = indexed
    with workplace.mounted() as mountpoint, proxy.fault(Fault(flip_at=100, methods=frozenset({"GET"}))):
        with pytest.raises(OSError, match=r"\[Errno 5\]"):
            (mountpoint / DATASET / "a.png").read_bytes()
        assert "arrived damaged" in (mountpoint / ".imgsyncfs" / "errors.log").read_text()
    proxy.close()
