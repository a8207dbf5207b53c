"""Mounts of one catalog that share a cache: each shows one revision of a dataset, whole, however others number it."""

from __future__ import annotations

import mmap
import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.mounting import (
    Workplace,
    box_annotation,
    copy_of,
    eventually,
    workplace_with,
    write_image,
)

from imgsyncfs.catalog import open_catalog
from imgsyncfs.stores.opening import open_store
from imgsyncfs.tools.publish.folder import publish
from imgsyncfs.tools.publish.publication import DatasetOptions

DATASET = "original_20260105_rgb_rbbox"
IMAGES = 8

OFTEN = ("--refresh", "0.3")
NEVER = ("--refresh", "3600")


@dataclass(frozen=True)
class Shared:
    """A catalog, what its dataset is published from, and two mounts of it that come and go.

    Attributes:
        one: for the first mount; has the cache.
        other: for the second.
    """

    one: Workplace
    other: Workplace

    @property
    def published(self) -> Path:
        """The folder that is published."""
        return self.one.folder / "one"

    @contextmanager
    def mounted(self, one: tuple[str, str], other: tuple[str, str]) -> Iterator[tuple[Path, Path]]:
        """Both mounts' directories of the dataset, for the length of the block."""
        with self.one.mounted(*one) as first, self.other.mounted(*other) as second:
            yield first / DATASET, second / DATASET

    def publish(self, **changed: float) -> None:
        """Publish the folder with some annotations changed: stem to where the box is.

        As on another machine: the command would have the mounts of this one show it.
        """
        for stem, x in changed.items():
            (self.published / f"{stem}.json").write_bytes(box_annotation(x=x))
        store_url = (self.one.folder / "store").as_uri()
        with open_catalog(f"sqlite://{self.one.catalog}") as catalog, closing(open_store(store_url)) as store:
            publish(self.published, catalog=catalog, store=store, dataset_id=DATASET, options=DatasetOptions())

    @property
    def listings(self) -> Path:
        """The cache's folder of listings of the dataset."""
        [folder] = (self.one.folder / "cache" / "catalogs").glob("*/listings/*")
        return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A catalog of one dataset."""
    return workplace_with(tmp_path_factory.mktemp("prepared"), DATASET, count=IMAGES)


@pytest.fixture
def shared(prepared: Workplace, tmp_path: Path) -> Shared:
    """A copy of it, to be changed."""
    one = copy_of(prepared, tmp_path)
    (tmp_path / "other").mkdir()
    cache = {"IMGSYNCFS_CACHE_DIR": str(tmp_path / "cache")}
    return Shared(one, Workplace(one.catalog, tmp_path / "other", cache))


def contents(folder: Path) -> dict[str, bytes]:
    """What is in a directory; the kernel is made to ask for it again."""
    found = {}
    for path in folder.iterdir():
        with path.open("rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            found[path.name] = file.read()
    return found


def of_house(found: dict[str, bytes]) -> dict[str, bytes]:
    """Those of some files that are published, without what is rendered of them."""
    return {name: content for name, content in found.items() if not name.endswith((".xml", ".labelme.json"))}


def numbers_in(folder: Path) -> dict[str, int]:
    """The number of each file, which `stat` and `readdir` agree on."""
    listed = {entry.name: entry.inode() for entry in os.scandir(folder)}
    assert {name: (folder / name).stat().st_ino for name in listed} == listed
    return listed


@contextmanager
def held(path: Path) -> Iterator[None]:
    """A file that is open and mapped, and must be at the end of the block what it was at its beginning."""
    content = path.read_bytes()
    with path.open("rb", buffering=0) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        yield
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert file.read() == mapped[:] == content


def shows(folder: Path, published: Path) -> bool:
    """Whether a dataset's directory holds what was published last, and nothing else of the house."""
    try:
        return of_house(contents(folder)) == of_house(contents(published))
    except FileNotFoundError:
        return False  # another revision came between the listing and the reading


def test_a_mount_that_never_refreshes_goes_on_showing_its_revision_while_the_other_follows(shared: Shared) -> None:
    with shared.mounted(OFTEN, NEVER) as (following, staying):
        before, numbers = contents(staying), numbers_in(staying)
        assert contents(following) == before
        assert numbers_in(following) == numbers
        with held(following / "img_00003.json"), held(staying / "img_00003.json"):
            shared.publish(img_00003=50.0)
            assert eventually(lambda: shows(following, shared.published))
            write_image(shared.published / "img_00001.jpg", shade=201)
            (shared.published / "img_00002.jpg").unlink()
            (shared.published / "img_00002.json").unlink()
            shared.publish(img_00003=51.0)
            assert eventually(lambda: shows(following, shared.published))
            assert contents(staying) == before
            assert numbers_in(staying) == numbers
        now = numbers_in(following)
        changed = {name for name in now if now[name] != numbers[name]}
        assert changed == {"img_00001.jpg", "img_00003.json", "img_00003.xml", "img_00003.labelme.json"}
        assert not {now[name] for name in changed} & {*numbers.values()}
    with shared.mounted(NEVER, OFTEN) as (one, other):
        for folder in (one, other):
            assert shows(folder, shared.published)
            assert numbers_in(folder) == now


def test_a_dataset_that_a_mount_first_looks_into_after_a_publish_is_one_revision(shared: Shared) -> None:
    with shared.mounted(OFTEN, NEVER) as (following, staying):
        assert shows(following, shared.published)
        shared.publish(img_00003=50.0)
        assert eventually(lambda: shows(following, shared.published))
        # The listing of the revision that it knows of is no longer saved, nor in the catalog.
        assert shows(staying, shared.published)
        assert numbers_in(staying) == numbers_in(following)


def test_a_listing_that_was_numbered_apart_mixes_nothing(shared: Shared, tmp_path: Path) -> None:
    with shared.mounted(OFTEN, NEVER) as (first, second):
        assert shows(first, shared.published)
        listings = shared.listings
        shutil.copytree(listings, tmp_path / "saved")
        # The number that this gives to the third is given to the first when that is numbered after the saved one.
        shared.publish(img_00003=50.0)
        assert eventually(lambda: shows(first, shared.published))
        numbers, place = numbers_in(first), first.stat().st_ino
        with held(first / "img_00003.json"), held(first / "img_00005.jpg"), held(first / "img_00003.xml"):
            shutil.rmtree(listings)
            shutil.copytree(tmp_path / "saved", listings)
            shared.publish(img_00001=51.0)
            assert eventually(lambda: shows(first, shared.published))
            assert first.stat().st_ino != place
            assert not {*numbers.values()} & {*numbers_in(first).values()}
            # Nothing that was answered under the old numbers is shown under the new ones, nor the other way round.
            with held(first / "img_00001.json"), held(first / "img_00003.json"), held(first / "img_00001.xml"):
                shared.publish(img_00001=52.0)
                assert eventually(lambda: shows(first, shared.published))
        assert shows(second, shared.published)
        last = contents(first)
        assert contents(second) == last
    with shared.mounted(OFTEN, NEVER) as (first, second):
        assert contents(first) == contents(second) == last
        assert numbers_in(first) == numbers_in(second)
