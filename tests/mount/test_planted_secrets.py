"""Passwords, keys and signatures that are planted are looked for wherever they could have got to."""

from __future__ import annotations

import base64
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import quote

import pytest
from azure.storage.blob import ContainerSasPermissions, generate_container_sas
from support.http_proxy import Fault, HttpProxy
from support.mounting import Workplace, eventually, local_workplace, mount_status, process_ids, write_folder
from support.services import Azurite, Container, Database

DATASET = "original_20260105_rgb_rbbox"
OTHER = "original_20260106_rgb_rbbox"

REFUSED = Fault(status=403, headers={"x-ms-error-code": "AuthenticationFailed"})
"""The store's own answer; without the header it is a proxy's."""


def spellings(secret: str) -> set[bytes]:
    """How a secret may stand somewhere: as it is, as in a URL, as in a string of ODBC, and in base64."""
    plain = {secret, quote(secret, safe=""), secret.replace("}", "}}")}
    return {each.encode() for each in plain} | {base64.b64encode(secret.encode())}


@dataclass
class Search:
    """Looks for secrets, and counts where it has looked.

    Attributes:
        secrets: what must be nowhere.
        places: how many were searched.
        found: in which of them there was one.
    """

    secrets: set[bytes]
    places: int = 0
    found: tuple[str, ...] = ()

    def look(self, place: str, content: bytes) -> None:
        self.places += 1
        if any(secret in content for secret in self.secrets):
            self.found += (place,)

    def look_below(self, folder: Path, *, but: frozenset[Path] = frozenset()) -> None:
        """Look into each file's content and name."""
        for root, _, names in os.walk(folder):
            for path in (Path(root, name) for name in names):
                if path not in but and path.is_file():
                    self.look(str(path), os.fsencode(path) + path.read_bytes())

    def look_at_commands(self) -> None:
        """Look at the arguments of all processes."""
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                self.look(str(path), path.read_bytes())
            except OSError:
                continue  # it has ended


@dataclass(frozen=True)
class Planted:
    """A workplace and the secrets that it is given; its configuration is in files that are not searched."""

    workplace: Workplace
    secrets: frozenset[str]
    config: Path
    proxy: HttpProxy

    def search(self) -> Search:
        return Search(set().union(*map(spellings, self.secrets)))


@pytest.fixture(params=["environment", "signature"])
def planted(
    request: pytest.FixtureRequest, postgresql_database: Database, container: Container, tmp_path: Path
) -> Iterator[Planted]:
    """A catalog with a password, and a store with a connection string or a shared access signature."""
    azurite, config = container.azurite, tmp_path / "secret.toml"
    with HttpProxy(azurite.port) as proxy:
        endpoint = azurite.endpoint.replace(f":{azurite.port}", f":{proxy.port}")
        secrets = {postgresql_database.password}
        if request.param == "environment":
            connection = azurite.connection_string_through(proxy.port)
            environment = {**postgresql_database.environment, "AZURE_STORAGE_CONNECTION_STRING": connection}
            config.write_text("")
            secrets |= {azurite.key, connection}
        else:
            signature = signature_of(azurite, container.name)
            secrets |= {signature, signature.partition("sig=")[2].partition("&")[0]}
            environment = {"IMGSYNCFS_CONFIG": str(config)}
            config.write_text(
                f'password = "{postgresql_database.password}"\n[stores."{container.url}"]\n'
                f'sas_token = "{signature}"\nendpoint = "{endpoint}"\n'
            )
        config.chmod(0o600)
        workplace = Workplace(postgresql_database.url, tmp_path, {**environment, "IMGSYNCFS_CONFIG": str(config)})
        yield Planted(workplace, frozenset(secrets), config, proxy)


def signature_of(azurite: Azurite, container: str) -> str:
    """A shared access signature for all that a publisher does in a container."""
    permission = ContainerSasPermissions(read=True, write=True, list=True, create=True, add=True, delete=True)
    expiry = datetime.now(timezone.utc) + timedelta(hours=1)
    signature: str = generate_container_sas(
        azurite.account, container, account_key=azurite.key, permission=permission, expiry=expiry
    )
    return signature


def test_no_secret_is_in_an_argument_a_log_a_control_file_a_copy_or_the_cache(
    planted: Planted, container: Container, tmp_path: Path
) -> None:
    workplace, search = planted.workplace, planted.search()

    def run(*arguments: str | Path, status: int | None = 0) -> None:
        done = workplace.run(*arguments, status=status)
        search.look(str(arguments), (done.stdout + done.stderr).encode())

    run("init", "--store", container.url)
    run("-v", "publish", write_folder(tmp_path / "one", count=4), "--name", DATASET, "--loose")
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    run("-v", "mount", mountpoint, "--refresh", "0.3", "--timeout", "3")
    try:
        # The log says the most that it can.
        os.kill(mount_status(mountpoint)["process_id"], signal.SIGUSR1)
        (mountpoint / DATASET / "img_00000.jpg").read_bytes()
        list((mountpoint / ".views" / "coco" / DATASET).iterdir())
        run("prefetch", DATASET, "--annotations")
        run("sync", tmp_path / "copy", DATASET)
        run("publish", write_folder(tmp_path / "two", count=1), "--name", OTHER)
        search.look_at_commands()
        for fault in (
            REFUSED,
            Fault(status=403),
            Fault(status=404),
            Fault(status=500),
            Fault(cut_after=10),
            Fault(hold=True),
        ):
            with planted.proxy.fault(fault), pytest.raises(OSError, match="Errno"):
                (mountpoint / OTHER / "img_00000.jpg").read_bytes()
        with planted.proxy.fault(REFUSED):
            for command in (("prefetch", OTHER), ("sync", tmp_path / "copy", OTHER), ("pin", OTHER)):
                run(*command, status=None)
        assert (mountpoint / ".imgsyncfs" / "errors.log").read_text().count("\n") > 1
        run("status", mountpoint)
        run("status", mountpoint, "--json")
        run("status", mountpoint, "--prometheus")
        search.look_below(mountpoint)
        search.look_below(mountpoint / ".imgsyncfs")
    finally:
        run("umount", mountpoint)
    assert "waited" in workplace.log()
    search.look_below(tmp_path, but=frozenset({planted.config}))
    print(f"{search.places} places searched")  # pytest -s shows it
    assert not search.found
    assert search.places > 80
    # What it was given is found where it is.
    search.look("environment", str(workplace.environment).encode() + planted.config.read_bytes())
    assert [*search.found] == ["environment"]


COMMANDS = (
    ("datasets",),
    ("init", "--store", "STORE"),
    ("publish", "FOLDER", "--name", DATASET),
    ("index", "STORE", "--name", DATASET),
    ("split", DATASET),
    ("subscribe", "mine", DATASET),
    ("subscriptions",),
    ("select", "chosen", "--first", "1"),
    ("selections",),
    ("sync", "COPY", DATASET),
    ("query", "SELECT count(*) FROM datasets"),
    ("mount", "MOUNTPOINT", "--timeout", "1"),
    ("prefetch", DATASET, "--timeout", "1"),
    ("pin", DATASET),
)
"""All that speak to a catalog or a store."""


def complaints(workplace: Workplace, store: str, *, commands: tuple[str, ...] = ()) -> list[str]:
    """Run commands, or some of them, that all must fail; return what each says."""
    folder = workplace.folder
    (folder / "mnt").mkdir(exist_ok=True)
    words: dict[str, str | Path] = {
        "STORE": store,
        "FOLDER": write_folder(folder / "to_publish", count=1),
        "COPY": folder / "copy",
        "MOUNTPOINT": folder / "mnt",
    }
    said = []
    for command, *arguments in COMMANDS:
        if not commands or command in commands:
            done = workplace.run("-v", command, *(words.get(each, each) for each in arguments), status=None)
            assert done.returncode != 0, command
            said.append(f"{command}: {done.stdout}{done.stderr}")
    return said


def check_nothing_is_told(said: list[str], workplace: Workplace, *secrets: str) -> None:
    """No secret is in what commands say, nor in any file, and they end with a sentence."""
    search = Search(set().union(*map(spellings, secrets)))
    for each in said:
        search.look(each, each.encode())
        assert "Traceback" not in each
    search.look_below(workplace.folder, but=frozenset({workplace.folder / "secret.toml"}))
    assert search.found == ()


def test_no_command_tells_a_password_that_is_wrong(postgresql_database: Database, tmp_path: Path) -> None:
    secret = "hunter2;x}&%41"
    workplace = Workplace(postgresql_database.url, tmp_path, {"IMGSYNCFS_PASSWORD": secret})
    said = complaints(workplace, f"file://{tmp_path}/store")
    check_nothing_is_told(said, workplace, secret)
    assert sum("IMGSYNCFS_PASSWORD" in each for each in said) == len(COMMANDS)


def test_no_command_tells_the_password_of_a_server_that_is_away(tmp_path: Path) -> None:
    secret = "hunter2;x}&%41"
    workplace = Workplace("postgresql://reader@127.0.0.1:9/datasets", tmp_path, {"IMGSYNCFS_PASSWORD": secret})
    said = complaints(workplace, f"file://{tmp_path}/store")
    check_nothing_is_told(said, workplace, secret)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://reader:SECRET@127.0.0.1:9/d",
        "postgresql:/reader:SECRET@127.0.0.1:9/d",
        "postgres+x://reader:SECRET@127.0.0.1:9/d",
        "odbc:Driver=x;Pwd=SECRET",
        "odbc:Driver={x;Pwd=SECRET",
        "reader:SECRET@127.0.0.1/d",
        "/nowhere/catalog.db?password=SECRET",
    ],
)
def test_no_command_repeats_a_catalog_url_that_holds_a_password(tmp_path: Path, url: str) -> None:
    workplace = Workplace(url, tmp_path)
    check_nothing_is_told(complaints(workplace, f"file://{tmp_path}/store"), workplace, "SECRET")


WRONG_KEY = base64.b64encode(b"no key of this account, whoever made it").decode()
WRONG_SIGNATURE = "sv=2021-08-06&se=2099-01-01T00%3A00%3A00Z&sr=c&sp=racwdl&sig=dGVsbC1ub2JvZHktNDcxMQ%3D%3D"


@pytest.mark.parametrize("way", ["wrong key", "wrong signature", "no key", "no string", "away"])
def test_no_command_tells_what_a_store_refuses(container: Container, tmp_path: Path, way: str) -> None:
    azurite = container.azurite
    right = Workplace(str(tmp_path / "catalog.db"), tmp_path, container.environment)
    right.run("init", "--store", container.url)
    right.run("publish", write_folder(tmp_path / "one", count=1), "--name", DATASET)
    other = {"IMGSYNCFS_AZURE_ENDPOINT": azurite.endpoint}
    with HttpProxy(azurite.port) as proxy:
        away = azurite.connection_string_through(proxy.port)
        proxy.stop()
        environment, *secrets = {
            "wrong key": ({**other, "AZURE_STORAGE_KEY": WRONG_KEY}, WRONG_KEY),
            "wrong signature": ({**other, "AZURE_STORAGE_SAS_TOKEN": WRONG_SIGNATURE}, WRONG_SIGNATURE, "dGVsbC1ub2J"),
            "no key": ({**other, "AZURE_STORAGE_KEY": "tell-nobody!"}, "tell-nobody"),
            "no string": ({"AZURE_STORAGE_CONNECTION_STRING": "AccountKeytell-nobody"}, "tell-nobody"),
            "away": ({"AZURE_STORAGE_CONNECTION_STRING": away}, azurite.key),
        }[way]
        workplace = Workplace(right.catalog, tmp_path, environment)  # type: ignore[arg-type]  # the first is no text
        commands = ("prefetch",) if way == "away" else ("publish", "index", "sync", "mount", "prefetch")
        said = complaints(workplace, container.url, commands=commands)
    check_nothing_is_told(said, workplace, *map(str, secrets))


def test_a_mount_that_crashes_leaves_no_core_file_with_what_it_holds_in_memory(tmp_path: Path) -> None:
    workplace = local_workplace(tmp_path)
    workplace.run("publish", write_folder(tmp_path / "one", count=1), "--name", DATASET)
    # As system services have it.
    with workplace.mounted(under=("prlimit", "--core=unlimited")) as mountpoint:
        (mountpoint / DATASET / "img_00000.jpg").read_bytes()
        for process in process_ids(mountpoint):
            [line] = (
                line for line in Path(f"/proc/{process}/limits").read_text().splitlines() if line.startswith("Max core")
            )
            assert line.split()[4] == "0"
        before = set(Path("/").glob("core*"))
        victim = process_ids(mountpoint)[1]
        os.kill(victim, signal.SIGSEGV)
        assert eventually(lambda: not Path(f"/proc/{victim}").exists())
        assert set(Path("/").glob("core*")) == before
        assert (mountpoint / DATASET / "img_00000.json").read_bytes()
