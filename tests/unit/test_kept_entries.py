"""Images with their annotations, kept between reading and writing."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from support.annotation_strategies import house_annotations
from support.examples import examples

from imgsyncfs.annotations.house_format import Annotation
from imgsyncfs.formats.contract import ImageInfo
from imgsyncfs.tools.convert.kept_entries import KeptEntries

names = st.binary(min_size=1, max_size=9).filter(lambda name: b"/" not in name and b"\0" not in name)
stems = names.map(lambda name: name.decode("utf-8", "surrogateescape"))
sizes = st.none() | st.integers(1, 9000)
images = st.builds(ImageInfo, st.just("set"), stems, st.just("jpg"), sizes, sizes, sizes, st.integers(1, 8), stems)


@given(st.lists(st.tuples(images, st.none() | house_annotations), max_size=5))
@settings(max_examples=examples(100))
def test_what_is_kept_comes_back_as_it_was_in_order(kept: list[tuple[ImageInfo, Annotation | None]]) -> None:
    with KeptEntries() as entries:
        for image, annotation in kept:
            entries.put(image, annotation)
        assert [(entry.image, entry.annotation) for entry in entries] == kept


@given(st.lists(stems, max_size=9))
@settings(max_examples=examples(100))
def test_names_come_once_each_in_the_order_of_their_bytes(given_names: list[str]) -> None:
    with KeptEntries() as entries:
        count = entries.add_stems(given_names)
        found = list(entries.stems())
    assert count == len(found)
    assert found == sorted(set(given_names), key=lambda name: name.encode("utf-8", "surrogateescape"))
