"""The ODBC driver for a catalog, and its connection string.

Drivers read braces in different ways, as trials show: Microsoft's and FreeTDS take ``{…}`` off every value, in which
Microsoft's alone reads ``}}`` as one; psqlODBC takes them off the password alone (a braced user name is looked up with
its braces), SQLite's off none.
"""

from __future__ import annotations

import importlib.util
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from imgsyncfs.catalog.url import AUTH_OPTION, OdbcUrl, ServerUrl
from imgsyncfs.errors import ConfigurationError

POSTGRESQL_DRIVERS = ("PostgreSQL Unicode", "PostgreSQL Unicode(x64)", "PostgreSQL")
SQL_SERVER_DRIVERS = ("ODBC Driver 18 for SQL Server", "ODBC Driver 17 for SQL Server")
FREETDS_DRIVER = "FreeTDS"
DRIVER_OPTION = "driver"
"""Of a URL, which names the driver to be taken for an SQL Server."""

INSTALL_POSTGRESQL = "install it with: apt install odbc-postgresql"
INSTALL_SQL_SERVER = "install it with: pip install 'imgsyncfs[mssql]', or Microsoft's package msodbcsql18"

_POSTGRESQL_DEFAULTS = {
    "SSLmode": "prefer",  # as psql does; the driver's own default is no encryption at all
    # Rows come in portions; the driver would else keep the whole answer in memory.
    "UseDeclareFetch": "1",
    "Fetch": "2000",
    # No savepoint around each statement: a failed one ends the transaction anyway.
    "Protocol": "7.4-1",
}
_SQL_SERVER_DEFAULTS = {"Encrypt": "yes", "TrustServerCertificate": "no", "APP": "imgsyncfs"}
_FREETDS_DEFAULTS = {"TDS_Version": "7.4", "Encryption": "require", "ClientCharset": "UTF-8", "APP": "imgsyncfs"}

_DISTRIBUTION_FOLDERS = {
    "debian": "debian_ubuntu",
    "ubuntu": "debian_ubuntu",
    "rhel": "rhel",
    "fedora": "rhel",
    "suse": "suse",
    "sles": "suse",
    "opensuse": "suse",
    "alpine": "alpine",
}
_MACHINE_FOLDERS = {"aarch64": "arm64", "amd64": "x86_64"}


def connection_string(
    url: ServerUrl | OdbcUrl,
    password: str | None,
    *,
    timeout: float,
    create: bool,
    installed: Sequence[str],
    packaged: Path | None = None,
) -> str:
    """Write the connection string for a catalog.

    Args:
        url: where the catalog is.
        password: for its user, if one is needed.
        timeout: seconds to wait for a lock, for drivers that take it here.
        create: whether a missing SQLite file is made.
        installed: names of the ODBC drivers there are.
        packaged: see `packaged_sql_server_driver`.

    Returns:
        The connection string. It holds the password: for the driver, and nobody else.

    Raises:
        ConfigurationError: no driver is installed, or a value cannot be said to the driver.
    """
    if isinstance(url, OdbcUrl):
        return _odbc(url, password, timeout=timeout, create=create)
    if url.scheme == "postgresql":
        return _postgresql(url, password, find_postgresql_driver(installed))
    named = next((value for key, value in url.options if key.lower() == DRIVER_OPTION), None)
    return _sql_server(url, password, named or find_sql_server_driver(installed, packaged))


def leaves_certificates_unchecked(connection_string: str) -> bool:
    """Whether the driver takes any certificate of a server, as FreeTDS does of one that its own files do not name."""
    return connection_string.startswith(f"DRIVER={_braced(FREETDS_DRIVER)};")


def find_postgresql_driver(installed: Sequence[str]) -> str:
    """Choose the driver for PostgreSQL.

    Args:
        installed: names of the ODBC drivers there are.

    Raises:
        ConfigurationError: none of them is for PostgreSQL; says what to install.
    """
    for driver in POSTGRESQL_DRIVERS:
        if driver in installed:
            return driver
    raise ConfigurationError(f"There is no ODBC driver for PostgreSQL on this machine; {INSTALL_POSTGRESQL}.")


def find_sql_server_driver(installed: Sequence[str], packaged: Path | None) -> str:
    """Choose the driver for SQL Server: Microsoft's, installed or from its Python package, before FreeTDS.

    Args:
        installed: names of the ODBC drivers there are.
        packaged: the library in the package mssql-python-odbc, if that is there.

    Returns:
        A driver's name, or the library's path.

    Raises:
        ConfigurationError: there is none; says what to install.
    """
    for driver in SQL_SERVER_DRIVERS:
        if driver in installed:
            return driver
    if packaged is not None:
        return str(packaged)
    if FREETDS_DRIVER in installed:
        return FREETDS_DRIVER
    raise ConfigurationError(f"There is no ODBC driver for SQL Server on this machine; {INSTALL_SQL_SERVER}.")


def packaged_sql_server_driver() -> Path | None:
    """Find Microsoft's driver in the package mssql-python-odbc; None without it, or if it is not for this machine."""
    package = importlib.util.find_spec("mssql_python_odbc")
    if package is None or not package.origin:
        return None
    libraries = Path(package.origin).parent / "libs"
    if platform.system() == "Darwin":
        return library_in(libraries / "macos", [], platform.machine())
    try:
        release: Mapping[str, str] = platform.freedesktop_os_release()
    except OSError:
        release = {}
    distributions = [release.get("ID", ""), *release.get("ID_LIKE", "").split()]
    return library_in(libraries / "linux", distributions, platform.machine())


def library_in(libraries: Path, distributions: Iterable[str], machine: str) -> Path | None:
    """Find the driver's library for a machine.

    Args:
        libraries: a folder with ``<distribution>/<machine>/lib/libmsodbcsql*`` in it, or ``<machine>/lib/…``.
        distributions: ids of the machine's distribution and of those it is like, the nearest first, as in
            os-release(5).
        machine: as ``uname -m`` says it.

    Returns:
        The newest library for the first distribution that has one; for an unknown one Debian's.
    """
    names = [_DISTRIBUTION_FOLDERS.get(name.partition("-")[0], "") for name in distributions]
    folders = list(dict.fromkeys(name for name in names if name)) or ["debian_ubuntu", "."]
    for folder in folders:
        for machine_folder in dict.fromkeys((machine, _MACHINE_FOLDERS.get(machine, machine))):
            found = [
                path
                for path in (libraries / folder / machine_folder / "lib").glob("libmsodbcsql*")
                if ".so" in path.name or path.suffix == ".dylib"
            ]
            if found:
                return max(found)
    return None


def _postgresql(url: ServerUrl, password: str | None, driver: str) -> str:
    attributes = {
        "DRIVER": _braced(driver),
        "SERVER": _plain("server", url.host),
        "PORT": str(url.port or 5432),
        "DATABASE": _plain("database", url.database),
    }
    if url.user:
        attributes["UID"] = _plain("user", url.user)
    if password:
        attributes["PWD"] = _braced(password)
    return _joined(attributes, _POSTGRESQL_DEFAULTS, {key: _plain(key, value) for key, value in url.options})


def _sql_server(url: ServerUrl, password: str | None, driver: str) -> str:
    freetds = driver == FREETDS_DRIVER
    braced = _freetds_braced if freetds else _braced
    host = _plain("server", url.host)
    attributes = {"DRIVER": driver if driver.startswith("/") else _braced(driver)}
    if freetds:
        attributes |= {"SERVER": host, "PORT": str(url.port or 1433)}
    else:
        attributes["SERVER"] = f"{host},{url.port}" if url.port else host
    attributes["DATABASE"] = braced(url.database)
    if url.user:
        attributes["UID"] = braced(url.user)
        if password:
            attributes["PWD"] = braced(password)
    elif not any(key.lower() in {"authentication", AUTH_OPTION} for key, _ in url.options):
        attributes["Trusted_Connection"] = "yes"
    if freetds and url.uses_entra:
        raise ConfigurationError(
            "FreeTDS cannot log in with Entra ID (auth=entra); use Microsoft's driver: pip install 'imgsyncfs[mssql]'"
        )
    ours = {DRIVER_OPTION, AUTH_OPTION}
    options = {_plain("option", key): braced(value) for key, value in url.options if key.lower() not in ours}
    return _joined(attributes, _FREETDS_DEFAULTS if freetds else _SQL_SERVER_DEFAULTS, options)


def _odbc(url: OdbcUrl, password: str | None, *, timeout: float, create: bool) -> str:
    driver = (url.value("driver") or "").lower()
    defaults: dict[str, str] = {}
    if "sqlite" in driver:
        # In milliseconds; it was seen to wait twice as long as it is told to.
        defaults = {"StepAPI": "1", "Timeout": str(int(timeout * 500))} | ({} if create else {"NoCreat": "1"})
    elif "postgresql" in driver or "psqlodbc" in driver:
        defaults = _POSTGRESQL_DEFAULTS
    secret = {"PWD": _braced(password)} if password else {}
    return _joined(dict(url.attributes), defaults, secret)


def _joined(attributes: Mapping[str, str], defaults: Mapping[str, str], options: Mapping[str, str]) -> str:
    """Join attributes; an option takes the place of a default, and what is given that of both, whatever its case."""
    given = {key.lower() for key in (*attributes, *options)}
    kept = {key: value for key, value in defaults.items() if key.lower() not in given}
    return "".join(f"{key}={value};" for key, value in (*attributes.items(), *kept.items(), *options.items()))


def _braced(value: str) -> str:
    """A value that ends where it ends, whatever it holds."""
    return "{" + value.replace("}", "}}") + "}"


def _freetds_braced(value: str) -> str:
    """The same for FreeTDS, which reads up to the first ``};`` and undoubles nothing.

    Raises:
        ConfigurationError: it would be read as something else.
    """
    if "};" in value:
        raise ConfigurationError(
            "FreeTDS takes no value with '};' in it, as one for this catalog has, or its password; use another one, or "
            "Microsoft's driver: pip install 'imgsyncfs[mssql]'"
        )
    return "{" + value + "}"


def _plain(what: str, value: str) -> str:
    """A value for a driver that does not take off braces.

    Raises:
        ConfigurationError: it would be read as something else.
    """
    if ";" in value or value.startswith("{") or "\0" in value:
        raise ConfigurationError(
            f"The catalog URL's {what} holds a ';' or begins with '{{'; this driver takes neither."
        )
    return value
