"""An annotation in another encoding than UTF-8 is refused with what it is in, and how to convert it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from imgsyncfs.annotations.encoding import encoding_fault
from imgsyncfs.annotations.house_format import parse_annotation
from imgsyncfs.errors import AnnotationError
from imgsyncfs.formats.registry import FORMATS

HOUSE = '{"anno_version": "0.2.0", "note": "人"}'
LABELME = '{"shapes": [], "imagePath": "人.jpg"}'
XML = "<annotation><filename>人.jpg</filename></annotation>"


@pytest.mark.parametrize(
    ("parse", "text"),
    [(parse_annotation, HOUSE), (FORMATS["labelme"].parse, LABELME)],
)
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_is_named_as_the_reason(parse: Callable[[bytes], object], text: str, encoding: str) -> None:
    with pytest.raises(AnnotationError, match="it is in UTF-16 and not in UTF-8; convert it with: iconv -f UTF-16 "):
        parse(f"\ufeff{text}".encode(encoding))


@pytest.mark.parametrize(
    ("parse", "text"),
    [(parse_annotation, HOUSE), (FORMATS["labelme"].parse, LABELME), (FORMATS["rolabelimg"].parse, XML)],
)
def test_what_is_not_utf8_is_told_how_to_be_converted(parse: Callable[[bytes], object], text: str) -> None:
    with pytest.raises(AnnotationError, match=r"byte \d+ is not UTF-8; .* convert it with: iconv -f GB18030 -t UTF-8 "):
        parse(text.encode("gb2312"))


def test_what_is_utf8_has_no_fault() -> None:
    assert encoding_fault(HOUSE.encode()) == ""
