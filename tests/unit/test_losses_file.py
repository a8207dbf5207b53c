"""``LOSSES.txt``."""

from __future__ import annotations

from imgsyncfs.formats.contract import Loss
from imgsyncfs.formats.losses_file import losses_text


def test_losses_of_one_kind_are_one_line_with_their_number() -> None:
    masks, words = Loss("masks", 600, "YOLO has boxes only"), Loss("classifications", 1, "there is no place")
    assert losses_text("yolo", "a_b_rgb_seg", [masks, words, masks]).decode().splitlines() == [
        "yolo does not show of a_b_rgb_seg:",
        "1,200 masks: YOLO has boxes only",
        "1 classifications: there is no place",
    ]


def test_without_losses_there_is_no_file() -> None:
    assert losses_text("yolo", "a_b_rgb_seg", []) == b""
