"""Fresh machines: a Debian with systemd as its first process, which has nothing of this machine but the network.

`debootstrap` makes a release's files once; each machine writes to a layer of its own above them (overlayfs), which goes
with it. ``systemd-nspawn`` boots it, with this machine's ``/dev/fuse`` and ``/dev/autofs``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from support.places import REPOSITORY

FOLDER = REPOSITORY / ".machines"
"""Where releases are kept, and what running machines write: on a disk, since there may be much of it."""

RELEASES = {"12": "bookworm", "13": "trixie"}
"""Debian's."""

SEVERAL_SECONDS = 600.0
COMMAND_SECONDS = 300.0
BOOT_SECONDS = 60.0
POWER_OFF_SECONDS = 30.0

PACKAGES = ("ca-certificates", "dbus", "dbus-user-session", "libpam-systemd", "python3", "sudo", "systemd-sysv")
"""What a Debian that somebody has installed has beside its least."""

CERTIFICATES = Path("usr/local/share/ca-certificates")
"""Where the network is looked into, by a company for example, its certificates are here."""

VARIABLES = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "TERM": "dumb"}

_POWER_OFF = signal.SIGRTMIN + 4
"""What systemd as the first process does when it gets that: systemd(1)."""


def debian(release: str) -> Path:
    """The files of a release as it is installed; made when they are first asked for."""
    FOLDER.mkdir(exist_ok=True)
    root = FOLDER / f"debian-{release}"
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.is_dir():
            with tempfile.TemporaryDirectory(dir=FOLDER, prefix="making-") as making:
                _install(release, Path(making, "root"))
                Path(making, "root").rename(root)
    return root


def _install(release: str, root: Path) -> None:
    words = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", RELEASES[release], str(root)]
    subprocess.run(words, stdout=subprocess.DEVNULL, timeout=SEVERAL_SECONDS, check=True)
    own = Path("/", CERTIFICATES)
    if own.is_dir() and any(own.iterdir()):
        shutil.copytree(own, root / CERTIFICATES, dirs_exist_ok=True)
        _within(root, "update-ca-certificates")
        # A virtual environment's pip has certificates of its own.
        (root / "etc/pip.conf").write_text("[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n")
    # Whoever types apt-get says yes to its question.
    (root / "etc/apt/apt.conf.d/answers").write_text('APT::Get::Assume-Yes "true";\n')
    # A user's systemd that is told to end while it begins does not. The machine waits for it, by itself for 120 s.
    hurry = root / "etc/systemd/system/user@.service.d/hurry.conf"
    hurry.parent.mkdir()
    hurry.write_text("[Service]\nTimeoutStopSec=5\n")
    _within(root, "apt-get", "update")


def _within(root: Path, *words: str) -> None:
    """Run a command with other files than this machine's."""
    subprocess.run(
        ["chroot", root, *words], env=VARIABLES, stdout=subprocess.DEVNULL, timeout=SEVERAL_SECONDS, check=True
    )


class Machine:
    """A machine that runs, or is off.

    Args:
        root: its files.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._first_process = 0

    def boot(self) -> None:
        """Start it, and wait until it has come up."""
        words = ["systemd-nspawn", "--quiet", f"--directory={self.root}", f"--machine=imgsyncfs-{os.getpid()}"]
        words += ["--register=no", "--capability=all", "--console=pipe", "--boot"]
        words += [f"--bind={device}" for device in ("/dev/fuse", "/dev/autofs")]
        # This process may be in none of systemd's units, or in one.
        words += [] if Path("/run/systemd/system").is_dir() else ["--keep-unit"]
        self._nspawn = subprocess.Popen(
            words,
            env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + BOOT_SECONDS
        while not self._has_come_up():
            assert self._nspawn.poll() is None, "systemd-nspawn has ended; it has said why"
            assert time.monotonic() < deadline, "the machine has not come up"
            time.sleep(0.2)

    def _has_come_up(self) -> bool:
        assert self._nspawn is not None
        with contextlib.suppress(OSError, ValueError):
            children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text()
            self._first_process = int(children)
            # A unit that fails, for want of the kernel's modules for example, makes it "degraded".
            return self._run("systemctl is-system-running").stdout.strip() in {"running", "degraded"}
        return False

    def power_off(self) -> None:
        """Have it end as machines do."""
        nspawn, self._nspawn = self._nspawn, None
        if nspawn is None:
            return
        left = ""
        try:
            if self._first_process:
                os.kill(self._first_process, _POWER_OFF)
                nspawn.wait(POWER_OFF_SECONDS)
        except subprocess.TimeoutExpired:
            # Now and then a user's systemd does not end, here where it has no control groups of its own to look at.
            # The pattern does not find its own command.
            left = self._run("grep --no-messages --text --files-with-matches 'imgsyncf[s]' /proc/[0-9]*/cmdline").stdout
            os.kill(self._first_process, signal.SIGKILL)
        finally:
            nspawn.kill()
            nspawn.wait()
            self._first_process = 0
        assert not left, f"processes of a mount keep the machine from ending: {left}"

    def types(self, script: str, *, user: str = "root", seconds: float = COMMAND_SECONDS, status: int = 0) -> str:
        """Have somebody who has logged in type commands, in their home; whatever these print.

        Args:
            script: for bash, which stops at the first that fails.
            user: who it is.
            seconds: how long it may take.
            status: the exit status that it must have.
        """
        done = self._run(f"cd; set -e\n{script}", user=user, seconds=seconds)
        if done.returncode != status:
            journal = self._run("journalctl --no-pager --lines 20 --output cat").stdout
            raise AssertionError(f"{script}\nended with {done.returncode}:\n{done.stdout}\nThe journal:\n{journal}")
        return done.stdout

    def _run(self, script: str, *, user: str = "root", seconds: float = 10.0) -> subprocess.CompletedProcess[str]:
        inside = ["nsenter", f"--target={self._first_process}"]
        inside += [f"--{each}" for each in ("mount", "pid", "uts", "ipc", "cgroup", "root", "wd")]
        log_in = ["runuser", "--login", user, "--whitelist-environment=LANG", "--command"]
        return subprocess.run(
            # `systemctl --user` finds the user's own systemd there; pam_systemd says so where somebody logs in.
            [*inside, *log_in, f"export XDG_RUNTIME_DIR=/run/user/$(id -u)\n{script}"],
            env=VARIABLES,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
        )


@contextlib.contextmanager
def fresh_machine(release: str) -> Iterator[Machine]:
    """A machine with a Debian that was never used; it and what it wrote are gone afterwards."""
    base = debian(release)
    with tempfile.TemporaryDirectory(dir=FOLDER, prefix="running-") as running:
        places = {name: Path(running, name) for name in ("upper", "work", "root")}
        for place in places.values():
            place.mkdir()
        layers = f"lowerdir={base},upperdir={places['upper']},workdir={places['work']}"
        subprocess.run(["mount", "--types=overlay", f"--options={layers}", "overlay", places["root"]], check=True)
        subprocess.run(["mount", "--make-private", places["root"]], check=True)
        machine = Machine(places["root"])
        try:
            machine.boot()
            yield machine
        finally:
            machine.power_off()
            # Another machine that starts just then may mount it a second time, where mounts are shared.
            while places["root"].is_mount():
                subprocess.run(["umount", places["root"]], check=True)


def copy_checkout(machine: Machine, folder: str) -> None:
    """Put what a clone of this checkout holds into a folder of a machine, with what is not committed yet.

    Args:
        machine: it runs.
        folder: an absolute path in it.
    """
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        check=True,
    ).stdout
    for name in map(os.fsdecode, listed.rstrip(b"\0").split(b"\0")):
        place = Path(f"{machine.root}{folder}", name)
        place.parent.mkdir(parents=True, exist_ok=True)
        if (REPOSITORY / name).exists():
            shutil.copy2(REPOSITORY / name, place, follow_symlinks=False)
