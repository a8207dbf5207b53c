"""Selections of images: kept and answered by catalogs in SQLite and PostgreSQL, with pyodbc and without."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.old_catalogs import take_additions_away
from support.services import Database
from support.tds_server import TdsServer

from imgsyncfs.annotations.label_counts import LabelCount
from imgsyncfs.catalog import AnnotationRow, Catalog, DatasetRow, ImageRow, open_catalog
from imgsyncfs.catalog.conditions import ImageQuery, parse_condition
from imgsyncfs.catalog.labels import MOST_VALUES
from imgsyncfs.catalog.rows import DatasetLabelsRow, SelectionRow
from imgsyncfs.catalog.selecting import count_selection, may_hold, select, select_images
from imgsyncfs.catalog.selections import find_selection
from imgsyncfs.errors import CatalogError, ConfigurationError

STREET, HOUSE = "original_20260101_rgb_bbox", "opensource_people_fisheye_clf"
DAY = 86_400


@pytest.fixture(params=["sqlite", "postgresql", "sqlite_odbc", "sql_server"])
def catalog(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Catalog]:
    """A catalog of two datasets, in each kind of database."""
    url, password = f"sqlite://{tmp_path}/catalog.db", None
    if request.param == "postgresql":
        database: Database = request.getfixturevalue("postgresql_database")
        url, password = database.url, database.password
    elif request.param == "sql_server":
        server: TdsServer = request.getfixturevalue("sql_server")
        url, password = server.url, server.password
    elif request.param == "sqlite_odbc":
        url = request.getfixturevalue("sqlite_odbc_url")
    with open_catalog(url, password=password, create=True) as opened:
        opened.initialize(store="file:///data")
        fill(opened)
        yield opened


def fill(catalog: Catalog) -> None:
    publish(
        catalog,
        STREET,
        "rgb",
        {
            "street_1": (1, {"person": 2, "car": 1}),
            "street_2": (0, {"car": 5}),
            "street_3": (1, {"person with face": 1}),
            "street_4": None,
        },
    )
    publish(catalog, HOUSE, "fisheye360", {"a": (1, {"Gender": "Female"}), "b": (1, {"Gender": "Male", "person": 1})})


def publish(
    catalog: Catalog, dataset_id: str, image_type: str, said: Mapping[str, tuple[int, Mapping[str, Any]] | None]
) -> None:
    """Publish images, each (label_checked, classes with numbers and classifications with values); None without any."""
    row = DatasetRow(dataset_id, "1.0.0", image_type, (), ("first",), (), len(said), "", "file:///data", 0, 5)
    images = [
        ImageRow(name, "jpg", 400 + 100 * place, 600, 3, 10, "", "blob", 0, place, "", place * DAY)
        for place, name in enumerate(said)
    ]
    annotations, labels = [], {}
    for name, entry in said.items():
        if entry is None:
            continue
        checked, found = entry
        labels[name] = tuple(
            LabelCount("", each, value) if isinstance(value, int) else LabelCount(each, value, 0)
            for each, value in found.items()
        )
        annotations.append(
            AnnotationRow(name, checked, sum(each[2] or 1 for each in labels[name]), 20, "", "l", 0, "", 7)
        )
    catalog.replace_dataset(row, images, annotations, labels=labels)


def found(catalog: Catalog, *conditions: str, **options: Any) -> set[str]:
    """The images of a selection with these conditions."""
    row = select(catalog, "chosen", conditions=conditions, **options)
    names: set[str] = set()
    for each in select_images(catalog, row, catalog.datasets()):
        names.update(catalog.image_names(each.row.dataset_id) if each.names is None else each.names)
    return names


EVERYTHING = {"street_1", "street_2", "street_3", "street_4", "a", "b"}


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ((), EVERYTHING),
        (("class=person",), {"street_1", "b"}),
        (("class!=person",), EVERYTHING - {"street_1", "b"}),
        (("class=person", "class=car"), {"street_1"}),
        (("class=car", "class!=person"), {"street_2"}),
        (("Gender=Female",), {"a"}),
        (("Gender!=Female",), EVERYTHING - {"a"}),
        (("Gender=Male", "class=person"), {"b"}),
        (("label_checked=1",), {"street_1", "street_3", "a", "b"}),
        (("label_checked=0",), {"street_2", "street_4"}),
        (("objects>3",), {"street_2"}),
        (("objects=0",), {"street_4"}),
        (("class=car", "objects<=3"), {"street_1"}),
        (("height>=600",), {"street_3", "street_4"}),
        (("class=person", "height>400"), {"b"}),
        (("width!=600",), set()),
        (("date>=1970-01-03",), {"street_3", "street_4"}),
        (("image_type=rgb",), {"street_1", "street_2", "street_3", "street_4"}),
        (("source!=original", "class=person"), {"b"}),
    ],
)
def test_a_selection_has_the_images_that_meet_all_of_its_conditions(
    catalog: Catalog, conditions: tuple[str, ...], expected: set[str]
) -> None:
    assert found(catalog, *conditions) == expected


def test_a_selection_takes_the_first_images_by_dataset_and_name(catalog: Catalog) -> None:
    assert found(catalog, dataset_ids=(STREET, HOUSE), first_images=5) == EVERYTHING - {"b"}
    assert found(catalog, "objects>0", dataset_ids=(HOUSE, STREET), first_images=3) == {"a", "b", "street_1"}


def test_an_image_that_is_published_later_joins(catalog: Catalog) -> None:
    row = select(catalog, "people", conditions=["class=person"])
    publish(catalog, HOUSE, "fisheye360", {"a": (1, {"person": 3}), "b": (1, {"Gender": "Male"})})
    names = {each.row.dataset_id: each.names for each in select_images(catalog, row, catalog.datasets())}
    assert names == {STREET: ("street_1",), HOUSE: ("a",)}


def test_objects_are_counted_under_the_names_that_they_have_in_the_selection(catalog: Catalog) -> None:
    row = select(catalog, "people", mapped={"person with face": "person"}, dropped=["car"])
    counts = count_selection(catalog, row, catalog.datasets())
    assert dict(counts.images) == {STREET: 4, HOUSE: 2}
    assert dict(counts.objects) == {"person": 4}
    some = select(catalog, "some", conditions=["label_checked=1"], mapped={"person with face": "person"})
    assert dict(count_selection(catalog, some, catalog.datasets()).objects) == {"car": 1, "person": 4}


def test_classes_keep_their_numbers_when_a_selection_grows(catalog: Catalog) -> None:
    select(catalog, "people", dataset_ids=[HOUSE])
    publish(catalog, STREET, "rgb", {"street_1": (1, {"apple": 1, "zebra": 1})})
    row = select(catalog, "people", dataset_ids=[HOUSE, STREET])
    assert row.classes == ("person", "apple", "zebra")


def test_selections_are_kept_until_they_are_removed(catalog: Catalog) -> None:
    kept = select(
        catalog,
        "人 & co",
        dataset_ids=[STREET],
        conditions=["objects > 1"],
        mapped={"person with face": "person"},
        dropped=["car"],
        first_images=7,
    )
    assert catalog.selections() == [kept]
    assert kept.conditions == ("objects>1",)
    assert catalog.table().selections == [kept]
    catalog.remove_selection("人 & co")
    assert catalog.selections() == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"conditions": ["class=persn"]}, "did you mean person"),
        ({"conditions": ["Gendr=Female"]}, "did you mean Gender"),
        ({"conditions": ["person"]}, "write COLUMN=VALUE"),
        ({"conditions": ["objects>many"]}, "a whole number"),
        ({"conditions": ["date>yesterday"]}, "2026-01-31"),
        ({"conditions": ["class>person"]}, "only numbers"),
        ({"mapped": {"persn": "person"}}, "did you mean person"),
        ({"dropped": ["cat"]}, "did you mean car"),
        ({"dataset_ids": ["original_20260101_rgb_bbx"]}, STREET),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_was_probably_meant(
    catalog: Catalog, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        select(catalog, "chosen", **options)
    assert catalog.selections() == []


@pytest.mark.parametrize("name", ["", ".hidden", "@marked", "a/b", "n\0ul"])
def test_a_name_that_cannot_be_a_directory_is_refused(catalog: Catalog, name: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be a selection's name"):
        select(catalog, name)


def test_values_go_to_the_database_as_parameters(catalog: Catalog) -> None:
    hostile = "x' OR '1'='1"
    publish(catalog, HOUSE, "fisheye360", {"a": (1, {hostile: 1}), "b": (1, {"person": 1})})
    assert found(catalog, f"class={hostile}") == {"a"}


def test_a_class_is_not_looked_for_where_nobody_knows_what_annotations_say(catalog: Catalog) -> None:
    publish(catalog, HOUSE, "fisheye360", {"a": (1, {"person": 1})})
    row = DatasetRow("original_20260102_rgb_bbox", "1.0.0", "rgb", (), (), (), 1, "", "file:///data", 0, 5)
    catalog.replace_dataset(row, [ImageRow("new", "jpg", 1, 1, 3, 1, "", "blob", 0, 0, "", 0)], [])
    selection = SelectionRow("people", conditions=("class=person",))
    with pytest.raises(CatalogError, match="imgsyncfs init"):
        select_images(catalog, selection, catalog.datasets())
    assert len(select_images(catalog, SelectionRow("all"), catalog.datasets())) == 3


@pytest.mark.parametrize(
    ("condition", "asked"),
    [
        ("class=car", [STREET]),
        ("class=person", [HOUSE, STREET]),
        ("class!=car", [HOUSE, STREET]),
        ("Gender=Male", [HOUSE]),
        ("Gender=male", []),
        ("objects>0", [HOUSE, STREET]),
    ],
)
def test_a_dataset_that_says_a_label_nowhere_is_not_asked_for_it(
    catalog: Catalog, condition: str, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    queries: list[ImageQuery] = []

    def names_of(query: ImageQuery) -> list[str]:
        queries.append(query)
        return []

    monkeypatch.setattr(catalog, "names_of", names_of)
    select_images(catalog, SelectionRow("chosen", conditions=(condition,)), catalog.datasets())
    assert [next(each for each in (HOUSE, STREET) if each in query.parameters) for query in queries] == asked


def test_a_label_may_be_among_those_of_which_a_dataset_keeps_only_some() -> None:
    many = tuple(map(str, range(MOST_VALUES)))
    labels = DatasetLabelsRow(STREET, "1.0.0", many, {"plate": many, "Gender": ("Female",)})
    assert all(may_hold(parse_condition(each), labels) for each in ("class=car", "plate=none", "Gender=Female"))
    assert not may_hold(parse_condition("Gender=Male"), labels)


@pytest.mark.parametrize("name", ["people", "@people"])
def test_what_makes_a_selection_that_is_not_there_is_named_without_the_mark(name: str) -> None:
    with pytest.raises(ConfigurationError, match="^There is no selection 'people'; .* imgsyncfs select people "):
        find_selection({}, name)


def test_a_catalog_of_an_earlier_version_has_no_selections_until_one_is_kept(catalog: Catalog) -> None:
    take_additions_away(catalog, level=4)
    assert catalog.selections() == []
    select(catalog, "all")
    assert [each.name for each in catalog.selections()] == ["all"]
