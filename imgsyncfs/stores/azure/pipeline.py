"""How requests reach Azure: libcurl for reads, the SDK's transport for everything else, both with a deadline.

A read through the SDK's client costs 2.3 ms of CPU for 100 kB. `ReadTransport` sends it through a pipeline of the three
policies that matter (retries, headers, signature), over `imgsyncfs.stores.http_client`. The body is received within the
retries, so that one that breaks off is asked for again.

The SDK bounds attempts, not time: with its defaults a dead server holds a reader for minutes. `RetryUntilDeadline`
gives each call a deadline, and no transport here lets an attempt run past it.
"""

from __future__ import annotations

import logging
import os
import random
import re
import ssl
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import requests
import requests.adapters
import requests.utils
from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
from azure.core.exceptions import ClientAuthenticationError, ServiceResponseError, ServiceResponseTimeoutError
from azure.core.pipeline.policies import AzureSasCredentialPolicy, BearerTokenCredentialPolicy, SansIOHTTPPolicy
from azure.core.pipeline.transport import HttpRequest, HttpResponse, HttpTransport, RequestsTransport
from azure.storage.blob import ContainerSasPermissions, ExponentialRetry, generate_container_sas

from imgsyncfs.stores.buffers import RangeInParts
from imgsyncfs.stores.http_client import Answer, Body, Get, HttpClient, time_left

if TYPE_CHECKING:
    from collections.abc import Sequence

    from azure.core.exceptions import AzureError
    from azure.core.pipeline import PipelineRequest, PipelineResponse

    from imgsyncfs.stores.azure.account import Account

MOST_KEPT = 32
"""How many threads may use one store without new connections."""

STALL_SHARE = 1 / 3
"""The share of the timeout after which a silent connection is dropped: one that a firewall forgot, for example. The
rest is for asking again on a new one."""

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/\d+")
"""RFC 9110, 14.4."""

_SIGNATURE = re.compile(r"(?i)(\bsig=)[^&\s\"']+")

_LEAST_SHARE = 1 / 20
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 3.0

ENTRA_SCOPE = "https://storage.azure.com/.default"
"""What a token of Entra ID is asked for."""

_TENANT = re.compile(r"authorization_uri=\"?https://[^/]+/([^/\",\s]+)")

_SAS_SECONDS = 3600.0
_SAS_KEPT_SECONDS = 1800.0


class RetryUntilDeadline(ExponentialRetry):
    """The SDK's retries, until the time is up.

    It hands the deadline on as the option ``deadline``, a time of `time.monotonic`, which the transports here obey.

    Args:
        timeout: time for one call, in seconds, retries and pauses included, unless the call has that option already.
    """

    def __init__(self, timeout: float) -> None:
        many = 1 << 30
        super().__init__(retry_total=many, retry_connect=many, retry_read=many, retry_status=many)
        self._timeout = timeout

    def configure_retries(self, request: PipelineRequest[Any]) -> dict[str, Any]:
        """Start the clock."""
        settings: dict[str, Any] = super().configure_retries(request)
        options = request.context.options
        if options.get("deadline") is None:
            options["deadline"] = time.monotonic() + self._timeout
        settings["deadline"] = options["deadline"]
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
        # They stay among the options: the transport needs them too.
        parts: RangeInParts = request.context.options["parts"]
        if "x-ms-range-get-content-md5" in headers:
            # The digest is that of the answer, so an attempt before must not have brought a part of the range.
            parts.restart()
        headers["x-ms-range"] = f"bytes={parts.offset}-{parts.offset + parts.left - 1}"


class ContainerSasPolicy(SansIOHTTPPolicy[HttpRequest, HttpResponse]):
    """Signs reads by account key: with a shared access signature for the container, a new one every half hour.

    To sign each request with the key takes 0.12 ms of CPU, twelve times as long. The signature allows nothing but
    reads, for an hour.

    Args:
        account: of the storage.
        key: the account's, in base64.
        container: what may be read.
        protocol: ``https``, or ``https,http`` where the server speaks no TLS.
    """

    def __init__(self, account: str, key: str, container: str, *, protocol: str) -> None:
        self._account = account
        self._key = key
        self._container = container
        self._protocol = protocol
        # Until when, and what. Threads that find it old together make one each, and either will do.
        self._sas = (0.0, "")

    def on_request(self, request: PipelineRequest[HttpRequest]) -> None:
        """Put the signature into the URL, in place of the one of an earlier attempt."""
        until, token = self._sas
        if time.monotonic() >= until:
            token = self._new_sas()
            self._sas = (time.monotonic() + _SAS_KEPT_SECONDS, token)
        url = request.http_request.url.partition("?")[0]
        request.http_request.url = f"{url}?{token}"

    def _new_sas(self) -> str:
        return generate_container_sas(
            self._account,
            self._container,
            account_key=self._key,
            permission=ContainerSasPermissions(read=True),
            expiry=datetime.now(timezone.utc) + timedelta(seconds=_SAS_SECONDS),
            protocol=self._protocol,
        )


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


def signing_policy(account: Account, container: str) -> Any:
    """The policy that signs reads with an account's credential."""
    credential = account.credential
    if isinstance(credential, AzureNamedKeyCredential):
        name, key = credential.named_key
        protocol = "https" if account.endpoint.startswith("https:") else "https,http"
        return ContainerSasPolicy(name, key, container, protocol=protocol)
    if isinstance(credential, AzureSasCredential):
        return AzureSasCredentialPolicy(credential)
    return TenantTokenPolicy(credential, ENTRA_SCOPE)


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
