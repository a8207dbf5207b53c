"""What opens a store in the cloud, and where it comes from: the config file's section for it, or the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from imgsyncfs.errors import ConfigurationError

_STORE_VARIABLES = {
    "connection_string": "AZURE_STORAGE_CONNECTION_STRING",
    "account_key": "AZURE_STORAGE_KEY",
    "sas_token": "AZURE_STORAGE_SAS_TOKEN",
    "endpoint": "IMGSYNCFS_AZURE_ENDPOINT",
}


ENVIRONMENT = "environment:"
"""Stands for what the environment has, among the config file's sections, where processes are given both."""


@dataclass(frozen=True, slots=True)
class StoreCredentials:
    """What opens a store in the cloud. The first one given counts, in the order of the attributes.

    With none of the first three, Entra ID is asked (package ``azure-identity``). A ``repr`` shows none of them.

    Attributes:
        connection_string: an Azure Storage connection string.
        account_key: the storage account's key, in base64.
        sas_token: a shared access signature, with or without the leading ``?``.
        endpoint: the Blob service's URL where it is not ``https://ACCOUNT.blob.core.windows.net``.
    """

    connection_string: str | None = field(default=None, repr=False)
    account_key: str | None = field(default=None, repr=False)
    sas_token: str | None = field(default=None, repr=False)
    endpoint: str | None = field(default=None, repr=False)


def store_credentials(
    url: str, stores: Mapping[str, Mapping[str, str]], *, environment: Mapping[str, str] = os.environ
) -> StoreCredentials:
    """Find the credentials of a store.

    Args:
        url: the store's URL; a section for a shorter URL (its account, or a folder above) serves as well.
        stores: the config file's section, and what the environment of another process has (`ENVIRONMENT`).
        environment: the usual variables of Azure's own tools.

    Raises:
        ConfigurationError: a section has an unknown key.
    """
    sections = [section for section in stores if url == section or url.startswith(section.rstrip("/") + "/")]
    values = dict(stores[max(sections, key=len)]) if sections else {}
    unknown = values.keys() - _STORE_VARIABLES.keys()
    if unknown:
        raise ConfigurationError(
            f"The config file's section for {url} has the unknown key {min(unknown)!r}; known are "
            f"{', '.join(_STORE_VARIABLES)}."
        )
    # A section says whose key it is; the environment's key would open another account.
    return StoreCredentials(**(values or stores.get(ENVIRONMENT) or environment_section(environment)))


def environment_section(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What the environment has for stores without a section of their own, by the keys of a section."""
    return {name: environment[variable] for name, variable in _STORE_VARIABLES.items() if environment.get(variable)}
