"""How requests reach Azure: libcurl for reads, the SDK's transport for everything else, both with a deadline.

A read through the SDK's client costs 2.3 ms of CPU for 100 kB. `ReadTransport` sends it through a pipeline of the three
policies that matter (retries, headers, signature), over `imgsyncfs.stores.http_client`. The body is received within the
retries, so that one that breaks off is asked for again.

Neither transport keeps an answer that cannot be the server's, nor more of one than there can be.
"""

from __future__ import annotations

import http.client
import logging
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import requests
import requests.adapters
import requests.utils
import urllib3
from azure.core.exceptions import ServiceResponseError, ServiceResponseTimeoutError
from azure.core.pipeline.policies import SansIOHTTPPolicy
from azure.core.pipeline.transport import HttpRequest, HttpResponse, HttpTransport, RequestsTransport
from azure.core.rest import HttpResponse as ReceivedResponse
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.response import HTTPResponse

from imgsyncfs.stores.azure.retries import ForeignAnswer, is_foreign
from imgsyncfs.stores.buffers import RangeInParts
from imgsyncfs.stores.http_client import Answer, Body, Get, HttpClient, time_left

if TYPE_CHECKING:
    from collections.abc import Sequence

    from azure.core.pipeline import PipelineRequest

MOST_KEPT = 32
"""How many threads may use one store without new connections."""

STALL_SHARE = 1 / 3
"""The share of the timeout after which a silent connection is dropped: one that a firewall forgot, for example. The
rest is for asking again on a new one."""

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/\d+")
"""RFC 9110, 14.4."""

_SIGNATURE = re.compile(r"(?i)(\bsig=)[^&\s\"']+")

_MOST_ANSWER_BYTES = 64 << 20
"""More than any answer to the SDK's client: the longest are lists of 5000 blobs, with names of a kilobyte each."""

_PIECE_BYTES = 64 << 10


class ReadHeaders(SansIOHTTPPolicy[HttpRequest, HttpResponse]):
    """Puts in what every request to the Blob service needs, anew for each attempt.

    Args:
        api_version: of the REST API, the one that the SDK speaks.
    """

    def __init__(self, api_version: str) -> None:
        self._api_version = api_version

    def on_request(self, request: PipelineRequest[HttpRequest]) -> None:
        """Add the headers; see "Common REST API Headers"."""
        headers = request.http_request.headers
        headers["x-ms-version"] = self._api_version
        headers["x-ms-date"] = formatdate(usegmt=True)
        headers["x-ms-client-request-id"] = str(uuid.uuid4())
        # They stay among the options: the transport needs them too.
        parts: RangeInParts = request.context.options["parts"]
        if "x-ms-range-get-content-md5" in headers:
            # The digest is that of the answer, so an attempt before must not have brought a part of the range.
            parts.restart()
        headers["x-ms-range"] = f"bytes={parts.offset}-{parts.offset + parts.left - 1}"


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """What the environment says about the way to a server.

    Attributes:
        proxies: as `requests` takes them (``HTTPS_PROXY``, ``HTTP_PROXY``, ``NO_PROXY``).
        proxy: the URL of the one that leads to the server; empty if there is none.
        authorities: file or folder with the certificates to trust (``REQUESTS_CA_BUNDLE``, ``CURL_CA_BUNDLE``,
            ``SSL_CERT_FILE``).
    """

    proxies: dict[str, str]
    proxy: str
    authorities: str

    @classmethod
    def of(cls, url: str) -> NetworkSettings:
        """Read the environment once; `requests` would do so for each request, for a third of its time."""
        with requests.Session() as session:
            settings = session.merge_environment_settings(url, {}, None, None, None)
        proxies = dict(settings["proxies"])
        # True where `requests` found nothing.
        named = settings["verify"] if isinstance(settings["verify"], str) else os.environ.get("SSL_CERT_FILE")
        authorities = named or requests.utils.DEFAULT_CA_BUNDLE_PATH
        return cls(proxies, requests.utils.select_proxy(url, proxies) or "", authorities)


class ReadResponse(HttpResponse):
    """A response whose body went where it belongs, or was discarded."""

    def __init__(self, request: HttpRequest, answer: Answer) -> None:
        super().__init__(request, answer)
        self.answer = answer
        self.status_code = answer.status
        self.headers = answer.headers  # type: ignore[assignment]  # nobody writes to them
        self.reason = ""
        self.content_type = answer.headers.get("content-type")

    def body(self) -> bytes:
        """Nothing is left of it; the SDK's policies look at headers."""
        return b""


class ReadTransport(HttpTransport[HttpRequest, HttpResponse]):
    """Sends GETs of ranges, and receives them where they belong. Many threads may use it.

    Args:
        settings: proxies and certificates.
        timeout: time for one call, in seconds.
    """

    def __init__(self, settings: NetworkSettings, *, timeout: float) -> None:
        self._client = HttpClient(
            proxy=settings.proxy,
            authorities=settings.authorities,
            stall_timeout=timeout * STALL_SHARE,
            most_kept=MOST_KEPT,
        )

    def send(self, request: HttpRequest, **options: Any) -> HttpResponse:
        """Send a request and receive the range into ``options["parts"]`` before ``options["deadline"]``.

        Raises:
            ForeignAnswer: it is not the server's.
            ServiceResponseError: no answer, or it came too late or broke off.
        """
        try:
            answer = self._client.get(_get(request, options["parts"]), deadline=options["deadline"])
        except TimeoutError as error:
            raise ServiceResponseError("timed out", error=error) from error
        except OSError as error:
            raise ServiceResponseError("connection failed", error=error) from error
        if not answer.is_taken and is_foreign(answer.status, answer.headers):
            raise ForeignAnswer(f"HTTP {answer.status}")
        return ReadResponse(request, answer)

    def send_all(
        self, requests: Sequence[HttpRequest], ranges: Sequence[RangeInParts], *, deadline: float
    ) -> list[Answer | None]:
        """Send signed requests side by side, and receive each range where it belongs; nothing is asked again.

        Returns:
            The answers; None for each that did not come.
        """
        return self._client.get_all([_get(*pair) for pair in zip(requests, ranges, strict=True)], deadline=deadline)

    def open(self) -> None:
        """Connections are made when they are needed."""

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def __exit__(self, *_exception: object) -> None:
        self.close()


def _get(request: HttpRequest, parts: RangeInParts) -> Get:
    """A GET whose body is taken if it is what is missing of a range, or its beginning where the blob ends there."""

    def accept(status: int, headers: Mapping[str, str]) -> Body | None:
        match = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
        if status != HTTPStatus.PARTIAL_CONTENT or match is None:
            return None
        start, byte_count = int(match[1]), int(match[2]) + 1 - int(match[1])
        if start != parts.offset or not 0 < byte_count <= parts.left:
            return None
        parts.begin()
        return Body(byte_count, parts.put)

    return Get(request.url, request.headers, accept)


class DeadlineTransport(RequestsTransport):  # type: ignore[misc]  # the SDK exports it without its type
    """The SDK's own transport, for everything but reads, with the deadline in place of fixed time limits.

    Args:
        settings: proxies and certificates.
        timeout: time for one call, in seconds.
    """

    def __init__(self, settings: NetworkSettings, *, timeout: float) -> None:
        session = requests.Session()
        # Otherwise `requests` looks into ~/.netrc, and would send what it finds there in place of the signature.
        session.trust_env = False
        session.proxies.update(settings.proxies)
        self._adapter = _TimedAdapter(pool_maxsize=MOST_KEPT)
        for protocol in ("http://", "https://"):
            session.mount(protocol, self._adapter)
        super().__init__(session=session, connection_verify=settings.authorities, use_env_settings=False)
        self._stall_timeout = timeout * STALL_SHARE

    def send(self, request: Any, **options: Any) -> Any:
        """Send a request and receive the answer; see `azure.core.pipeline.transport.RequestsTransport.send`.

        Raises:
            ForeignAnswer: it is not the server's, or has no end.
            AzureError: no answer, or it came too late or broke off.
        """
        deadline: float = options.pop("deadline")
        try:
            seconds = time_left(deadline, self._stall_timeout)
        except TimeoutError as error:
            raise ServiceResponseError("timed out", error=error) from error
        options.update(connection_timeout=seconds, read_timeout=seconds, stream=True)
        try:
            response = super().send(request, **options)
        except ServiceResponseTimeoutError:
            # As in `ReadTransport`: the idle connections were probably forgotten too.
            self._adapter.close()
            raise
        answer: requests.Response = response.internal_response
        try:
            body = _body(answer, deadline)
        except BaseException:
            answer.close()
            raise
        # `requests` takes it for received then. It would wait for each piece anew, and for any number of them.
        answer._content, answer._content_consumed = body, True  # noqa: SLF001  # there is no other way to say it
        if isinstance(response, ReceivedResponse):
            response.read()
        return response


def _first_line_to_last(connection: HTTPConnection, receive: Callable[[], HTTPResponse]) -> HTTPResponse:
    """Receive the head of an answer within the connection's time limit: a socket's own begins anew with each byte.

    Raises:
        TimeoutError: it took longer.
    """
    received = connection.sock
    if connection.timeout is None or received is None:
        return receive()
    is_late = threading.Event()

    def end() -> None:
        is_late.set()
        with suppress(OSError):
            # The method of a plain socket: that of TLS forgets the session that is being read from.
            socket.socket.shutdown(received, socket.SHUT_RDWR)

    timer = threading.Timer(connection.timeout, end)
    timer.daemon = True
    timer.start()
    try:
        response = receive()
    except (OSError, http.client.HTTPException):
        if not is_late.is_set():
            raise
    finally:
        timer.cancel()
    # http.client takes a connection that ends within the head for the end of the head.
    if is_late.is_set():
        raise TimeoutError("timed out")
    return response


class _TimedConnection(HTTPConnection):
    """See `_first_line_to_last`."""

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # urllib3's own, of its own type
        return _first_line_to_last(self, super().getresponse)


class _TimedTlsConnection(HTTPSConnection):
    """See `_first_line_to_last`."""

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # likewise
        return _first_line_to_last(self, super().getresponse)


class _TimedPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _TimedConnection


class _TimedTlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TimedTlsConnection


class _TimedAdapter(requests.adapters.HTTPAdapter):
    """Connections whose answers begin, and go on to the end of the head, within the time limit."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """For servers that are reached directly."""
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **options: Any) -> Any:
        """For servers behind a proxy."""
        proxies = super().proxy_manager_for(*args, **options)
        proxies.pool_classes_by_scheme = _POOLS
        return proxies


_POOLS = {"http": _TimedPool, "https": _TimedTlsPool}


def _body(answer: requests.Response, deadline: float) -> bytes:
    """Receive the body of an answer.

    Raises:
        ForeignAnswer: the answer is not the server's, or has no end.
        ServiceResponseError: it came too late or broke off.
    """
    if is_foreign(answer.status_code, answer.headers):
        raise ForeignAnswer(f"HTTP {answer.status_code}")
    body = bytearray()
    try:
        with _ended_by(answer, deadline):
            while piece := answer.raw.read1(_PIECE_BYTES, decode_content=True):
                body += piece
                if len(body) > _MOST_ANSWER_BYTES:
                    raise ForeignAnswer(f"HTTP {answer.status_code} with more than {_MOST_ANSWER_BYTES >> 20} MiB")
    except TimeoutError as error:
        raise ServiceResponseError("timed out", error=error) from error
    except (OSError, urllib3.exceptions.HTTPError) as error:
        raise ServiceResponseError("connection failed", error=error) from error
    return bytes(body)


@contextmanager
def _ended_by(answer: requests.Response, deadline: float) -> Iterator[None]:
    """End the receiving of a body at a deadline: a socket's own time limit begins anew with each byte.

    Raises:
        TimeoutError: it was not there yet.
    """
    if answer.headers.get("content-length") == "0":
        yield
        return
    end = threading.Timer(max(0.0, deadline - time.monotonic()), _shut_down, (answer,))
    end.daemon = True
    end.start()
    try:
        yield
    finally:
        end.cancel()
        # What breaks off late breaks off for that.
        time_left(deadline, 0.0)


def _shut_down(answer: requests.Response) -> None:
    # It has ended in this moment.
    with suppress(OSError, RuntimeError, ValueError):
        answer.raw.shutdown()


class _SignatureFilter(logging.Filter):
    """Takes signatures out of what urllib3 logs at level DEBUG, which is whole URLs."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = _SIGNATURE.sub(r"\1…", record.getMessage()), None
        return True


_SIGNATURE_FILTER = _SignatureFilter()


def keep_signatures_from_the_log() -> None:
    """Have urllib3 log requests without their SAS signatures; doing so twice does no harm."""
    for name in ("urllib3.connectionpool", "urllib3.util.retry", "urllib3.poolmanager"):
        logging.getLogger(name).addFilter(_SIGNATURE_FILTER)
