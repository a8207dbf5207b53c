"""Logging in to SQL Server with Entra ID: tokens of a machine's own identity, by azure-identity's default chain."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.tds_server import TdsServer
from support.token_server import TokenServer, token_server

from imgsyncfs.catalog import Catalog, open_catalog
from imgsyncfs.errors import CatalogRefused, ConfigurationError


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch) -> Iterator[TokenServer]:
    """A machine with a managed identity, and no other way to log in."""
    with token_server() as server:
        for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_CLIENT_SECRET"):
            monkeypatch.delenv(name, raising=False)
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


def url(server: TdsServer) -> str:
    return f"mssql://127.0.0.1:{server.port}/datasets?auth=entra&Encrypt=no"


def opened(server: TdsServer) -> Catalog:
    return open_catalog(url(server), timeout=10)


def test_each_connection_logs_in_with_a_fresh_token_for_databases(sql_server: TdsServer, tokens: TokenServer) -> None:
    for _ in range(2):
        with opened(sql_server) as catalog:
            catalog.initialize(store="file:///data")
            assert sql_server.logins[-1].token == tokens.tokens[-1]
            assert not catalog.is_stale()
    assert tokens.resources == ["https://database.windows.net"] * 2
    assert len(set(tokens.tokens)) == 2
    assert {(login.user, login.password) for login in sql_server.logins} == {("", "")}


def test_a_connection_is_to_be_opened_anew_before_its_token_ends(sql_server: TdsServer, tokens: TokenServer) -> None:
    tokens.seconds = 200
    with opened(sql_server) as catalog:
        assert catalog.is_stale()


def test_that_there_is_no_token_is_told_with_what_to_do(sql_server: TdsServer, tokens: TokenServer) -> None:
    tokens.refuses = True
    with pytest.raises(CatalogRefused, match=r"Entra ID gives no token .*run `az login`, or set AZURE_CLIENT_ID"):
        opened(sql_server)
    assert not sql_server.logins


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("?auth=token", "write auth=entra"),
        ("?Authentication=ActiveDirectoryDefault", "write auth=entra in the catalog URL"),
        ("?auth=entra&driver=FreeTDS", "FreeTDS cannot log in with Entra ID"),
    ],
)
def test_another_way_to_log_in_is_refused_with_the_one_there_is(options: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        open_catalog(f"mssql://server/datasets{options}")


def test_a_user_beside_a_token_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="names a user, and auth=entra"):
        open_catalog("mssql://reader@server/datasets?auth=entra")
