"""Large answers of PostgreSQL, fetched a few rows at a time while those before are worked on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest
from support.services import Database

from imgsyncfs.catalog.odbc_connection import OdbcConnection
from imgsyncfs.catalog.url import ServerUrl, parse_catalog_url
from imgsyncfs.errors import CatalogError

pytestmark = pytest.mark.postgresql

SECONDS = 20.0
LARGE_ROWS = "SELECT number, repeat('x', 1000000) FROM generate_series(1, ?) AS number"

MEASURE = f"""
import os, resource, sys
from imgsyncfs.catalog.odbc_connection import OdbcConnection
from imgsyncfs.catalog.url import parse_catalog_url
connection = OdbcConnection(
    parse_catalog_url(sys.argv[1]), password=os.environ["IMGSYNCFS_PASSWORD"], timeout=60.0, create=False
)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
count = sum(len(portion) for portion in connection.portions({LARGE_ROWS!r}, (300,), most=4))
print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
connection.close()
"""


@pytest.fixture
def connection(postgresql_database: Database) -> Iterator[OdbcConnection]:
    url = parse_catalog_url(postgresql_database.url)
    assert isinstance(url, ServerUrl)
    with closing(OdbcConnection(url, password=postgresql_database.password, timeout=SECONDS, create=False)) as opened:
        yield opened


def test_an_answer_of_300_megabytes_takes_up_a_few_rows_of_it(postgresql_database: Database) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, postgresql_database.url],
        env={**os.environ, **postgresql_database.environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    count, kilobytes = map(int, done.stdout.split())
    assert count == 300
    assert kilobytes < 100_000


def test_portions_have_all_rows_in_order_and_so_many_at_most(connection: OdbcConnection) -> None:
    portions = list(connection.portions("SELECT number FROM generate_series(1, ?) AS number ORDER BY 1", (10,), most=4))
    assert [len(portion) for portion in portions] == [4, 4, 2]
    assert [row[0] for portion in portions for row in portion] == [*range(1, 11)]


@pytest.mark.parametrize("which_first", [0, 1])
def test_two_answers_may_be_read_side_by_side_and_other_questions_asked_meanwhile(
    connection: OdbcConnection, which_first: int
) -> None:
    answers = [connection.portions("SELECT * FROM generate_series(1, ?) AS number", (6,), most=2) for _ in range(2)]
    assert [row[0] for answer in answers for row in next(answer)] == [1, 2, 1, 2]
    assert [*connection.rows("SELECT 7")] == [(7,)]
    for place in (which_first, 1 - which_first):
        assert [row[0] for portion in answers[place] for row in portion] == [3, 4, 5, 6]
    assert [*connection.rows("SELECT 7")] == [(7,)]


def test_an_answer_that_nobody_reads_to_its_end_leaves_a_connection_that_keeps_what_is_written(
    connection: OdbcConnection, postgresql_database: Database
) -> None:
    portions = connection.portions(LARGE_ROWS, (100,), most=1)
    next(portions)
    portions.close()  # type: ignore[attr-defined]  # a generator
    connection.execute("CREATE TABLE written (number INTEGER)")
    url = parse_catalog_url(postgresql_database.url)
    assert isinstance(url, ServerUrl)
    with closing(OdbcConnection(url, password=postgresql_database.password, timeout=SECONDS, create=False)) as other:
        assert [*other.rows("SELECT count(*) FROM written")] == [(0,)]


def test_a_question_that_fails_on_the_way_leaves_a_connection_that_answers(connection: OdbcConnection) -> None:
    divided = "SELECT 10 / (3 - number) FROM generate_series(1, ?) AS number"
    with pytest.raises(CatalogError, match="division by zero"):
        list(connection.portions(divided, (9,), most=1))
    assert [*connection.rows("SELECT 7")] == [(7,)]
