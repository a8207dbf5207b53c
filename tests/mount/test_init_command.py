"""The command init on a catalog of an earlier version: what it says, what it does, and who is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.mounting import Workplace, copy_of, local_workplace, workplace_with, write_folder
from support.old_catalogs import take_additions_away

from imgsyncfs.catalog import open_catalog
from imgsyncfs.catalog.schema import SCHEMA_ADDITIONS

DATASET = "original_20260401_rgb_rbbox"
ELSEWHERE = "opensource_elsewhere_rgb_rbbox"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return workplace_with(tmp_path_factory.mktemp("old"), DATASET, count=3)


@pytest.fixture
def old(published: Workplace, tmp_path: Path) -> Workplace:
    """A catalog of a version before labels, with a dataset."""
    workplace = copy_of(published, tmp_path)
    with open_catalog(workplace.catalog) as catalog:
        take_additions_away(catalog, level=2)
    return workplace


def init(workplace: Workplace, *options: str, status: int = 0) -> tuple[str, str]:
    done = workplace.run("init", "--store", f"file://{workplace.folder}/store", *options, status=status)
    return done.stdout, done.stderr


def level_of(workplace: Workplace) -> int:
    with open_catalog(workplace.catalog) as catalog:
        catalog.check()
        return catalog._settings.level


def test_it_says_what_it_will_do_and_does_it(old: Workplace) -> None:
    said, _ = init(old)
    first, second, *rest = said.splitlines()
    assert "the table split_rules; the tables annotation_labels and dataset_labels" in first
    assert "Earlier versions go on working with it" in first
    assert "the annotations of 1 dataset (3 images) are read" in second
    assert rest[-1] == "The catalog knows what 3 annotations of 1 dataset say."
    assert level_of(old) == int(SCHEMA_ADDITIONS)


def test_typed_again_it_has_nothing_to_do(old: Workplace) -> None:
    init(old)
    said, _ = init(old)
    assert [line.partition(" was a catalog already")[1] for line in said.splitlines()] == [" was a catalog already"]


def test_a_new_catalog_is_made_without_a_word_about_earlier_versions(tmp_path: Path) -> None:
    workplace = Workplace(str(tmp_path / "catalog.db"), tmp_path)
    said, _ = init(workplace)
    assert [line.partition(" is ready; next: ")[1] for line in said.splitlines()] == [" is ready; next: "]


def test_another_store_is_refused_before_anything_is_changed(old: Workplace) -> None:
    done = old.run("init", "--store", f"file://{old.folder}/other", status=None)
    assert "and not" in done.stderr
    assert level_of(old) == 2


def test_a_mount_shows_at_once_what_became_known(old: Workplace) -> None:
    with open_catalog(old.catalog) as catalog:
        catalog._connection.execute("UPDATE datasets SET classes = ''")
    with old.mounted("--refresh", "3600") as mountpoint:
        yaml = mountpoint / ".views" / "yolo" / DATASET / "data.yaml"
        assert "person" not in yaml.read_text()
        said, _ = init(old)
        assert f"The mount at {mountpoint} shows it." in said
        assert "person" in yaml.read_text()


def test_a_dataset_elsewhere_is_named_and_left_until_its_store_is_allowed(tmp_path: Path) -> None:
    workplace = local_workplace(tmp_path)
    store = f"file://{write_folder(tmp_path / 'elsewhere', count=2)}"
    workplace.run("index", store, "--name", ELSEWHERE)
    with open_catalog(workplace.catalog) as catalog:
        take_additions_away(catalog, level=3)
    _, told = init(workplace, status=3)
    assert f"{ELSEWHERE}: " in told
    assert "--allow-store" in told
    said, _ = init(workplace, "--allow-store", store)
    assert "The catalog knows what 2 annotations of 1 dataset say." in said
