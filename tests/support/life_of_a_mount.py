"""The whole life of a mount under publishes: a process for a test, as another user or in namespaces of its own.

Argument: a folder that can be written to. Prints JSON of what a test is to compare; an AssertionError says what is not
as it should be.
"""

from __future__ import annotations

import json
import mmap
import os
import sys
from pathlib import Path

from support.mounting import (
    box_annotation,
    eventually,
    local_workplace,
    mount_status,
    noise_image,
    process_ids,
    write_folder,
)

DATASET = "original_20260105_rgb_rbbox"


def main() -> None:
    """Mount, publish twice under a file that is open and mapped, and end the mount."""
    folder = Path(sys.argv[1])
    workplace = local_workplace(folder)
    published = write_folder(folder / "one", count=3)
    old = noise_image(published / "long.png", seed=1)
    workplace.run("publish", published, "--name", DATASET)
    with workplace.mounted("--refresh", "0.3") as mountpoint:
        processes = process_ids(mountpoint)
        image, house = mountpoint / DATASET / "long.png", mountpoint / DATASET / "img_00001.xml"
        links = {path.name for path in (mountpoint / ".by" / "project").iterdir()}
        rendered = house.read_bytes()
        with image.open("rb", buffering=0) as reader:
            with mmap.mmap(reader.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                assert mapped[:100] == old[:100]
                new = noise_image(published / "long.png", seed=2)
                (published / "img_00001.json").write_bytes(box_annotation(x=50.0))
                workplace.run("publish", published, "--name", DATASET, "--projects", "roadside")
                assert eventually(lambda: image.read_bytes() == new), "what was published does not show"
                assert eventually(lambda: house.read_bytes() != rendered), "what is rendered of it does not show"
                assert eventually((mountpoint / ".by" / "project" / "roadside").exists), "no new link"
                (published / "long.png").unlink()
                workplace.run("publish", published, "--name", DATASET)
                assert eventually(lambda: not image.exists()), "what was removed is still there"
                os.posix_fadvise(reader.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                assert mapped[:] == old, "the mapped file has changed"
            assert b"".join(iter(lambda: reader.read(65536), b"")) == old, "the open file has changed"
        status = mount_status(mountpoint)
        told = {
            "user": os.getuid(),
            "owner": image.parent.stat().st_uid,
            "processes_of": sorted({Path(f"/proc/{process}").stat().st_uid for process in processes}),
            "links": sorted(links),
            "notifications": status["responders"]["notifications"],
            "errors": status["errors"],
        }
    # `mounted` has seen that all processes are gone.
    assert str(mountpoint) not in Path("/proc/self/mountinfo").read_text(), "the mount is still there"
    assert not any(mountpoint.iterdir())
    print(json.dumps(told))


if __name__ == "__main__":
    main()
