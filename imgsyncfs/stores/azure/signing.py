"""What opens an account for reads: a signature in the URL, or a token of Entra ID."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
from azure.core.pipeline.policies import AzureSasCredentialPolicy, BearerTokenCredentialPolicy, HTTPPolicy
from azure.core.pipeline.transport import HttpRequest, HttpResponse
from azure.storage.blob import ContainerSasPermissions, generate_container_sas

if TYPE_CHECKING:
    from azure.core.pipeline import PipelineRequest, PipelineResponse

    from imgsyncfs.stores.azure.account import Account

ENTRA_SCOPE = "https://storage.azure.com/.default"
"""What a token of Entra ID is asked for."""

_TENANT = re.compile(r"authorization_uri=\"?https://[^/]+/([^/\",\s]+)")

_SAS_SECONDS = 3600.0
_SAS_KEPT_SECONDS = 1800.0
_SAS_NEW_SECONDS = 60.0
"""A signature that is younger is not made anew when it is refused: then the key is wrong, or this computer's clock."""


class ContainerSasPolicy(HTTPPolicy[HttpRequest, HttpResponse]):
    """Signs reads by account key: with a shared access signature for the container, a new one every half hour.

    To sign each request with the key takes 0.12 ms of CPU, twelve times as long. The signature allows nothing but
    reads, for an hour. That goes by the wall clock, which runs on while the computer sleeps; and since it may be set,
    a signature that the server refuses is made anew once.

    Args:
        account: of the storage.
        key: the account's, in base64.
        container: what may be read.
        protocol: ``https``, or ``https,http`` where the server speaks no TLS.
        clock: tells the time in Unix seconds.
    """

    def __init__(
        self, account: str, key: str, container: str, *, protocol: str, clock: Callable[[], float] = time.time
    ) -> None:
        self._account = account
        self._key = key
        self._container = container
        self._protocol = protocol
        self._clock = clock
        # When it was made, and the signature. Threads that find it old together make one each, and either will do.
        self._sas = (0.0, "")

    def on_request(self, request: PipelineRequest[HttpRequest]) -> None:
        """Put the signature into the URL, in place of the one of an earlier attempt."""
        self._sign(request, most_seconds=_SAS_KEPT_SECONDS)

    def send(self, request: PipelineRequest[HttpRequest]) -> PipelineResponse[HttpRequest, HttpResponse]:
        """Send a request signed; again with a new signature if the one it had is refused."""
        self.on_request(request)
        response = self.next.send(request)
        if response.http_response.status_code == HTTPStatus.FORBIDDEN:
            refused = request.http_request.url
            self._sign(request, most_seconds=_SAS_NEW_SECONDS)
            if request.http_request.url != refused:
                response = self.next.send(request)
        return response

    def _sign(self, request: PipelineRequest[HttpRequest], *, most_seconds: float) -> None:
        """Sign a request with the signature there is, or a new one if that is not from the last so many seconds."""
        now = self._clock()
        made_at, token = self._sas
        # One from the future was made before the clock was set.
        if not 0 <= now - made_at < most_seconds:
            token = self._new_sas(now)
            self._sas = (now, token)
        url = request.http_request.url.partition("?")[0]
        request.http_request.url = f"{url}?{token}"

    def _new_sas(self, now: float) -> str:
        return generate_container_sas(
            self._account,
            self._container,
            account_key=self._key,
            permission=ContainerSasPermissions(read=True),
            expiry=datetime.fromtimestamp(now, timezone.utc) + timedelta(seconds=_SAS_SECONDS),
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


def signing_policy(account: Account, container: str, *, clock: Callable[[], float] = time.time) -> Any:
    """The policy that signs reads with an account's credential.

    Args:
        account: whose.
        container: what is read.
        clock: tells the time in Unix seconds.
    """
    credential = account.credential
    if isinstance(credential, AzureNamedKeyCredential):
        name, key = credential.named_key
        protocol = "https" if account.endpoint.startswith("https:") else "https,http"
        return ContainerSasPolicy(name, key, container, protocol=protocol, clock=clock)
    if isinstance(credential, AzureSasCredential):
        return AzureSasCredentialPolicy(credential)
    return TenantTokenPolicy(credential, ENTRA_SCOPE)
