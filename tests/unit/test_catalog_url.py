"""Catalog URLs, ODBC connection strings, the choice of drivers, and what drivers' messages become."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgsyncfs.catalog import catalog_identity
from imgsyncfs.catalog.drivers import (
    connection_string,
    find_postgresql_driver,
    find_sql_server_driver,
    library_in,
    packaged_sql_server_driver,
)
from imgsyncfs.catalog.fault_kinds import DuplicateRow
from imgsyncfs.catalog.faults import driver_fault
from imgsyncfs.catalog.schema import (
    POSTGRESQL,
    SCHEMA_ADDITIONS,
    SQL_SERVER,
    SQLITE,
    STANDARD,
    TABLES,
    Dialect,
    addition_statements,
    additions_level,
    create_statements,
    find_dialect,
)
from imgsyncfs.catalog.server_address import check_listening
from imgsyncfs.catalog.url import OdbcUrl, ServerUrl, SqliteUrl, parse_catalog_url
from imgsyncfs.errors import (
    CatalogConflict,
    CatalogError,
    CatalogMissing,
    CatalogNotReady,
    CatalogRefused,
    CatalogSessionEnded,
    CatalogUnreachable,
    ConfigurationError,
    ImgsyncfsError,
    NotACatalog,
)

DRIVER_18 = "ODBC Driver 18 for SQL Server"
DRIVER_17 = "ODBC Driver 17 for SQL Server"


def odbc(
    url: str,
    password: str | None = None,
    *,
    installed: tuple[str, ...] = (),
    packaged: Path | None = None,
    create: bool = False,
) -> str:
    parsed = parse_catalog_url(url)
    assert not isinstance(parsed, SqliteUrl)
    return connection_string(parsed, password, timeout=30.0, create=create, installed=installed, packaged=packaged)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///data/catalog.db", "/data/catalog.db"),
        ("sqlite:////data/catalog.db", "/data/catalog.db"),
        ("sqlite:/data/catalog.db", "/data/catalog.db"),
        ("sqlite:catalog.db", "/work/catalog.db"),
        ("catalog.db", "/work/catalog.db"),
        ("../x/catalog.db", "/x/catalog.db"),
        ("/data/with space%20?#.db", "/data/with space%20?#.db"),
        ("/data/a:b@c.db", "/data/a:b@c.db"),
        ("~/catalog.db", "/home/someone/catalog.db"),
    ],
)
def test_an_sqlite_file_is_named_by_url_or_path(url: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setattr("os.getcwd", lambda: "/work")
    assert parse_catalog_url(url) == SqliteUrl(Path(path))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mssql://reader@db.example.com/data", ServerUrl("mssql", "db.example.com", None, "reader", "data")),
        (
            "mssql://a%40b@db:1444/d%3Bx?Encrypt=no&APP=x",
            ServerUrl("mssql", "db", 1444, "a@b", "d;x", (("Encrypt", "no"), ("APP", "x"))),
        ),
        ("postgresql://u@[::1]:5433/d", ServerUrl("postgresql", "::1", 5433, "u", "d")),
        ("postgres://u@db/d", ServerUrl("postgresql", "db", None, "u", "d")),
        ("postgresql:///d", ServerUrl("postgresql", "localhost", None, "", "d")),
        ("postgresql://u@/d?host=/run/postgresql", ServerUrl("postgresql", "/run/postgresql", None, "u", "d")),
        ("postgresql://u@%2Frun%2Fpostgresql/d", ServerUrl("postgresql", "/run/postgresql", None, "u", "d")),
    ],
)
def test_a_servers_url_says_where_the_database_is(url: str, expected: ServerUrl) -> None:
    assert parse_catalog_url(url) == expected


@pytest.mark.parametrize(
    ("url", "may_sleep"),
    [
        ("mssql://reader@example.database.windows.net/datasets", True),
        ("mssql://Example.Database.Windows.Net./datasets?auth=entra", True),
        ("mssql://reader@example.database.chinacloudapi.cn/datasets", True),
        ("mssql://reader@sql.example.com/datasets", False),
        ("mssql://reader@database.windows.net.example.com/datasets", False),
        ("postgresql://reader@example.database.windows.net/datasets", False),
    ],
)
def test_a_database_of_azure_sql_may_be_one_that_sleeps(url: str, may_sleep: bool) -> None:
    parsed = parse_catalog_url(url)
    assert isinstance(parsed, ServerUrl)
    assert parsed.may_sleep is may_sleep


def test_an_odbc_connection_string_keeps_its_attributes_as_they_were_written() -> None:
    parsed = parse_catalog_url("odbc: Driver={My; Driver}; Database=/a b/c.db ;X=;")
    assert parsed == OdbcUrl((("Driver", "{My; Driver}"), ("Database", "/a b/c.db"), ("X", "")))
    assert parsed.value("DRIVER") == "My; Driver"


ATTRIBUTE_KEYS = st.from_regex(r"[a-z_]{1,9}", fullmatch=True).filter(lambda key: "p" not in key and "t" not in key)


@given(st.dictionaries(ATTRIBUTE_KEYS, st.text().filter(lambda value: "=" not in value), min_size=1))
def test_braced_values_of_a_connection_string_are_read_as_they_are(attributes: dict[str, str]) -> None:
    text = ";".join(f"{key}={{{value.replace('}', '}}')}}}" for key, value in attributes.items())
    parsed = parse_catalog_url(f"odbc:{text}")
    assert isinstance(parsed, OdbcUrl)
    assert {key: parsed.value(key) for key in attributes} == attributes


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        ("sqlite:", "names no file"),
        ("sqlite://catalog.db", "two slashes"),
        ("mysql://u@h/d", "cannot begin with mysql://"),
        ("file:///catalog.db", "cannot begin with file://"),
        ("mssql:///d", "names no server"),
        ("mssql://u@h", "names no database"),
        ("postgresql://u@h/", "names no database"),
        ("postgresql://u@h:port/d", "port cannot be read"),
        ("postgresql://u@h:99999/d", "port cannot be read"),
        ("postgresql://u@[::1/d", "port cannot be read"),
        ("~nobody-of-this-name/catalog.db", "no such user"),
        ("mssql://\udcff@h/d", "no UTF-8"),
        ("/catalog\udcff.db", "no UTF-8"),
        ("odbc:", "is empty"),
        ("odbc:Driver", "cannot be read"),
        ("odbc:Driver={x;Database=y", "cannot be read"),
    ],
)
def test_a_url_that_makes_no_sense_is_refused_with_the_reason(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        parse_catalog_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "mssql://u:hunter2@h/d",
        "postgresql://u:hunter2@h/d",
        "postgresql://u:hun/ter2@h/d",
        "postgresql://u:hun#ter2@h/d",
        "postgresql://u:hun?ter2@h/d",
        "postgresql://u@h/d?password=hunter2",
        "postgresql://u@h/d?PQOPT=password%3Dhunter2",
        "mssql://u@h/d?Pwd=hunter2",
        "mssql://u@h/d?AccessToken=hunter2",
        "odbc:Driver=x;PWD=hunter2",
        "odbc:Driver=x;Password={hunter2}",
        "postgresql:/u:hunter2@h/d",
        "postgresql://u%3Ahunter2@h/d",
        "jdbc:postgresql://h/d?user=u&password=hunter2",
        "sqlite://u:hunter2@h/d",
        "sqlite:u:hunter2@h/d",
        "u:hunter2@h/d",
        "Server=h;Uid=u;Pwd=hunter2",
        "/srv/catalog.db?password=hunter2",
    ],
)
def test_a_password_in_a_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_catalog_url(url)
    assert "password" in str(caught.value)
    assert not re.search("hun|ter2", str(caught.value))


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://u@h/d?Debug=1", "Debug"),
        ("postgresql://u@h/d?sslmode=require&CommLog=1", "CommLog"),
        ("postgresql://u@h/d?sslmode%3Ddisable;Debug=1", "sslmode=disable;Debug"),
        ("mssql://u@h/d?Encrypt%3Dno;x=1", "Encrypt=no;x"),
        ("mssql://u@h/d?QueryLogFile=/tmp/x", "QueryLogFile"),
        ("odbc:Driver=PostgreSQL;Server=h;Debug=1", "Debug"),
        ("odbc:Driver=PostgreSQL;Server=h;commlog=1", "commlog"),
        ("odbc:Driver=FreeTDS;Server=h;Dump File=/tmp/x", "Dump File"),
    ],
)
def test_an_option_that_is_not_known_or_writes_passwords_to_a_file_is_refused(url: str, name: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(name)):
        parse_catalog_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "odbc:Driver={x;Pwd=hunter2",
        "odbc:hunter2",
        "postgresql+psycopg2://u:hunter2@h/d",
        "postgresql://u:hunter2@h:12ab/d",
        "postgresql://u:hunter2@[::1/d",
        "mssql://u:hunter2",
    ],
)
def test_a_url_that_cannot_be_read_is_not_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_catalog_url(url)
    assert "hunter2" not in str(caught.value)


def test_a_file_whose_path_looks_like_a_url_with_a_password_is_a_catalog(tmp_path: Path) -> None:
    path = tmp_path / "a:b@c" / "catalog.db"
    path.parent.mkdir()
    path.touch()
    assert parse_catalog_url(f"sqlite://{path}") == parse_catalog_url(str(path)) == SqliteUrl(path)


def test_the_refusal_of_a_password_says_where_to_put_it() -> None:
    with pytest.raises(ConfigurationError, match=r"IMGSYNCFS_PASSWORD.*config file"):
        parse_catalog_url("mssql://u:hunter2@h/d")


def test_the_identity_is_the_same_however_an_sqlite_file_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "catalog.db").touch()
    (tmp_path / "link.db").symlink_to("catalog.db")
    ways = ["catalog.db", "sqlite:catalog.db", f"sqlite://{tmp_path}/catalog.db", "x/../catalog.db", "link.db"]
    assert {catalog_identity(way) for way in ways} == {f"sqlite://{tmp_path.resolve()}/catalog.db"}


def test_the_identity_of_servers_tells_users_databases_and_options_apart() -> None:
    urls = [
        "mssql://u@h/d",
        "mssql://v@h/d",
        "mssql://u@h/e",
        "mssql://u@h:1/d",
        "mssql://u@h/d?app=1",
        "mssql://u@i/d",
    ]
    assert len({catalog_identity(url) for url in urls}) == len(urls)
    assert catalog_identity("postgres://u@h/d?sslmode=1&readonly=2") == catalog_identity(
        "postgresql://u@H/d?readonly=2&sslmode=1"
    )
    assert catalog_identity("odbc:A=1;b={2}") == catalog_identity("odbc: B={2} ; a=1;")


def test_an_identity_is_a_url_of_the_same_catalog() -> None:
    for url in ("postgresql://a%40b@[::1]:54/d%2Fe?sslmode=%26", "odbc:a={1;2};b=3", "sqlite:///a b%20"):
        assert catalog_identity(catalog_identity(url)) == catalog_identity(url)


def test_microsofts_driver_gets_braced_values_and_encryption() -> None:
    text = odbc("mssql://a%40b@db.example.com:1444/my%7Ddata?MultiSubnetFailover=yes", "p;{w}d", installed=(DRIVER_18,))
    assert text == (
        "DRIVER={ODBC Driver 18 for SQL Server};SERVER=db.example.com,1444;DATABASE={my}}data};UID={a@b};"
        "PWD={p;{w}}d};Encrypt=yes;TrustServerCertificate=no;APP=imgsyncfs;MultiSubnetFailover={yes};"
    )


def test_an_option_of_the_url_takes_the_place_of_a_default() -> None:
    text = odbc("mssql://u@h/d?encrypt=strict", installed=(DRIVER_18,))
    assert "encrypt={strict};" in text
    assert "Encrypt=yes" not in text


def test_sql_server_without_a_user_is_asked_with_the_log_in_of_the_system_or_as_the_option_says() -> None:
    assert "Trusted_Connection=yes" in odbc("mssql://h/d", "x", installed=(DRIVER_18,))
    assert "PWD" not in odbc("mssql://h/d", "x", installed=(DRIVER_18,))
    entra = odbc("mssql://h/d?Authentication=ActiveDirectoryMsi", installed=(DRIVER_18,))
    assert "Authentication={ActiveDirectoryMsi}" in entra
    assert "Trusted_Connection" not in entra


def test_freetds_gets_its_own_words() -> None:
    text = odbc("mssql://u@h/d", "p", installed=("FreeTDS",))
    assert text.startswith("DRIVER={FreeTDS};SERVER=h;PORT=1433;DATABASE={d};UID={u};PWD={p};")
    assert "TDS_Version=7.4;Encryption=require" in text


def test_psqlodbc_gets_a_braced_password_and_nothing_else_in_braces() -> None:
    text = odbc("postgresql://us%20er@h:54/da%7Bta", "p;{w}d", installed=("PostgreSQL Unicode",))
    assert text.startswith(
        "DRIVER={PostgreSQL Unicode};SERVER=h;PORT=54;DATABASE=da{ta;UID=us er;PWD={p;{w}}d};SSLmode=prefer;"
    )


@pytest.mark.parametrize("url", ["postgresql://u%3Bx@h/d", "postgresql://u@h/%7Bd", "mssql://u@h%3Bx/d"])
def test_a_value_that_a_driver_would_read_as_something_else_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="';'"):
        odbc(url, installed=("PostgreSQL Unicode", DRIVER_18))


def test_sqlite_through_odbc_makes_no_file_unless_asked_to() -> None:
    url = "odbc:Driver=SQLite3;Database=/a"
    assert odbc(url) == "Driver=SQLite3;Database=/a;StepAPI=1;Timeout=15000;NoCreat=1;"
    assert "NoCreat" not in odbc(url, create=True)
    assert "Timeout=5;" in odbc(f"{url};Timeout=5")


def test_another_odbc_source_gets_what_was_written_and_the_password() -> None:
    assert odbc("odbc:DSN=team;UID=u") == "DSN=team;UID=u;"
    assert odbc("odbc:DSN=team;UID=u", "a}b") == "DSN=team;UID=u;PWD={a}}b};"


@pytest.mark.parametrize(
    ("installed", "packaged", "chosen"),
    [
        (("FreeTDS", DRIVER_17, DRIVER_18), "/lib.so", DRIVER_18),
        (("FreeTDS", DRIVER_17), "/lib.so", DRIVER_17),
        (("FreeTDS",), "/lib.so", "/lib.so"),
        (("FreeTDS", "SQLite3"), None, "FreeTDS"),
    ],
)
def test_sql_servers_driver_is_the_best_there_is(installed: tuple[str, ...], packaged: str | None, chosen: str) -> None:
    assert find_sql_server_driver(installed, Path(packaged) if packaged else None) == chosen


def test_a_missing_driver_is_told_with_the_package_to_install() -> None:
    with pytest.raises(ConfigurationError, match=r"pip install 'imgsyncfs\[mssql\]'"):
        find_sql_server_driver(("SQLite3",), None)
    with pytest.raises(ConfigurationError, match="apt install odbc-postgresql"):
        find_postgresql_driver(("SQLite3",))


def test_postgresqls_driver_is_the_unicode_one() -> None:
    assert find_postgresql_driver(("PostgreSQL ANSI", "PostgreSQL Unicode")) == "PostgreSQL Unicode"


def make_libraries(folder: Path, *paths: str) -> Path:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    return folder


@pytest.mark.parametrize(
    ("distributions", "machine", "expected"),
    [
        (["debian"], "x86_64", "debian_ubuntu/x86_64/lib/libmsodbcsql-18.6.so.2.1"),
        (["linuxmint", "ubuntu", "debian"], "x86_64", "debian_ubuntu/x86_64/lib/libmsodbcsql-18.6.so.2.1"),
        (["rocky", "rhel", "centos", "fedora"], "x86_64", "rhel/x86_64/lib/libmsodbcsql-18.6.so.2.1"),
        (["debian"], "aarch64", "debian_ubuntu/arm64/lib/libmsodbcsql-18.6.so.2.1"),
        (["opensuse-leap", "suse", "opensuse"], "x86_64", None),
        ([], "x86_64", "debian_ubuntu/x86_64/lib/libmsodbcsql-18.6.so.2.1"),
        (["debian"], "riscv64", None),
    ],
)
def test_the_packaged_library_is_that_of_distribution_and_machine(
    tmp_path: Path, distributions: list[str], machine: str, expected: str | None
) -> None:
    libraries = make_libraries(
        tmp_path,
        "debian_ubuntu/x86_64/lib/libmsodbcsql-18.5.so.1.1",
        "debian_ubuntu/x86_64/lib/libmsodbcsql-18.6.so.2.1",
        "debian_ubuntu/x86_64/lib/libodbcinst.so.2",
        "debian_ubuntu/arm64/lib/libmsodbcsql-18.6.so.2.1",
        "rhel/x86_64/lib/libmsodbcsql-18.6.so.2.1",
    )
    found = library_in(libraries, distributions, machine)
    assert found == (libraries / expected if expected else None)


def test_the_driver_is_found_in_the_package_that_carries_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "mssql_python_odbc"
    library = "libs/linux/debian_ubuntu/x86_64/lib/libmsodbcsql-18.6.so.2.1"
    make_libraries(package, "__init__.py", library)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("platform.freedesktop_os_release", lambda: {"ID": "debian"})
    assert packaged_sql_server_driver() == package / library
    text = odbc("mssql://u@h/d", packaged=package / library)
    assert text.startswith(f"DRIVER={package / library};SERVER=h;")


def test_sql_servers_tables_compare_names_case_and_all_and_bear_long_keys() -> None:
    statements = "\n".join(create_statements(SQL_SERVER))
    assert statements.count("PRIMARY KEY NONCLUSTERED") == len(TABLES)
    for column in ("dataset_id", "name", "label_version NVARCHAR(50) COLLATE Latin1_General_100_BIN2 NOT"):
        assert re.search(
            rf"\b{re.escape(column)}( NVARCHAR\(\d+\) COLLATE Latin1_General_100_BIN2 NOT)? NULL", statements
        )
    assert "byte_count BIGINT" in statements
    assert "note NVARCHAR(MAX)" in statements
    assert "TEXT" not in statements


def test_a_key_of_sql_server_fits_into_its_1700_bytes() -> None:
    lengths = {
        column: int(length)
        for column, length in re.findall(r"(\w+) NVARCHAR\((\d+)\)", "\n".join(create_statements(SQL_SERVER)))
    }
    assert 2 * sum(lengths[column] for column in ("dataset_id", "label_version", "name")) <= 1700
    assert lengths["dataset_id"] >= 200
    assert 2 * sum(lengths[column] for column in ("label_name", "label_value", "dataset_id", "label_version")) <= 1700


@pytest.mark.parametrize("dialect", [SQLITE, POSTGRESQL, SQL_SERVER, STANDARD], ids=lambda dialect: dialect.name)
def test_every_dialect_makes_every_table_without_quoting(dialect: object) -> None:
    statements = create_statements(dialect)  # type: ignore[arg-type]  # pytest does not type parameters
    assert re.findall(r"CREATE TABLE (\w+)", "\n".join(statements)) == list(TABLES)
    assert not re.search(r"[\"`\[\]]", "".join(statements))


@pytest.mark.parametrize("dialect", [SQLITE, POSTGRESQL, SQL_SERVER, STANDARD], ids=lambda dialect: dialect.name)
def test_the_additions_make_the_tables_that_a_new_catalog_has(dialect: Dialect) -> None:
    added = [
        statement
        for level in range(1, int(SCHEMA_ADDITIONS) + 1)
        for statement in addition_statements(dialect, level)
        if statement.startswith("CREATE")
    ]
    assert added == create_statements(dialect)[-len(added) :]


@pytest.mark.parametrize(
    ("setting", "level"),
    [(None, 0), ("", 0), ("odd", 0), ("-1", 0), ("1", 1), ("2", 2), ("3", 3), ("4", 4), ("99", int(SCHEMA_ADDITIONS))],
)
def test_additions_of_later_versions_are_not_noticed(setting: str | None, level: int) -> None:
    assert additions_level(setting) == level


def test_the_dialect_follows_what_the_driver_says_the_database_is() -> None:
    assert find_dialect("PostgreSQL") is POSTGRESQL
    assert find_dialect("SQLite") is SQLITE
    assert find_dialect("Microsoft SQL Server") is SQL_SERVER
    assert find_dialect("Firebird") is STANDARD


@pytest.mark.parametrize(
    ("state", "text", "kind"),
    [
        ("08001", '[08001] FATAL: password authentication failed for user "u"', CatalogRefused),
        ("28000", "[28000] [Microsoft][ODBC Driver 18][SQL Server]Login failed for user 'u'. (18456)", CatalogRefused),
        ("42501", "[42501] ERROR: permission denied for table datasets", CatalogRefused),
        ("42000", "[42000] The SELECT permission was denied on the object 'datasets' (229)", CatalogRefused),
        ("28000", '[28000] Cannot open database "d" requested by the login. The login failed. (4060)', CatalogMissing),
        ("08001", '[08001] connection to server failed: FATAL: database "d" does not exist', CatalogMissing),
        ("08001", "[08001] connection to server failed: Connection refused", CatalogUnreachable),
        ("HYT00", "[HYT00] Login timeout expired", CatalogUnreachable),
        ("57P01", "[57P01] FATAL: terminating connection due to administrator command", CatalogSessionEnded),
        ("08S01", "[08S01] TCP Provider: Error code 0x68", CatalogSessionEnded),
        ("42S02", "[42S02] Invalid object name 'catalog_settings'. (208)", NotACatalog),
        ("42P01", '[42P01] ERROR: relation "catalog_settings" does not exist', NotACatalog),
        ("", "file is not a database", NotACatalog),
        ("57P03", "[57P03] FATAL: the database system is starting up", CatalogNotReady),
        ("08001", "[08001] FATAL:  sorry, too many clients already (101) (SQLDriverConnect)", CatalogNotReady),
        ("40P01", "[40P01] ERROR: deadlock detected", CatalogConflict),
        ("23502", '[23502] ERROR: null value in column "owner" violates not-null constraint', CatalogError),
        ("08001", "[08001] SSL error: certificate verify failed (101) (SQLDriverConnect)", CatalogError),
        ("", "database is locked", CatalogConflict),
        ("", "database disk image is malformed", CatalogError),
        ("01000", "[01000] [unixODBC][Driver Manager]Can't open lib 'x' : file not found (0)", ConfigurationError),
        ("IM002", "[IM002] [unixODBC][Driver Manager]Data source name not found", ConfigurationError),
        ("HY000", "something else altogether", CatalogError),
    ],
)
def test_what_a_driver_says_becomes_the_error_that_it_means(state: str, text: str, kind: type[ImgsyncfsError]) -> None:
    fault = driver_fault("mssql://u@h/d", text, state=state)
    assert type(fault) is kind
    assert re.fullmatch(r"The catalog mssql://u@h/d cannot be used: [^;\[]+; [^;]+\.", str(fault), re.DOTALL)


MICROSOFT = "[{state}] [Microsoft][ODBC Driver 18 for SQL Server][SQL Server]{words} ({number}) ({function})"
FREETDS = "[{state}] [FreeTDS][SQL Server]{words} ({number}) ({function})"


@pytest.mark.parametrize(
    "template",
    [MICROSOFT, FREETDS, f"{FREETDS}; [08001] [FreeTDS]Unable to connect (0) (SQLD)"],
    ids=["microsoft", "freetds", "freetds, two messages"],
)
@pytest.mark.parametrize(
    "words",
    ["Some words.", "无法打开登录所请求的数据库。登录失败。", "Fehler: 'ä' (siehe Log)."],
    ids=["english", "chinese", "german"],
)
@pytest.mark.parametrize(
    ("numbers", "kind", "remedy"),
    [
        ((40613, 922, 18401), CatalogNotReady, "a database that was paused"),
        ((40197, 4221), CatalogNotReady, "moving to another server"),
        ((596,), CatalogSessionEnded, "ended the session"),
        (
            (40501, 10928, 10929, 10936, 49918, 49919, 49920, 701, 8645, 17809, 17830),
            CatalogNotReady,
            "the server is busy",
        ),
        ((37396,), CatalogNotReady, "takes a new one"),
        ((40615, 40914), CatalogUnreachable, "firewall rule"),
        ((47073,), CatalogUnreachable, "private endpoint"),
        ((47072,), CatalogUnreachable, "TLS"),
        ((40532,), CatalogRefused, "user@server"),
        ((4060,), CatalogMissing, "correct the database's name in the catalog URL, or have the user given access"),
        ((916,), CatalogRefused, "CREATE USER … FOR LOGIN …"),
        ((18470,), CatalogRefused, "enabled"),
        ((18486,), CatalogRefused, "unlocked"),
        ((18487, 18488), CatalogRefused, "a new password"),
        ((18456,), CatalogRefused, "IMGSYNCFS_PASSWORD"),
        ((229, 230, 262, 2760), CatalogRefused, "GRANT SELECT"),
        ((1205, 1222, 3960), CatalogConflict, "nobody else is writing"),
        ((2601, 2627), DuplicateRow, "try again"),
        ((2628, 8152), CatalogError, "shorten that value"),
        ((515, 547), CatalogError, "of its own"),
        ((1105, 9002, 40544), CatalogError, "room"),
        ((40552,), CatalogError, "fewer images"),
        ((42119,), CatalogError, "free allowance"),
        ((3906,), CatalogError, "writable"),
        ((208, 207), NotACatalog, "imgsyncfs init"),
    ],
)
def test_an_error_of_sql_server_is_what_its_number_says_in_any_language(
    numbers: tuple[int, ...], kind: type[ImgsyncfsError], remedy: str, words: str, template: str
) -> None:
    for number in numbers:
        text = template.format(state="42000", words=words, number=number, function="SQLExecDirectW")
        fault = driver_fault("mssql://u@h/d", text, state="42000")
        assert type(fault) is kind
        assert remedy in str(fault)
        assert f"({number})" in str(fault)
        assert "[" not in str(fault)
        assert "SQLExec" not in str(fault)


@pytest.mark.parametrize("reason", ["self-signed certificate", "subject name does not match host name"])
def test_a_certificate_that_nobody_vouches_for_is_no_matter_of_the_network(reason: str) -> None:
    error = f"[error:0A000086:SSL routines::certificate verify failed:{reason}]"
    text = f"[08001] [Microsoft][ODBC Driver 18 for SQL Server]SSL Provider: {error} (-1) (SQLDriverConnect)"
    fault = driver_fault("mssql://u@h/d", text, state="08001")
    assert type(fault) is CatalogError
    assert "TrustServerCertificate=yes" in str(fault)
    assert "network," not in str(fault)


@pytest.mark.parametrize("echo", ["{}", "PWD={}", "pwd={{{}}}", "UID=x;PWD={};SERVER=y", "login '{}' failed"])
def test_a_password_that_a_driver_echoes_is_blotted_out(echo: str) -> None:
    for secret in ("hunter2", "s;p}q", "a b"):
        for form in (secret, secret.replace("}", "}}")):
            fault = driver_fault("x", f"invalid connection string: {echo.format(form)}", secrets=[secret])
            assert secret not in str(fault)
            assert form not in str(fault)
            assert "***" in str(fault)


def test_a_password_attribute_is_blotted_out_even_if_nobody_knows_it() -> None:
    assert "hunter2" not in str(driver_fault("x", "bad string: Server=y;Pwd={hunter2;}}x};Encrypt=yes"))


@pytest.mark.parametrize(
    "url",
    [
        "mssql://u@no-such-host.invalid%5Cinstance/d",
        "mssql://u@no-such-host.invalid/d?Failover_Partner=other",
        "postgresql://u@one.invalid,two.invalid/d",
        "postgresql:///d?host=/var/run/postgresql",
    ],
)
def test_what_may_be_elsewhere_is_left_to_the_driver(url: str) -> None:
    parsed = parse_catalog_url(url)
    assert isinstance(parsed, ServerUrl)
    check_listening(parsed, 1.0)
