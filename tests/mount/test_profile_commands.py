"""Profiles as people use them: added, listed, shown, and taken by commands and mounts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from support.mounting import Workplace, demo_workplace


def config_of(workplace: Workplace) -> Path:
    return workplace.folder / "config" / "imgsyncfs" / "config.toml"


def test_a_profile_is_added_shown_and_used_by_commands_and_mounts(tmp_path: Path) -> None:
    demo = demo_workplace(tmp_path)
    expected = demo.run("datasets").stdout
    # Nothing in the environment says which catalog it is.
    bare = replace(demo, catalog="", environment={"WORK_PASSWORD": "planted-secret"})
    cache = tmp_path / "cache of work"
    added = bare.run(
        *("profile", "add", "work", "--catalog", demo.catalog, "--cache-dir", cache, "--password-env", "WORK_PASSWORD")
    )
    assert "imgsyncfs datasets --profile work" in added.stdout
    assert config_of(bare).stat().st_mode & 0o777 == 0o600
    bare.run("profile", "add", "other", "--catalog", tmp_path / "other.db")
    assert "already" in bare.run("profile", "add", "work", "--catalog", "x", status=1).stderr
    listed = bare.run("profile", "list").stdout
    assert listed.splitlines() == [f"  other\t{tmp_path}/other.db", f"* work\t{demo.catalog}"]
    shown = bare.run("profile", "show", "work").stdout
    assert "password_env\tWORK_PASSWORD\tthe profile" in shown
    assert "planted-secret" not in shown
    assert bare.run("datasets").stdout == bare.run("datasets", "--profile", "work").stdout == expected
    assert "other.db" in bare.run("datasets", "--profile", "other", status=1).stderr
    assert "write --profile instead" in bare.run("mount", tmp_path, "-o", "profile=work", status=1).stderr
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    bare.run("mount", mountpoint, "--profile", "work")
    try:
        assert len(list(mountpoint.iterdir())) == len(expected.splitlines())
    finally:
        bare.run("umount", mountpoint)
    assert "--profile work" in bare.run("systemd-unit", "work", mountpoint).stdout
