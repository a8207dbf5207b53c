"""How requests reach Azure: libcurl for reads, the SDK's transport for everything else, both with a deadline.

Neither transport lets an attempt run past the deadline that `imgsyncfs.stores.azure.policies` gives each call.

A read through the SDK's client costs 2.3 ms of CPU for 100 kB (three layers of request objects, 15 policies, `requests`
reading the environment anew). `ReadTransport` sends it through a pipeline of the three policies that matter, over
`imgsyncfs.stores.http.client`, and the body is received inside the retries, so that one that breaks off is asked for
again. `ReadTransport.send_all` takes requests that are signed already.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import requests
import requests.adapters
import requests.utils
from azure.core.exceptions import (
    ServiceResponseError,
    ServiceResponseTimeoutError,
)
from azure.core.pipeline.transport import HttpRequest, HttpResponse, HttpTransport, RequestsTransport

from imgsyncfs.stores.http.client import Answer, Body, Get, HttpClient, time_left
from imgsyncfs.stores.ranges import RangeInParts

if TYPE_CHECKING:
    from collections.abc import Sequence


MOST_KEPT = 32
"""How many threads may use one store without new connections."""

STALL_SHARE = 1 / 3
"""The share of the timeout after which a silent connection is dropped: one that a firewall forgot, for example. The
rest is for asking again on a new one."""

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/\d+")
_SIGNATURE = re.compile(r"(?i)(\bsig=)[^&\s\"']+")


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
            ServiceResponseError: no answer, or it came too late or broke off.
        """
        try:
            answer = self._client.get(_get(request, options["parts"]), deadline=options["deadline"])
        except TimeoutError as error:
            raise ServiceResponseError("timed out", error=error) from error
        except OSError as error:
            raise ServiceResponseError("connection failed", error=error) from error
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


def content_range(headers: Mapping[str, str]) -> tuple[int, int]:
    """First byte and length of the range that an answer says it holds; (0, 0) if it does not (RFC 9110, 14.4)."""
    match = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
    return (int(match[1]), int(match[2]) + 1 - int(match[1])) if match else (0, 0)


def _get(request: HttpRequest, parts: RangeInParts) -> Get:
    """A GET whose body is taken if it is what is missing of a range, or its beginning where the blob ends there."""

    def accept(status: int, headers: Mapping[str, str]) -> Body | None:
        start, byte_count = content_range(headers)
        if status != HTTPStatus.PARTIAL_CONTENT or start != parts.offset or not 0 < byte_count <= parts.left:
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
        self._adapter = requests.adapters.HTTPAdapter(pool_maxsize=MOST_KEPT)
        for protocol in ("http://", "https://"):
            session.mount(protocol, self._adapter)
        super().__init__(session=session, connection_verify=settings.authorities, use_env_settings=False)
        self._stall_timeout = timeout * STALL_SHARE

    def send(self, request: Any, **options: Any) -> Any:
        """Send a request; see `azure.core.pipeline.transport.RequestsTransport.send`."""
        try:
            seconds = time_left(options.pop("deadline"), self._stall_timeout)
        except TimeoutError as error:
            raise ServiceResponseError("timed out", error=error) from error
        options.update(connection_timeout=seconds, read_timeout=seconds)
        try:
            return super().send(request, **options)
        except ServiceResponseTimeoutError:
            # As in `ReadTransport`: the idle connections were probably forgotten too.
            self._adapter.close()
            raise


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
