"""Content goes from a cached file to the kernel whole, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from imgsyncfs.cache import OpenExtent
from imgsyncfs.fetching.contents import Piece
from imgsyncfs.mount.answer_pipe import LEAST_BYTES, AnswerPipe
from imgsyncfs.mount.protocol import OUT_HEADER

CONTENT = os.urandom(3 * LEAST_BYTES)
UNIQUE = 17


@pytest.fixture
def device() -> Iterator[tuple[int, int]]:
    """Both ends of what stands in for the kernel's device: it takes a message, and gives it back."""
    ends = os.pipe2(os.O_NONBLOCK)
    yield ends
    for end in ends:
        os.close(end)


def cached(folder: Path, content: bytes, *, length: int = len(CONTENT)) -> OpenExtent:
    """A cached file with a content, of which the table says how long it is."""
    path = folder / "extent"
    path.write_bytes(content)
    return OpenExtent(descriptor=os.open(path, os.O_RDONLY), length=length)


def is_empty(device: tuple[int, int]) -> bool:
    with pytest.raises(BlockingIOError):
        os.read(device[0], 1)
    return True


def test_the_kernel_gets_the_header_and_the_bytes_asked_for(tmp_path: Path, device: tuple[int, int]) -> None:
    length = LEAST_BYTES + 5
    assert AnswerPipe(device[1]).send(UNIQUE, [Piece(cached(tmp_path, CONTENT), 7, length)])
    answer = os.read(device[0], 1 << 20)
    assert answer == OUT_HEADER.pack(OUT_HEADER.size + length, 0, UNIQUE) + CONTENT[7 : 7 + length]


def test_pieces_and_what_is_between_them_come_as_one_answer(tmp_path: Path, device: tuple[int, int]) -> None:
    extent = cached(tmp_path, CONTENT)
    short, long = Piece(extent, 9, 100), Piece(extent, LEAST_BYTES, LEAST_BYTES + 1)
    assert AnswerPipe(device[1]).send(UNIQUE, [b"header", short, b"filling", long, b"", long, b"end"])
    long_bytes = CONTENT[LEAST_BYTES : 2 * LEAST_BYTES + 1]
    content = b"header" + CONTENT[9:109] + b"filling" + long_bytes + long_bytes + b"end"
    assert os.read(device[0], 1 << 20) == OUT_HEADER.pack(OUT_HEADER.size + len(content), 0, UNIQUE) + content


@pytest.mark.parametrize("position", [len(CONTENT) - 100, len(CONTENT) - LEAST_BYTES])
def test_nothing_is_sent_where_one_of_several_pieces_was_cut_short(
    tmp_path: Path, device: tuple[int, int], position: int
) -> None:
    extent = cached(tmp_path, CONTENT[:-1])
    pipe = AnswerPipe(device[1])
    cut = Piece(extent, position, len(CONTENT) - position)
    assert not pipe.send(UNIQUE, [b"header", Piece(extent, 0, LEAST_BYTES), cut])
    assert is_empty(device)
    assert pipe.send(UNIQUE, [Piece(extent, 0, LEAST_BYTES)])
    assert os.read(device[0], 1 << 20)[OUT_HEADER.size :] == CONTENT[:LEAST_BYTES]


def test_more_parts_than_the_pipe_has_places_for_are_left_to_others(tmp_path: Path, device: tuple[int, int]) -> None:
    assert not AnswerPipe(device[1]).send(UNIQUE, [Piece(cached(tmp_path, CONTENT), 0, LEAST_BYTES)] * 512)
    assert is_empty(device)


def test_nothing_is_sent_of_a_file_that_somebody_cut_short(tmp_path: Path, device: tuple[int, int]) -> None:
    pipe = AnswerPipe(device[1])
    assert not pipe.send(UNIQUE, [Piece(cached(tmp_path, CONTENT[:-1]), 0, len(CONTENT))])
    assert is_empty(device)
    # Nothing of it is left for the next answer.
    assert pipe.send(UNIQUE, [Piece(cached(tmp_path, CONTENT), 0, LEAST_BYTES)])
    assert os.read(device[0], 1 << 20)[OUT_HEADER.size :] == CONTENT[:LEAST_BYTES]


def test_content_in_memory_is_left_to_others(tmp_path: Path, device: tuple[int, int]) -> None:
    in_memory = Piece(OpenExtent(content=CONTENT, length=len(CONTENT)), 0, len(CONTENT))
    assert not AnswerPipe(device[1]).send(UNIQUE, [in_memory])
    assert not AnswerPipe(device[1]).send(UNIQUE, [Piece(cached(tmp_path, CONTENT), 0, LEAST_BYTES), in_memory])
    assert is_empty(device)


@pytest.mark.parametrize("length", [LEAST_BYTES - 1, 2 << 20])
def test_what_is_too_short_or_longer_than_the_pipe_is_left_to_others(
    tmp_path: Path, device: tuple[int, int], length: int
) -> None:
    assert not AnswerPipe(device[1]).send(UNIQUE, [Piece(cached(tmp_path, CONTENT), 0, length)])
    assert is_empty(device)
