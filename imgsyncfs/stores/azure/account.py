"""Which account and container an ``azure://`` URL means, and what opens them. Nothing here asks the network."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential

from imgsyncfs.errors import ConfigurationError
from imgsyncfs.stores.azure.entra import LOG_IN, default_credential
from imgsyncfs.stores.urls import ContainerLocation, is_account

if TYPE_CHECKING:
    from imgsyncfs.stores.credentials import StoreCredentials

# What ``UseDevelopmentStorage=true`` stands for; name and key are published in "Use the Azurite emulator".
_EMULATOR = {
    "accountname": "devstoreaccount1",
    "accountkey": "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
    "blobendpoint": "http://127.0.0.1:10000/devstoreaccount1",
}


@dataclass(frozen=True, slots=True)
class Account:
    """How to reach and open a storage account.

    Attributes:
        endpoint: the Blob service's URL, without a ``/`` at its end.
        credential: what the SDK takes: an account key, a SAS or Entra ID.
        remedy: what to do when it is refused.
    """

    endpoint: str
    credential: Any = field(repr=False)
    remedy: str


def find_account(location: ContainerLocation, credentials: StoreCredentials, *, timeout: float) -> Account:
    """Choose the first credential given, and the endpoint that goes with it.

    Args:
        location: whose account it is.
        credentials: connection string, account key, SAS token, in this order; with none of them Entra ID is asked.
        timeout: how long log-in by another program (``az``) may take, in seconds.

    Raises:
        ConfigurationError: a credential is malformed or another account's, or the package for Entra ID is missing.
    """
    endpoint = credentials.endpoint
    key, sas_token, variable = credentials.account_key, credentials.sas_token, "AZURE_STORAGE_KEY"
    if credentials.connection_string:
        variable = "AZURE_STORAGE_CONNECTION_STRING"
        fields = _parse_connection_string(credentials.connection_string)
        endpoint = endpoint or _endpoint_in(fields)
        key, sas_token = fields.get("accountkey"), fields.get("sharedaccesssignature")
        _check_same_account(location, fields, endpoint)
        if not key and not sas_token:
            raise ConfigurationError(
                "The connection string holds neither AccountKey nor SharedAccessSignature; copy it anew from the "
                f"storage account's page 'Access keys' into {variable}."
            )
    endpoint = _checked_endpoint(endpoint or f"https://{location.account}.blob.core.windows.net")
    if key:
        _check_key(key, variable)
        remedy = f"check {variable}, and this computer's clock"
        return Account(endpoint, AzureNamedKeyCredential(location.account, key), remedy)
    if sas_token:
        if variable != "AZURE_STORAGE_CONNECTION_STRING":
            variable = "AZURE_STORAGE_SAS_TOKEN"
        remedy = f"check {variable}: the SAS may have ended, or may not allow this"
        return Account(endpoint, AzureSasCredential(sas_token.strip()), remedy)
    return _entra_account(endpoint, timeout=timeout)


def _parse_connection_string(text: str) -> dict[str, str]:
    """Read ``Name=value;…`` into a mapping with lower-case names ("Configure Azure Storage connection strings")."""
    fields = {}
    for pair in filter(None, text.strip().split(";")):
        name, equals, value = pair.partition("=")
        if not equals:
            raise ConfigurationError(
                "The connection string is malformed: a part has no '='; copy it anew into "
                "AZURE_STORAGE_CONNECTION_STRING, in quotes because of its semicolons."
            )
        fields[name.strip().lower()] = value.strip()
    return _EMULATOR if fields.get("usedevelopmentstorage", "").lower() == "true" else fields


def _endpoint_in(fields: dict[str, str]) -> str | None:
    if fields.get("blobendpoint"):
        return fields["blobendpoint"]
    if not fields.get("accountname"):
        return None
    protocol, suffix = fields.get("defaultendpointsprotocol", "https"), fields.get("endpointsuffix", "core.windows.net")
    return f"{protocol}://{fields['accountname']}.blob.{suffix}"


def _check_same_account(location: ContainerLocation, fields: dict[str, str], endpoint: str | None) -> None:
    host = (_parts(endpoint or "") or urlsplit("")).hostname or ""
    # A connection string with a SAS names its account in the endpoint alone.
    named = fields.get("accountname") or (host.partition(".")[0] if ".blob." in host else location.account)
    if named != location.account:
        # Where a semicolon is missing, what stands for the name may hold the key.
        shown = f"'{named}'" if is_account(named) else "another"
        raise ConfigurationError(
            f"Store {location.url} is in the account '{location.account}', but the connection string is for {shown}; "
            "correct the one or the other."
        )


def _parts(url: str) -> SplitResult | None:
    """The parts of a URL; None if it is none."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts


def _checked_endpoint(endpoint: str) -> str:
    parts = _parts(endpoint)
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.username:
        raise ConfigurationError(
            "The endpoint of the Azure store is no plain URL; write one like https://ACCOUNT.blob.core.windows.net."
        )
    return endpoint.rstrip("/")


def _check_key(key: str, variable: str) -> None:
    try:
        base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        # Without the cause: its text could hold the key.
        raise ConfigurationError(
            f"The account key is no base64 text; copy it anew from the storage account into {variable}."
        ) from None


def _entra_account(endpoint: str, *, timeout: float) -> Account:
    variables = "AZURE_STORAGE_CONNECTION_STRING, AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN"
    credential = default_credential(
        timeout=timeout,
        lacking=f"No key for the Azure store is set, and logging in with Entra ID needs a package; set {variables}, or "
        "run pip install 'imgsyncfs[azure-identity]'.",
    )
    if urlsplit(endpoint).scheme != "https":
        raise ConfigurationError(
            f"No key for the Azure store is set, and Entra ID works with https:// alone; set {variables}."
        )
    remedy = f"{LOG_IN}, with a role such as Storage Blob Data Reader; or set {variables}"
    return Account(endpoint, credential, remedy)
