"""The kernel's protocol: every structure is what the C compiler makes of the kernel's header."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess

import pytest

from imgsyncfs.mount import protocol

FIELDS = {
    "fuse_in_header": (
        protocol.IN_HEADER,
        "len opcode unique nodeid uid gid pid",
    ),
    "fuse_out_header": (protocol.OUT_HEADER, "len error unique"),
    "fuse_attr": (
        protocol.ATTR,
        "ino size blocks atime mtime ctime atimensec mtimensec ctimensec mode nlink uid gid rdev blksize",
    ),
    "fuse_attr_out": (protocol.ATTR_OUT, "attr_valid attr_valid_nsec dummy attr.ino"),
    "fuse_entry_out": (
        protocol.ENTRY_OUT,
        "nodeid generation entry_valid attr_valid entry_valid_nsec attr_valid_nsec attr.ino",
    ),
    "fuse_read_in": (protocol.READ_IN, "fh offset size read_flags lock_owner flags"),
    "fuse_interrupt_in": (protocol.INTERRUPT_IN, "unique"),
    "fuse_init_out": (
        protocol.INIT_OUT,
        "major minor max_readahead flags max_background congestion_threshold max_write time_gran max_pages",
    ),
    "fuse_dirent": (protocol.DIRENT, "ino off namelen type"),
    "fuse_statfs_out": (
        protocol.STATFS_OUT,
        "st.blocks st.bfree st.bavail st.files st.ffree st.bsize st.namelen st.frsize",
    ),
    "fuse_notify_inval_inode_out": (protocol.INVAL_INODE_OUT, "ino off len"),
    "fuse_notify_inval_entry_out": (protocol.INVAL_ENTRY_OUT, "parent namelen"),
}

CONSTANTS = {
    "FUSE_LOOKUP": protocol.LOOKUP, "FUSE_FORGET": protocol.FORGET, "FUSE_GETATTR": protocol.GETATTR,
    "FUSE_READLINK": protocol.READLINK, "FUSE_OPEN": protocol.OPEN, "FUSE_READ": protocol.READ,
    "FUSE_STATFS": protocol.STATFS, "FUSE_INIT": protocol.INIT, "FUSE_OPENDIR": protocol.OPENDIR,
    "FUSE_READDIR": protocol.READDIR, "FUSE_INTERRUPT": protocol.INTERRUPT, "FUSE_DESTROY": protocol.DESTROY,
    "FUSE_BATCH_FORGET": protocol.BATCH_FORGET, "FUSE_NOTIFY_INVAL_INODE": protocol.NOTIFY_INVAL_INODE,
    "FUSE_NOTIFY_INVAL_ENTRY": protocol.NOTIFY_INVAL_ENTRY, "FUSE_ASYNC_READ": protocol.ASYNC_READ,
    "FUSE_EXPORT_SUPPORT": protocol.EXPORT_SUPPORT, "FUSE_NO_OPEN_SUPPORT": protocol.NO_OPEN_SUPPORT,
    "FUSE_PARALLEL_DIROPS": protocol.PARALLEL_DIROPS, "FUSE_MAX_PAGES": protocol.MAX_PAGES,
    "FUSE_CACHE_SYMLINKS": protocol.CACHE_SYMLINKS, "FUSE_NO_OPENDIR_SUPPORT": protocol.NO_OPENDIR_SUPPORT,
    "FUSE_EXPLICIT_INVAL_DATA": protocol.EXPLICIT_INVAL_DATA,
}  # fmt: skip


def offsets(layout: struct.Struct) -> list[int]:
    """Where each value lies."""
    codes = []
    for count, code in re.findall(r"(\d*)([A-Za-z])", layout.format):
        codes += [f"{count}x"] if code == "x" else [code] * int(count or 1)
    places, length = [], 0
    for code in codes:
        if not code.endswith("x"):
            places.append(length)
        length += struct.calcsize(f"<{code}")
    return places


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """Sizes, offsets and constants as the C compiler has them."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler is not None, "scripts/test installs a C compiler"
    lines = [f'printf("{name} %zu\\n", sizeof(struct {name}));' for name in FIELDS]
    lines += [
        f'printf("{name}.{field} %zu\\n", offsetof(struct {name}, {field}));'
        for name, (_, fields) in FIELDS.items()
        for field in fields.split()
    ]
    lines += [f'printf("{name} %zu\\n", (size_t)({name}));' for name in CONSTANTS]
    folder = tmp_path_factory.mktemp("compiled")
    source = "#include <stddef.h>\n#include <stdio.h>\n#include <linux/fuse.h>\nint main(void) {\n"
    (folder / "layout.c").write_text(source + "\n".join(lines) + "\nreturn 0; }\n")
    subprocess.run([compiler, "layout.c", "-o", "layout"], cwd=folder, check=True, timeout=60)
    done = subprocess.run([folder / "layout"], capture_output=True, text=True, check=True, timeout=60)
    return {name: int(value) for name, value in (line.split() for line in done.stdout.splitlines())}


@pytest.mark.parametrize("name", FIELDS)
def test_a_structure_is_what_the_compiler_makes_of_the_kernels_header(name: str, compiled: dict[str, int]) -> None:
    layout, fields = FIELDS[name]
    names = fields.split()
    assert [compiled[f"{name}.{field}"] for field in names] == offsets(layout)[: len(names)]
    assert compiled[name] == layout.size


def test_constants_are_those_of_the_kernels_header(compiled: dict[str, int]) -> None:
    assert {name: compiled[name] for name in CONSTANTS} == CONSTANTS
