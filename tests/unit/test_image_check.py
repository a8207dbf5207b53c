"""Checking images: whole ones, damaged ones, turned ones, and headers alone."""

from __future__ import annotations

import io
import struct
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support.examples import examples

from imgsyncfs.errors import PublishError
from imgsyncfs.pictures.images import HEADER_BYTES, ImageFacts, check_image, read_image_header


def encoded(image: Image.Image, file_format: str, *, orientation: int | None = None) -> bytes:
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    target = io.BytesIO()
    image.save(target, file_format, exif=exif) if orientation is not None else image.save(target, file_format)
    return target.getvalue()


def picture(mode: str, width: int = 61, height: int = 40) -> Image.Image:
    return Image.linear_gradient("L").resize((width, height)).convert(mode)


@pytest.mark.parametrize(
    ("file_format", "mode", "depth"),
    [
        ("JPEG", "RGB", 3),
        ("JPEG", "L", 1),
        ("JPEG", "CMYK", 4),
        ("PNG", "RGBA", 4),
        ("PNG", "LA", 2),
        ("PNG", "1", 1),
        ("PNG", "P", 3),
        ("PNG", "I;16", 1),
        ("BMP", "RGB", 3),
        ("WEBP", "RGB", 3),
        ("TIFF", "F", 1),
        ("TIFF", "RGB", 3),
    ],
)
def test_the_size_and_depth_of_an_image_are_found(file_format: str, mode: str, depth: int) -> None:
    content = encoded(picture(mode), file_format)
    assert check_image(content) == ImageFacts(40, 61, depth)
    assert read_image_header(content) == ImageFacts(40, 61, depth)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_that_after_exif_rotation(file_format: str, orientation: int) -> None:
    content = encoded(picture("RGB"), file_format, orientation=orientation)
    expected = ImageFacts(61, 40, 3, orientation) if orientation >= 5 else ImageFacts(40, 61, 3, orientation)
    assert check_image(content) == expected
    assert read_image_header(content) == expected


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_a_number_that_is_no_orientation_turns_nothing(file_format: str, orientation: int) -> None:
    content = encoded(picture("RGB"), file_format, orientation=orientation)
    assert check_image(content) == read_image_header(content) == ImageFacts(40, 61, 3, 1)


ASCII, RATIONAL, UNDEFINED = 2, 5, 7


@pytest.mark.parametrize(
    "entry",
    [
        struct.pack(">HHI4s", 0x0112, ASCII, 2, b"6"),
        struct.pack(">HHI4s", 0x0112, UNDEFINED, 1, b"\6"),
        struct.pack(">HHII", 0x0112, RATIONAL, 1, 1 << 30),
    ],
    ids=["text", "bytes", "a fraction that is not there"],
)
def test_an_orientation_of_another_type_turns_nothing(entry: bytes) -> None:
    target = io.BytesIO()
    picture("RGB").save(target, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01" + entry + bytes(4))
    assert check_image(target.getvalue()) == read_image_header(target.getvalue()) == ImageFacts(40, 61, 3, 1)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "BMP", "TIFF", "WEBP"])
def test_an_image_that_is_cut_short_is_refused(file_format: str) -> None:
    content = encoded(Image.effect_noise((200, 150), 60).convert("RGB"), file_format)
    for part in (0.3, 0.9):
        with pytest.raises(PublishError, match=r"cut short or damaged|no image"):
            check_image(content[: int(len(content) * part)])


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xd8\xff", b"GIF89a" + bytes(50), b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_what_is_no_image_is_refused_with_the_reason(content: bytes) -> None:
    with pytest.raises(PublishError, match="no image of a known format"):
        check_image(content)
    assert read_image_header(content) is None


def test_an_image_with_more_pixels_than_pillow_takes_is_refused_with_the_remedy() -> None:
    target = io.BytesIO()
    Image.new("1", (20_000, 10_000)).save(target, "PNG")
    with pytest.raises(PublishError, match="cut it into tiles"):
        check_image(target.getvalue())


def test_the_beginning_of_a_large_jpeg_tells_its_size() -> None:
    content = encoded(Image.effect_noise((1500, 1200), 90).convert("RGB"), "JPEG", orientation=6)
    assert len(content) > HEADER_BYTES
    assert read_image_header(content[:HEADER_BYTES]) == ImageFacts(1500, 1200, 3, 6)


def test_a_header_that_is_not_complete_tells_nothing() -> None:
    assert read_image_header(encoded(picture("RGB"), "JPEG")[:100]) is None


@settings(max_examples=examples(300))
@given(st.sampled_from(["JPEG", "PNG", "BMP", "WEBP", "TIFF"]), st.data())
def test_a_damaged_image_is_refused_or_read_and_never_fails_otherwise(file_format: str, data: st.DataObject) -> None:
    content = bytearray(encoded(picture("RGB", 24, 16), file_format))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with suppress(PublishError):
        check_image(bytes(content))
    with suppress(PublishError):
        read_image_header(bytes(content))
