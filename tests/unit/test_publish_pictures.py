"""Pictures that views made of a dataset's images do not take the place of these."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image
from support.publishing import DATASET, Place, annotated_folder, fill, open_place

from imgsyncfs.annotations.house_format import parse_annotation
from imgsyncfs.errors import PublishError
from imgsyncfs.pictures.images import check_image, read_image_header
from imgsyncfs.pictures.kinds import DrawnPicture, PictureKind, ResizedPicture
from imgsyncfs.pictures.marks import DRAWN, mark_text
from imgsyncfs.stores.opening import open_store
from imgsyncfs.tools.preview.files import read_preview_source
from imgsyncfs.tools.preview.picture import preview_source, save_picture
from imgsyncfs.tools.publish.container import index
from imgsyncfs.tools.publish.folder import publish
from imgsyncfs.tools.publish.publication import PublishSummary

OTHER = "original_20260105_rgb_bbox"
KINDS = [DrawnPicture(), ResizedPicture(20), ResizedPicture(640)]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with open_place(tmp_path) as opened:
        annotated_folder(opened.folder, 5)
        opened.publish()
        yield opened


def pictures_of(place: Place, kind: PictureKind, folder: Path) -> Path:
    """A folder of pictures alone, under other names than their images have."""
    fill(
        folder,
        {
            f"renamed_{path.stem}.jpg": kind.make(
                path.read_bytes(), parse_annotation(path.with_suffix(".json").read_bytes())
            )
            for path in sorted(place.folder.glob("*.jpg"))
        },
    )
    return folder


def publish_folder(place: Place, folder: Path, dataset: str, *, drawn: bool = False) -> PublishSummary:
    return publish(folder, catalog=place.catalog, store=place.store, dataset_id=dataset, drawn=drawn)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("drawn", [False, True])
def test_no_picture_takes_the_place_of_the_image_that_it_was_made_of(
    place: Place, tmp_path: Path, kind: PictureKind, drawn: bool
) -> None:
    before = place.published(DATASET)
    folder = pictures_of(place, kind, tmp_path / "pictures")
    blobs = sorted(path for path in (tmp_path / "store").rglob("*"))
    with pytest.raises(PublishError, match=r"would be replaced by copies of themselves .*and 2 more\); publish a copy"):
        publish_folder(place, folder, DATASET, drawn=drawn)
    assert place.published(DATASET) == before
    assert sorted(path for path in (tmp_path / "store").rglob("*")) == blobs


def test_one_picture_among_images_is_enough_to_refuse_them(place: Place) -> None:
    path = place.folder / "a_00003.jpg"
    path.write_bytes(ResizedPicture(20).make(path.read_bytes(), None))
    with pytest.raises(PublishError, match=r"made smaller \(a_00003.jpg\)"):
        place.publish()


def test_smaller_images_are_images_under_another_id_and_stay_when_published_again(place: Place, tmp_path: Path) -> None:
    folder = pictures_of(place, ResizedPicture(20), tmp_path / "pictures")
    assert publish_folder(place, folder, OTHER).images == 5
    assert not publish_folder(place, folder, OTHER).changed
    other = pictures_of(place, ResizedPicture(30), tmp_path / "pictures")
    assert publish_folder(place, other, OTHER).changed


def test_drawn_pictures_under_another_id_must_be_meant_once(place: Place, tmp_path: Path) -> None:
    folder = pictures_of(place, DrawnPicture(), tmp_path / "pictures")
    with pytest.raises(PublishError, match="a trainer would learn the drawn lines") as refused:
        publish_folder(place, folder, OTHER)
    assert refused.value.option == "drawn"
    assert place.catalog.dataset(OTHER) is None
    assert publish_folder(place, folder, OTHER, drawn=True).images == 5
    assert not publish_folder(place, folder, OTHER).changed


def test_pictures_that_are_indexed_in_place_are_refused_as_well(place: Place, tmp_path: Path) -> None:
    folder = pictures_of(place, DrawnPicture(), tmp_path / "pictures")
    with closing(open_store(folder.as_uri())) as store:
        for dataset in (DATASET, OTHER):
            with pytest.raises(PublishError, match="annotations drawn into them"):
                index(store, catalog=place.catalog, dataset_id=dataset)
        assert index(store, catalog=place.catalog, dataset_id=OTHER, drawn=True).images == 5


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_what_the_command_preview_writes_is_known_again(place: Place, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "drawn" / f"a_00000{suffix}"
    source = read_preview_source(place.folder / "a_00000.jpg")
    save_picture(preview_source(source), path, mark=mark_text(DRAWN, source.image_content))
    with pytest.raises(PublishError, match="with annotations drawn into them"):
        publish_folder(place, path.parent, DATASET)


def test_the_mark_is_read_from_the_beginning_of_the_file(place: Place) -> None:
    noise = io.BytesIO()
    Image.effect_noise((1200, 900), 90).save(noise, "JPEG", quality=95, comment=b"by a camera")
    picture = ResizedPicture(640).make(noise.getvalue(), None)
    facts = read_image_header(picture[:4096])
    assert facts == check_image(picture)
    assert facts is not None
    assert facts.made == "resized"
    assert check_image(noise.getvalue()).made == ""
