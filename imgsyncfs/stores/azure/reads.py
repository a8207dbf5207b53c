"""Reading blobs of an Azure container over libcurl (`imgsyncfs.stores.azure.transport`), without the SDK's client."""

from __future__ import annotations

import base64
import hashlib
import time
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from azure.core.exceptions import AzureError
from azure.core.pipeline import Pipeline, PipelineContext, PipelineRequest
from azure.core.pipeline.transport import HttpRequest

from imgsyncfs.blob_layout import MEBIBYTE
from imgsyncfs.errors import BlobMissing, StoreError
from imgsyncfs.stores.azure.policies import ReadHeaders, RetryUntilDeadline, signing_policy
from imgsyncfs.stores.azure.transport import NetworkSettings, ReadResponse, ReadTransport
from imgsyncfs.stores.contract import RangeRead, check_blob_name, check_range
from imgsyncfs.stores.ranges import RangeInParts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from azure.core.pipeline.transport import HttpResponse

    from imgsyncfs.stores.azure.account import Account
    from imgsyncfs.stores.azure.errors import ErrorTexts
    from imgsyncfs.stores.http.client import Answer
    from imgsyncfs.stores.urls import ContainerLocation


MOST_DIGESTED_BYTES = 4 * MEBIBYTE
"""The longest range of which Azure makes an MD5 ("Get Blob", Azure Storage REST API)."""

MOST_DAMAGED = 3
"""How often a range that arrives damaged is asked for before an error is raised."""


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
        self._transport = ReadTransport(network, timeout=timeout)
        self._signing = (ReadHeaders(api_version), signing_policy(account, location.container))
        self._reads: Pipeline[HttpRequest, HttpResponse] = Pipeline(
            self._transport, [RetryUntilDeadline(timeout), *self._signing]
        )

    def probe(self, blob: str) -> None:
        """Return if a blob may be read, be it there or not."""
        parts = RangeInParts(memoryview(bytearray(1)), 0, 1)
        answer = self._send(blob, parts, "", retry_total=1)
        if answer.status >= HTTPStatus.MULTIPLE_CHOICES:
            error = self._errors.from_response(answer.status, answer.headers, blob)
            if not isinstance(error, BlobMissing):
                raise error

    def read_into(self, blob: str, buffer: memoryview, offset: int = 0, *, etag: str = "") -> int:
        """Read a range of a blob, with one GET, from the connection into the buffer."""
        parts = RangeInParts(buffer, offset, len(buffer))
        self.read_parts(blob, parts, etag=etag)
        return parts.received

    def read_checked(self, blob: str, buffer: memoryview, offset: int = 0, *, etag: str = "") -> tuple[int, bool]:
        """Read a range of a blob 4 MiB at a time, and compare each piece with the MD5 that Azure makes of it."""
        self._check(blob, offset, len(buffer))
        received, compared = 0, True
        for start in range(0, len(buffer), MOST_DIGESTED_BYTES):
            part = buffer[start : start + MOST_DIGESTED_BYTES]
            count, was_compared = self._read_digested(blob, part, offset + start, etag)
            received += count
            compared = compared and was_compared
            if count < len(part):
                break
        return received, compared

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
            f"Blob {blob} in {self._url} arrived damaged {MOST_DAMAGED} times (its MD5 differs from byte {offset} on); "
            "check the network between here and the store, and its proxies."
        )

    def read_parts(self, blob: str, parts: RangeInParts, *, etag: str = "", deadline: float | None = None) -> None:
        """Read a range of a blob part by part; a GET that breaks off is followed by one for the rest."""
        self._check(blob, parts.offset, parts.left)
        if parts.left:
            self._check_answer(self._send(blob, parts, etag, deadline=deadline), blob, parts)
            parts.end()

    def read_all_into(self, reads: Sequence[RangeRead], *, answered: Callable[[], None] = lambda: None) -> list[int]:
        """Read several ranges into their buffers, with GETs side by side; what fails is asked for again singly."""
        for read in reads:
            self._check(read.blob, read.offset, len(read.buffer))
        deadline = time.monotonic() + self._timeout
        ranges = [RangeInParts(read.buffer, read.offset, len(read.buffer), answered=answered) for read in reads]
        missing = [(read, parts) for read, parts in zip(reads, ranges, strict=True) if parts.left]
        if len(missing) > 1:
            signed = [self._signed(read, parts) for read, parts in missing]
            answers = self._transport.send_all(signed, [parts for _, parts in missing], deadline=deadline)
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
            run = self._reads.run(request, parts=parts, deadline=deadline, **options)
        return cast("ReadResponse", run.http_response).answer

    def _check(self, blob: str, offset: int, length: int) -> None:
        check_range(offset, length)
        check_blob_name(blob, self._url)

    def _check_answer(self, answer: Answer, blob: str, parts: RangeInParts) -> None:
        """See that an answer has brought what was asked for, or that the blob is empty."""
        # An empty blob has no range at all.
        if answer.is_taken or (answer.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and parts.offset == 0):
            return
        if answer.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise self._errors.from_response(answer.status, answer.headers, blob)
        if answer.has_body:
            raise StoreError(
                f"Blob {blob} in {self._url} was answered with another range than the one asked for; check the proxy "
                "between here and the store."
            )
        # Azure answers 416 to a range that starts where the blob ends; Azurite gives an empty one.
        if parts.offset:
            raise self._errors.changed(blob, f"it ends before byte {parts.offset}")

    def _request(self, blob: str, etag: str) -> HttpRequest:
        # `ReadHeaders` asks for a range, also for whole blobs: the answer then says what it is, and no proxy's page
        # passes for a blob.
        if not (etag.isascii() and etag.isprintable()):
            raise self._errors.changed(blob, "its etag is another one")
        headers = {"If-Match": f'"{etag}"'} if etag else {}
        return HttpRequest("GET", self._blobs_url + quote(self._prefix + blob, safe="/~"), headers=headers)

    def _signed(self, read: RangeRead, parts: RangeInParts) -> HttpRequest:
        context = PipelineContext(self._transport, parts=parts)
        request = PipelineRequest(self._request(read.blob, read.etag), context)
        with self._translated(read.blob):
            for policy in self._signing:
                policy.on_request(request)
        return request.http_request

    def close(self) -> None:
        """Close all connections."""
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
