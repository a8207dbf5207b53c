"""Listings: built from rows, searched, saved, loaded, compared."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples

from imgsyncfs.catalog.listing import (
    CollectedRows,
    FileRecord,
    Listing,
    build_listing,
    changed,
    collect_annotations,
    load_listing,
    read_listing,
    save_listing,
)
from imgsyncfs.catalog.listing.files import blob_template, expand_template
from imgsyncfs.catalog.naming import file_name_fault
from imgsyncfs.catalog.row_values import (
    LISTED_ANNOTATION_COLUMNS,
    LISTED_IMAGE_COLUMNS,
    annotation_row,
    decoded,
    listed_image_row,
)
from imgsyncfs.catalog.rows import AnnotationRow, DatasetRow, ImageRow, Portion
from imgsyncfs.errors import CacheError, ListingDamaged

DATASET = DatasetRow(
    "original_20200207_fisheye_rbbox", "2.0.0", "", (), (), (), 0, "", "file:///data", 7, 1_600_000_000
)
PACK = f"{DATASET.dataset_id}/images-0123456789abcdef.pack"
ANNOTATION_PACK = f"{DATASET.dataset_id}/annotations-0123456789abcdef.pack"
MD5 = "00112233445566778899aabbccddeeff"


def image(name: str, /, **changes: Any) -> ImageRow:
    return replace(ImageRow(name, "jpg", 480, 640, 3, 1000, MD5, PACK, 0, 0, "", 1_500_000_000), **changes)


def annotation(name: str, /, **changes: Any) -> AnnotationRow:
    return replace(AnnotationRow(name, 1, 2, 50, MD5, ANNOTATION_PACK, 0, "", 1_500_000_000), **changes)


def build(
    images: Sequence[ImageRow],
    annotations: Sequence[AnnotationRow] = (),
    orientations: Mapping[str, int] | None = None,
) -> Listing:
    return build_listing(DATASET, images, annotations, orientations=orientations)


def stems(listing: Listing) -> list[bytes]:
    return [listing.stem(index) for index in range(len(listing))]


def record_of(row: ImageRow | AnnotationRow) -> FileRecord:
    return FileRecord(row.blob, row.blob_offset, row.byte_count, row.md5, row.etag, row.modified_at)


def everything(listing: Listing) -> list[object]:
    return [
        (
            listing.stem(index),
            listing.ext(index),
            listing.image(index),
            listing.annotation(index),
            listing.image_info(index),
            listing.orientation(index),
            listing.has_siblings(index),
        )
        for index in range(len(listing))
    ]


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=40).filter(
    lambda name: name not in {".", ".."} and len(name.encode()) < 200
)
DIGESTS = st.one_of(st.just(""), st.from_regex(r"[1-9a-f][0-9a-f]{31}", fullmatch=True))
COUNTS = st.integers(0, 2**62)


FEW = settings(max_examples=examples(40))
"""For tests whose examples are whole tables."""


@st.composite
def rows(draw: st.DrawFn) -> tuple[list[ImageRow], list[AnnotationRow]]:
    images, annotations = [], []
    for name in draw(st.lists(NAMES, unique=True, max_size=12)):
        md5 = draw(DIGESTS)
        names = st.sampled_from([PACK, f"x/{name}.{md5[:12]}.png", f"{name}.png", f"a/{name}/b", f"{name}{name}", md5])
        blob = draw(names.filter(bool))
        ext = draw(st.sampled_from(["jpg", "png", "JPEG"]))
        etag = draw(st.sampled_from(["", '"0x1"', "é"]))
        images.append(
            ImageRow(
                name, ext, draw(COUNTS), draw(COUNTS), 3, draw(COUNTS), md5, blob, draw(COUNTS), 0, etag, draw(COUNTS)
            )
        )
        if draw(st.booleans()):
            blob = draw(names.filter(bool))
            annotations.append(
                AnnotationRow(name, draw(st.integers(0, 1)), draw(st.integers(0, 2)), draw(COUNTS), md5, blob,
                              draw(COUNTS), etag, draw(st.integers(-9, 2**40)))
            )  # fmt: skip
    return draw(st.permutations(images)), draw(st.permutations(annotations))


@given(rows())
@FEW
def test_a_listing_says_what_its_rows_say(given_rows: tuple[list[ImageRow], list[AnnotationRow]]) -> None:
    images, annotations = given_rows
    listing = build(images, annotations)
    annotated = {row.name: row for row in annotations}
    assert stems(listing) == sorted(row.name.encode() for row in images)
    assert listing.hidden == ()
    for row in images:
        index = listing.find(row.name.encode())
        assert listing.stem(index) == row.name.encode()
        assert listing.ext(index) == row.ext
        assert listing.image(index) == record_of(row)
        assert listing.image_info(index) == (row.height, row.width, row.depth)
        label = annotated.get(row.name)
        assert listing.annotation(index) == (record_of(label) if label else None)
        assert listing.has_annotation(index) == (label is not None)
        assert listing.has_siblings(index) == bool(label and (label.label_checked or label.object_count))


def as_bytes(rows: Sequence[ImageRow] | Sequence[AnnotationRow], unknown: bool) -> list[list[Any]]:
    """The rows' values as they may come from a database: texts in UTF-8, and, if asked for, NULL for the unknown."""
    names = [field.name for field in fields(rows[0]) if field.name != "position"] if rows else []
    values = [[getattr(row, name) for name in names] for row in rows]
    return [
        [None if unknown and value in {"", 0} else value.encode() if isinstance(value, str) else value for value in row]
        for row in values
    ]


@given(rows(), st.booleans(), st.booleans())
@FEW
def test_rows_give_the_same_listing_in_whichever_form_they_come(
    given_rows: tuple[list[ImageRow], list[AnnotationRow]], unknown: bool, elsewhere: bool
) -> None:
    images, annotations = given_rows
    # Longer names: those of one or two bytes are looked at one by one.
    images = [replace(row, name=f"image {row.name}", md5=row.md5) for row in images]
    annotations = [replace(row, name=f"image {row.name}") for row in annotations]

    class Source:
        """A catalog of these rows, in portions of three."""

        def identity(self) -> str:
            return ""

        def dataset(self, dataset_id: str) -> DatasetRow:
            assert dataset_id == DATASET.dataset_id
            return DATASET

        def extent_digests(self, dataset_id: str) -> dict[str, str]:
            assert dataset_id == DATASET.dataset_id
            return {}

        def image_orientations(self, dataset_id: str) -> dict[str, int]:
            assert dataset_id == DATASET.dataset_id
            return {row.name: 8 for row in images[::2]}

        def image_portions(self, dataset_id: str) -> Iterator[Portion[ImageRow]]:
            assert dataset_id == DATASET.dataset_id
            return self.portions(as_bytes(images, unknown), LISTED_IMAGE_COLUMNS, listed_image_row)

        def annotation_portions(self, dataset_id: str, label_version: str) -> Iterator[Portion[AnnotationRow]]:
            assert (dataset_id, label_version) == (DATASET.dataset_id, DATASET.label_version)
            return self.portions(as_bytes(annotations, unknown), LISTED_ANNOTATION_COLUMNS, annotation_row)

        def portions(self, values: list[list[Any]], columns: tuple[str, ...], make: Any) -> Iterator[Portion[Any]]:
            for start in range(0, len(values), 3):
                rows = values[start : start + 3]
                yield Portion(columns, list(zip(*rows, strict=True)), lambda row: make(decoded(row)))

    def collect_elsewhere(row: DatasetRow) -> Callable[[], CollectedRows] | None:
        content = collect_annotations(source.annotation_portions(row.dataset_id, row.label_version)).to_bytes()
        return (lambda: CollectedRows.from_bytes(content)) if elsewhere else None

    source = Source()
    listing = read_listing(source, DATASET.dataset_id, annotations_beside=collect_elsewhere)
    assert listing is not None
    expected = build(images, annotations, {row.name: 8 for row in images[::2]})
    assert everything(listing) == everything(expected)
    assert listing.facts == replace(expected.facts, exts=listing.facts.exts)
    assert listing.memory_bytes == expected.memory_bytes


def test_faults_are_found_wherever_a_name_has_none_but_by_its_neighbours() -> None:
    images = [image(f"i{number:04d}") for number in range(3000)]
    annotations = [annotation(row.name) for row in images]
    listing = build(
        [*images, images[5], image("a/b")], [annotations[7], *annotations, annotation("none"), annotations[9]]
    )
    assert len(listing) == 3000
    assert all(listing.has_annotation(index) for index in range(3000))
    assert sorted(listing.hidden) == [
        ("a/b.jpg", "it holds a '/', which separates directories; rename it"),
        ("i0005.jpg", "there is another row of this name; delete one"),
        ("i0007.json", "there is another row of this name; delete one"),
        ("i0009.json", "there is another row of this name; delete one"),
        ("none.json", "there is no image of this name that can be shown; delete the row, or publish the image"),
    ]


def test_rows_that_are_in_order_but_for_one_place_are_put_in_order() -> None:
    names = [f"i{number:04d}" for number in range(2000)]
    turned = [*names[1000:], *names[:1000]]
    listing = build([image(name, height=int(name[1:])) for name in turned], [annotation(name) for name in names])
    assert stems(listing) == [name.encode() for name in names]
    assert [listing.image_info(index)[0] for index in range(2000)] == list(range(2000))
    assert [listing.find(name.encode()) for name in names] == list(range(2000))
    assert listing.hidden == ()


def test_an_image_is_shown_as_it_is_stored_unless_another_orientation_is_known() -> None:
    listing = build([image("b"), image("c"), image("a")], [], {"a": 3, "c": 8, "gone": 6})
    assert [listing.orientation(index) for index in range(3)] == [3, 1, 8]


def test_orientations_cost_a_byte_an_image_and_nothing_where_all_are_alike() -> None:
    images = [image(f"{number}") for number in range(1000)]
    none, one, all_of_them = (
        build(images, [], dict.fromkeys(names, 6)) for names in ([], ["7"], map(str, range(1000)))
    )
    assert one.memory_bytes - none.memory_bytes == 999
    assert all_of_them.memory_bytes == none.memory_bytes


def test_a_number_that_no_column_holds_hides_its_row_alone() -> None:
    listing = build([image("a"), image("b", modified_at=2**70), image("c", depth=2**64)])
    assert stems(listing) == [b"a"]
    assert [name for name, reason in listing.hidden if "64 bits" in reason] == ["b.jpg", "c.jpg"]


@given(rows(), NAMES)
@FEW
def test_a_stem_that_is_not_there_is_not_found(
    given_rows: tuple[list[ImageRow], list[AnnotationRow]], name: str
) -> None:
    listing = build(given_rows[0])
    if name not in {row.name for row in given_rows[0]}:
        assert listing.find(name.encode()) == -1
    assert listing.find(b"") == -1
    assert listing.find(b"\xff\xff") == -1


def test_every_stem_of_a_large_listing_is_found() -> None:
    names = [f"image_{number * 7919 % 5000:04d}" for number in range(5000)]
    listing = build([image(name) for name in names])
    assert [listing.find(name.encode()) for name in sorted(names)] == list(range(5000))
    assert listing.find(b"image_") == -1
    assert listing.find(b"image_2500x") == -1


@given(st.lists(st.integers(0, 60), min_size=1, max_size=60))
def test_a_stem_is_found_whatever_was_looked_for_before(numbers: list[int]) -> None:
    listing = build([image(f"i{number:02}") for number in range(0, 60, 2)])
    for number in numbers:
        expected = number // 2 if number % 2 == 0 and number < 60 else -1
        assert listing.find(f"i{number:02}".encode()) == expected


def test_a_listing_tells_of_its_dataset() -> None:
    listing = build([])
    assert (listing.dataset_id, listing.revision, listing.label_version) == (DATASET.dataset_id, 7, "2.0.0")
    assert (listing.store, listing.updated_at, len(listing)) == ("file:///data", 1_600_000_000, 0)
    assert listing.members(PACK, 0, 100) == []
    assert listing.shadowed(b".labelme.json") == frozenset()


@given(st.text(max_size=30), st.text(min_size=1, max_size=5), st.text(max_size=30), DIGESTS, st.booleans())
def test_a_blobs_template_makes_its_name_again(start: str, name: str, after: str, md5: str, digest: bool) -> None:
    before, stem, rest = (text.replace("\0", "0").encode() for text in (start, name, after))
    blob = b"%b%b.%b%b" % (before, stem, md5[:12].encode() if digest else b"", rest)
    assert expand_template(blob_template(blob, stem, md5.encode()), stem, md5.encode()) == blob


def test_loose_blobs_share_one_template() -> None:
    blobs = [(b"a", b"1" * 32), (b"a.b", b"2" * 32), ("é".encode(), b"3" * 32)]
    templates = {blob_template(b"d/%b.%b.jpg" % (stem, md5[:12]), stem, md5) for stem, md5 in blobs}
    assert len(templates) == 1


def test_a_short_stem_is_not_looked_for_inside_a_packs_name() -> None:
    assert blob_template(PACK.encode(), b"7", MD5.encode()) == PACK.encode()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": ""}, "empty"),
        ({"name": "."}, "directory"),
        ({"name": ".."}, "directory"),
        ({"name": "a/b"}, "'/'"),
        ({"name": "a\0b"}, "NUL"),
        ({"name": "a\udcff"}, "UTF-8"),
        ({"name": "x" * 252}, "256 bytes"),
        ({"name": "x" * 200 + "\n" + "y" * 200}, "401 bytes"),
        ({"ext": ""}, "extension ''"),
        ({"ext": "tar.gz"}, "extension 'tar.gz'"),
        ({"ext": "json"}, "extension 'json'"),
        ({"ext": "j/g"}, "'/'"),
        ({"height": -1}, "below 0"),
        ({"byte_count": -1}, "below 0"),
        ({"blob_offset": -1}, "below 0"),
        ({"md5": "abc"}, "not 32 hexadecimal"),
        ({"md5": MD5[:-1] + "g"}, "not 32 hexadecimal"),
        ({"md5": "\n"}, "not 32 hexadecimal"),
        ({"blob": ""}, "blob is named ''"),
        ({"blob": "a\0b"}, "which none can be"),
        ({"blob": "a\udcff"}, "not valid UTF-8"),
        ({"etag": "a\udcff"}, "not valid UTF-8"),
    ],
)
def test_an_image_that_cannot_be_shown_is_hidden_with_the_reason(changes: dict[str, Any], said: str) -> None:
    odd = image("odd", **changes)
    listing = build([image("a"), odd, image("z")], [annotation("z")])
    assert stems(listing) == [b"a", b"z"]
    assert [name for name, _ in listing.hidden] == [f"{odd.name}.{odd.ext}"]
    assert said in listing.hidden[0][1]
    assert listing.annotation(1) is not None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "other"}, "no image of this name"),
        ({"md5": "x"}, "not 32 hexadecimal"),
        ({"byte_count": -1}, "below 0"),
        ({"blob": ""}, "blob is named ''"),
    ],
)
def test_an_annotation_that_cannot_be_shown_is_hidden_with_the_reason(changes: dict[str, Any], said: str) -> None:
    odd = annotation("a", **changes)
    listing = build([image("a"), image("b")], [odd, annotation("b")])
    assert [listing.has_annotation(index) for index in range(2)] == [False, True]
    assert [name for name, _ in listing.hidden] == [f"{odd.name}.json"]
    assert said in listing.hidden[0][1]


def test_an_annotation_whose_own_name_is_too_long_is_hidden_alone() -> None:
    name = "x" * 251
    listing = build([image(name)], [annotation(name)])
    assert stems(listing) == [name.encode()]
    assert not listing.has_annotation(0)
    assert "256 bytes" in listing.hidden[0][1]


@pytest.mark.parametrize("apart", [0, 6000], ids=["side by side", "in another portion"])
def test_the_second_row_of_a_name_is_hidden(apart: int) -> None:
    between = [image(f"b{number}") for number in range(apart)]
    listing = build([image("a"), *between, image("a", md5="")], [annotation("a"), annotation("a", md5="")])
    assert listing.hidden == (
        ("a.jpg", "there is another row of this name; delete one"),
        ("a.json", "there is another row of this name; delete one"),
    )
    assert listing.image(0).md5 == MD5
    assert listing.annotation(0) == record_of(annotation("a"))


@given(st.lists(st.text(st.characters(exclude_categories=()), max_size=5), unique=True))
def test_what_is_shown_and_what_is_hidden_follows_the_rule_for_file_names(names: list[str]) -> None:
    listing = build([image(name) for name in names])
    fine = [name for name in names if not (file_name_fault(name) or file_name_fault(f"{name}.jpg"))]
    assert stems(listing) == sorted(name.encode() for name in fine)
    assert len(listing.hidden) == len(names) - len(fine)


def test_a_name_with_a_newline_is_shown() -> None:
    listing = build([image("a\nb"), image("a"), image("b")])
    assert stems(listing) == [b"a", b"a\nb", b"b"]


def test_a_sibling_that_would_bear_a_real_files_name_is_shadowed() -> None:
    listing = build(
        [image("a"), image("a.labelme"), image("b", ext="xml"), image("c"), image("d.labelme"), image("c.labelme")],
        [annotation("a"), annotation("a.labelme"), annotation("b"), annotation("c"), annotation("d.labelme")],
    )
    assert listing.shadowed(b".labelme.json") == {listing.find(b"a")}
    assert listing.shadowed(b".xml") == {listing.find(b"b")}
    assert listing.shadowed(b".labelme.jpg") == {listing.find(b"a"), listing.find(b"c")}


def test_a_sibling_whose_name_would_be_too_long_is_shadowed() -> None:
    long = "x" * 245
    listing = build([image("a"), image(long)], [annotation("a"), annotation(long)])
    assert listing.shadowed(b".xml") == frozenset()
    assert listing.shadowed(b".labelme.json") == {listing.find(long.encode())}


def leave(numbers: list[int]) -> None:
    """Leaves the order as it is."""


def reverse_each_pack(numbers: list[int]) -> None:
    """Reverses what lies in one pack, while the packs stay in order."""
    for start in range(0, len(numbers), 50):
        numbers[start : start + 50] = numbers[start : start + 50][::-1]


def spread_over_packs(count: int, *, order: Callable[[list[int]], object]) -> list[ImageRow]:
    """Images of 100 bytes, 50 to a pack."""
    numbers = list(range(count))
    order(numbers)
    return [
        image(f"i{number:04d}", byte_count=100, md5=f"{place + 1:032x}", blob=f"pack-{place // 50}",
              blob_offset=place % 50 * 100)
        for place, number in enumerate(numbers)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "order", [leave, random.Random(5).shuffle, reverse_each_pack], ids=["by name", "shuffled", "reversed"]
)
def test_members_are_the_files_that_lie_in_a_part_of_a_blob(order: Callable[[list[int]], object]) -> None:
    images = spread_over_packs(200, order=order)
    labels = [annotation(row.name, blob="labels", blob_offset=place * 10, byte_count=10, md5="")
              for place, row in enumerate(images) if place % 2]  # fmt: skip
    listing = build(images[::-1], labels)
    expected = [
        (row.blob_offset, 100, row.md5) for row in images if row.blob == "pack-2" and 1000 <= row.blob_offset < 2000
    ]
    assert listing.members("pack-2", 1000, 2000) == expected
    assert len(expected) == 10
    assert listing.members("pack-2", 1001, 2099) == [*expected[1:], (2000, 100, images[120].md5)][:-1]
    assert listing.members("labels", 0, 100) == [(offset, 10, "") for offset in (10, 30, 50, 70, 90)]
    assert listing.members("pack-9", 0, 1000) == []
    assert listing.members("pack-2", 5000, 6000) == []


def test_a_blob_of_another_digest_has_no_members() -> None:
    listing = build([image("a", blob=f"d/a.{MD5[:12]}.jpg"), image("b", blob=f"d/b.{MD5[:12]}.jpg")])
    assert listing.members(f"d/a.{MD5[:12]}.jpg", 0, 1000) == [(0, 1000, MD5)]
    assert listing.members("d/a.000000000000.jpg", 0, 1000) == []
    assert listing.members(f"d/c.{MD5[:12]}.jpg", 0, 1000) == []


@given(rows())
@FEW
def test_members_of_any_blob_are_all_files_that_the_rows_put_there(
    given_rows: tuple[list[ImageRow], list[AnnotationRow]],
) -> None:
    listing = build(*given_rows)
    for blob in {row.blob for kind in given_rows for row in kind}:
        expected = [
            sorted((row.blob_offset, row.byte_count, row.md5) for row in kind if row.blob == blob)
            for kind in given_rows
        ]
        assert listing.members(blob, 0, 2**64) == expected[0] + expected[1]


@given(rows())
@FEW
def test_a_listing_that_was_saved_is_loaded_as_it_was(given_rows: tuple[list[ImageRow], list[AnnotationRow]]) -> None:
    listing = build(*given_rows, {row.name: 3 for row in given_rows[0][::2]})
    with tempfile.TemporaryDirectory() as folder:
        save_listing(listing, Path(folder) / "x")
        loaded = load_listing(Path(folder) / "x")
    assert loaded.facts == listing.facts
    assert everything(loaded) == everything(listing)
    assert loaded.memory_bytes == listing.memory_bytes
    assert not changed(listing, loaded)


def many(count: int = 200) -> Listing:
    return build(
        [image(f"i{number:04d}", md5=f"{number + 1:032x}", blob_offset=number) for number in range(count)],
        [annotation(f"i{number:04d}", md5=f"{number + 9:032x}") for number in range(0, count, 3)],
    )


def test_hidden_names_of_any_kind_are_saved(tmp_path: Path) -> None:
    listing = build([image("\udcff"), image("a/b"), image("\0")])
    save_listing(listing, tmp_path / "x")
    assert load_listing(tmp_path / "x").hidden == listing.hidden
    assert len(listing.hidden) == 3


def test_a_saved_listing_is_for_its_owner_alone_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b" / "7"
    save_listing(many(), folder)
    save_listing(many(), folder)
    assert [path.name for path in folder.parent.iterdir()] == ["7"]
    assert {path.stat().st_mode & 0o077 for path in (folder, *folder.iterdir())} == {0}


def test_a_loaded_listing_outlives_its_files(tmp_path: Path) -> None:
    save_listing(many(), tmp_path / "x")
    loaded = load_listing(tmp_path / "x")
    save_listing(build([image("other")]), tmp_path / "x")
    shutil.rmtree(tmp_path / "x")
    assert everything(loaded) == everything(many())


def test_savers_at_once_leave_a_listing_that_can_be_loaded(tmp_path: Path) -> None:
    start = threading.Barrier(4)

    def save(number: int) -> None:
        start.wait(10)
        for _ in range(5):
            save_listing(many(number + 1), tmp_path / "x")

    with ThreadPoolExecutor(4) as pool:
        outcomes = [pool.submit(save, number) for number in range(4)]
    for outcome in outcomes:
        outcome.result()
    assert len(load_listing(tmp_path / "x")) in range(1, 5)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_listing_that_cannot_be_saved_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CacheError, match="cannot be saved"):
        save_listing(many(), tmp_path / "file" / "x")
    with pytest.raises(CacheError, match="cannot be saved"):
        save_listing(many(), tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def flip_a_byte(folder: Path) -> None:
    content = bytearray((folder / "columns.npy").read_bytes())
    content[-5] ^= 1
    (folder / "columns.npy").write_bytes(content)


def zero_the_columns(folder: Path) -> None:
    path = folder / "columns.npy"
    path.write_bytes(bytes(path.stat().st_size))


def cut_the_columns(folder: Path) -> None:
    path = folder / "columns.npy"
    path.write_bytes(path.read_bytes()[:-1])


def edit_meta(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    meta = json.loads((folder / "meta.json").read_text())
    edit(meta)
    (folder / "meta.json").write_text(json.dumps(meta))


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_byte,
        zero_the_columns,
        cut_the_columns,
        lambda folder: (folder / "columns.npy").unlink(),
        lambda folder: (folder / "columns.npy").write_bytes(b""),
        lambda folder: (folder / "meta.json").unlink(),
        lambda folder: (folder / "meta.json").write_bytes(b""),
        lambda folder: (folder / "meta.json").write_text("[]"),
        shutil.rmtree,
        lambda folder: edit_meta(folder, lambda meta: meta.update(version=0)),
        lambda folder: edit_meta(folder, lambda meta: meta.update(magic="")),
        lambda folder: edit_meta(folder, lambda meta: meta["columns"].pop("flags")),
        lambda folder: edit_meta(folder, lambda meta: meta["columns"]["flags"].update(offset=10**9)),
        lambda folder: edit_meta(folder, lambda meta: meta["columns"]["flags"].update(dtype="O")),
        lambda folder: edit_meta(folder, lambda meta: meta["facts"].pop("exts")),
        lambda folder: edit_meta(folder, lambda meta: meta["facts"].update(exts=["png"])),
        lambda folder: edit_meta(folder, lambda meta: meta["facts"].update(store="file:///elsewhere")),
        lambda folder: edit_meta(folder, lambda meta: meta.pop("meta_digest")),
        lambda folder: (folder / "meta.json").write_text("[" * 100_000),
    ],
)
def test_a_damaged_listing_is_told_and_not_used(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    save_listing(many(), tmp_path / "x")
    damage(tmp_path / "x")
    with pytest.raises(ListingDamaged, match="built again"):
        load_listing(tmp_path / "x")


def test_a_listing_whose_columns_have_a_damaged_header_is_what_was_saved_or_is_not_used(tmp_path: Path) -> None:
    save_listing(many(), tmp_path / "x")
    path = tmp_path / "x" / "columns.npy"
    content = path.read_bytes()
    for place in range(content.index(b"\n")):
        path.write_bytes(content[:place] + b"(" + content[place + 1 :])
        assert load_listing(tmp_path / "x").key == many().key


def test_nothing_changed_between_the_same_listings() -> None:
    assert not changed(many(), many())


@pytest.mark.parametrize(
    "changes",
    [
        {"ext": "png"},
        {"md5": "ff" * 16},
        {"byte_count": 5},
        {"md5": ""},
    ],
)
def test_an_image_with_other_content_has_changed(changes: dict[str, Any]) -> None:
    old = build([image("a"), image("b"), image("c")])
    found = changed(old, build([image("b", **changes), image("c"), image("a")]))
    assert found.images.changed == (b"b",)
    assert found.images.changed_indices == ((1, 1),)
    assert not found.images.added
    assert not found.images.removed
    assert not found.annotations


@pytest.mark.parametrize("changes", [{"blob": "other"}, {"blob_offset": 9}, {"etag": "other"}])
def test_without_a_digest_blob_offset_and_etag_tell_content(changes: dict[str, Any]) -> None:
    unknown = image("b", md5="")
    found = changed(build([image("a"), unknown]), build([image("a"), replace(unknown, **changes)]))
    assert found.images.changed == (b"b",)
    assert not changed(build([image("a"), image("b")]), build([image("a"), image("b", **changes)]))


def test_the_same_blobs_in_other_templates_and_tables_are_the_same() -> None:
    first = [image("a", md5="", blob="x/a.jpg", etag="1"), image("b", md5="", blob="y/b.jpg", etag="2")]
    found = changed(build(first), build([image("0", blob="z/0.jpg", etag="9"), *first]))
    assert found.images.added == (b"0",)
    assert not found.images.changed


@pytest.mark.parametrize(
    ("image_changes", "annotation_changes"),
    [
        ({}, {"md5": "ff" * 16}),
        ({}, {"byte_count": 5}),
        ({}, {"label_checked": 0, "object_count": 0}),
        ({"height": 5}, {}),
        ({"width": 5}, {}),
        ({"depth": 5}, {}),
        ({"ext": "png"}, {}),
    ],
)
def test_an_annotation_has_changed_if_its_siblings_may_look_different(
    image_changes: dict[str, Any], annotation_changes: dict[str, Any]
) -> None:
    old = build([image("a"), image("b")], [annotation("a"), annotation("b")])
    new = build([image("a"), image("b", **image_changes)], [annotation("a"), annotation("b", **annotation_changes)])
    assert changed(old, new).annotations.changed == (b"b",)


@pytest.mark.parametrize(("before", "now"), [(1, 6), (6, 1), (6, 8)])
def test_an_annotation_has_changed_if_its_image_is_turned_otherwise_and_the_image_has_not(
    before: int, now: int
) -> None:
    old, new = (
        build([image("a"), image("b"), image("c")], [annotation("b"), annotation("c")], {"b": number, "c": 3})
        for number in (before, now)
    )
    found = changed(old, new)
    assert found.annotations.changed == (b"b",)
    assert not found.images


def test_an_image_without_annotation_may_be_turned_otherwise_and_nothing_has_changed() -> None:
    assert not changed(build([image("a")], [], {"a": 6}), build([image("a")], [], {"a": 8}))


def test_files_that_came_and_went_are_told() -> None:
    old = build([image(name) for name in "abcde"], [annotation(name) for name in "abc"])
    new = build([image(name) for name in "acdefg"], [annotation(name) for name in "adg"])
    found = changed(old, new)
    assert (found.images.added, found.images.removed) == ((b"f", b"g"), (b"b",))
    assert (found.images.added_indices, found.images.removed_indices) == ((4, 5), (1,))
    assert (found.annotations.added, found.annotations.removed) == ((b"d", b"g"), (b"b", b"c"))
    assert (found.annotations.added_indices, found.annotations.removed_indices) == ((2, 5), (1, 2))
    assert (found.images.indices_before, found.annotations.indices_before) == ([1], [1, 2])
    assert (found.images.indices_after, found.annotations.indices_after) == ([4, 5], [2, 5])


@given(rows(), rows(), st.booleans())
@FEW
def test_changes_are_those_that_walking_the_rows_finds(
    before: tuple[list[ImageRow], list[AnnotationRow]],
    after: tuple[list[ImageRow], list[AnnotationRow]],
    mixed: bool,
) -> None:
    old_images, new_images = ({row.name: row for row in images} for images, _ in (before, after))
    if mixed:
        new_images = {**old_images, **new_images}
    found = changed(build(list(old_images.values())), build(list(new_images.values()))).images
    assert set(found.added) == {name.encode() for name in new_images.keys() - old_images.keys()}
    assert set(found.removed) == {name.encode() for name in old_images.keys() - new_images.keys()}
    assert set(found.changed) == {
        name.encode() for name in old_images.keys() & new_images.keys() if differ(old_images[name], new_images[name])
    }


def differ(old: ImageRow, new: ImageRow) -> bool:
    if (old.ext, old.md5, old.byte_count) != (new.ext, new.md5, new.byte_count):
        return True
    return not old.md5 and (old.blob, old.blob_offset, old.etag) != (new.blob, new.blob_offset, new.etag)


def packed(number: int, digest: str) -> tuple[str, int]:
    return f"{DATASET.dataset_id}/images-{number // 600:016x}.pack", number % 600 * 100_000


def loose(number: int, digest: str) -> tuple[str, int]:
    return f"{DATASET.dataset_id}/{DATASET.dataset_id}_{number:05d}.{digest[:12]}.", 0


def indexed(number: int, digest: str) -> tuple[str, int]:
    return f"data/2020/{DATASET.dataset_id}_{number:05d}.", 0


@pytest.mark.parametrize("layout", [packed, loose, indexed])
def test_an_image_takes_150_bytes_at_most(layout: Callable[[int, str], tuple[str, int]]) -> None:
    count = 20_000
    source = random.Random(1)
    images, annotations = [], []
    for number in range(count):
        name = f"{DATASET.dataset_id}_{number:05d}"
        digest, other = (f"{source.getrandbits(128):032x}" for _ in range(2))
        size, time = source.randrange(50_000, 300_000), 1_500_000_000 + source.randrange(10**8)
        etag = f"0x8D{source.getrandbits(52):013X}" if layout is indexed else ""
        (blob, offset), (label, label_offset) = layout(number, digest), layout(number, other)
        dot = blob.endswith(".")
        images.append(
            image(name, byte_count=size, md5=digest, blob=blob + "jpg" * dot, blob_offset=offset, etag=etag,
                  modified_at=time, height=size % 1000, width=size % 1100)
        )  # fmt: skip
        annotations.append(
            annotation(name, byte_count=size // 50, md5=other, blob=label + "json" * dot, blob_offset=label_offset,
                       etag=etag[::-1], modified_at=time)
        )  # fmt: skip
    listing = build(images, annotations)
    assert listing.memory_bytes / count <= 150
    assert listing.image(77) == record_of(images[77])
    assert listing.annotation(77) == record_of(annotations[77])
