"""The administrator hears once that `updatedb` would walk the mount."""

from __future__ import annotations

from pathlib import Path

import pytest

from imgsyncfs.mount.updatedb import hint

DEBIAN = 'PRUNE_BIND_MOUNTS="yes"\n# PRUNEFS="fuse.imgsyncfs"\nPRUNEFS="NFS afs fuse.sshfs"\n'


def test_it_is_said_once(tmp_path: Path) -> None:
    configuration = tmp_path / "updatedb.conf"
    configuration.write_text(DEBIAN)
    assert f"add fuse.imgsyncfs to PRUNEFS in {configuration}" in hint(tmp_path, configuration)
    assert hint(tmp_path, configuration) == ""


@pytest.mark.parametrize("text", [None, 'PRUNEFS="NFS fuse.imgsyncfs afs"'])
def test_nothing_is_said_where_nobody_walks(tmp_path: Path, text: str | None) -> None:
    configuration = tmp_path / "updatedb.conf"
    if text is not None:
        configuration.write_text(text)
    assert hint(tmp_path, configuration) == ""
