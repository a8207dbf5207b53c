"""Open a store by its URL."""

from __future__ import annotations

from imgsyncfs.stores.contract import Store
from imgsyncfs.stores.credentials import StoreCredentials
from imgsyncfs.stores.local import LocalStore
from imgsyncfs.stores.urls import unknown_kind

DEFAULT_TIMEOUT = 30.0


def open_store(
    url: str, *, credentials: StoreCredentials | None = None, timeout: float = DEFAULT_TIMEOUT, within: str = ""
) -> Store:
    """Open a store without asking it anything: `Store.check` does that.

    Args:
        url: ``file:///path`` or ``azure://ACCOUNT/CONTAINER[/PREFIX]``; blob names are relative to the prefix.
        credentials: what opens an Azure container; a local folder needs none.
        timeout: how long one call may take, in seconds, retries included. In `Store.list` it bounds each page, in
            `Store.write` each request: a large blob is uploaded in several.
        within: URL of a store above this one; no link in a local store's path may lead out of that. Empty if there is
            none: then the path is followed wherever it leads.

    Returns:
        The store; it may be used by many threads at once.

    Raises:
        ConfigurationError: the URL or the credentials make no sense, or a package is missing.
    """
    scheme = url.partition(":")[0].lower()
    if scheme == "file":
        return LocalStore(url, within=within)
    if scheme == "azure":
        # Late: the Azure SDK takes half a second to import, and most commands never need it.
        from imgsyncfs.stores.azure.store import AzureStore

        return AzureStore(url, credentials=credentials or StoreCredentials(), timeout=timeout)
    raise unknown_kind(url)
