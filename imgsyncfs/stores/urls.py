"""Which place the URL of a store names.

Imports nothing of what opens stores: a mount's coordinator looks at URLs, and its workers open them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote_to_bytes

from imgsyncfs.errors import ConfigurationError
from imgsyncfs.stores.contract import blob_name_fault

# "Naming and Referencing Containers, Blobs, and Metadata" and "Storage account overview", Azure's documentation.
_ACCOUNT = re.compile(r"[a-z0-9]{3,24}")
_CONTAINER = re.compile(r"\$root|\$web|\$logs|(?!.*--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")


@dataclass(frozen=True, slots=True)
class ContainerLocation:
    """What an ``azure://`` URL names.

    Attributes:
        account: the storage account.
        container: the container in it.
        prefix: what every blob's name starts with there, with a ``/`` at its end; empty means the whole container.
    """

    account: str
    container: str
    prefix: str

    @property
    def url(self) -> str:
        """The URL in its plainest form."""
        return f"azure://{self.account}/{self.container}/{self.prefix}".rstrip("/")


def parse_file_url(url: str) -> Path:
    """The folder that ``file:///absolute/path`` names, percent-encoded where a path holds odd characters.

    Raises:
        ConfigurationError: it names no absolute path on this machine.
    """
    scheme, _, rest = url.partition(":")
    host, slash, path = rest.removeprefix("//").partition("/") if rest.startswith("//") else ("", "", "")
    if scheme.lower() != "file" or host not in {"", "localhost"} or not slash:
        raise ConfigurationError(f"Store URL {url!r} names no local folder; write file:///absolute/path.")
    if "\0" in url or "%00" in url:
        raise ConfigurationError(f"Store URL {url!r} holds a NUL character; write file:///absolute/path.")
    return Path("/" + os.fsdecode(unquote_to_bytes(os.fsencode(path))).lstrip("/"))


def parse_azure_account(url: str) -> str | None:
    """The account that ``azure://ACCOUNT`` names, which allows all its containers and is no store; None for others."""
    account, _, rest = url.partition(":")[2].removeprefix("//").partition("/")
    return account if not rest and is_account(account) else None


def is_account(name: str) -> bool:
    """Whether a storage account may have a name."""
    return _ACCOUNT.fullmatch(name) is not None


def unknown_kind(url: str) -> ConfigurationError:
    """What is to be raised for a URL that is neither ``file:`` nor ``azure:``."""
    if "://" in url:
        # Not the rest of it: keys and tokens may stand in URLs of other kinds.
        shown, meant = f"{url.partition(':')[0].lower()}://…", "file:///path or azure://ACCOUNT/CONTAINER[/PREFIX]"
    else:
        shown, meant = url, f"for a local folder {Path(url).absolute().as_uri()}"
    return ConfigurationError(f"Store URL {shown!r} is of no known kind; write {meant}.")


def parse_azure_url(url: str) -> ContainerLocation:
    """Take ``azure://ACCOUNT/CONTAINER[/PREFIX]`` apart.

    The prefix is taken as it stands: ``%20`` in it is three characters.

    Raises:
        ConfigurationError: a part is missing or impossible. The message shows nothing that could be a secret.
    """
    if "?" in url or "@" in url:
        raise ConfigurationError(
            "The store URL holds '?' or '@', which belong to keys and tokens; write azure://ACCOUNT/CONTAINER[/PREFIX] "
            "and put a SAS token into AZURE_STORAGE_SAS_TOKEN."
        )
    account, _, rest = url.partition(":")[2].removeprefix("//").partition("/")
    container, _, prefix = rest.partition("/")
    prefix = prefix.strip("/")
    if not is_account(account):
        raise ConfigurationError(
            f"Store URL {url!r} names no storage account: that is 3 to 24 lower-case letters and digits; write "
            "azure://ACCOUNT/CONTAINER[/PREFIX]."
        )
    if not _CONTAINER.fullmatch(container):
        raise ConfigurationError(
            f"Store URL {url!r} names no container: that is 3 to 63 lower-case letters, digits and single hyphens; "
            "write azure://ACCOUNT/CONTAINER[/PREFIX]."
        )
    fault = blob_name_fault(prefix) if prefix else None
    if fault:
        raise ConfigurationError(f"Store URL {url!r} has an impossible prefix: {fault}; choose another.")
    return ContainerLocation(account, container, f"{prefix}/" if prefix else "")


def store_modules(urls: Iterable[str]) -> list[str]:
    """The modules that are imported late when stores are opened, and may be imported ahead.

    Args:
        urls: of stores.
    """
    schemes = {url.partition(":")[0].lower() for url in urls}
    return ["imgsyncfs.stores.azure.store"] if "azure" in schemes else []
