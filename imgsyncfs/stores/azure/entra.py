"""Logging in with Microsoft Entra ID, by the default chain of the package azure-identity.

The chain takes what it finds first: the variables of an application (``AZURE_CLIENT_ID`` …), workload identity,
managed identity, then who is logged in with ``az login`` and the like.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import Any

from imgsyncfs.errors import CatalogRefused, ConfigurationError

DATABASE_SCOPE = "https://database.windows.net/.default"
"""What a token is for that opens a database (Microsoft: "Using Microsoft Entra ID with the ODBC Driver")."""

LOG_IN = "run `az login`, or set AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_CLIENT_SECRET"


@dataclass(frozen=True)
class Token:
    """An access token.

    Attributes:
        text: what is sent.
        ends_at: until when it is taken, Unix seconds.
    """

    text: str = field(repr=False)
    ends_at: float


def default_credential(*, timeout: float, lacking: str) -> Any:
    """The credential of azure-identity's default chain; nobody is asked yet.

    Args:
        timeout: for the programs that it may run, in seconds.
        lacking: what to do without the package, the end of a sentence.

    Raises:
        ConfigurationError: the package is not installed.
    """
    try:
        # By name: the package is an extra, and takes another third of a second to import.
        identity = importlib.import_module("azure.identity")
    except ImportError:
        raise ConfigurationError(lacking) from None
    return identity.DefaultAzureCredential(process_timeout=max(1, int(timeout / 3)))


def database_token(where: str, *, timeout: float) -> Token:
    """Ask for a token that opens a database.

    Args:
        where: the catalog, as messages name it.
        timeout: for the programs that may be run for it, in seconds.

    Raises:
        CatalogRefused: nobody gives one.
        ConfigurationError: the package azure-identity is not installed.
    """
    credential = default_credential(
        timeout=timeout,
        lacking=f"The catalog {where} asks for Entra ID, which needs a package; run pip install "
        "'imgsyncfs[azure-identity]'.",
    )
    from azure.core.exceptions import AzureError

    try:
        with credential:
            token = credential.get_token(DATABASE_SCOPE)
    except AzureError as error:
        reason = " ".join(str(error).split())
        raise CatalogRefused(
            f"The catalog {where} cannot be used: Entra ID gives no token ({reason.rstrip('.')}); {LOG_IN}."
        ) from None
    return Token(token.token, float(token.expires_on))
