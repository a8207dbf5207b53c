"""What whoever has no libfuse is told to install."""

from __future__ import annotations

import pytest

from imgsyncfs.mount.mountpoint import libfuse_package


@pytest.mark.parametrize(
    ("release", "package"),
    [
        ({"ID": "debian", "VERSION_ID": "12"}, "libfuse2"),
        ({"ID": "debian", "VERSION_ID": "13"}, "libfuse2t64"),
        ({"ID": "ubuntu", "VERSION_ID": "22.04"}, "libfuse2"),
        ({"ID": "ubuntu", "VERSION_ID": "24.04"}, "libfuse2t64"),
        ({"ID": "debian"}, "libfuse2t64 (libfuse2 on older ones)"),
        ({}, "libfuse2t64 (libfuse2 on older ones)"),
    ],
)
def test_the_package_of_libfuse_has_the_name_of_the_release(release: dict[str, str], package: str) -> None:
    assert libfuse_package(release) == package
