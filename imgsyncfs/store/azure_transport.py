"""How requests reach Azure: the SDK's retries with a clock to them, and a short way for reads.

The SDK bounds attempts, not time: with its defaults a dead server holds a reader for minutes. `RetryUntilDeadline`
gives each call a deadline, and both transports here let no attempt run past it.

A read through the SDK's client costs 2.3 ms of CPU for 100 kB (three layers of request objects, 15 policies, `requests`
reading the environment anew). `ReadTransport` sends it through a pipeline of the three policies that matter, over the
standard library's HTTP client, and the body is read inside the retries, so that one that breaks off is asked for again.
"""

from __future__ import annotations

import http.client
import logging
import random
import re
import ssl
import time
import uuid
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import requests
import requests.adapters
import requests.utils
import urllib3
from azure.core.exceptions import (
    ClientAuthenticationError,
    ServiceResponseError,
    ServiceResponseTimeoutError,
)
from azure.core.pipeline.policies import BearerTokenCredentialPolicy, SansIOHTTPPolicy
from azure.core.pipeline.transport import HttpRequest, HttpResponse, HttpTransport, RequestsTransport
from azure.storage.blob import ExponentialRetry

from imgsyncfs.store.azure_connections import MOST_KEPT, Answer, Connections, ProxiedConnections, patience

if TYPE_CHECKING:
    from types import TracebackType

    from azure.core.exceptions import AzureError
    from azure.core.pipeline import PipelineRequest, PipelineResponse

STALL_SHARE = 1 / 3
"""The share of the time limit after which a silent connection is given up: one that a firewall forgot, for example.
The rest is for asking again on a new one."""

_LEAST_SHARE = 1 / 20
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 3.0

ENTRA_SCOPE = "https://storage.azure.com/.default"
"""What a token of Entra ID is asked for."""

_TENANT = re.compile(r"authorization_uri=\"?https://[^/]+/([^/\",\s]+)")
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


class RetryUntilDeadline(ExponentialRetry):
    """The SDK's retries, until the time is up.

    It hands the deadline on as the option ``deadline``, a time of `time.monotonic`, which the transports here obey.

    Args:
        timeout: time for one call, in seconds, retries and pauses included.
    """

    def __init__(self, timeout: float) -> None:
        many = 1 << 30
        super().__init__(retry_total=many, retry_connect=many, retry_read=many, retry_status=many)
        self._timeout = timeout

    def configure_retries(self, request: PipelineRequest[Any]) -> dict[str, Any]:
        """Start the clock."""
        settings: dict[str, Any] = super().configure_retries(request)
        settings["deadline"] = request.context.options["deadline"] = time.monotonic() + self._timeout
        return settings

    def increment(
        self,
        settings: dict[str, Any],
        request: PipelineRequest[Any],
        response: PipelineResponse[Any, Any] | None = None,
        error: AzureError | None = None,
    ) -> bool:
        """Say whether to try again."""
        if error is not None and not _may_pass(error):
            return False
        if not super().increment(settings, request, response, error):
            return False
        pause = min(_FIRST_PAUSE * 2 ** (settings["count"] - 1), _LONGEST_PAUSE)
        # Many readers meet the same hitch: they should not all come back at once.
        settings["pause"] = pause * random.uniform(0.5, 1.0)  # noqa: S311  # no secret hangs on it
        # Without time left for the attempt itself, its own error would hide the one that says more.
        least = float(settings["pause"]) + self._timeout * _LEAST_SHARE
        return time.monotonic() + least < float(settings["deadline"])

    def get_backoff_time(self, settings: dict[str, Any]) -> float:
        """How long to wait before the next attempt, in seconds."""
        return float(settings["pause"])


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


class TenantTokenPolicy(BearerTokenCredentialPolicy[HttpRequest, HttpResponse]):
    """Signs with Entra ID, and asks again where the account belongs to another tenant than the log-in's own.

    The SDK's client does the same with a policy that it keeps to itself.
    """

    def on_challenge(self, request: PipelineRequest[Any], response: PipelineResponse[Any, Any]) -> bool:
        """Log in at the tenant that the answer names; see "Bearer challenge", Azure Storage REST API."""
        match = _TENANT.search(response.http_response.headers.get("WWW-Authenticate", ""))
        if match:
            self.authorize_request(request, ENTRA_SCOPE, tenant_id=match[1])
        return bool(match)


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
    """Sends requests without a body through urllib3, and reads the answers whole. Many threads may use it.

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

        Raises:
            ServiceResponseError: no answer, or it came too late or broke off.
        """
        try:
            answer = self._connections.exchange(
                request.method,
                request.url,
                request.headers,
                deadline=options["deadline"],
                room=options.get("room"),
            )
        except (TimeoutError, urllib3.exceptions.TimeoutError) as error:
            # A firewall that forgot this one has probably forgotten the idle ones too: each would cost a wait.
            self._connections.clear()
            raise ServiceResponseError("timed out", error=error) from error
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
            raise ServiceResponseError("connection failed", error=error) from error
        return ReadResponse(request, answer)

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


def causes(error: BaseException) -> list[BaseException]:
    """An exception and what led to it, the outermost first."""
    found: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in found:
        found.append(cause)
        # The SDK raises some of its errors without a cause and keeps that in an attribute.
        cause = getattr(cause, "inner_exception", None) or cause.__cause__ or cause.__context__
    return found


def _may_pass(error: AzureError) -> bool:
    """Whether asking again can help: a wrong certificate and a log-in that fails stay what they are."""
    return not any(
        isinstance(cause, ssl.SSLCertVerificationError | ClientAuthenticationError) for cause in causes(error)
    )
