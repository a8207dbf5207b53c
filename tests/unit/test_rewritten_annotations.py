"""The annotations of a selection with other names for classes, in one file."""

from __future__ import annotations

import tempfile

from hypothesis import given
from hypothesis import strategies as st
from support.annotation_strategies import house_annotations

from imgsyncfs.annotations.house_format import Annotation, dump_annotation
from imgsyncfs.library.rewritten_annotations import annotation_ends


@given(st.lists(st.none() | house_annotations, max_size=4), st.integers(1, 300))
def test_each_annotation_is_found_again_whatever_is_looked_at_at_once(
    listed: list[Annotation | None], piece_bytes: int
) -> None:
    contents = [b"null\n" if each is None else dump_annotation(each) for each in listed]
    with tempfile.TemporaryFile() as file:
        file.write(b"".join(contents))
        file.flush()
        ends = annotation_ends(file.fileno(), sum(map(len, contents)), piece_bytes=piece_bytes).tolist()
    assert ends == [sum(map(len, contents[: number + 1])) for number in range(len(contents))]
