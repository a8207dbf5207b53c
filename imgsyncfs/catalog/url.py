"""Catalog URLs: what the text that names a catalog says, without connecting to anything.

===============================================  ==========================================================
``sqlite:///path/catalog.db``                    an SQLite file, by its absolute path
``sqlite:catalog.db``, ``catalog.db``            an SQLite file, seen from the working directory
``mssql://user@server[:port]/database?…``        SQL Server, Azure SQL
``postgresql://user@host[:port]/database?…``     PostgreSQL
``odbc:Driver=…;Server=…;Database=…``            anything that ODBC reaches, by its own connection string
===============================================  ==========================================================

What follows ``?`` is handed to the ODBC driver, for example ``?SSLmode=verify-full``, if it is known to be harmless;
percent-encoding holds in all parts of a server's URL, and in none of the other forms. No URL holds a password: it would
stand in the list of processes for everyone to read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from imgsyncfs.errors import ConfigurationError
from imgsyncfs.settings.values import expanded_path, is_utf8

FORMS = (
    "a path to an SQLite file, sqlite:///path, mssql://user@server/database, postgresql://user@host/database or "
    "odbc:CONNECTION STRING"
)

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_ATTRIBUTE = re.compile(r"\s*([^=;{}]+?)\s*=\s*(\{(?:[^}]|\}\})*\}|[^;{\s][^;]*?|)\s*(?:;|$)")
_SECRET_KEY = re.compile(r"pwd|passw|secret|token", re.IGNORECASE)
_SECRET_VALUE = re.compile(r"passw\w*\s*=", re.IGNORECASE)
_SERVER_SCHEMES = {"mssql": "mssql", "postgresql": "postgresql", "postgres": "postgresql"}

_OPTIONS = {
    "postgresql": frozenset({"host", "sslmode", "pqopt", "keepalivetime", "keepaliveinterval", "readonly"}),
    "mssql": frozenset(
        {
            "app",
            "applicationintent",
            "auth",
            "authentication",
            "clientcharset",
            "connectretrycount",
            "connectretryinterval",
            "driver",
            "encrypt",
            "encryption",
            "failover_partner",
            "hostnameincertificate",
            "ipaddresspreference",
            "keepalive",
            "keepaliveinterval",
            "language",
            "multisubnetfailover",
            "realm",
            "servercertificate",
            "serverspn",
            "tds_version",
            "transparentnetworkipresolution",
            "trusted_connection",
            "trustservercertificate",
            "wsid",
        }
    ),
}
"""The options of each kind of server's URL. Others are refused: drivers have some that write the password to a file for
everyone to read (``Debug``, ``CommLog``), and a name with ``;`` or ``=`` would be taken for more than one."""

_AZURE_SQL = (".database.windows.net", ".database.chinacloudapi.cn", ".database.usgovcloudapi.net")
"""How the names of Azure SQL's servers end (its "connectivity architecture")."""

AUTH_OPTION = "auth"
ENTRA = "entra"
"""How a URL says that an access token of Entra ID logs in: ``?auth=entra``."""

_LOGGING_KEYS = frozenset({"debug", "commlog", "b2", "b3", "dumpfile", "dumpfileappend", "trace", "tracefile"})
"""Attributes with which drivers write what is sent to a server, the password among it, to a file."""


@dataclass(frozen=True)
class SqliteUrl:
    """An SQLite file, reached through Python's own sqlite3.

    Attributes:
        path: absolute.
    """

    path: Path

    @property
    def identity(self) -> str:
        """Names the catalog; the same however the file is written, through links too."""
        return f"sqlite://{os.path.realpath(self.path)}"


@dataclass(frozen=True)
class ServerUrl:
    """A database on a server.

    Attributes:
        scheme: ``mssql`` or ``postgresql``.
        host: name or address; for PostgreSQL also the folder of its socket.
        port: None for the usual one.
        user: ``""`` for none.
        database: its name.
        options: (key, value) pairs for the ODBC driver, in the order given.
    """

    scheme: str
    host: str
    port: int | None
    user: str
    database: str
    options: tuple[tuple[str, str], ...] = ()

    @property
    def identity(self) -> str:
        """Names the catalog; holds no secret."""
        user = f"{quote(self.user, safe='')}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host else quote(self.host, safe="")
        port = f":{self.port}" if self.port else ""
        options = "&".join(f"{quote(key)}={quote(value, safe='')}" for key, value in sorted(self.options))
        return f"{self.scheme}://{user}{host}{port}/{quote(self.database, safe='')}{'?' if options else ''}{options}"

    @property
    def uses_entra(self) -> bool:
        """Whether an access token of Entra ID logs in."""
        return any(key.lower() == AUTH_OPTION for key, _ in self.options)

    @property
    def may_sleep(self) -> bool:
        """Whether it is a database of Azure SQL, which may be a serverless one."""
        return self.scheme == "mssql" and self.host.lower().rstrip(".").endswith(_AZURE_SQL)


@dataclass(frozen=True)
class OdbcUrl:
    """Anything that ODBC reaches.

    Attributes:
        attributes: (key, value) pairs of the connection string, in the order given; values as they were written,
            braces included.
    """

    attributes: tuple[tuple[str, str], ...]

    def value(self, key: str) -> str | None:
        """An attribute's value without braces, None if it is not given; the key's case does not matter."""
        for name, value in self.attributes:
            if name.lower() == key.lower():
                return value[1:-1].replace("}}", "}") if value.startswith("{") else value
        return None

    @property
    def identity(self) -> str:
        """Names the catalog; holds no secret."""
        return "odbc:" + ";".join(sorted(f"{key.lower()}={value}" for key, value in self.attributes))


CatalogUrl = SqliteUrl | ServerUrl | OdbcUrl


def parse_catalog_url(text: str) -> CatalogUrl:
    """Read a catalog's URL, of one of the forms of this module's table.

    Raises:
        ConfigurationError: it has none of the forms, lacks a part, or holds a password. The message repeats no part
            that could be a password.
    """
    if not text.strip():
        raise ConfigurationError(f"The catalog URL is empty; give {FORMS}.")
    if not is_utf8(text):
        # Not the URL itself: it may hold a password.
        raise ConfigurationError(
            "The catalog URL holds bytes that are no UTF-8; rename the file, or write them as %XX."
        )
    if text.startswith("odbc:"):
        return OdbcUrl(_parse_attributes(text.removeprefix("odbc:")))
    if text.startswith("sqlite:"):
        return SqliteUrl(_sqlite_path(text.removeprefix("sqlite:")))
    match = _SCHEME.match(text)
    if match is None:
        return SqliteUrl(_absolute(text))
    scheme = _SERVER_SCHEMES.get(match[1].lower())
    if scheme is None:
        raise ConfigurationError(f"A catalog URL cannot begin with {match[0]}; give {FORMS}.")
    return _parse_server_url(scheme, text)


def catalog_identity(url: str) -> str:
    """Name a catalog by a stable text, for the keys of caches: the same one for every way to write the same URL.

    It holds no secret. Different users of a server are different catalogs, since they may see different tables.

    Raises:
        ConfigurationError: see `parse_catalog_url`.
    """
    return parse_catalog_url(url).identity


_LIKE_A_PASSWORD = re.compile(r"^[^/].*:[^/]*@|(?:pwd|passw|secret|token)\w*\s*=", re.IGNORECASE)
"""What a URL or connection string with a password has. A path from the root may have ``:`` and ``@``."""


def _sqlite_path(rest: str) -> Path:
    if not rest.startswith("//"):
        return _absolute(rest)
    path = rest[2:]
    if not path.startswith("/"):
        _check_no_password(path)
        raise ConfigurationError(
            f"sqlite://{path} has two slashes; write sqlite:///path with three for an absolute path, or "
            f"sqlite:{path} for one seen from the working directory."
        )
    return _absolute("/" + path.lstrip("/"))


def _absolute(path: str) -> Path:
    if not path or "\0" in path:
        raise ConfigurationError("The catalog URL names no file; write sqlite:///path/catalog.db.")
    _check_no_password(path)
    return Path(os.path.abspath(expanded_path(path)))  # noqa: PTH100  # absolute() would keep '..'


def _check_no_password(path: str) -> None:
    """Refuse what was taken for a path because its beginning is mistyped: messages and listings name paths."""
    if _LIKE_A_PASSWORD.search(path) and not os.path.lexists(os.path.expanduser(path)):  # noqa: PTH111  # any text
        raise ConfigurationError(
            f"The catalog is no file, and looks like a URL or connection string with a password in it; give {FORMS}, "
            "and the password in IMGSYNCFS_PASSWORD or the config file."
        )


def _parse_server_url(scheme: str, text: str) -> ServerUrl:
    form = f"{scheme}://user@server/database"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ConfigurationError(
            f"The catalog URL's server or port cannot be read; write {form}, without a password in it."
        ) from None
    options = tuple(parse_qsl(parts.query, keep_blank_values=True))
    if parts.password or any(_is_secret(key, value) for key, value in options):
        raise _holds_password()
    user = unquote(parts.username or "")
    if ":" in user:
        # Percent-encoded, so that it is the name's for whoever reads the URL by its rules.
        raise _holds_password()
    unknown = next((key for key, _ in options if key.lower() not in _OPTIONS[scheme]), None)
    if unknown is not None:
        # A part of a password may stand there.
        shown = "an option" if "@" in unknown else f"the option {unknown!r}"
        raise ConfigurationError(
            f"The catalog URL has {shown}, which is not known; known are "
            f"{', '.join(sorted(_OPTIONS[scheme]))}. Other options of the driver go into odbc:CONNECTION STRING."
        )
    if parts.fragment or "@" in parts.path:
        raise ConfigurationError(
            f"The catalog URL has a '#' or '@' where none can be; write {form}, without a password in it, and other "
            "special characters as %XX."
        )
    database = unquote(parts.path.strip("/"))
    if not database:
        raise ConfigurationError(f"The catalog URL names no database; write {form}.")
    host = dict(options).get("host", "") or unquote(parts.hostname or "")
    if not host and scheme == "postgresql":
        host = "localhost"
    if not host:
        raise ConfigurationError(f"The catalog URL names no server; write {form}.")
    _check_log_in({key.lower(): value.lower() for key, value in options}, user)
    return ServerUrl(
        scheme=scheme,
        host=host,
        port=port,
        user=user,
        database=database,
        options=tuple((key, value) for key, value in options if key != "host"),
    )


def _check_log_in(options: Mapping[str, str], user: str) -> None:
    """Refuse ways to log in that there are not, or that contradict each other."""
    if options.get("authentication") == "activedirectorydefault":
        raise ConfigurationError(
            "No ODBC driver knows Authentication=ActiveDirectoryDefault; write auth=entra in the catalog URL, which "
            "takes a managed or workload identity, or who is logged in with `az login`."
        )
    if AUTH_OPTION not in options:
        return
    if options[AUTH_OPTION] != ENTRA:
        raise ConfigurationError(
            f"The catalog URL has auth={options[AUTH_OPTION]}; write auth=entra, or leave it out to log in with user "
            "and password."
        )
    if user:
        raise ConfigurationError(
            "The catalog URL names a user, and auth=entra, which has none; leave one of them out. A managed identity "
            "is chosen with AZURE_CLIENT_ID."
        )


def _parse_attributes(text: str) -> tuple[tuple[str, str], ...]:
    attributes = []
    position = 0
    while text[position:].strip(" ;"):
        match = _ATTRIBUTE.match(text, position)
        if match is None:
            raise ConfigurationError(
                "The ODBC connection string cannot be read; write odbc:Key=value;Key=value, and {value} where a value "
                "holds a ';'."
            )
        key, value = match[1], match[2]
        if _is_secret(key, value):
            raise _holds_password()
        if key.lower().replace(" ", "") in _LOGGING_KEYS:
            raise ConfigurationError(
                f"The ODBC connection string has {key}, with which drivers write passwords to a file that others may "
                "read; leave it out."
            )
        attributes.append((key, value))
        position = match.end()
    if not attributes:
        raise ConfigurationError("The ODBC connection string is empty; write odbc:Driver=…;Server=…;Database=….")
    return tuple(attributes)


def _is_secret(key: str, value: str) -> bool:
    return bool(value) and (_SECRET_KEY.search(key) is not None or _SECRET_VALUE.search(value) is not None)


def _holds_password() -> ConfigurationError:
    return ConfigurationError(
        "The catalog URL holds a password, which everyone on this machine could read in the list of processes; leave "
        "it out, and set IMGSYNCFS_PASSWORD, or password in the config file."
    )
