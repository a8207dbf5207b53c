"""An Azure blob container, or a part of it, as a store.

Reads go over libcurl (`imgsyncfs.stores.azure.reads`), everything else through the SDK's client; both use the same
credentials and obey the same timeout.

Importing this module takes half a second, most of it the SDK's: only `imgsyncfs.stores.opening.open_store` does so, for
``azure://`` URLs.
"""

from __future__ import annotations

import logging
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

from azure.core import MatchConditions
from azure.core.exceptions import AzureError, HttpResponseError, ResourceExistsError
from azure.storage.blob import BlobBlock, ContainerClient, ContentSettings

from imgsyncfs.blob_layout import EXTENT_BYTES
from imgsyncfs.errors import BlobMissing, StoreMissing
from imgsyncfs.stores.azure.account import find_account
from imgsyncfs.stores.azure.errors import ErrorTexts, error_code
from imgsyncfs.stores.azure.policies import RetryUntilDeadline
from imgsyncfs.stores.azure.reads import AzureReads
from imgsyncfs.stores.azure.transport import (
    DeadlineTransport,
    NetworkSettings,
    keep_signatures_from_the_log,
)
from imgsyncfs.stores.blob_names import blob_name_fault
from imgsyncfs.stores.blocks import open_content
from imgsyncfs.stores.contract import BlobInfo, RangeRead, Store, check_blob_name
from imgsyncfs.stores.urls import parse_azure_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from azure.storage.blob import BlobProperties

    from imgsyncfs.stores.blocks import Content
    from imgsyncfs.stores.credentials import StoreCredentials
    from imgsyncfs.stores.ranges import RangeInParts

logger = logging.getLogger(__name__)

UPLOAD_BLOCK_BYTES = EXTENT_BYTES
"""Content up to here is uploaded in one request, more in blocks of this size: so much memory does a write take, and a
connection of 4 Mbit/s gets a block through within the default time limit."""

LIST_PAGE_BLOBS = 5000
"""The most that Azure gives in one answer."""

# What nobody has published; asking for it shows whether the container is there and may be read, and needs no right to
# list it or to see its properties, which a SAS often lacks.
_PROBE = ".imgsyncfs-probe"


class AzureStore(Store):
    """A container whose blobs have names under a prefix; `imgsyncfs.stores.contract.Store` says what methods promise.

    Args:
        url: ``azure://ACCOUNT/CONTAINER[/PREFIX]``.
        credentials: what opens it.
        timeout: time for one call, in seconds, retries included; for each page of `list`, each request of `write`.

    Attributes:
        list_page_blobs: blobs that `list` asks for with one request.

    Raises:
        ConfigurationError: URL or credentials make no sense, or the package for Entra ID is missing.
    """

    def __init__(self, url: str, *, credentials: StoreCredentials, timeout: float) -> None:
        self.list_page_blobs = LIST_PAGE_BLOBS
        self._location = parse_azure_url(url)
        account = find_account(self._location, credentials, timeout=timeout)
        keep_signatures_from_the_log()
        self._errors = ErrorTexts(self.url, remedy=account.remedy, timeout=timeout)
        network = NetworkSettings.of(f"{account.endpoint}/{self._location.container}/")
        self._client = ContainerClient(
            account.endpoint,
            self._location.container,
            credential=account.credential,
            transport=DeadlineTransport(network, timeout=timeout),
            retry_policy=RetryUntilDeadline(timeout),
        )
        self._reads = AzureReads(
            self._location,
            account,
            network,
            api_version=self._client.api_version,
            errors=self._errors,
            timeout=timeout,
        )

    @property
    def url(self) -> str:
        """The container's URL, with the prefix."""
        return self._location.url

    @property
    def vouches_for_ranges(self) -> bool:
        """Azure makes an MD5 of each if it is asked to."""
        return True

    def check(self) -> None:
        """Return if the container is there and may be read."""
        self._reads.probe(_PROBE)

    def create(self) -> None:
        """Make the container unless it is there."""
        try:
            self.check()
        except StoreMissing:
            with self._translated(""):
                try:
                    self._client.create_container(retry_total=1)
                except ResourceExistsError as error:
                    # Made by somebody else just now, or still being deleted: the latter refuses its name for a while.
                    if error_code(error) != "ContainerAlreadyExists":
                        raise

    def read_into(self, blob: str, buffer: memoryview, offset: int = 0, *, etag: str = "") -> int:
        """Read a range of a blob, with one GET, from the connection into the buffer."""
        return self._reads.read_into(blob, buffer, offset, etag=etag)

    def read_checked(self, blob: str, buffer: memoryview, offset: int = 0, *, etag: str = "") -> tuple[int, bool]:
        """Read a range of a blob into a buffer and compare it with the MD5 that Azure makes of it."""
        return self._reads.read_checked(blob, buffer, offset, etag=etag)

    def read_parts(self, blob: str, parts: RangeInParts, *, etag: str = "") -> None:
        """Read a range of a blob part by part; a GET that breaks off is followed by one for the rest."""
        self._reads.read_parts(blob, parts, etag=etag)

    def read_all_into(self, reads: Sequence[RangeRead], *, answered: Callable[[], None] = lambda: None) -> list[int]:
        """Read several ranges into their buffers, with GETs side by side; what fails is asked for again singly."""
        return self._reads.read_all_into(reads, answered=answered)

    def write(self, blob: str, content: bytes | Path, *, md5: str = "") -> BlobInfo:
        """Write a new blob; its digest is kept as its Content-MD5."""
        check_blob_name(blob, self.url)
        with open_content(content) as opened:
            if opened.byte_count > UPLOAD_BLOCK_BYTES:
                # One question is cheaper than uploading it all to be told that it is there.
                try:
                    return self._kept(blob, opened, md5)
                except BlobMissing:
                    pass
            with self._translated(blob):
                try:
                    return self._upload(blob, opened, md5)
                except HttpResponseError as error:
                    # Either it is there, or another writer has just completed it and the blocks sent so far are void.
                    if not isinstance(error, ResourceExistsError) and error_code(error) != "InvalidBlockList":
                        raise
            return self._kept(blob, opened, md5)

    def describe(self, blob: str) -> BlobInfo:
        """Say what a blob is."""
        check_blob_name(blob, self.url)
        with self._translated(blob):
            properties = self._client.get_blob_client(self._full_name(blob)).get_blob_properties()
        return _describe(blob, properties)

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        """Yield the blobs whose names start with `prefix`, page by page."""
        # Storage accounts with folders list these as empty blobs that only their metadata tells from others.
        pages = self._client.list_blobs(
            name_starts_with=self._full_name(prefix), include=["metadata"], results_per_page=self.list_page_blobs
        ).by_page()
        while True:
            with self._translated(""):
                # An empty page is not the last one.
                page = next(pages, None)
            if page is None:
                return
            yield from self._describe_page(page)

    def close(self) -> None:
        """Close all connections."""
        self._reads.close()
        self._client.close()

    def _upload(self, blob: str, content: Content, md5: str) -> BlobInfo:
        client = self._client.get_blob_client(self._full_name(blob))
        blocks = content.blocks(UPLOAD_BLOCK_BYTES, md5=md5)
        if content.byte_count <= UPLOAD_BLOCK_BYTES:
            ((block, digest),) = blocks
            answer = client.upload_blob(block, overwrite=False, content_settings=_content_settings(digest))
        else:
            digest = ""
            sent: list[BlobBlock] = []
            # Two writers of one name must not mix their blocks.
            writer = uuid.uuid4().hex
            for block, digest_so_far in blocks:
                sent.append(BlobBlock(block_id=f"{writer}{len(sent):06}"))
                client.stage_block(sent[-1].id, block)
                digest = digest_so_far
            answer = client.commit_block_list(
                sent, content_settings=_content_settings(digest), match_condition=MatchConditions.IfMissing
            )
        return BlobInfo(blob, content.byte_count, digest, answer["etag"].strip('"'), _seconds(answer["last_modified"]))

    def _kept(self, blob: str, content: Content, md5: str) -> BlobInfo:
        """Describe the blob that is there already; raises BlobChanged if it is another one."""
        info = self.describe(blob)
        if info.byte_count != content.byte_count or (md5 and info.md5 and info.md5 != md5):
            raise self._errors.changed(blob, "another one has that name, with other content")
        return info

    def _describe_page(self, page: Iterable[BlobProperties]) -> Iterator[BlobInfo]:
        for properties in page:
            name = properties.name
            if not properties.size and (
                name.endswith("/") or (properties.metadata or {}).get("hdi_isfolder") == "true"
            ):
                continue
            blob = name.removeprefix(self._location.prefix)
            fault = blob_name_fault(blob)
            if fault:
                logger.warning("Blob %r in %s is left out: %s.", blob, self.url, fault)
                continue
            yield _describe(blob, properties)

    def _full_name(self, blob: str) -> str:
        return self._location.prefix + blob

    @contextmanager
    def _translated(self, blob: str) -> Iterator[None]:
        try:
            yield
        except AzureError as error:
            # Without the cause: its text holds the URL, and a SAS is part of that.
            raise self._errors.from_exception(error, blob) from None


def _content_settings(md5: str) -> ContentSettings:
    return ContentSettings(content_type="application/octet-stream", content_md5=bytearray.fromhex(md5))


def _describe(blob: str, properties: BlobProperties) -> BlobInfo:
    md5 = properties.content_settings.content_md5
    return BlobInfo(
        blob=blob,
        byte_count=properties.size,
        md5=bytes(md5).hex() if md5 else "",
        etag=properties.etag.strip('"'),
        modified_at=_seconds(properties.last_modified),
    )


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())
