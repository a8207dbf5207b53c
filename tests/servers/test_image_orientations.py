"""How images are turned to be shown: kept by catalogs in SQLite and PostgreSQL, with pyodbc and without."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from support.old_catalogs import take_additions_away
from support.publishing import DATASET, Place, WatchedStore, fill, house, jpeg, open_place
from support.services import Database
from support.syncing import open_library, read_again

from imgsyncfs.annotations.house_format import Annotation
from imgsyncfs.catalog import AnnotationRow, Catalog, DatasetRow, ImageRow, open_catalog
from imgsyncfs.catalog.listing import read_listing
from imgsyncfs.errors import CatalogError
from imgsyncfs.formats.contract import Format, FormatDescription, ImageInfo, Rendered
from imgsyncfs.library.library import Library
from imgsyncfs.tools.publish.container import index
from imgsyncfs.tools.publish.journal import Journal
from imgsyncfs.tools.sync.source import DatasetSource

ROW = DatasetRow(DATASET, "1.0.0", "rgb", (), (), (), 3, "", "file:///data", 0, 5)
IMAGES = [ImageRow(name, "jpg", 4, 3, 3, 10, "", "blob", 0, place, "", 7) for place, name in enumerate("abc")]
ANNOTATIONS = [AnnotationRow("a", 1, 1, 20, "", "labels", 0, "", 7)]
TURNED = {"a.jpg": jpeg(1, orientation=6), "a.json": house("person", width=30, height=40), "b.jpg": jpeg(2)}


def replaced(catalog: Catalog, orientations: Mapping[str, int], *, images: list[ImageRow] = IMAGES) -> int:
    return catalog.replace_dataset(ROW, images, ANNOTATIONS, orientations=orientations)


def publish_id(catalog: Catalog) -> str:
    row = catalog.dataset(DATASET)
    assert row is not None
    return row.publish_id


def kept_rows(catalog: Catalog) -> dict[str, int]:
    """All that the table holds."""
    return dict(catalog._connection.rows("SELECT name, orientation FROM image_orientations"))


# The catalog


def test_orientations_that_were_published_are_read_and_listed(catalog: Catalog) -> None:
    assert replaced(catalog, {"a": 6, "c": 3}) == 1
    assert catalog.image_orientations(DATASET) == {"a": 6, "c": 3}
    listing = read_listing(catalog, DATASET)
    assert listing is not None
    assert [listing.orientation(index) for index in range(3)] == [6, 1, 3]


def test_only_orientations_that_turn_an_image_of_the_dataset_are_kept(catalog: Catalog) -> None:
    replaced(catalog, {"a": 1, "b": 8, "gone": 6})
    assert kept_rows(catalog) == {"b": 8}


@pytest.mark.parametrize("orientations", [{}, {"a": 6}, {"a": 8, "b": 3}, {"b": 3, "c": 2}])
def test_an_orientation_that_changes_is_a_new_revision_of_a_publish_of_its_own(
    catalog: Catalog, orientations: dict[str, int]
) -> None:
    replaced(catalog, {"a": 6, "b": 3})
    before = publish_id(catalog)
    assert replaced(catalog, orientations) == 2
    assert catalog.image_orientations(DATASET) == orientations
    assert publish_id(catalog) != before


def test_the_same_orientations_again_are_the_same_revision(catalog: Catalog) -> None:
    replaced(catalog, {"a": 6, "b": 3})
    before = publish_id(catalog)
    assert replaced(catalog, {"b": 3, "a": 6, "c": 1}) == 1
    assert publish_id(catalog) == before


def test_the_orientation_of_an_image_that_is_gone_goes_with_it(catalog: Catalog) -> None:
    replaced(catalog, {"a": 6, "b": 3})
    assert replaced(catalog, {"a": 6, "b": 3}, images=IMAGES[:1]) == 2
    assert kept_rows(catalog) == {"a": 6}


def test_orientations_of_other_datasets_stay(catalog: Catalog) -> None:
    replaced(catalog, {"a": 6})
    other = replace(ROW, dataset_id="original_20200208_rgb_bbox")
    catalog.replace_dataset(other, IMAGES, [], orientations={"a": 8})
    replaced(catalog, {})
    assert catalog.image_orientations(other.dataset_id) == {"a": 8}


def test_a_publish_that_fails_leaves_the_orientations_as_they_were(catalog: Catalog) -> None:
    replaced(catalog, {"a": 6})
    with pytest.raises(CatalogError):
        replaced(catalog, {"a": 8, "b": 1 << 70})
    assert catalog.image_orientations(DATASET) == {"a": 6}


def test_many_orientations_go_through_portions_of_statements(catalog: Catalog) -> None:
    images = [replace(IMAGES[0], name=f"a{number}") for number in range(2500)]
    orientations = {image.name: 2 + place % 7 for place, image in enumerate(images)}
    counts: list[int] = []
    catalog.replace_dataset(ROW, images, [], orientations=orientations, progress=counts.append)
    assert catalog.image_orientations(DATASET) == orientations
    assert sum(counts) == len(images)


@pytest.mark.parametrize("value", [None, 0, 9, -6])
def test_an_orientation_written_by_hand_that_is_none_is_named_and_mended_by_the_next_publish(
    catalog: Catalog, caplog: pytest.LogCaptureFixture, value: int | None
) -> None:
    replaced(catalog, {"a": 6, "b": 3})
    catalog._connection.execute("UPDATE image_orientations SET orientation = ? WHERE name = 'a'", (value,))
    assert catalog.image_orientations(DATASET) == {"b": 3}
    assert "none of EXIF's, from 1 to 8" in caplog.text
    assert replaced(catalog, {"a": 6, "b": 3}) == 2
    assert catalog.image_orientations(DATASET) == {"a": 6, "b": 3}


# Catalogs of earlier versions


@pytest.mark.parametrize("level", [0, 1])
def test_a_catalog_of_an_earlier_version_knows_no_orientations(catalog: Catalog, level: int) -> None:
    replaced(catalog, {"a": 6})
    take_additions_away(catalog, level=level)
    assert catalog.image_orientations(DATASET) == {}
    listing = read_listing(catalog, DATASET)
    assert listing is not None
    assert [listing.orientation(index) for index in range(3)] == [1, 1, 1]


@pytest.mark.parametrize("level", [0, 1])
def test_the_next_publish_brings_an_earlier_versions_catalog_orientations(catalog: Catalog, level: int) -> None:
    replaced(catalog, {})
    before = publish_id(catalog)
    take_additions_away(catalog, level=level)
    assert replaced(catalog, {"a": 6}) == 2
    assert catalog.image_orientations(DATASET) == {"a": 6}
    assert publish_id(catalog) not in {"", before}


@pytest.mark.parametrize("level", [0, 1])
def test_init_gives_an_earlier_versions_catalog_all_additions(
    catalog: Catalog, caplog: pytest.LogCaptureFixture, level: int
) -> None:
    take_additions_away(catalog, level=level)
    for _ in range(2):
        assert catalog.initialize(store=catalog.default_store()) is False
    replaced(catalog, {"a": 6})
    assert catalog.image_orientations(DATASET) == {"a": 6}
    assert caplog.text == ""


@pytest.fixture
def catalog_of_another(postgresql_database: Database) -> Iterator[Catalog]:
    """A catalog of a version before orientations, opened by somebody who may write into its tables and add none."""
    url = postgresql_database.url.replace(f"//{postgresql_database.postgresql.user}@", "//turner@")
    with open_catalog(postgresql_database.url, password=postgresql_database.password) as owners:
        owners.initialize(store="file:///data")
        take_additions_away(owners, level=1)
        execute = owners._connection.execute
        for statement in ("DROP ROLE IF EXISTS turner", "CREATE ROLE turner LOGIN PASSWORD 'p'"):
            execute(statement)
        execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO turner")
        try:
            with open_catalog(url, password="p") as catalog:
                yield catalog
        finally:
            execute("DROP OWNED BY turner")
            execute("DROP ROLE turner")


def test_a_publisher_who_may_not_add_a_table_publishes_without_orientations_and_is_told(
    catalog_of_another: Catalog, caplog: pytest.LogCaptureFixture
) -> None:
    assert replaced(catalog_of_another, {"a": 6}) == 1
    assert replaced(catalog_of_another, {"a": 6}, images=IMAGES[:1]) == 2
    assert catalog_of_another.image_orientations(DATASET) == {}
    assert publish_id(catalog_of_another)
    assert "imgsyncfs init" in caplog.text


def test_orientations_that_a_catalog_cannot_keep_are_no_change(
    catalog_of_another: Catalog, store: WatchedStore, tmp_path: Path
) -> None:
    catalog_of_another._connection.execute("UPDATE catalog_settings SET value = ? WHERE name = 'store'", (store.url,))
    place = Place(catalog_of_another, store, tmp_path / "folder")
    fill(place.folder, TURNED)
    assert (place.publish().changed, place.publish().changed) == (True, False)


# Publishing and indexing


def test_publish_keeps_the_orientations_of_images(place: Place, tmp_path: Path) -> None:
    fill(place.folder, TURNED | {"broken.jpg": b"", "c.jpg": jpeg(3, orientation=3)})
    with Journal(tmp_path / "journal") as journal:
        place.publish(journal=journal)
        assert place.catalog.image_orientations(DATASET) == {"a": 6, "c": 3}
        again = place.publish(journal=journal)
    assert (again.changed, again.revision) == (False, 1)


def test_index_keeps_the_orientations_of_images(place: Place, tmp_path: Path) -> None:
    fill(tmp_path / "store", TURNED | {"broken.jpg": b"", "c.jpg": jpeg(3, orientation=3)})
    with Journal(tmp_path / "journal") as journal:
        index(place.store, catalog=place.catalog, dataset_id=DATASET, journal=journal)
        assert place.catalog.image_orientations(DATASET) == {"a": 6, "c": 3}
        again = index(place.store, catalog=place.catalog, dataset_id=DATASET, journal=journal)
    assert (again.changed, again.revision) == (False, 1)


@pytest.mark.parametrize("level", [0, 1])
def test_publishing_an_earlier_versions_dataset_again_is_a_new_revision_if_an_image_is_turned(
    place: Place, level: int
) -> None:
    fill(place.folder, TURNED)
    place.publish()
    take_additions_away(place.catalog, level=level)
    again = place.publish()
    assert (again.changed, again.revision, again.uploaded_bytes) == (True, 2, 0)
    assert place.catalog.image_orientations(DATASET) == {"a": 6}
    assert place.publish().changed is False


def test_publishing_an_earlier_versions_dataset_again_changes_nothing_if_no_image_is_turned(catalog: Catalog) -> None:
    replaced(catalog, {})
    take_additions_away(catalog, level=1)
    assert replaced(catalog, {}) == 1


# Renderings and copies


class SeenImage(Format):
    """Renders to the description of the image that it was given."""

    def render(self, annotation: Annotation, image: ImageInfo) -> Rendered:  # noqa: ARG002 - the image alone is shown
        return Rendered(repr(image).encode())


def versions_of(library: Library) -> dict[str, str]:
    """Name to version of each file that there is to copy."""
    return {file.path: file.version for file in DatasetSource(library, DATASET, amount=None)}


def test_a_rendering_is_told_the_orientation_of_its_image(tmp_path: Path) -> None:
    files = TURNED | {"b.json": house("person")}
    seen = FormatDescription("seen", ".seen", f"{__name__}:SeenImage")
    with open_place(tmp_path) as place:
        fill(place.folder, files)
        place.publish()
        with open_library(tmp_path) as library:
            listing = library.files(DATASET).listing
            rendered = [library.sources.renderer.render(listing, index, seen).decode() for index in range(2)]
    assert rendered == [
        repr(ImageInfo(DATASET, "a", "jpg", 40, 30, 3, 6)),
        repr(ImageInfo(DATASET, "b", "jpg", 30, 40, 3, 1)),
    ]


def test_what_is_rendered_of_an_image_has_another_version_when_its_orientation_becomes_known(tmp_path: Path) -> None:
    with open_place(tmp_path) as place:
        fill(place.folder, TURNED | {"b.json": house("person")})
        place.publish()
        take_additions_away(place.catalog, level=1)
        with open_library(tmp_path, siblings=("rolabelimg",)) as library:
            before = versions_of(library)
            place.publish()
            read_again(library)
            after = versions_of(library)
    assert before.keys() == after.keys() == {"a.jpg", "a.json", "a.xml", "b.jpg", "b.json", "b.xml"}
    assert {name for name in after if after[name] != before[name]} == {"a.xml"}
