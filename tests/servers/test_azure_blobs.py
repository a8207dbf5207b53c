"""Blobs as others have put them into Azure: compressed for browsers, as snapshots, folders of a namespace, deleted."""

from __future__ import annotations

import gzip
from contextlib import closing
from pathlib import Path

import pytest
from azure.storage.blob import ContentSettings
from support.mounting import Workplace, local_workplace
from support.services import Container

from imgsyncfs.errors import BlobMissing
from imgsyncfs.stores.contract import Store
from imgsyncfs.stores.credentials import StoreCredentials
from imgsyncfs.stores.opening import open_store

CONTENT = gzip.compress(b"compressed for browsers " * 400)


def opened(container: Container) -> Store:
    credentials = StoreCredentials(connection_string=container.azurite.connection_string)
    return open_store(container.url, credentials=credentials)


def test_a_blob_with_a_content_encoding_is_read_as_it_is_stored(container: Container) -> None:
    with container.azurite.client() as client, closing(opened(container)) as store:
        blob = client.get_blob_client(container.name, "a.json")
        blob.upload_blob(CONTENT, content_settings=ContentSettings(content_encoding="gzip"))
        info = store.describe("a.json")
        assert info.byte_count == len(CONTENT)
        assert store.read("a.json", 0, len(CONTENT)) == CONTENT
        assert store.read("a.json", 7, 20, etag=info.etag) == CONTENT[7:27]


def test_snapshots_and_folders_of_a_namespace_are_no_blobs_and_marks_are_none_either(container: Container) -> None:
    with container.azurite.client() as client, closing(opened(container)) as store:
        blob = client.get_blob_client(container.name, "folder/a.jpg")
        blob.upload_blob(b"one")
        blob.create_snapshot()
        client.get_blob_client(container.name, "folder").upload_blob(b"", metadata={"hdi_isfolder": "true"})
        assert store.mark(".imgsyncfs/changed")
        assert store.mark(".imgsyncfs/changed")
        assert [info.blob for info in store.list()] == ["folder/a.jpg"]


def test_each_mark_has_another_etag(container: Container) -> None:
    with closing(opened(container)) as store:
        etags = []
        for _ in range(2):
            store.mark(".imgsyncfs/changed")
            etags.append(store.describe(".imgsyncfs/changed").etag)
        assert len(set(etags)) == 2


def test_a_deleted_blob_is_missing_and_may_be_undeleted(container: Container) -> None:
    with container.azurite.client() as client, closing(opened(container)) as store:
        blob = client.get_blob_client(container.name, "a.jpg")
        blob.upload_blob(b"one")
        blob.delete_blob()
        with pytest.raises(BlobMissing, match="undelete it"):
            store.read("a.jpg", 0, 3)


def test_a_local_store_keeps_no_marks(tmp_path: Path) -> None:
    workplace: Workplace = local_workplace(tmp_path)
    with closing(open_store(f"file://{workplace.folder}/store")) as store:
        assert not store.mark(".imgsyncfs/changed")
