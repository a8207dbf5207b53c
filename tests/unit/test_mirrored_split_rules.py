"""What a mount knows of split rules: as its catalog's table says them, or the saved one."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

import orjson
import pytest

from imgsyncfs.annotations.splits import SplitRule
from imgsyncfs.catalog import Catalog, DatasetRow, open_catalog
from imgsyncfs.catalog.mirror import CatalogMirror
from imgsyncfs.catalog.worker import CatalogReader
from imgsyncfs.errors import CatalogUnreachable, ConfigurationError
from imgsyncfs.workers.pool import Answer, WorkerPool

DATASET = "original_20200207_rgb_bbox"
RULE = SplitRule((7, 2, 1), "^(.*)_")


class OneReader:
    """Stands in for a pool of workers: one of them, in this process, and away if told so."""

    def __init__(self, url: str) -> None:
        self._reader = CatalogReader({"url": url, "password": None, "timeout": 30.0})
        self.is_away = False

    def submit(self, arguments: dict[str, Any]) -> Future[Answer]:
        future: Future[Answer] = Future()
        if self.is_away:
            future.set_exception(CatalogUnreachable("It is away."))
        else:
            future.set_result(self._reader.handle(arguments, lambda _part, _payload: None))
        return future


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with open_catalog(f"sqlite://{tmp_path}/catalog.db", create=True) as opened:
        opened.initialize(store="file:///data")
        row = DatasetRow(DATASET, "1.0.0", "rgb", (), (), (), 0, "", "file:///data", 0, 5)
        opened.replace_dataset(row, [], [])
        yield opened


@pytest.fixture
def reader(catalog: Catalog, tmp_path: Path) -> OneReader:
    return OneReader(f"sqlite://{tmp_path}/catalog.db")


def started(reader: OneReader, folder: Path) -> CatalogMirror:
    mirror = CatalogMirror(cast("WorkerPool", reader), folder, timeout=5.0, report=lambda _: None)
    mirror.start()
    return mirror


def test_a_mount_notices_another_rule(catalog: Catalog, reader: OneReader, tmp_path: Path) -> None:
    mirror = started(reader, tmp_path / "mirror")
    assert mirror.table.split_rule(DATASET) == SplitRule()
    catalog.set_split_rule(DATASET, RULE)
    assert mirror.refresh()
    assert mirror.table.split_rule(DATASET) == RULE
    assert not mirror.refresh()


def test_the_rule_is_known_while_the_database_is_away(catalog: Catalog, reader: OneReader, tmp_path: Path) -> None:
    catalog.set_split_rule(DATASET, RULE)
    started(reader, tmp_path / "mirror")
    reader.is_away = True
    assert started(reader, tmp_path / "mirror").table.split_rule(DATASET) == RULE


def test_a_table_that_an_earlier_version_saved_has_no_rules(reader: OneReader, tmp_path: Path) -> None:
    started(reader, tmp_path / "mirror")
    saved = tmp_path / "mirror" / "datasets.json"
    table = orjson.loads(saved.read_bytes().partition(b"\n")[2])
    del table["split_rules"]
    saved.write_bytes(orjson.dumps(table))
    reader.is_away = True
    assert started(reader, tmp_path / "mirror").table.split_rule(DATASET) == SplitRule()


def test_no_other_rule_is_taken_for_one_that_cannot_be_used(
    catalog: Catalog, reader: OneReader, tmp_path: Path
) -> None:
    catalog._connection.execute("INSERT INTO split_rules VALUES (?, '8/1/1', '(a+)+')", (DATASET,))
    mirror = started(reader, tmp_path / "mirror")
    assert f"The split rule of {DATASET} cannot be used" in mirror.table.faults[0]
    with pytest.raises(ConfigurationError, match="cannot be used"):
        mirror.table.split_rule(DATASET)
