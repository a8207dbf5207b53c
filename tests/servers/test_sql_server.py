"""SQL Server through Microsoft's driver and FreeTDS: what it says by number, passwords, certificates, lost sessions."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.certificates import private_authority
from support.mounting import eventually
from support.tds_server import Fails, Fault, TdsServer, tds_server

from imgsyncfs.catalog import Catalog, DatasetRow, ImageRow, open_catalog
from imgsyncfs.catalog.listing import load_listing
from imgsyncfs.catalog.worker import CatalogReader
from imgsyncfs.errors import (
    CatalogConflict,
    CatalogError,
    CatalogMissing,
    CatalogNotReady,
    CatalogRefused,
    CatalogUnreachable,
    ConfigurationError,
)

DRIVERS = ("microsoft", "freetds")
STORE = "file:///data"
DATASET = DatasetRow("original_20260101_rgb_bbox", "1.0.0", "rgb", (), (), (), 2, "", STORE, 0, 5)
IMAGES = [ImageRow(name, "jpg", 4, 3, 3, 10, "", "blob", 0, place, "", 7) for place, name in enumerate("ab")]

NUMBERS: dict[int, tuple[type[CatalogError], str, str]] = {
    40613: (CatalogNotReady, "服务器上的数据库当前不可用。", "a database that was paused"),
    4060: (CatalogMissing, "无法打开登录所请求的数据库。登录失败。", "correct the database's name"),
    18486: (CatalogRefused, "Fehler bei der Anmeldung: Das Konto ist gesperrt.", "unlocked"),
    40615: (
        CatalogUnreachable,
        "Client with IP address '10.0.0.1' is not allowed.",
        "firewall rule",
    ),
    229: (CatalogRefused, "拒绝了对对象的 SELECT 权限。", "GRANT SELECT"),
    1222: (CatalogConflict, "已超过了锁请求超时时段。", "nobody else is writing"),
    1205: (CatalogConflict, "La transacción quedó en interbloqueo.", "nobody else is writing"),
    2628: (CatalogError, "String or binary data would be truncated in table 'images'.", "shorten that value"),
    42119: (CatalogError, "The monthly free amount of the database is used up.", "free allowance"),
}


def url_of(server: TdsServer, driver: str) -> str:
    return server.url_with(freetds=driver == "freetds")


def failing(words: str, fault: Fault | str) -> Fails:
    """Has statements with some words fail."""
    return lambda statement: fault if words in statement else None


def opened(server: TdsServer, driver: str) -> Catalog:
    return open_catalog(url_of(server, driver), password=server.password, timeout=10)


@pytest.mark.parametrize("driver", DRIVERS)
def test_what_a_server_says_to_a_statement_means_what_its_number_says(sql_server: TdsServer, driver: str) -> None:
    with opened(sql_server, driver) as catalog:
        catalog.initialize(store=STORE)
        for number, (kind, words, remedy) in NUMBERS.items():
            sql_server.fails = failing("FROM datasets", (number, words))
            with pytest.raises(CatalogError, match=rf"\({number}\)") as caught:
                catalog.datasets()
            assert type(caught.value) is kind
            assert remedy in str(caught.value)
            assert words.rstrip(".") in str(caught.value)
        sql_server.fails = lambda _: None
        assert catalog.datasets() == []


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("number", [40613, 4060, 18486, 40615])
def test_what_a_server_says_to_a_login_means_what_its_number_says(
    sql_server: TdsServer, driver: str, number: int
) -> None:
    kind, words, remedy = NUMBERS[number]
    sql_server.fails = failing("LOGIN", (number, words))
    with pytest.raises(CatalogError, match=remedy) as caught:
        opened(sql_server, driver)
    assert type(caught.value) is kind


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("password", ["plain", "a}b", "}", "{x}", "a;b=c", "}}", "ä日 ", "a};b"])
def test_any_password_arrives_as_it_is_or_is_refused_with_the_reason(
    sql_server: TdsServer, driver: str, password: str
) -> None:
    sql_server.password = password
    if driver == "freetds" and "};" in password:
        with pytest.raises(ConfigurationError, match="FreeTDS takes no value with '};'"):
            opened(sql_server, driver)
        return
    opened(sql_server, driver).close()
    assert [login.password for login in sql_server.logins] == [password]


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_session_that_the_server_ended_is_opened_anew(sql_server: TdsServer, driver: str) -> None:
    with opened(sql_server, driver) as catalog:
        catalog.initialize(store=STORE)
        sql_server.end_sessions()
        assert catalog.datasets() == []
        sql_server.end_sessions()
        assert catalog.replace_dataset(DATASET, IMAGES, []) == 1
        assert [row.name for row in catalog.images(DATASET.dataset_id)] == ["a", "b"]


@pytest.mark.parametrize("number", [1205, 1222, 3960, 40501, 596])
def test_a_publish_that_others_were_in_the_way_of_is_done_once_more(sql_server: TdsServer, number: int) -> None:
    with opened(sql_server, "microsoft") as catalog:
        catalog.initialize(store=STORE)
        faults = iter([(number, "Some words.")] * 2)
        sql_server.fails = lambda statement: next(faults, None) if statement.startswith("INSERT INTO images") else None
        assert catalog.replace_dataset(DATASET, IMAGES, []) == 1
        assert [row.name for row in catalog.images(DATASET.dataset_id)] == ["a", "b"]


def test_a_database_that_wakes_up_is_asked_until_it_is_there(sql_server: TdsServer) -> None:
    faults = iter([(40613, "The database is not currently available.")] * 2)
    sql_server.fails = lambda statement: next(faults, None) if statement == "LOGIN" else None
    waited: list[float] = []
    catalog = open_catalog(sql_server.url, password=sql_server.password, timeout=10, patience=20, waiting=waited.append)
    with catalog:
        assert catalog.initialize(store=STORE)
    assert len(waited) == 2
    assert len(sql_server.logins) == 3


def test_between_questions_no_session_is_open_for_who_rests(sql_server: TdsServer) -> None:
    with opened(sql_server, "microsoft") as catalog:
        catalog.initialize(store=STORE)
        catalog.rest()
        assert eventually(lambda: sql_server.session_count == 0)
        assert catalog.datasets() == []


@pytest.fixture
def encrypted(tmp_path: Path) -> Iterator[TdsServer]:
    """A server with a certificate that nobody vouches for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # No newer one goes into the messages of this version of the protocol.
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    _, certificate = private_authority(tmp_path)
    context.load_cert_chain(certificate)
    with tds_server(tmp_path / "datasets.db", tls=context) as server:
        yield server


def test_a_certificate_that_nobody_vouches_for_is_refused_unless_the_url_says_so(encrypted: TdsServer) -> None:
    with pytest.raises(CatalogError, match="TrustServerCertificate=yes"):
        opened(encrypted, "microsoft")
    trusting = f"{encrypted.url}?TrustServerCertificate=yes"
    with open_catalog(trusting, password=encrypted.password, timeout=10) as catalog:
        assert catalog.initialize(store=STORE)


def test_who_connects_through_freetds_is_told_once_that_certificates_are_not_checked(
    encrypted: TdsServer, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        opened(encrypted, "freetds").close()
    assert caplog.text.count("FreeTDS does not check the certificate") == 1


def test_a_mounts_worker_leaves_no_session_open_and_begins_anew_where_one_was_ended(
    sql_server: TdsServer, tmp_path: Path
) -> None:
    with opened(sql_server, "microsoft") as catalog:
        catalog.initialize(store=STORE)
        catalog.replace_dataset(DATASET, IMAGES, [])
    reader = CatalogReader({"url": sql_server.url, "password": sql_server.password, "timeout": 10.0}, rest_seconds=0.1)
    ends = iter(["close"])
    # In the middle of a listing, whose images are there already.
    sql_server.fails = lambda statement: next(ends, None) if "FROM annotations" in statement else None
    question = {"question": "listing", "dataset": DATASET.dataset_id, "folder": str(tmp_path / "listings")}
    result, _ = reader.handle(question, lambda *_: None)
    assert len(load_listing(Path(result["path"]))) == 2
    assert eventually(lambda: sql_server.session_count == 0)
    assert reader.handle({"question": "datasets", "known": ""}, lambda *_: None)[1]


@pytest.mark.parametrize(
    ("versions", "snapshots", "asks", "waits"), [(1, 0, False, False), (0, 1, True, False), (0, 0, False, True)]
)
def test_readers_do_not_wait_for_a_publish_where_the_database_keeps_versions_of_rows(
    sql_server: TdsServer, versions: int, snapshots: int, asks: bool, waits: bool
) -> None:
    sql_server.settings |= {"is_read_committed_snapshot_on": versions, "snapshot_isolation_state": snapshots}
    with opened(sql_server, "microsoft") as catalog:
        assert (sql_server.statements[-1] == "SET TRANSACTION ISOLATION LEVEL SNAPSHOT") is asks
        assert catalog.readers_wait() is waits
        catalog.initialize(store=STORE)
        sql_server.statements.clear()
        catalog.replace_dataset(DATASET, IMAGES, [])
        levels = [each.rpartition("LEVEL ")[2] for each in sql_server.statements if each.startswith("SET TRANSACTION")]
        assert levels == (["READ COMMITTED", "SNAPSHOT"] if asks else [])
