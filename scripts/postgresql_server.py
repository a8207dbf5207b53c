"""PostgreSQL as one of the servers of ``scripts/services``: Debian's programs, on files of its own.

The cluster that Debian's package makes in /var/lib/postgresql is not touched.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server_process import START_SECONDS, Launch, ServiceError, as_user

if TYPE_CHECKING:
    from collections.abc import Mapping

PROGRAMS = Path("/usr/lib/postgresql")  # Debian: <version>/bin/postgres
USER = "imgsyncfs"
DATABASE = "postgres"


def describe(port: int) -> dict[str, Any]:
    """A new server: where it will be, and a password of its own."""
    return {
        "port": port,
        "user": USER,
        "password": secrets.token_urlsafe(18),
        "database": DATABASE,
        "url": f"postgresql://{USER}@127.0.0.1:{port}/{DATABASE}",
    }


def exports(server: Mapping[str, Any]) -> dict[str, str]:
    """The environment variables with which imgsyncfs uses the server's first database as its catalog."""
    return {"IMGSYNCFS_CATALOG": server["url"], "IMGSYNCFS_PASSWORD": server["password"]}


def prepare(folder: Path, server: Mapping[str, Any]) -> Launch:
    """How the server starts; its files lie in ``folder/postgresql`` and are made at the first start."""
    programs = newest_programs()
    cluster = folder / "postgresql"
    if not cluster.exists():
        make_cluster(folder, server["password"], programs)
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": server["port"],
        "unix_socket_directories": "",
        "shared_buffers": "32MB",
        # What a crash of the machine would lose is made again by the next run.
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
    }
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    return Launch(
        command=[programs / "postgres", "-D", cluster, *options],
        log=folder / "postgresql.log",
        answers=lambda: answers(programs, server["port"]),
        environment={"LC_ALL": "C"},
        user=server_user(),
    )


def newest_programs() -> Path:
    """The folder of the newest installed version's programs."""
    folders = [path.parent for path in PROGRAMS.glob("*/bin/postgres")]
    if not folders:
        raise ServiceError("PostgreSQL is not installed; run: scripts/services install")
    return max(folders, key=lambda path: float(path.parent.name))


def server_user() -> str | None:
    """Whom the server runs as: it refuses root, so root uses the user that Debian's package makes."""
    return "postgres" if os.geteuid() == 0 else None


def make_cluster(folder: Path, password: str, programs: Path) -> None:
    """Makes the files of an empty server in ``folder/postgresql``; nothing stays of a failure."""
    cluster, password_file, user = folder / "postgresql", folder / "postgresql-password", server_user()
    cluster.mkdir(mode=0o700)
    try:
        password_file.touch(mode=0o600)
        password_file.write_text(password)
        if user is not None:
            for path in (cluster, password_file):
                shutil.chown(path, user, user)
            require_reachable(cluster, user)
        run_initdb(cluster, password_file, programs, user)
    except BaseException:
        shutil.rmtree(cluster)
        raise
    finally:
        password_file.unlink()


def run_initdb(cluster: Path, password_file: Path, programs: Path, user: str | None) -> None:
    """Runs PostgreSQL's own initdb: everyone has to give a password, whose hash alone is kept."""
    options = ["--encoding=UTF8", "--locale=C", "--no-sync", "--auth=scram-sha-256", f"--username={USER}"]
    made = subprocess.run(
        [programs / "initdb", "-D", cluster, f"--pwfile={password_file}", *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        cwd="/",
        check=False,
        **as_user(user),
    )
    if made.returncode != 0:
        raise ServiceError(f"initdb failed in {cluster}: {made.stderr.strip()}")


def require_reachable(path: Path, user: str) -> None:
    """Raises ServiceError if the user cannot get to the folder, as in one that lies in root's home."""
    probe = subprocess.run(["test", "-x", path], timeout=START_SECONDS, cwd="/", check=False, **as_user(user))
    if probe.returncode != 0:
        raise ServiceError(
            f"user {user} cannot reach {path}, so PostgreSQL cannot keep its files there; "
            "choose a folder whose parents everyone may pass (chmod o+x)"
        )


def answers(programs: Path, port: int) -> bool:
    """Whether the server takes connections."""
    question = [str(programs / "pg_isready"), "--quiet", "--host=127.0.0.1", f"--port={port}", "--timeout=1"]
    return subprocess.run(question, timeout=START_SECONDS, check=False).returncode == 0
