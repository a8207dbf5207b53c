"""An Azure blob container, or a part of it, as a store.

Reads go over libcurl, everything else through the SDK's client; both use the same credentials and obey the same timeout
(`imgsyncfs.stores.azure.pipeline`).

Importing this module takes half a second, most of it the SDK's: only `imgsyncfs.stores.opening.open_store` does so, for
``azure://`` URLs.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import time
import uuid
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from azure.core import MatchConditions
from azure.core.exceptions import AzureError, HttpResponseError, ResourceExistsError
from azure.core.pipeline import Pipeline, PipelineContext, PipelineRequest
from azure.core.pipeline.transport import HttpRequest
from azure.storage.blob import BlobBlock, ContainerClient, ContentSettings

from imgsyncfs.blob_layout import EXTENT_BYTES, MEBIBYTE
from imgsyncfs.errors import BlobMissing, StoreError, StoreMissing
from imgsyncfs.stores.azure.account import find_account
from imgsyncfs.stores.azure.errors import ErrorTexts, error_code
from imgsyncfs.stores.azure.pipeline import (
    DeadlineTransport,
    NetworkSettings,
    ReadHeaders,
    ReadResponse,
    ReadTransport,
    keep_signatures_from_the_log,
)
from imgsyncfs.stores.azure.retries import RetryUntilDeadline
from imgsyncfs.stores.azure.signing import signing_policy
from imgsyncfs.stores.buffers import RangeInParts
from imgsyncfs.stores.contract import (
    MARKS_FOLDER,
    BlobInfo,
    Content,
    RangeRead,
    Store,
    blob_changed,
    blob_name_fault,
    check_blob_name,
    check_range,
    open_content,
)
from imgsyncfs.stores.urls import parse_azure_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from azure.core.pipeline.transport import HttpResponse
    from azure.storage.blob import BlobProperties

    from imgsyncfs.stores.credentials import StoreCredentials
    from imgsyncfs.stores.http_client import Answer

logger = logging.getLogger(__name__)

UPLOAD_BLOCK_BYTES = EXTENT_BYTES
"""Content up to here is uploaded in one request, more in blocks of this size: so much memory does a write take, and a
connection of 4 Mbit/s gets a block through within the default time limit."""

LIST_PAGE_BLOBS = 5000
"""The most that Azure gives in one answer."""

MOST_DIGESTED_BYTES = 4 * MEBIBYTE
"""The longest range of which Azure makes an MD5 ("Get Blob", Azure Storage REST API)."""

MOST_DAMAGED = 3
"""How often a range that arrives damaged is asked for before an error is raised."""

# What nobody has published; asking for it shows whether the container is there and may be read, and needs no right to
# list it or to see its properties, which a SAS often lacks.
_PROBE = ".imgsyncfs-probe"


class AzureStore(Store):
    """A container whose blobs have names under a prefix; `imgsyncfs.stores.contract.Store` says what methods promise.

    Args:
        url: ``azure://ACCOUNT/CONTAINER[/PREFIX]``.
        credentials: what opens it.
        timeout: time for one call, in seconds, retries included; for each page of `list`, each request of `write`.
        clock: tells the time in Unix seconds; what signatures end by.

    Attributes:
        list_page_blobs: blobs that `list` asks for with one request.

    Raises:
        ConfigurationError: URL or credentials make no sense, or the package for Entra ID is missing.
    """

    def __init__(
        self, url: str, *, credentials: StoreCredentials, timeout: float, clock: Callable[[], float] = time.time
    ) -> None:
        self.list_page_blobs = LIST_PAGE_BLOBS
        self._timeout = timeout
        self._location = parse_azure_url(url)
        account = find_account(self._location, credentials, timeout=timeout)
        keep_signatures_from_the_log()
        self._errors = ErrorTexts(self.url, remedy=account.remedy, timeout=timeout)
        self._blobs_url = f"{account.endpoint}/{self._location.container}/"
        network = NetworkSettings.of(self._blobs_url)
        self._client = ContainerClient(
            account.endpoint,
            self._location.container,
            credential=account.credential,
            transport=DeadlineTransport(network, timeout=timeout),
            retry_policy=RetryUntilDeadline(timeout),
            permit_redirects=False,
        )
        self._read_transport = ReadTransport(network, timeout=timeout)
        signing = signing_policy(account, self._location.container, clock=clock)
        self._signing = (ReadHeaders(self._client.api_version), signing)
        self._read_pipeline: Pipeline[HttpRequest, HttpResponse] = Pipeline(
            self._read_transport, [RetryUntilDeadline(timeout), *self._signing]
        )

    @property
    def url(self) -> str:
        """The container's URL, with the prefix."""
        return self._location.url

    @property
    def has_range_digests(self) -> bool:
        """Azure makes an MD5 of each range if it is asked to."""
        return True

    def check(self) -> None:
        """Return if the container is there and may be read."""
        answer = self._send(_PROBE, RangeInParts(memoryview(bytearray(1)), 0, 1), "", retry_total=1)
        if answer.status >= HTTPStatus.MULTIPLE_CHOICES:
            error = self._errors.from_response(answer.status, answer.headers, _PROBE)
            if not isinstance(error, BlobMissing):
                raise error

    def check_writable(self, folder: str) -> None:
        """Try to replace a blob that is not there: with the rights to write, nothing comes of it."""
        with self._translated(folder):
            try:
                self._client.get_blob_client(self._full_name(f"{folder}/{_PROBE}")).upload_blob(
                    b"", overwrite=True, etag='"0x0"', match_condition=MatchConditions.IfNotModified, retry_total=1
                )
            except HttpResponseError as error:
                if error.status_code not in (HTTPStatus.PRECONDITION_FAILED, HTTPStatus.NOT_FOUND):
                    raise

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
        parts = RangeInParts(buffer, offset, len(buffer))
        self.read_parts(blob, parts, etag=etag)
        return parts.received

    def read_checked(self, blob: str, buffer: memoryview, offset: int = 0, *, etag: str = "") -> tuple[int, bool]:
        """Read a range of a blob 4 MiB at a time, and compare each piece with the MD5 that Azure makes of it."""
        self._check_read(blob, offset, len(buffer))
        received, compared = 0, True
        for start in range(0, len(buffer), MOST_DIGESTED_BYTES):
            part = buffer[start : start + MOST_DIGESTED_BYTES]
            count, was_compared = self._read_digested(blob, part, offset + start, etag)
            received += count
            compared = compared and was_compared
            if count < len(part):
                break
        return received, compared

    def read_parts(self, blob: str, parts: RangeInParts, *, etag: str = "", deadline: float | None = None) -> None:
        """Read a range of a blob part by part; a GET that breaks off is followed by one for the rest."""
        self._check_read(blob, parts.offset, parts.left)
        if parts.left:
            self._check_answer(self._send(blob, parts, etag, deadline=deadline), blob, parts)
            parts.end()

    def read_all_into(self, reads: Sequence[RangeRead], *, answered: Callable[[], None] = lambda: None) -> list[int]:
        """Read several ranges into their buffers, with GETs side by side; what fails is asked for again singly."""
        for read in reads:
            self._check_read(read.blob, read.offset, len(read.buffer))
        deadline = time.monotonic() + self._timeout
        ranges = [RangeInParts(read.buffer, read.offset, len(read.buffer), answered=answered) for read in reads]
        missing = [(read, parts) for read, parts in zip(reads, ranges, strict=True) if parts.left]
        if len(missing) > 1:
            signed = [self._signed(read, parts) for read, parts in missing]
            answers = self._read_transport.send_all(signed, [parts for _, parts in missing], deadline=deadline)
            pairs = zip(missing, answers, strict=True)
            missing = [pair for pair, answer in pairs if answer is None or not answer.is_taken]
        for read, parts in missing:
            if not parts.left:
                # More came than the answer said, so nothing of it can be trusted.
                parts.restart()
            # As often as it takes, which also shows what is wrong. The first one has the time that is left, so that a
            # dead server does not get more; if it is answered, the others have all of theirs.
            self.read_parts(read.blob, parts, etag=read.etag, deadline=deadline)
            deadline = time.monotonic() + self._timeout
        return [parts.received for parts in ranges]

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
        """Describe a blob."""
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

    def clock_skew(self) -> float | None:
        """By the date of an answer, which has whole seconds."""
        answer = self._send(_PROBE, RangeInParts(memoryview(bytearray(1)), 0, 1), "", retry_total=1)
        date = answer.headers.get("date")
        return parsedate_to_datetime(date).timestamp() - time.time() if date else None

    def mark(self, name: str) -> bool:
        """Leave a mark."""
        check_blob_name(name, self.url)
        with self._translated(name):
            self._client.get_blob_client(self._full_name(name)).upload_blob(uuid.uuid4().bytes, overwrite=True)
        return True

    def close(self) -> None:
        """Close all connections."""
        self._read_transport.close()
        self._client.close()

    def _read_digested(self, blob: str, buffer: memoryview, offset: int, etag: str) -> tuple[int, bool]:
        deadline = time.monotonic() + self._timeout
        for _ in range(MOST_DAMAGED):
            parts = RangeInParts(buffer, offset, len(buffer))
            answer = self._send(blob, parts, etag, digest=True, deadline=deadline)
            self._check_answer(answer, blob, parts)
            content, digest = buffer[: parts.received], answer.headers.get("content-md5")
            if not digest or hashlib.md5(content, usedforsecurity=False).digest() == _decoded(digest):
                return parts.received, bool(digest)
        raise StoreError(
            f"Blob {blob} in {self.url} arrived damaged {MOST_DAMAGED} times (its MD5 differs from byte {offset} on); "
            "check the network between here and the store, and its proxies."
        )

    def _send(
        self,
        blob: str,
        parts: RangeInParts,
        etag: str,
        *,
        deadline: float | None = None,
        digest: bool = False,
        **options: Any,
    ) -> Answer:
        """Ask for what is missing of a range, again and again until the deadline."""
        request = self._request(blob, etag)
        if digest:
            request.headers["x-ms-range-get-content-md5"] = "true"
        with self._translated(blob):
            run = self._read_pipeline.run(request, parts=parts, deadline=deadline, **options)
        return cast("ReadResponse", run.http_response).answer

    def _check_read(self, blob: str, offset: int, length: int) -> None:
        check_range(offset, length)
        check_blob_name(blob, self.url)

    def _check_answer(self, answer: Answer, blob: str, parts: RangeInParts) -> None:
        """See that an answer has brought what was asked for, or that the blob is empty."""
        # An empty blob has no range at all.
        if answer.is_taken or (answer.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and parts.offset == 0):
            return
        if answer.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise self._errors.from_response(answer.status, answer.headers, blob)
        if answer.has_body:
            raise StoreError(
                f"Blob {blob} in {self.url} was answered with another range than the one asked for; check the proxy "
                "between here and the store."
            )
        # Azure answers 416 to a range that starts where the blob ends; Azurite gives an empty one.
        if parts.offset:
            raise blob_changed(blob, self.url, f"it ends before byte {parts.offset}")

    def _request(self, blob: str, etag: str) -> HttpRequest:
        # `ReadHeaders` asks for a range, also for whole blobs: the answer then says what it is, and no proxy's page
        # passes for a blob.
        if not (etag.isascii() and etag.isprintable()):
            raise blob_changed(blob, self.url, "its etag is another one")
        headers = {"If-Match": f'"{etag}"'} if etag else {}
        return HttpRequest("GET", self._blobs_url + quote(self._full_name(blob), safe="/~"), headers=headers)

    def _signed(self, read: RangeRead, parts: RangeInParts) -> HttpRequest:
        context = PipelineContext(self._read_transport, parts=parts)
        request = PipelineRequest(self._request(read.blob, read.etag), context)
        with self._translated(read.blob):
            for policy in self._signing:
                policy.on_request(request)
        return request.http_request

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
            raise blob_changed(blob, self.url, "another one has that name, with other content")
        return info

    def _describe_page(self, page: Iterable[BlobProperties]) -> Iterator[BlobInfo]:
        for properties in page:
            name = properties.name
            if not properties.size and (
                name.endswith("/") or (properties.metadata or {}).get("hdi_isfolder") == "true"
            ):
                continue
            blob = name.removeprefix(self._location.prefix)
            if blob.startswith(MARKS_FOLDER):
                continue
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


def _decoded(digest: str) -> bytes:
    try:
        return base64.b64decode(digest, validate=True)
    except ValueError:
        return b""
