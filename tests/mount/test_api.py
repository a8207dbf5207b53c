"""The Python API: a catalog's datasets, images and annotations as typed objects, without a mount."""

from __future__ import annotations

import hashlib
import io
import itertools
import multiprocessing
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import lxml.html
import numpy as np
import pytest
from PIL import Image
from support.api_setup import work_in
from support.catalog_users import read_all, read_dataset
from support.mounting import Workplace, all_end_after, box_annotation, noise_image, write_folder, write_image

import imgsyncfs
from imgsyncfs import api
from imgsyncfs.annotations.house_format import ObjectLabel, RotatedBox
from imgsyncfs.catalog import open_catalog
from imgsyncfs.errors import (
    AnnotationError,
    BlobMissing,
    CatalogError,
    CatalogMissing,
    ConfigurationError,
    StoreMissing,
)
from imgsyncfs.settings.config_file import PASSWORD_VARIABLE
from imgsyncfs.stores.opening import open_store
from imgsyncfs.tools.demo import DEMO_FILES, make_demo
from imgsyncfs.tools.publish.folder import publish
from imgsyncfs.tools.publish.publication import DatasetOptions

DATASET = "original_20260105_rgb_rbbox"
FISHEYE = "original_20200207_fisheye_rbbox"


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """A catalog with one dataset of three images, the last of them without an annotation."""
    folder = write_folder(tmp_path / "one", count=3)
    (folder / "img_00002.json").unlink()
    workplace = Workplace(str(tmp_path / "catalog.db"), tmp_path)
    store = open_store(f"file://{tmp_path}/store")
    store.create()
    with open_catalog(workplace.catalog, create=True) as catalog:
        catalog.initialize(store=store.url)
        publish(folder, catalog=catalog, store=store, dataset_id=DATASET, options=DatasetOptions(), loose=True)
    store.close()
    work_in(workplace, monkeypatch)
    return workplace


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[imgsyncfs.ImageCatalog]:
    """The demo catalog, open."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as monkeypatch:
        work_in(Workplace(str(make_demo(folder / "demo").catalog), folder), monkeypatch)
        with imgsyncfs.connect() as catalog:
            yield catalog


def test_importing_the_package_imports_nothing_that_takes_long() -> None:
    script = "import sys, imgsyncfs; print([m for m in sys.modules if m in ('numpy', 'pandas') or 'imgsyncfs.' in m])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_the_package_names_what_its_api_offers_and_nothing_else() -> None:
    assert set(imgsyncfs.__all__) <= set(dir(imgsyncfs))
    assert all(getattr(imgsyncfs, name) is getattr(api, name) for name in imgsyncfs.__all__)
    with pytest.raises(AttributeError, match="conect"):
        imgsyncfs.conect  # noqa: B018  # the look is the test


def test_a_dataset_gives_its_images_and_annotations_in_the_catalogs_order(demo: imgsyncfs.ImageCatalog) -> None:
    for dataset in demo.datasets.values():
        files = sorted((DEMO_FILES / dataset.id).glob("*.jpg"))
        read = list(dataset)
        assert [one.name for one in read] == [file.stem for file in files] == list(dataset.names)
        assert [one.content for one in read] == [file.read_bytes() for file in files]
        assert [one.annotation for one in read] == [dataset.annotation(file.stem) for file in files]
        assert len(dataset) == len(files) == dataset.row.size


def test_an_image_is_chosen_by_its_number_as_well(demo: imgsyncfs.ImageCatalog) -> None:
    dataset = demo.datasets[FISHEYE]
    images = list(dataset)
    assert [dataset[place] for place in range(len(dataset))] == images
    assert dataset[-1] == dataset[np.int64(len(dataset) - 1)] == images[-1]
    for place in (len(dataset), -len(dataset) - 1):
        with pytest.raises(IndexError, match=rf"{FISHEYE} has {len(dataset)} images; there is none at {place}"):
            dataset[place]
    wrong: Any = 1.5
    with pytest.raises(TypeError, match=r"by its stem or its number, not by 1\.5"):
        dataset[wrong]


def test_names_are_a_sequence_that_is_made_when_it_is_looked_at(demo: imgsyncfs.ImageCatalog) -> None:
    dataset = demo.datasets[FISHEYE]
    names = dataset.names
    assert [names[place] for place in range(len(names))] == list(names) == [one.name for one in dataset]
    assert names[1:3] == list(names)[1:3]
    assert names[-1] == list(names)[-1]
    assert f"{FISHEYE}_00079" in names
    assert "nothing" not in names
    assert f"{len(names)} in all" in repr(names)


def test_datasets_are_a_mapping(demo: imgsyncfs.ImageCatalog) -> None:
    datasets = demo.datasets
    assert list(datasets) == list(datasets.keys()) == list(datasets.ids)
    assert [dataset.id for dataset in datasets.values()] == list(datasets)
    assert datasets.get(FISHEYE) == datasets[FISHEYE]
    assert datasets.get("nothing") is None
    assert dict(datasets.items())[FISHEYE].row == datasets[FISHEYE].row


def test_a_notebook_shows_an_image_in_a_line(demo: imgsyncfs.ImageCatalog) -> None:
    image = demo.datasets[FISHEYE][f"{FISHEYE}_00079"]
    assert repr(image) == f"LabelledImage('{FISHEYE}_00079', {len(image.content):,} bytes, 23 labels)"


def test_a_notebook_shows_an_image_with_its_annotation_drawn(demo: imgsyncfs.ImageCatalog) -> None:
    image = demo.datasets[FISHEYE][f"{FISHEYE}_00079"]
    shown = image._repr_png_()
    assert shown is not None
    picture = Image.open(io.BytesIO(shown))
    assert picture.format == "PNG"
    assert max(picture.size) <= 1024
    plain = image._replace(annotation=None)._repr_png_()
    assert plain is not None
    assert plain != shown
    assert Image.open(io.BytesIO(plain)).size == picture.size
    assert image._replace(content=b"no image")._repr_png_() is None


def test_a_notebook_shows_datasets_as_a_table(demo: imgsyncfs.ImageCatalog) -> None:
    table = lxml.html.fromstring(demo.datasets._repr_html_())
    rows = table.findall(".//tr")
    assert len(rows) == 1 + len(demo.datasets)
    assert [rows[1 + place].findtext("td") for place in range(len(demo.datasets))] == list(demo.datasets)


def test_a_notebook_shows_a_dataset_as_a_table_of_what_the_catalog_says(demo: imgsyncfs.ImageCatalog) -> None:
    dataset = demo.datasets["opensource_imdbwiki&affectnet_rgb_clf&reg"]
    assert repr(dataset) == f"Dataset({dataset.id!r}, 4 images)"
    table = lxml.html.fromstring(dataset._repr_html_())
    shown = {row.findtext("th"): row.findtext("td") for row in table.findall(".//tr")}
    assert (shown["dataset_id"], shown["classes"], shown["size"]) == (dataset.id, "gender, emotion", "4")


def test_an_annotation_comes_as_typed_objects(demo: imgsyncfs.ImageCatalog) -> None:
    annotation = demo.datasets[FISHEYE].annotation(f"{FISHEYE}_00079")
    assert annotation is not None
    [label] = annotation.labels
    assert isinstance(label, ObjectLabel)
    assert len(label.objects) == 23
    assert label.objects[0] == RotatedBox("person", 325.0606, 1830.0276, 234.9766, 124.9476, 2.805079)


def test_one_image_is_read_by_its_name(demo: imgsyncfs.ImageCatalog) -> None:
    dataset = demo.datasets[FISHEYE]
    name, content, annotation = dataset[f"{FISHEYE}_00012"]
    assert name == f"{FISHEYE}_00012"
    assert annotation == dataset.annotation(name)
    assert content == dataset.content(name) == (DEMO_FILES / FISHEYE / dataset.file_name(name)).read_bytes()


def test_an_image_alone_is_read_by_its_name_as_a_picture(demo: imgsyncfs.ImageCatalog) -> None:
    dataset = demo.datasets[FISHEYE]
    assert dataset.image(f"{FISHEYE}_00012") == dataset[f"{FISHEYE}_00012"].image


def test_datasets_are_selected_by_conditions_that_all_hold(demo: imgsyncfs.ImageCatalog) -> None:
    fisheye = demo.datasets.select("image_type=fisheye360", "source=original")
    assert len(fisheye) == 7
    assert all(dataset.row.image_type == "fisheye360" for dataset in fisheye.values())
    assert fisheye.select("label_version=1.0.0").ids == ()
    assert demo.datasets.select("class=emotion").ids == ("opensource_imdbwiki&affectnet_rgb_clf&reg",)


def test_datasets_are_found_by_id_in_the_order_given(demo: imgsyncfs.ImageCatalog) -> None:
    ids = tuple(reversed(demo.datasets.ids[3:6]))
    assert demo.datasets.of(ids).ids == ids
    assert ids[0] in demo.datasets
    assert "original" not in demo.datasets


def test_an_unknown_dataset_is_an_error_that_names_near_ones(demo: imgsyncfs.ImageCatalog) -> None:
    with pytest.raises(ConfigurationError, match=FISHEYE):
        demo.datasets["original_20200207_fisheye_rbox"]


def test_an_unknown_column_is_an_error_that_names_near_ones(demo: imgsyncfs.ImageCatalog) -> None:
    with pytest.raises(ConfigurationError, match="image_type"):
        demo.datasets.select("imagetype=fisheye360")


@pytest.mark.parametrize("name", ["img_99999", f"{FISHEYE}_00012.jpg", "", "\ud800", "a\0b"])
def test_an_unknown_image_is_an_error_that_names_it(demo: imgsyncfs.ImageCatalog, name: str) -> None:
    dataset = demo.datasets[FISHEYE]
    assert name not in dataset
    for read in (dataset.__getitem__, dataset.image, dataset.content, dataset.annotation, dataset.file_name):
        with pytest.raises(CatalogMissing) as caught:
            read(name)
        assert repr(name) in str(caught.value)
        assert FISHEYE in str(caught.value)


def test_several_threads_read_at_once(demo: imgsyncfs.ImageCatalog) -> None:
    dataset = demo.datasets[FISHEYE]
    expected = list(dataset)
    with ThreadPoolExecutor(8) as threads:
        for read in threads.map(lambda _: list(demo.datasets[FISHEYE]), range(16)):
            assert read == expected


def test_an_iteration_that_is_left_early_leaves_the_catalog_usable(demo: imgsyncfs.ImageCatalog) -> None:
    dataset = demo.datasets[FISHEYE]
    [first] = itertools.islice(dataset, 1)
    assert dataset[first.name] == first


def test_an_image_without_an_annotation_has_none(workplace: Workplace) -> None:
    with imgsyncfs.connect() as catalog:
        dataset = catalog.datasets[DATASET]
        assert [annotation is None for _, _, annotation in dataset] == [False, False, True]
        assert dataset.annotation("img_00002") is None


def test_files_in_packs_and_large_ones_are_read_whole(workplace: Workplace, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "mixed", count=30)
    rng = np.random.default_rng(1)
    large = Image.fromarray(rng.integers(0, 256, (2000, 2400, 3), dtype=np.uint8))
    large.save(folder / "large.png", compress_level=0)
    assert (folder / "large.png").stat().st_size > 12 << 20
    noise_image(folder / "img_00005b.png", seed=2)
    workplace.run("publish", folder, "--name", "original_20260106_rgb_rbbox")
    with imgsyncfs.connect() as catalog:
        dataset = catalog.datasets["original_20260106_rgb_rbbox"]
        for name, content, _ in dataset:
            published = (folder / dataset.file_name(name)).read_bytes()
            assert hashlib.md5(content).digest() == hashlib.md5(published).digest()
        assert len(dataset) == 32


def test_a_broken_annotation_ends_the_iteration_and_names_its_file_and_the_others_can_be_read(
    workplace: Workplace,
) -> None:
    [blob] = (workplace.folder / "store").rglob("img_00000.*.json")
    broken = blob.read_bytes().replace(b'"x"', b'"q"')
    blob.chmod(0o644)
    blob.write_bytes(broken)
    with sqlite3.connect(workplace.catalog) as connection:
        digest = hashlib.md5(broken).hexdigest()
        connection.execute("UPDATE annotations SET md5 = ? WHERE name = 'img_00000'", (digest,))
    connection.close()
    with imgsyncfs.connect() as catalog:
        dataset = catalog.datasets[DATASET]
        with pytest.raises(AnnotationError, match=rf"{DATASET}/img_00000\.json.*object\[0\]\.x"):
            list(dataset)
        assert dataset["img_00001"].annotation is not None
        assert dataset.image("img_00000").size == (64, 48)


def test_a_blob_that_is_gone_is_an_error_that_names_it(workplace: Workplace) -> None:
    [blob] = (workplace.folder / "store").rglob("img_00001.*.jpg")
    blob.unlink()
    with imgsyncfs.connect() as catalog, pytest.raises(BlobMissing, match=blob.name):
        list(catalog.datasets[DATASET])


def test_what_was_read_once_is_read_again_with_the_store_away(workplace: Workplace) -> None:
    with imgsyncfs.connect() as catalog:
        first = list(catalog.datasets[DATASET])
        (workplace.folder / "store").rename(workplace.folder / "away")
        assert list(catalog.datasets[DATASET]) == first
        with pytest.raises(StoreMissing, match="store"):
            catalog.check_stores()


@pytest.mark.parametrize("way", ["fork", "spawn", "forkserver"])
def test_another_process_reads_what_it_is_given_however_it_was_started(workplace: Workplace, way: str) -> None:
    right = [(workplace.folder / "one" / f"img_{number:05}.jpg").read_bytes() for number in range(3)]
    with imgsyncfs.connect() as catalog, multiprocessing.get_context(way).Pool(2) as pool:
        dataset = catalog.datasets[DATASET]
        # Nothing has been read before: the child has to fetch it.
        assert pool.apply_async(read_all, (dataset,)).get(60) == right
        assert pool.apply_async(read_dataset, (catalog, DATASET)).get(60) == right
        assert read_all(dataset) == right


def test_a_forked_process_goes_on_with_a_catalog_that_is_open_and_leaves_the_parents_alone(
    workplace: Workplace,
) -> None:
    right = (workplace.folder / "one" / "img_00000.jpg").read_bytes()
    context = multiprocessing.get_context("fork")
    with imgsyncfs.connect() as catalog:
        dataset = catalog.datasets[DATASET]
        answers = context.SimpleQueue()
        child = context.Process(target=lambda: answers.put(dataset.content("img_00000")))
        child.start()
        assert answers.get() == right
        child.join(20)
        assert child.exitcode == 0
        assert dataset.content("img_00001")


def test_no_password_is_in_a_pickle(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    with imgsyncfs.connect(password="s3cret-word") as catalog:
        sent = pickle.dumps(catalog) + pickle.dumps(catalog.datasets[DATASET])
    assert b"s3cret-word" not in sent
    monkeypatch.setenv(PASSWORD_VARIABLE, "of the environment")
    # Each is closed here; who takes out the next one gets one that reads.
    with pickle.loads(pickle.dumps(catalog)) as first:
        assert DATASET in first.datasets
    with pickle.loads(pickle.dumps(catalog)) as second:
        assert DATASET in second.datasets
    assert pickle.loads(pickle.dumps(catalog))._settings.password == "of the environment"


def test_a_store_that_is_there_passes_the_check(workplace: Workplace) -> None:
    with imgsyncfs.connect() as catalog:
        catalog.check_stores()


def test_a_closed_catalog_says_so_and_leaves_no_process_behind(workplace: Workplace) -> None:
    with imgsyncfs.connect() as catalog:
        dataset = catalog.datasets[DATASET]
        name, _, _ = next(iter(dataset))
        library = catalog._reader.library
        processes = [*library.catalog_pool.process_ids(), *library.fetch_pool.process_ids()]
    for use in (lambda: dataset[name], lambda: catalog.datasets, catalog.refresh):
        with pytest.raises(ConfigurationError, match="is closed"):
            use()
    catalog.close()
    assert all_end_after(processes)


def test_a_relative_path_goes_on_working_when_the_working_directory_changes(
    workplace: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with imgsyncfs.connect("catalog.db") as catalog:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        [worker] = catalog._reader.library.catalog_pool.process_ids()
        os.kill(worker, signal.SIGKILL)
        assert all_end_after([worker])
        assert catalog.refresh() is False
        assert len(catalog.datasets[DATASET]) == 3


def test_a_refresh_shows_what_was_published_and_objects_got_before_stay_as_they_are(
    workplace: Workplace, tmp_path: Path
) -> None:
    with imgsyncfs.connect() as catalog:
        before = catalog.datasets[DATASET]
        files = list(before)
        write_image(tmp_path / "one" / "img_00000.jpg", shade=200)
        (tmp_path / "one" / "img_00002.json").write_bytes(box_annotation(x=44))
        workplace.run("publish", tmp_path / "one", "--name", DATASET, "--loose")
        workplace.run("publish", write_folder(tmp_path / "two"), "--name", "original_20260107_rgb_rbbox")
        assert len(catalog.datasets) == 1
        assert catalog.refresh() is True
        assert catalog.datasets.ids == (DATASET, "original_20260107_rgb_rbbox")
        assert list(before) == files
        after = catalog.datasets[DATASET]
        assert after.content("img_00000") == (tmp_path / "one" / "img_00000.jpg").read_bytes() != files[0].content
        assert after.annotation("img_00002") is not None


def test_a_subscription_of_the_catalog_gives_its_datasets(workplace: Workplace, tmp_path: Path) -> None:
    workplace.run("publish", write_folder(tmp_path / "two"), "--name", "opensource_birds_rgb_rbbox")
    workplace.run("subscribe", "mine", "--where", "source=original")
    with imgsyncfs.connect() as catalog:
        assert catalog.subscription("mine").ids == (DATASET,)
        with pytest.raises(ConfigurationError, match="mine"):
            catalog.subscription("mime")


def test_without_a_catalog_it_says_how_to_give_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work_in(Workplace("", tmp_path), monkeypatch)
    with pytest.raises(ConfigurationError, match="IMGSYNCFS_CATALOG"):
        imgsyncfs.connect()


def test_a_catalog_that_is_not_there_is_named(workplace: Workplace, tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="nowhere"):
        imgsyncfs.connect(str(tmp_path / "nowhere.db"))


def test_a_catalog_that_cannot_be_opened_leaves_no_process_behind(workplace: Workplace, tmp_path: Path) -> None:
    script = (
        "import imgsyncfs, os, subprocess\n"
        f"try: imgsyncfs.connect({str(tmp_path / 'nowhere.db')!r})\n"
        "except imgsyncfs.errors.CatalogError: pass\n"
        "print(open(f'/proc/self/task/{os.getpid()}/children').read())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == ""


def test_the_password_is_nowhere_in_what_is_printed(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, "s3cret-word")
    with imgsyncfs.connect() as catalog:
        assert "s3cret-word" not in repr(catalog) + repr(vars(catalog)) + repr(catalog.datasets)


def test_datasets_are_copied_to_plain_folders(workplace: Workplace, tmp_path: Path) -> None:
    with imgsyncfs.connect() as catalog:
        catalog.sync(tmp_path / "copy", datasets=[catalog.datasets[DATASET]], amount=2)
        published = {path.name: path.read_bytes() for path in (tmp_path / "one").glob("img_0000[01].*")}
        assert {path.name: path.read_bytes() for path in (tmp_path / "copy" / DATASET).glob("img*")} == published
        catalog.sync(tmp_path / "all")
        assert (tmp_path / "all" / DATASET / "img_00002.jpg").exists()
        with pytest.raises(ConfigurationError, match=DATASET):
            catalog.sync(tmp_path / "copy", datasets=["original_20260105_rgb_rbox"])


def test_the_demo_is_what_open_catalog_says(demo: imgsyncfs.ImageCatalog) -> None:
    with open_catalog(demo._settings.catalog) as catalog:
        assert [dataset.row for dataset in demo.datasets.values()] == catalog.datasets()
