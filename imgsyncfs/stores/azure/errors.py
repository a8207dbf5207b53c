"""What Azure answers, in the words of `imgsyncfs.errors`.

Texts of the SDK, `requests` and urllib3 are never passed on: they hold URLs, and a SAS is part of a URL. The reason is
taken from the status, the error code ("Blob service error codes", Azure Storage REST API) and the operating system's
own errors.
"""

from __future__ import annotations

import socket
import ssl
from http import HTTPStatus
from typing import TYPE_CHECKING

import requests
import urllib3
from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError

from imgsyncfs.errors import StoreError, StoreMissing, StoreRefused, StoreUnreachable
from imgsyncfs.stores.azure.retries import ForeignAnswer, causes
from imgsyncfs.stores.contract import blob_changed, blob_missing

if TYPE_CHECKING:
    from collections.abc import Mapping

_ERROR_CODE_HEADER = "x-ms-error-code"

_REFUSED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
_REFUSED_CODES = {"InvalidAuthenticationInfo", "NoAuthenticationInformation"}
_CONTAINER_CODES = {"ContainerNotFound", "ContainerBeingDeleted", "ContainerDisabled"}


_BY_CODE: dict[str, tuple[type[StoreError], str, str]] = {
    "AccountBeingCreated": (StoreUnreachable, "its account is being made", "try again in a minute"),
    "AccountIsDisabled": (StoreRefused, "its account is disabled", "have its owner enable it"),
    "AuthorizationProtocolMismatch": (StoreRefused, "its signature is for https alone", "use an https endpoint"),
    "AuthorizationResourceTypeMismatch": (
        StoreRefused,
        "its signature is not for blobs",
        "have one made for containers and objects",
    ),
    "AuthorizationServiceMismatch": (StoreRefused, "its signature is not for blobs", "have one made for Blob storage"),
    "AuthorizationSourceIPMismatch": (
        StoreRefused,
        "its signature is for other addresses than this machine's",
        "have another one made",
    ),
    "BlobArchived": (
        StoreError,
        "it lies in the archive tier",
        "have it brought back with `az storage blob set-tier --tier Hot`, which takes hours",
    ),
    "BlobBeingRehydrated": (StoreError, "it is being brought back from the archive tier", "look again in some hours"),
    "BlobImmutableDueToPolicy": (
        StoreError,
        "its container keeps blobs from being changed",
        "publish into another container, or have its policy changed",
    ),
    "BlobUsesCustomerSpecifiedEncryption": (
        StoreError,
        "it is encrypted with a key that requests have to bring",
        "have it stored without",
    ),
    "InsufficientAccountPermissions": (
        StoreRefused,
        "the account may not be used for this",
        "have its owner allow it",
    ),
    "KeyBasedAuthenticationNotPermitted": (
        StoreRefused,
        "its account takes no keys",
        "leave the key away, to log in with Entra ID",
    ),
    "LeaseIdMissing": (StoreError, "somebody has a lease on it", "wait, or have the lease broken"),
    "PublicAccessNotPermitted": (StoreRefused, "nobody may read it without credentials", "give some"),
}
"""Error code to kind, reason and remedy, of those whose status alone does not say it."""

_KEY_VAULT_CODES = "KeyVault"
"""What begins the codes of faults of the key that an account's owner keeps in a vault of their own."""


def error_code(error: HttpResponseError) -> str:
    """Azure's own code for an answer that is an error; empty if there was none."""
    return _headers(error).get(_ERROR_CODE_HEADER, "")


class ErrorTexts:
    """Says what went wrong at one store.

    Args:
        url: the store's.
        remedy: what to do when the credentials are refused.
        timeout: the time limit of a call, in seconds.
    """

    def __init__(self, url: str, *, remedy: str, timeout: float) -> None:
        self._url = url
        self._remedy = remedy
        self._timeout = timeout

    def from_response(self, status: int, headers: Mapping[str, str], blob: str) -> StoreError:
        """Turn an answer that is an error into the exception to raise.

        Args:
            status: of HTTP.
            headers: of the answer; the error code is in them.
            blob: the blob that was asked for; empty for the container.
        """
        code = headers.get(_ERROR_CODE_HEADER, "")
        reason = f"HTTP {status} {code}".rstrip()
        if code in _BY_CODE:
            kind, why, remedy = _BY_CODE[code]
            thing = f"Blob {blob} in {self._url}" if blob and kind is StoreError else f"Store {self._url}"
            return kind(f"{thing} cannot be used: {why} ({reason}); {remedy}.")
        if code.startswith(_KEY_VAULT_CODES):
            return StoreRefused(
                f"Store {self._url} cannot be used: the key that it is encrypted with, in a vault of its owner's, "
                f"cannot be had ({reason}); have its owner see to the vault and the key."
            )
        if status in _REFUSED or code in _REFUSED_CODES:
            rules = f"{self._remedy}; or the account's network rules keep this machine out"
            remedy = rules if code == "AuthorizationFailure" else self._remedy
            return StoreRefused(f"Store {self._url} refused the credentials ({reason}); {remedy}.")
        if code in _CONTAINER_CODES or (status == HTTPStatus.NOT_FOUND and not blob):
            return StoreMissing(
                f"Store {self._url} is not there ({reason}); check the container's name, or make it with "
                f"`imgsyncfs init --store {self._url}`."
            )
        if status == HTTPStatus.NOT_FOUND:
            return blob_missing(blob, self._url)
        if status == HTTPStatus.PRECONDITION_FAILED:
            return blob_changed(blob, self._url, "its etag is another one")
        if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return blob_changed(blob, self._url, "it ends before the range asked for")
        if status == HTTPStatus.TOO_MANY_REQUESTS or code == "ServerBusy":
            return StoreUnreachable(
                f"Store {self._url} cannot be reached: it is asked too often ({reason}); try again later, or have "
                "fewer programs read from it at a time."
            )
        if status == HTTPStatus.REQUEST_TIMEOUT or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return self._unreachable(f"it answered {reason}")
        thing = f"Blob {blob} in {self._url}" if blob else f"Store {self._url}"
        return StoreError(f"{thing} was answered with {reason}; look the code up in Azure's list of error codes.")

    def from_exception(self, error: AzureError, blob: str) -> StoreError:
        """Turn an exception of the SDK into the one to raise, ``from None``: a traceback would show the SDK's text."""
        if isinstance(error, HttpResponseError) and error.response is not None:
            return self.from_response(error.status_code or 0, _headers(error), blob)
        if any(isinstance(cause, ClientAuthenticationError) for cause in causes(error)):
            return StoreRefused(f"Store {self._url} can't be opened: logging in with Entra ID failed; {self._remedy}.")
        foreign = next((cause for cause in causes(error) if isinstance(cause, ForeignAnswer)), None)
        if foreign is not None:
            return StoreUnreachable(
                f"Store {self._url} cannot be reached: something else answered in its place ({foreign.reason}); log in "
                "to the network, or check proxy settings and the endpoint."
            )
        return self._unreachable(self._network_reason(error))

    def _unreachable(self, reason: str) -> StoreUnreachable:
        return StoreUnreachable(
            f"Store {self._url} cannot be reached: {reason}; check the network, proxy settings and the account's name."
        )

    def _network_reason(self, error: AzureError) -> str:
        for cause in reversed(causes(error)):
            if isinstance(cause, ssl.SSLCertVerificationError):
                return f"its certificate is not trusted ({cause.verify_message}; REQUESTS_CA_BUNDLE names others)"
            if isinstance(cause, socket.gaierror):
                return f"its host name is unknown ({cause.strerror})"
            if isinstance(cause, TimeoutError | urllib3.exceptions.TimeoutError):
                return f"it did not answer within {self._timeout:g} s"
            # Requests' errors are OSErrors as well, with URLs in their texts.
            if isinstance(cause, OSError) and cause.strerror and not isinstance(cause, requests.RequestException):
                return cause.strerror
        return "the connection broke off"


def _headers(error: HttpResponseError) -> Mapping[str, str]:
    headers: Mapping[str, str] = getattr(error.response, "headers", {})
    return headers
