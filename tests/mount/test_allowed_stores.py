"""Which stores are read on behalf of a catalog, and what is said about the others."""

from __future__ import annotations

import errno
import os
import signal
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, unquote

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.api_setup import work_in
from support.mounting import Workplace, copy_of, eventually, local_workplace, write_folder
from support.syncing import open_library

import imgsyncfs
from imgsyncfs import ImageSynchronizer
from imgsyncfs.catalog.mirror import CatalogMirror
from imgsyncfs.errors import CatalogUnreachable, ConfigurationError, StoreNotAllowed
from imgsyncfs.fetching.contents import locate
from imgsyncfs.fetching.store_checks import check_stores
from imgsyncfs.stores.allowed import allowed_place, check_allowed, is_allowed, refusals
from imgsyncfs.workers.pool import Answer, WorkerPool

OWN = "original_20260105_rgb_rbbox"
OTHER = "opensource_elsewhere_rgb_rbbox"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A catalog with a dataset in its own store, and one that somebody put elsewhere."""
    workplace = local_workplace(tmp_path_factory.mktemp("published"))
    workplace.run("publish", write_folder(workplace.folder / "one", count=2), "--name", OWN)
    workplace.run("index", elsewhere(workplace), "--name", OTHER)
    return workplace


@pytest.fixture
def workplace(published: Workplace, tmp_path: Path) -> Workplace:
    """A copy of that catalog."""
    return copy_of(published, tmp_path)


def elsewhere(workplace: Workplace) -> str:
    """The URL of the other store, which is made."""
    return write_folder(workplace.folder / "elsewhere", count=2).as_uri()


def read_error(path: Path) -> int | None:
    """The errno that reading a file ends in."""
    try:
        path.read_bytes()
    except OSError as error:
        return error.errno
    return None


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("file:///srv/a", "file:///srv/a"),
        ("file:///srv/a", "file:///srv/a/"),
        ("file:///srv/a/b/c", "file:///srv/a"),
        ("FILE://localhost/srv/a/b", "file:///srv/a"),
        ("file:////srv//a/./b", "file:///srv/a"),
        ("file:///srv/%61%2Fb", "file:///srv/a"),
        ("file:///srv/a", "file:///"),
        ("azure://account/container", "azure://account"),
        ("azure://account/container/some/prefix", "azure://account/"),
        ("azure://account/container/some/prefix", "azure://account/container/some/"),
        ("AZURE://account/container", "azure://account/container"),
    ],
)
def test_a_store_is_allowed_with_all_that_lies_below_it(url: str, allowed: str) -> None:
    assert is_allowed(url, [allowed])


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("file:///", "file:///srv/a"),
        ("file:///srv", "file:///srv/a"),
        ("file:///srv/ab", "file:///srv/a"),
        ("file:///srv/a/../../etc", "file:///srv/a"),
        ("file:///srv/a/%2e%2e/b", "file:///srv/a"),
        ("file:///srv/a%2F..%2Fb", "file:///srv/a"),
        ("file:///srv/a/../a", "file:///srv/a"),
        ("file://server/srv/a", "file:///srv/a"),
        ("file:srv/a", "file:///srv/a"),
        ("/srv/a", "file:///srv/a"),
        ("s3://srv/a", "file:///srv/a"),
        ("azure://accountant/container", "azure://account"),
        ("azure://account/container2", "azure://account/container"),
        ("azure://account/other", "azure://account/container"),
        ("azure://account/container", "azure://account/container/prefix"),
        ("azure://account/container/prefix2", "azure://account/container/prefix"),
        ("azure://account/container/prefix/../x", "azure://account/container/prefix"),
        ("azure://account@evil/container", "azure://account"),
        ("azure:///srv/a", "file:///srv/a"),
        ("", "file:///"),
    ],
)
def test_what_lies_elsewhere_is_not_allowed(url: str, allowed: str) -> None:
    assert not is_allowed(url, [allowed])


PIECES = st.lists(
    st.sampled_from(["srv", "a", "b", "ab", "..", ".", "", "%2e%2e", ".%2E", "%2F", "a%2Fb", "%61", "%2e%2e%2f"]),
    max_size=6,
)


@given(PIECES, st.sampled_from(["file:///", "file://localhost/", "FILE:///srv/a/", "file:////"]))
def test_whatever_is_allowed_lies_below_by_its_path_as_the_system_takes_it(pieces: list[str], start: str) -> None:
    url = start + "/".join(pieces)
    if is_allowed(url, ["file:///srv/a"]):
        path = unquote(url.split(":", 1)[1].removeprefix("//").removeprefix("localhost"))
        assert ".." not in path.split("/")
        assert Path(f"/{path.lstrip('/')}").is_relative_to("/srv/a")


@given(st.lists(st.text(min_size=1).filter(lambda part: not {"/", "\0"} & set(part) and part not in {".", ".."})))
def test_every_folder_below_an_allowed_one_is_allowed(parts: list[str]) -> None:
    try:
        below = "/".join(quote(os.fsencode(part)) for part in parts)
    except UnicodeEncodeError:
        return
    assert is_allowed(f"file:///srv/a/{below}", ["file:///srv/a"])


@given(st.text(max_size=30), st.sampled_from(["", "file:", "file:///", "azure://", "azure://account/"]))
def test_any_text_is_allowed_or_refused_in_words(text: str, start: str) -> None:
    allowed = ["file:///srv/a", "azure://account/container", text]
    assert allowed_place(start + text, tuple(allowed)) in {None, *allowed}
    if not is_allowed(start + text, allowed):
        with pytest.raises((StoreNotAllowed, ConfigurationError)):
            check_allowed(start + text, allowed)


def test_the_nearest_allowed_store_is_the_place_that_links_must_not_leave() -> None:
    allowed = ("file:///srv", "file:///srv/a/b", "file:///srv/a")
    assert allowed_place("file:///srv/a/b/c", allowed) == "file:///srv/a/b"


def test_a_store_as_the_owner_wrote_it_is_allowed_however_that_is() -> None:
    assert is_allowed("file:///srv/x/../a", ["file:///srv/x/../a"])


@pytest.mark.parametrize("url", ["azure://account/container?sig=SECRET", "azure://a:SECRET@h/c", "s3://k:SECRET@b"])
def test_no_secret_in_a_url_is_told(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_allowed(url, [])
    assert "SECRET" not in str(caught.value)


def test_a_url_is_told_in_quotes_that_a_shell_takes_as_one_word() -> None:
    with pytest.raises(StoreNotAllowed, match=r"--allow-store 'file:///x; rm -rf ~'"):
        check_allowed("file:///x; rm -rf ~", [])


def test_a_mount_refuses_a_store_that_is_not_allowed_and_reads_the_others(workplace: Workplace) -> None:
    store = (workplace.folder / "elsewhere").as_uri()
    mountpoint = workplace.folder / "mnt"
    mountpoint.mkdir()
    said = workplace.run("mount", mountpoint).stderr
    try:
        assert f"{OTHER} lies in the store {store}, which is neither the catalog's own nor allowed" in said
        assert f"add --allow-store {store}, or" in said
        assert len(list((mountpoint / OTHER).glob("*.jpg"))) == 2
        assert read_error(mountpoint / OTHER / "img_00000.jpg") == errno.EACCES
        assert read_error(mountpoint / OTHER / "img_00001.json") == errno.EACCES
        assert read_error(mountpoint / OWN / "img_00000.jpg") is None
        log = (mountpoint / ".imgsyncfs/errors.log").read_text()
        status = orjson.loads((mountpoint / ".imgsyncfs/status.json").read_bytes())
    finally:
        workplace.run("umount", mountpoint)
    [line] = [line for line in log.splitlines() if "img_0000" in line]
    assert f"--allow-store {store}" in line
    assert status["store"]["away"] == {}


@pytest.mark.parametrize("way", ["option", "o", "list", "section"])
def test_a_mount_reads_a_store_that_its_owner_allowed(workplace: Workplace, way: str) -> None:
    store = (workplace.folder / "elsewhere").as_uri()
    config = workplace.folder / "config.toml"
    config.write_text({"list": f'allow_stores = ["{store}"]', "section": f'[stores."{store}"]'}.get(way, ""))
    config.chmod(0o600)
    options = {"option": ("--allow-store", store), "o": ("-o", f"ro,allow_store=file:///none,allow_store={store}")}
    with workplace.mounted(*options.get(way, ()), "--config", config) as mountpoint:
        assert read_error(mountpoint / OTHER / "img_00000.jpg") is None
        assert read_error(mountpoint / OWN / "img_00000.jpg") is None


def test_an_allowance_that_makes_no_sense_is_refused(workplace: Workplace) -> None:
    said = workplace.run("mount", workplace.folder / "mnt", "--allow-store", "/srv/x", status=1).stderr
    assert "file:///srv/x" in said
    said = workplace.run("mount", workplace.folder / "mnt", "-o", "allow_store=file:///one/../two", status=1).stderr
    assert "'..'" in said


def test_an_allowance_in_the_config_file_that_makes_no_sense_is_refused(workplace: Workplace) -> None:
    config = workplace.folder / "config.toml"
    config.write_text('allow_stores = ["/srv/x"]')
    said = workplace.run("mount", workplace.folder / "mnt", "--config", config, status=1).stderr
    assert "file:///srv/x" in said


def test_many_datasets_of_one_store_are_told_in_one_sentence(workplace: Workplace) -> None:
    with open_library(workplace.folder) as library:
        row = library.rows[OTHER]
    [sentence] = refusals([row] * 5, [])
    assert sentence.startswith(f"The datasets {OTHER}, {OTHER}, {OTHER} and 2 more lie in the store file:///")


def test_what_another_catalog_left_in_the_cache_is_not_read_either(workplace: Workplace) -> None:
    store = (workplace.folder / "elsewhere").as_uri()
    with open_library(workplace.folder, allowed_stores=(store,)) as library:
        listing = library.mirror.listing(OTHER)
        library.contents.read_whole(listing, listing.images, 0)
    with open_library(workplace.folder) as library:
        listing = library.mirror.listing(OTHER)
        with pytest.raises(StoreNotAllowed):
            library.contents.read_whole(listing, listing.images, 0)


def test_a_worker_that_takes_a_dead_ones_place_knows_what_is_allowed(workplace: Workplace) -> None:
    with open_library(workplace.folder) as library:
        own, other = library.mirror.listing(OWN), library.mirror.listing(OTHER)
        [first] = library.fetch_pool.process_ids()[:1]
        for process in library.fetch_pool.process_ids():
            os.kill(process, signal.SIGKILL)
        assert eventually(lambda: library.fetch_pool.replaced() > 0 and first not in library.fetch_pool.process_ids())
        with pytest.raises(StoreNotAllowed):
            library.fetcher.fetch(locate(other, other.images, 0, 0))
        assert library.fetcher.fetch(locate(own, own.images, 0, 0)).length > 0
        assert library.fetcher.away() == {}


def test_the_check_of_stores_tells_of_one_that_is_not_allowed_and_goes_on(workplace: Workplace) -> None:
    with open_library(workplace.folder) as library:
        stores = {row.store: [row.dataset_id] for row in library.rows.values()}
        [told] = check_stores(library.fetch_pool, stores, timeout=10.0, own_store=library.own_store).values()
    assert "--allow-store" in str(told)


class AwayPool:
    """A pool whose database is away."""

    def submit(self, _arguments: dict[str, Any]) -> Future[Answer]:
        """Refuse a job."""
        answer: Future[Answer] = Future()
        answer.set_exception(CatalogUnreachable("away"))
        return answer


def saved_table(workplace: Workplace) -> Path:
    """The table of datasets that a library of the catalog saved."""
    with open_library(workplace.folder):
        [path] = (workplace.folder / "cache/catalogs").glob("*/datasets.json")
    return path


def mirror_without_database(folder: Path) -> CatalogMirror:
    return CatalogMirror(cast("WorkerPool", AwayPool()), folder, timeout=5.0, report=lambda _: None)


def test_the_catalogs_own_store_is_known_from_the_saved_table(workplace: Workplace) -> None:
    mirror = mirror_without_database(saved_table(workplace).parent)
    mirror.start()
    assert mirror.table.store == f"file://{workplace.folder}/store"


def test_a_saved_table_without_the_catalogs_own_store_is_not_used(workplace: Workplace) -> None:
    path = saved_table(workplace)
    table = orjson.loads(path.read_bytes().partition(b"\n")[2])
    del table["store"]
    path.write_bytes(orjson.dumps(table))
    with pytest.raises(CatalogUnreachable):
        mirror_without_database(path.parent).start()


def test_sync_copies_what_is_allowed_and_names_the_rest(workplace: Workplace) -> None:
    said = workplace.run("sync", workplace.folder / "copy", "--all", status=3).stderr
    assert "--allow-store" in said
    assert (workplace.folder / "copy" / OWN / "img_00000.jpg").exists()
    assert not (workplace.folder / "copy" / OTHER / "img_00000.jpg").exists()
    store = (workplace.folder / "elsewhere").as_uri()
    workplace.run("sync", workplace.folder / "copy", "--all", "--allow-store", store)
    assert (workplace.folder / "copy" / OTHER / "img_00000.jpg").exists()


def test_prefetch_refuses_a_store_that_is_not_allowed(workplace: Workplace) -> None:
    assert "--allow-store" in workplace.run("prefetch", OTHER, status=1).stderr
    workplace.run("prefetch", OTHER, "--allow-store", (workplace.folder / "elsewhere").as_uri())


def test_publishing_does_not_write_into_a_store_that_somebody_else_named(workplace: Workplace) -> None:
    folder = write_folder(workplace.folder / "one", count=3)
    assert "--allow-store" in workplace.run("publish", folder, "--name", OTHER, status=1).stderr
    store = (workplace.folder / "elsewhere").as_uri()
    workplace.run("publish", folder, "--name", OTHER, "--allow-store", store)


def test_the_python_api_refuses_a_store_that_is_not_allowed(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    work_in(workplace, monkeypatch)
    with imgsyncfs.connect() as catalog:
        catalog.check_stores()
        with pytest.raises(StoreNotAllowed):
            list(catalog.datasets[OTHER])
        assert len(list(catalog.datasets[OWN])) == 2
    assert OTHER in caplog.text
    with imgsyncfs.connect(allow_stores=[(workplace.folder / "elsewhere").as_uri()]) as catalog:
        assert len(list(catalog.datasets[OTHER])) == 2


def test_a_notebook_reads_a_store_that_it_allows(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    work_in(workplace, monkeypatch)
    sync = ImageSynchronizer.synchronizer()
    sync.subscribe(OTHER)
    with pytest.raises(StoreNotAllowed):
        sync.update_subscription(workplace.folder / "copy")
    sync = ImageSynchronizer.synchronizer(allow_stores=[(workplace.folder / "elsewhere").as_uri()])
    sync.subscribe(OTHER)
    sync.update_subscription(workplace.folder / "copy")
    assert (workplace.folder / "copy" / OTHER / "img_00000.jpg").exists()


def put_behind_a_link(workplace: Workplace) -> str:
    """Move a blob of the own store out of it, and leave a link to it; its name."""
    [blob] = (workplace.folder / "store").rglob("img_00000.*.jpg")
    outside = workplace.folder / "private.jpg"
    blob.rename(outside)
    blob.symlink_to(outside)
    return blob.name


def test_a_mount_refuses_a_blob_behind_a_link_out_of_the_store_and_reads_the_others(tmp_path: Path) -> None:
    workplace = local_workplace(tmp_path)
    workplace.run("publish", write_folder(tmp_path / "one", count=2), "--name", OWN, "--loose")
    blob = put_behind_a_link(workplace)
    with workplace.mounted() as mountpoint:
        assert read_error(mountpoint / OWN / "img_00000.jpg") == errno.EACCES
        assert read_error(mountpoint / OWN / "img_00001.jpg") is None
        log = (mountpoint / ".imgsyncfs/errors.log").read_text()
    assert f"{blob} in file://{tmp_path}/store is not used: a link in its path leads out" in log


def test_sync_leaves_out_a_blob_behind_a_link_out_of_the_store_and_copies_the_others(tmp_path: Path) -> None:
    workplace = local_workplace(tmp_path)
    workplace.run("publish", write_folder(tmp_path / "one", count=2), "--name", OWN, "--loose")
    put_behind_a_link(workplace)
    said = workplace.run("sync", tmp_path / "copy", "--all", status=3).stderr
    assert "img_00000.jpg: Blob" in said
    assert sorted(path.name for path in (tmp_path / "copy" / OWN).glob("img*")) == [
        "img_00000.json",
        "img_00001.jpg",
        "img_00001.json",
    ]
