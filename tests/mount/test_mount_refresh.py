"""What changes under a mount: it appears after the refresh, whole, and nobody reads two revisions in one file."""

from __future__ import annotations

import os
from pathlib import Path

from support.mounting import (
    Workplace,
    box_annotation,
    eventually,
    local_workplace,
    noise_image,
    write_folder,
    write_image,
)

DATASET = "original_20260105_rgb_rbbox"


def publish(workplace: Workplace, folder: Path, name: str = DATASET) -> None:
    workplace.run("publish", folder, "--name", name)


def test_a_dataset_published_while_mounted_appears(tmp_path: Path) -> None:
    workplace = local_workplace(tmp_path)
    publish(workplace, write_folder(tmp_path / "one"))
    with workplace.mounted("--refresh", "0.5") as mountpoint:
        new = mountpoint / "original_20260106_rgb_rbbox"
        assert not new.exists()
        publish(workplace, write_folder(tmp_path / "two"), new.name)
        assert eventually(new.exists)
        assert (new / "img_00000.jpg").read_bytes() == (tmp_path / "two" / "img_00000.jpg").read_bytes()
        assert eventually(lambda: new.name in (mountpoint / ".imgsyncfs" / "datasets.csv").read_text())


def test_a_changed_annotation_of_the_same_size_shows_its_new_content_and_so_do_its_siblings(tmp_path: Path) -> None:
    workplace = local_workplace(tmp_path)
    folder = write_folder(tmp_path / "one")
    publish(workplace, folder)
    # The kernel is told to trust what it knows for an hour: what shows nevertheless was turned over.
    with workplace.mounted("--refresh", "0.5", "-o", "attr_timeout=3600,entry_timeout=3600") as mountpoint:
        house = mountpoint / DATASET / "img_00000.json"
        siblings = [house.with_suffix(".labelme.json"), house.with_suffix(".xml")]
        before = [path.read_bytes() for path in (house, *siblings)]
        (folder / "img_00000.json").write_bytes(box_annotation(x=31.0, name="people"))
        assert (folder / "img_00000.json").stat().st_size == len(before[0])
        publish(workplace, folder)
        assert eventually(lambda: house.read_bytes() != before[0])
        assert house.read_bytes() == (folder / "img_00000.json").read_bytes()
        assert eventually(lambda: all(path.read_bytes() != old for path, old in zip(siblings, before[1:], strict=True)))
        assert all(b"people" in path.read_bytes() for path in siblings)


def test_a_changed_image_of_another_size_is_never_cut_to_the_old_one(tmp_path: Path) -> None:
    workplace = local_workplace(tmp_path)
    folder = write_folder(tmp_path / "one")
    publish(workplace, folder)
    with workplace.mounted("--refresh", "0.5", "-o", "attr_timeout=3600,entry_timeout=3600") as mountpoint:
        image = mountpoint / DATASET / "img_00001.jpg"
        before = image.read_bytes()
        write_image(folder / "img_00001.jpg", size=(640, 480), shade=200)
        after = (folder / "img_00001.jpg").read_bytes()
        publish(workplace, folder)
        seen: list[bytes] = []

        def new_is_seen() -> bool:
            seen.append(image.read_bytes())
            return seen[-1] == after

        assert eventually(new_is_seen)
        assert set(seen) <= {before, after}


def test_a_file_that_is_open_keeps_its_revision_until_it_is_closed(tmp_path: Path) -> None:
    workplace = local_workplace(tmp_path)
    folder = tmp_path / "one"
    folder.mkdir()
    # Long enough that the kernel has not read ahead to its end after the first page.
    old, new = noise_image(folder / "long.png", seed=1), b""
    publish(workplace, folder, "original_20260107_rgb_bbox")
    with workplace.mounted("--refresh", "0.5") as mountpoint:
        image = mountpoint / "original_20260107_rgb_bbox" / "long.png"
        other = mountpoint / "original_20260107_rgb_bbox" / "other.jpg"
        with image.open("rb", buffering=0) as reader:
            first = reader.read(4096)
            new = noise_image(folder / "long.png", seed=2)
            write_image(folder / "other.jpg")
            publish(workplace, folder, "original_20260107_rgb_bbox")
            assert eventually(other.exists)
            os.posix_fadvise(reader.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            rest = b"".join(iter(lambda: reader.read(65536), b""))
            assert first + rest == old
        assert eventually(lambda: image.read_bytes() == new)


def test_a_directory_that_is_read_while_it_turns_over_shows_each_file_once(tmp_path: Path) -> None:
    workplace = local_workplace(tmp_path)
    folder = tmp_path / "one"
    folder.mkdir()
    # Long names: what the kernel takes at a time holds a fraction of them.
    old = [f"{'b' * 180}{number:04d}.jpg" for number in range(600)]
    write_image(folder / old[0])
    for name in old[1:]:
        os.link(folder / old[0], folder / name)
    publish(workplace, folder, "original_20260107_rgb_bbox")
    with workplace.mounted("--refresh", "0.5") as mountpoint:
        directory = mountpoint / "original_20260107_rgb_bbox"
        with os.scandir(directory) as entries:
            seen = [next(entries).name]
            for name in old[10:20]:
                (folder / name).unlink()
            new = [f"a{number:04d}.jpg" for number in range(300)]
            for name in new:
                os.link(folder / old[0], folder / name)
            publish(workplace, folder, "original_20260107_rgb_bbox")
            assert eventually((directory / new[0]).exists)
            seen += [entry.name for entry in entries]
        assert len(set(seen)) == len(seen)
        assert {*old[:10], *old[20:]} <= set(seen) <= {*old, *new}
        assert sorted(os.listdir(directory)) == [*new, *old[:10], *old[20:]]  # noqa: PTH208  # names are what is meant


def test_an_image_that_was_removed_is_gone_and_the_others_keep_their_times(tmp_path: Path) -> None:
    workplace = local_workplace(tmp_path)
    folder = write_folder(tmp_path / "one")
    publish(workplace, folder)
    with workplace.mounted("--refresh", "0.5") as mountpoint:
        kept = mountpoint / DATASET / "img_00001.jpg"
        before = kept.stat().st_mtime_ns
        (folder / "img_00000.jpg").unlink()
        (folder / "img_00000.json").unlink()
        publish(workplace, folder)
        assert eventually(lambda: not (mountpoint / DATASET / "img_00000.jpg").exists())
        assert not [path for path in (mountpoint / DATASET).iterdir() if path.name == "img_00000.xml"]
        assert kept.stat().st_mtime_ns == before
