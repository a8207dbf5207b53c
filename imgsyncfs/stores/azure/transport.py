"""How requests reach Azure: the SDK's transport with a clock to it, and a short way for reads.

Both transports here let no attempt run past the deadline that `imgsyncfs.stores.azure.policies` gives each call.

A read through the SDK's client costs 2.3 ms of CPU for 100 kB (three layers of request objects, 15 policies, `requests`
reading the environment anew). `ReadTransport` sends it through a pipeline of the three policies that matter, over kept
connections (`imgsyncfs.stores.http.pool`), and the body is read inside the retries, so that one that breaks off
is asked for again. `ReadTransport.send_all` takes several that are signed already (`SignedRequests`).
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import requests
import requests.adapters
import requests.utils
import urllib3
from azure.core.exceptions import (
    ServiceResponseError,
    ServiceResponseTimeoutError,
)
from azure.core.pipeline.transport import HttpRequest, HttpResponse, HttpTransport, RequestsTransport

from imgsyncfs.stores.http.connection import Answer
from imgsyncfs.stores.http.pool import MOST_KEPT, Connections, ProxiedConnections, patience

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType


STALL_SHARE = 1 / 3
"""The share of the time limit after which a silent connection is given up: one that a firewall forgot, for example.
The rest is for asking again on a new one."""

_SIGNATURE = re.compile(r"(?i)(\bsig=)[^&\s\"']+")


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """What the environment says about the way to a server (``HTTPS_PROXY``, ``NO_PROXY``, ``REQUESTS_CA_BUNDLE``, …).

    Attributes:
        proxies: as `requests` takes them.
        authorities: file or folder with the certificates to trust.
    """

    proxies: dict[str, str]
    authorities: str

    @classmethod
    def of(cls, url: str) -> NetworkSettings:
        """Read the environment once; `requests` would do so for each request, for a third of its time."""
        with requests.Session() as session:
            settings = session.merge_environment_settings(url, {}, None, None, None)
        authorities = settings["verify"]
        return cls(
            dict(settings["proxies"]),
            authorities if isinstance(authorities, str) else requests.utils.DEFAULT_CA_BUNDLE_PATH,
        )


class ReadResponse(HttpResponse):
    """A response whose body has been read whole."""

    def __init__(self, request: HttpRequest, answer: Answer) -> None:
        super().__init__(request, answer)
        self.status_code = answer.status
        self.headers = answer.headers  # type: ignore[assignment]  # nobody writes to them
        self.reason = answer.reason
        self.content_type = answer.headers.get("content-type")
        self.received = answer.content

    def body(self) -> bytes:
        """The body's bytes."""
        return bytes(self.received)


class ReadTransport(HttpTransport[HttpRequest, HttpResponse]):
    """Sends GETs and reads the answers whole. Many threads may use it.

    Args:
        url: of the server.
        settings: proxies and certificates.
        timeout: time for one call, in seconds.
    """

    def __init__(self, url: str, settings: NetworkSettings, *, timeout: float) -> None:
        proxy = requests.utils.select_proxy(url, settings.proxies)
        stall = timeout * STALL_SHARE
        self._connections: Connections | ProxiedConnections = (
            ProxiedConnections(proxy, settings.authorities, stall=stall)
            if proxy
            else Connections(url, settings.authorities, stall=stall)
        )

    def send(self, request: HttpRequest, **options: Any) -> HttpResponse:
        """Send a request and read the answer before ``options["deadline"]``, into ``options["room"]`` if it is given.

        ``options["parts"]``, a `imgsyncfs.stores.ranges.RangeInParts`, takes the body in place of the answer.

        Raises:
            ServiceResponseError: no answer, or it came too late or broke off.
        """
        try:
            answer = self._connections.exchange(
                request.url,
                request.headers,
                deadline=options["deadline"],
                room=options.get("room"),
                reception=options.get("parts"),
            )
        except (TimeoutError, urllib3.exceptions.TimeoutError) as error:
            # A firewall that forgot this one has probably forgotten the idle ones too: each would cost a wait.
            self._connections.clear()
            raise ServiceResponseError("timed out", error=error) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ServiceResponseError("connection failed", error=error) from error
        return ReadResponse(request, answer)

    def send_all(
        self, requests: Sequence[HttpRequest], rooms: Sequence[memoryview], *, deadline: float
    ) -> list[ReadResponse]:
        """Send signed requests at once and read the answers, each into its room; nothing is asked again.

        Returns:
            The answers to the first requests. Those to the others did not come: they should be sent singly.
        """
        if isinstance(self._connections, ProxiedConnections):
            return []
        sent = [(request.url, request.headers) for request in requests]
        answers = self._connections.exchange_all(sent, rooms, deadline=deadline)
        return [ReadResponse(request, answer) for request, answer in zip(requests, answers, strict=False)]

    def open(self) -> None:
        """Connections are made when they are needed."""

    def close(self) -> None:
        """Let go of all connections."""
        self._connections.clear()

    def __enter__(self) -> ReadTransport:  # noqa: PYI034  # Self is in `typing` from Python 3.11 on
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self.close()


class SignedRequests(HttpTransport[HttpRequest, HttpResponse]):
    """The end of a pipeline that signs requests and does not send them: each is answered as if all were well."""

    def send(self, request: HttpRequest, **_options: Any) -> HttpResponse:
        """Return an empty answer."""
        return ReadResponse(request, Answer(HTTPStatus.OK, "", {}, b""))

    def open(self) -> None:
        """There is nothing to open."""

    def close(self) -> None:
        """There is nothing to close."""

    def __exit__(self, *_exception: object) -> None:
        pass


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
        self._stall = timeout * STALL_SHARE

    def send(self, request: Any, **options: Any) -> Any:
        """Send a request; see `azure.core.pipeline.transport.RequestsTransport.send`."""
        try:
            seconds = patience(options.pop("deadline"), self._stall)
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
