"""Whether anything listens where a server should be, asked before its driver is.

Microsoft's driver says "Login timeout expired" of a host that does not exist and of a port that refuses, after all the
time that it was given.
"""

from __future__ import annotations

import socket
import time

from imgsyncfs.catalog.url import ServerUrl
from imgsyncfs.errors import CatalogUnreachable

PORTS = {"postgresql": 5432, "mssql": 1433}

_ELSEWHERE = frozenset({"failover_partner", "pqopt"})
"""Options that may name other servers."""

LEAST_SECONDS = 0.1
"""For each address of a host, however many there are."""


def check_listening(url: ServerUrl, seconds: float) -> None:
    """Make sure that something listens at a server's address.

    Args:
        url: where the server is. An instance that has a name instead of a port, a socket in a folder, and several
            servers of which one may be away are left to the driver.
        seconds: how long to try.

    Raises:
        CatalogUnreachable: the host is unknown, or none of its addresses is listened at.
    """
    if any(mark in url.host for mark in "\\/(,") or _ELSEWHERE.intersection(key.lower() for key, _ in url.options):
        return
    port = url.port or PORTS[url.scheme]
    deadline = time.monotonic() + seconds
    try:
        found = socket.getaddrinfo(url.host.removeprefix("tcp:").strip("[]"), port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no name of a host"
        raise CatalogUnreachable(
            f"The catalog {url.identity} cannot be used: the host {url.host} is not found ({reason}); correct the "
            "catalog URL, or check the network."
        ) from None
    reason = "it has no address"
    for place, (family, kind, protocol, _, address) in enumerate(found):
        with socket.socket(family, kind, protocol) as probe:
            # One that drops packets must not take the time of those behind it.
            probe.settimeout(max(LEAST_SECONDS, (deadline - time.monotonic()) / (len(found) - place)))
            try:
                probe.connect(address)
            except OSError as error:
                reason = error.strerror or "it does not answer in time"
            else:
                return
    raise CatalogUnreachable(
        f"The catalog {url.identity} cannot be used: nothing answers at port {port} of {url.host} ({reason}); check "
        "that the server runs, its port in the catalog URL, and firewalls in between."
    )
