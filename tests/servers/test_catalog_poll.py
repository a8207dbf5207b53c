"""What a mount asks a server's catalog at each refresh: little where nothing has changed, and every change is seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from support.services import Database
from support.tcp_proxy import TcpProxy
from support.tds_server import TdsServer

from imgsyncfs.annotations.splits import SplitRule
from imgsyncfs.catalog import Catalog, DatasetRow, SubscriptionRow, open_catalog
from imgsyncfs.catalog.rows import SelectionRow
from imgsyncfs.catalog.worker import CatalogReader

MANY = 300
ROW = DatasetRow("", "1.0.0", "rgb", ("person",), ("first",), ("bbox",), 0, "seen from above", "", 1, 5)


@pytest.fixture(params=["postgresql", "sql_server"])
def polled(request: pytest.FixtureRequest) -> Iterator[tuple[Catalog, Callable[[], tuple[bool, int]]]]:
    """A catalog of many datasets, and what asks for its table: whether another one came, and how many bytes passed."""
    if request.param == "postgresql":
        database: Database = request.getfixturevalue("postgresql_database")
        port, url, password = database.postgresql.port, database.url, database.password
    else:
        server: TdsServer = request.getfixturevalue("sql_server")
        port, url, password = server.port, server.url, server.password
    with open_catalog(url, password=password) as catalog, TcpProxy(port) as proxy:
        catalog.initialize(store="file:///data")
        for number in range(MANY if request.param == "postgresql" else 3):
            catalog.replace_dataset(replace(ROW, dataset_id=f"original_{number:08}_rgb_bbox"), [], [])
        through = url.replace(f":{port}/", f":{proxy.port}/")
        reader = CatalogReader({"url": through, "password": password, "timeout": 10.0})
        known = ""

        def poll() -> tuple[bool, int]:
            nonlocal known
            before = proxy.byte_count
            result, content = reader.handle({"question": "datasets", "known": known}, lambda *_: None)
            known = result["digest"]
            return bool(content), proxy.byte_count - before

        assert poll()[0]
        yield catalog, poll
        reader._disconnect()


Polled = tuple[Catalog, Callable[[], tuple[bool, int]]]


def test_a_table_that_has_not_changed_is_not_sent_again(polled: Polled) -> None:
    _, poll = polled
    changed, byte_count = poll()
    assert not changed
    assert byte_count < 2500


def execute(sql: str, *parameters: object) -> Callable[[Catalog], Any]:
    """A change by hand."""
    return lambda catalog: catalog._connection.execute(sql, parameters)


FIRST = "original_00000000_rgb_bbox"
MINE = SubscriptionRow("mine", (FIRST,), (), 7)
FEW = SelectionRow("few", (FIRST,), (), (), (), (), 0, (), 7)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(execute("UPDATE datasets SET note = ? WHERE dataset_id = ?", "moved", FIRST), id="a note by hand"),
        pytest.param(execute("DELETE FROM datasets WHERE dataset_id = ?", FIRST), id="a dataset removed by hand"),
        pytest.param(lambda catalog: catalog.set_split_rule(FIRST, SplitRule((7, 2, 1), "")), id="a split rule"),
        pytest.param(
            lambda catalog: catalog.put_subscription(SubscriptionRow("mine", (FIRST,), (), 7)), id="subscribed"
        ),
        pytest.param(
            lambda catalog: catalog.put_selection(SelectionRow("few", (FIRST,), (), (), (), (), 0, (), 7)),
            id="selected",
        ),
        pytest.param(
            lambda catalog: catalog.replace_dataset(replace(ROW, dataset_id=FIRST, note="new"), [], []), id="published"
        ),
        pytest.param(execute("UPDATE catalog_settings SET value = 'file:///x' WHERE name = 'store'"), id="a setting"),
    ],
)
def test_every_change_is_seen_by_the_next_question(polled: Polled, change: Callable[[Catalog], Any]) -> None:
    catalog, poll = polled
    assert not poll()[0]
    change(catalog)
    assert poll()[0]
    assert not poll()[0]
