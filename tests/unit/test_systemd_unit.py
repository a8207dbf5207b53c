"""What a mount as a systemd service is: its unit, and what it tells the service manager."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from imgsyncfs.errors import ConfigurationError
from imgsyncfs.mount.service_manager import SOCKET_VARIABLE, tell_service_manager
from imgsyncfs.mount.systemd_unit import quoted, systemd_unit


@pytest.mark.parametrize("is_abstract", [False, True])
def test_the_service_manager_hears_what_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_abstract: bool
) -> None:
    name = f"{'@' if is_abstract else ''}{tmp_path}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name.replace("@", "\0", 1))
        manager.settimeout(10)
        monkeypatch.setenv(SOCKET_VARIABLE, name)
        tell_service_manager("READY=1", "STATUS=two\nlines")
        assert manager.recv(4096) == b"READY=1\nSTATUS=two lines"


def test_a_service_manager_that_is_gone_disturbs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(SOCKET_VARIABLE, str(tmp_path / "gone"))
    tell_service_manager("READY=1")
    assert "READY=1" in caplog.text


@pytest.mark.parametrize(
    ("word", "written"),
    [
        ("/mnt/datasets", "/mnt/datasets"),
        ("/mnt/my datasets", '"/mnt/my datasets"'),
        ('50% of "$HOME" \\', '"50%% of \\"$$HOME\\" \\\\"'),
        ("", '""'),
    ],
)
def test_words_reach_the_command_as_they_are(word: str, written: str) -> None:
    assert quoted(word) == written


def test_a_control_character_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="control character"):
        systemd_unit(["/bin/imgsyncfs"], "/mnt/a\nExecStart=/bin/sh", [], is_user=False, start_seconds=90)


def test_only_the_system_waits_for_the_network() -> None:
    units = [systemd_unit(["/bin/imgsyncfs"], "/mnt", [], is_user=each, start_seconds=90) for each in (False, True)]
    assert ["network-online.target" in unit for unit in units] == [True, False]
