"""Azurite, the emulator of Azure blob storage, as one of the servers of ``scripts/services``.

It comes as an npm package, in a cache folder of the user, and not globally.
"""

from __future__ import annotations

import base64
import http.client
import os
import secrets
import shutil
import ssl
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server_process import Launch, ServiceError, locked, tell

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = "3.35.0"  # the last one that runs on Node.js 18, which is Debian 12's
ACCOUNT = "devstoreaccount1"
INSTALL_SECONDS = 900.0
ACCESS_LOG_VARIABLE = "IMGSYNCFS_AZURITE_ACCESS_LOG"
"""Set, the server's log has a line for every request, after its answer has been sent."""
NODE_FLAGS_VARIABLE = "IMGSYNCFS_AZURITE_NODE_FLAGS"
"""Flags for Node.js, of those that NODE_OPTIONS does not take; separated by spaces."""
CERTIFICATE_VARIABLE = "IMGSYNCFS_AZURITE_CERTIFICATE"
"""A file with a certificate for 127.0.0.1 and its key: the server then speaks TLS alone and takes Entra ID's tokens."""


def package_folder() -> Path:
    """Where the npm package is installed."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "imgsyncfs-services" / f"azurite-{VERSION}"


def program() -> Path:
    """The program in that package; it need not be there."""
    return package_folder() / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"


def install() -> None:
    """Installs the npm package if it is missing; its folder appears only when it is complete."""
    folder = package_folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.parent / "lock", seconds=INSTALL_SECONDS):
        if program().exists():
            return
        tell(f"==> npm install azurite@{VERSION}")
        with tempfile.TemporaryDirectory(prefix="azurite-", dir=folder.parent) as temporary:
            target = Path(temporary) / "package"
            target.mkdir()
            # No package that Azurite needs has to run a script of its own.
            options = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", f"--prefix={target}"]
            installed = subprocess.run(
                ["npm", "install", *options, f"azurite@{VERSION}"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=INSTALL_SECONDS,
                check=False,
            )
            if installed.returncode != 0:
                raise ServiceError(f"npm install azurite@{VERSION} failed: {installed.stderr.strip()}")
            target.rename(folder)


def describe(port: int) -> dict[str, Any]:
    """A new server: where it will be, and a key of its own, so that the emulator's well-known one is refused."""
    key = base64.b64encode(secrets.token_bytes(64)).decode()
    protocol = "https" if os.environ.get(CERTIFICATE_VARIABLE) else "http"
    endpoint = f"{protocol}://127.0.0.1:{port}/{ACCOUNT}"
    connection_string = (
        f"DefaultEndpointsProtocol={protocol};AccountName={ACCOUNT};AccountKey={key};BlobEndpoint={endpoint};"
    )
    return {
        "port": port,
        "account": ACCOUNT,
        "key": key,
        "endpoint": endpoint,
        "connection_string": connection_string,
    }


def exports(server: Mapping[str, Any]) -> dict[str, str]:
    """The environment variables with which imgsyncfs uses the server."""
    return {"AZURE_STORAGE_CONNECTION_STRING": server["connection_string"]}


def prepare(folder: Path, server: Mapping[str, Any]) -> Launch:
    """How the server starts; its content lies in ``folder/azurite``."""
    node = shutil.which("node")
    if node is None or not program().exists():
        missing = "Node.js" if node is None else f"Azurite {VERSION}"
        raise ServiceError(f"{missing} is not installed; run: scripts/services install")
    content = folder / "azurite"
    content.mkdir(mode=0o700, exist_ok=True)
    options = ["--disableTelemetry", "--skipApiVersionCheck"]
    if not os.environ.get(ACCESS_LOG_VARIABLE):
        options.append("--silent")
    if certificate := os.environ.get(CERTIFICATE_VARIABLE):
        options += ["--oauth", "basic", "--cert", certificate, "--key", certificate]
    flags = os.environ.get(NODE_FLAGS_VARIABLE, "").split()
    address = ["--blobHost", "127.0.0.1", "--blobPort", str(server["port"])]
    return Launch(
        command=[node, *flags, program(), *options, *address, "--location", content],
        log=folder / "azurite.log",
        answers=lambda: answers(server["port"]),
        environment={"AZURITE_ACCOUNTS": f"{server['account']}:{server['key']}"},
    )


def answers(port: int) -> bool:
    """Whether an HTTP server answers on the port; a request without a signature is answered too, by a refusal."""
    connection: http.client.HTTPConnection
    if os.environ.get(CERTIFICATE_VARIABLE):
        unverified = ssl._create_unverified_context()  # noqa: SLF001  # it is only asked whether it is there
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=1, context=unverified)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/")
        connection.getresponse()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True
