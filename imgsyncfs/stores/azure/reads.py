"""Reading blobs of an Azure container: the short way (`imgsyncfs.stores.azure.transport`), without the SDK's client."""

from __future__ import annotations

import base64
import hashlib
import itertools
import time
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, cast
from urllib.parse import quote

from azure.core.exceptions import AzureError
from azure.core.pipeline import Pipeline
from azure.core.pipeline.transport import HttpRequest

from imgsyncfs.blob_layout import MEBIBYTE
from imgsyncfs.errors import BlobMissing, StoreError
from imgsyncfs.stores.azure.policies import ReadHeaders, RetryUntilDeadline, signing_policy
from imgsyncfs.stores.azure.transport import (
    STALL_SHARE,
    NetworkSettings,
    ReadResponse,
    ReadTransport,
    SignedRequests,
)
from imgsyncfs.stores.contract import RangeRead, check_blob_name, check_range
from imgsyncfs.stores.ranges import RangeInParts, is_range, range_header

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from azure.core.pipeline.transport import HttpResponse

    from imgsyncfs.stores.azure.account import Account
    from imgsyncfs.stores.azure.errors import ErrorTexts
    from imgsyncfs.stores.urls import ContainerLocation


MOST_DIGESTED_BYTES = 4 * MEBIBYTE
"""The longest range of which Azure makes an MD5 ("Get Blob", Azure Storage REST API)."""

MOST_DAMAGED = 3
"""How often a range that arrives damaged is asked for before the reader is told."""


class AzureReads:
    """The reads of `imgsyncfs.stores.azure.store.AzureStore`; `imgsyncfs.stores.contract.Store` says what they promise.

    Args:
        location: of the container.
        account: where it is and what opens it.
        network: what the environment says about the way there.
        api_version: of the REST API, the one that the SDK speaks.
        errors: what is said when something is wrong.
        timeout: time for one call, in seconds, retries included.
    """

    def __init__(
        self,
        location: ContainerLocation,
        account: Account,
        network: NetworkSettings,
        *,
        api_version: str,
        errors: ErrorTexts,
        timeout: float,
    ) -> None:
        self._url = location.url
        self._prefix = location.prefix
        self._errors = errors
        self._timeout = timeout
        self._blobs_url = f"{account.endpoint}/{location.container}/"
        self._transport = ReadTransport(self._blobs_url, network, timeout=timeout)
        # Policies of their own each: a policy knows the one that follows it.
        headers, container = ReadHeaders(api_version), location.container
        self._reads: Pipeline[HttpRequest, HttpResponse] = Pipeline(
            self._transport, [RetryUntilDeadline(timeout), headers, signing_policy(account, container)]
        )
        self._signing: Pipeline[HttpRequest, HttpResponse] = Pipeline(
            SignedRequests(), [headers, signing_policy(account, container)]
        )

    def probe(self, blob: str) -> None:
        """Return if a blob may be read, be it there or not."""
        with self._translated(blob):
            response = self._reads.run(self._request(blob, 0, None, ""), retry_total=1).http_response
        if response.status_code >= HTTPStatus.MULTIPLE_CHOICES:
            error = self._errors.from_response(response.status_code, response.headers, blob)
            if not isinstance(error, BlobMissing):
                raise error

    def read(self, blob: str, offset: int = 0, length: int | None = None, *, etag: str = "") -> bytes:
        """Read a range of a blob, with one GET."""
        return bytes(self._read(blob, offset, length, etag))

    def read_into(self, blob: str, room: memoryview, offset: int = 0, *, etag: str = "") -> int:
        """Read a range of a blob, with one GET, straight from the connection into memory."""
        return _put(self._read(blob, offset, len(room), etag, room=room), room)

    def read_checked(self, blob: str, room: memoryview, offset: int = 0, *, etag: str = "") -> tuple[int, bool]:
        """Read a range of a blob into memory, 4 MiB at a time, and compare each with the MD5 that Azure makes of it."""
        check_range(offset, len(room))
        check_blob_name(blob, self._url)
        received, compared = 0, True
        for start in range(0, len(room), MOST_DIGESTED_BYTES):
            part = room[start : start + MOST_DIGESTED_BYTES]
            count, was_compared = self._read_digested(blob, part, offset + start, etag)
            received += count
            compared = compared and was_compared
            if count < len(part):
                break
        return received, compared

    def _read_digested(self, blob: str, room: memoryview, offset: int, etag: str) -> tuple[int, bool]:
        deadline = time.monotonic() + self._timeout
        for _ in range(MOST_DAMAGED):
            response = self._send(blob, offset, len(room), etag, room=room, deadline=deadline, digest=True)
            content = self._content(response, blob, offset, len(room))
            digest = response.headers.get("content-md5")
            if not digest or hashlib.md5(content, usedforsecurity=False).digest() == _decoded(digest):
                return _put(content, room), bool(digest)
        raise StoreError(
            f"Blob {blob} in {self._url} arrived damaged {MOST_DAMAGED} times (its MD5 differs from byte {offset} on); "
            "check the network between here and the store, and its proxies."
        )

    def read_parts(self, blob: str, parts: RangeInParts, *, etag: str = "") -> None:
        """Read a range of a blob part by part; a GET that breaks off is followed by one for the rest."""
        check_range(parts.offset, parts.left)
        check_blob_name(blob, self._url)
        if not parts.left:
            return
        with self._translated(blob):
            run = self._reads.run(self._request(blob, parts.offset, parts.left, etag), parts=parts)
        if not parts.is_complete:
            parts.put(self._content(cast("ReadResponse", run.http_response), blob, parts.offset, parts.left))
        parts.end()

    def read_all_into(self, reads: Sequence[RangeRead]) -> list[int]:
        """Read several ranges into memory, one GET each, sent at once; what isn't answered so is asked for singly."""
        for read in reads:
            check_range(read.offset, len(read.room))
            check_blob_name(read.blob, self._url)
        deadline: float | None = time.monotonic() + self._timeout
        answers = self._send_together(reads)
        counts = []
        for read, answer in itertools.zip_longest(reads, answers):
            if answer is not None and answer.status_code == HTTPStatus.PARTIAL_CONTENT:
                content = self._content(answer, read.blob, read.offset, len(read.room))
            else:
                # Singly, and as often as it takes: that also shows what is wrong. The first one has the time that is
                # left, so that a dead server does not get more; if it is answered, the others have all of theirs.
                content = self._read(
                    read.blob, read.offset, len(read.room), read.etag, room=read.room, deadline=deadline
                )
                deadline = None
            counts.append(_put(content, read.room))
        return counts

    def _send_together(self, reads: Sequence[RangeRead]) -> list[ReadResponse]:
        """The answers to the first of some reads, as far as they came; none if there is nothing to be gained."""
        if len(reads) == 1 or not all(read.room for read in reads):
            return []
        return self._transport.send_all(
            [self._signed(read) for read in reads],
            [read.room for read in reads],
            deadline=time.monotonic() + STALL_SHARE * self._timeout,
        )

    def _read(
        self,
        blob: str,
        offset: int,
        length: int | None,
        etag: str,
        *,
        room: memoryview | None = None,
        deadline: float | None = None,
    ) -> bytes | memoryview:
        check_range(offset, length)
        check_blob_name(blob, self._url)
        if length == 0:
            return b""
        response = self._send(blob, offset, length, etag, room=room, deadline=deadline)
        return self._content(response, blob, offset, length)

    def _send(
        self,
        blob: str,
        offset: int,
        length: int | None,
        etag: str,
        *,
        room: memoryview | None,
        deadline: float | None,
        digest: bool = False,
    ) -> ReadResponse:
        request = self._request(blob, offset, length, etag)
        if digest:
            request.headers["x-ms-range-get-content-md5"] = "true"
        with self._translated(blob):
            run = self._reads.run(request, room=room, deadline=deadline)
        return cast("ReadResponse", run.http_response)

    def _content(self, response: ReadResponse, blob: str, offset: int, length: int | None) -> bytes | memoryview:
        """The body of an answer, if it is what was asked for."""
        status = response.status_code
        # An empty blob has no range at all.
        if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and offset == 0:
            return b""
        if status >= HTTPStatus.MULTIPLE_CHOICES:
            raise self._errors.from_response(status, response.headers, blob)
        content = response.received
        # Azure answers 416 to a range that starts where the blob ends; Azurite gives an empty one.
        if not content:
            if offset:
                raise self._errors.changed(blob, f"it ends before byte {offset}")
            return b""
        if not is_range(response.headers, offset, len(content)) or (length is not None and len(content) > length):
            raise StoreError(
                f"Blob {blob} in {self._url} was answered with another range than the one asked for; check the proxy "
                "between here and the store."
            )
        return content

    def _request(self, blob: str, offset: int, length: int | None, etag: str) -> HttpRequest:
        # A range also for whole blobs: the answer then says what it is, and no proxy's page passes for a blob.
        headers = {"x-ms-range": range_header(offset, length)}
        if etag:
            headers["If-Match"] = f'"{etag}"'
        return HttpRequest("GET", self._blobs_url + quote(self._prefix + blob, safe="/~"), headers=headers)

    def _signed(self, read: RangeRead) -> HttpRequest:
        request = self._request(read.blob, read.offset, len(read.room), read.etag)
        with self._translated(read.blob):
            return self._signing.run(request).http_request

    def close(self) -> None:
        """Let go of all connections."""
        self._transport.close()

    @contextmanager
    def _translated(self, blob: str) -> Iterator[None]:
        try:
            yield
        except AzureError as error:
            # Without the cause: its text holds the URL, and a SAS is part of that.
            raise self._errors.from_exception(error, blob) from None


def _decoded(digest: str) -> bytes:
    try:
        return base64.b64decode(digest, validate=True)
    except ValueError:
        return b""


def _put(content: bytes | memoryview, room: memoryview) -> int:
    """Bring a body to where it belongs unless it is there."""
    if isinstance(content, bytes):
        room[: len(content)] = content
    return len(content)
