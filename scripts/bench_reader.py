"""One reader of the benchmark: a process of its own that does one job and times itself.

The job comes as a line of JSON on standard input (see `bench_readers.Job`); "ready" goes back, and when another line
comes, the work begins. Then a line of JSON says what was done and when (`time.monotonic`, which is the same clock in
all processes). Uses the standard library alone and is run without site-packages, so that eight of them start at once.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

BUFFER_BYTES = 1 << 20
REQUEST_SECONDS = 60.0
HTTP_OK = 200

Job = dict[str, Any]
Done = dict[str, Any]


def chunks(path: str) -> Iterator[bytes]:
    """A file's content, as `os.read` gives it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        while chunk := os.read(descriptor, BUFFER_BYTES):
            yield chunk
    finally:
        os.close(descriptor)


def read_files(job: Job) -> Done:
    """Reads files, one after the other, to their ends."""
    total = 0
    for path in job["names"]:
        descriptor = os.open(path, os.O_RDONLY)
        while chunk := os.read(descriptor, BUFFER_BYTES):
            total += len(chunk)
        os.close(descriptor)
    return {"items": len(job["names"]), "bytes": total}


def digest_files(job: Job) -> Done:
    """Reads files and returns their MD5 digests; not for timing."""
    digests = []
    for path in job["names"]:
        digest = hashlib.md5(usedforsecurity=False)
        for chunk in chunks(path):
            digest.update(chunk)
        digests.append(digest.hexdigest())
    return {"items": len(digests), "bytes": 0, "digests": digests}


def stat_files(job: Job) -> Done:
    """Asks for the attributes of files; the bytes are the sum of their sizes."""
    # os.stat, not a Path: what the reader itself costs should be as little as can be.
    return {"items": len(job["names"]), "bytes": sum(os.stat(path).st_size for path in job["names"])}  # noqa: PTH116


def list_directories(job: Job) -> Done:
    """Counts the entries of directories."""
    count = 0
    for path in job["names"]:
        with os.scandir(path) as entries:
            count += sum(1 for _ in entries)
    return {"items": count, "bytes": 0}


def get_blobs(job: Job) -> Done:
    """GETs blobs over one connection that is kept."""
    connection = http.client.HTTPConnection("127.0.0.1", job["port"], timeout=REQUEST_SECONDS)
    total = 0
    for path in job["names"]:
        connection.request("GET", f"{path}?{job['signature']}")
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != HTTP_OK:
            raise OSError(f"GET {path} was answered with status {answer.status}")
        total += len(content)
    connection.close()
    return {"items": len(job["names"]), "bytes": total}


WORK: dict[str, Callable[[Job], Done]] = {
    "read": read_files,
    "digest": digest_files,
    "stat": stat_files,
    "list": list_directories,
    "get": get_blobs,
}


def work_on(job: Job) -> Done:
    """Does a job, by several threads of this process if it says so: what they ask the kernel they wait for together."""
    work, names = WORK[job["work"]], job["names"]
    if job["threads"] == 1:
        return work(job)
    # Late: most readers need none, and are to be ready at once.
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(job["threads"]) as executor:
        parts = [{**job, "names": names[first :: job["threads"]]} for first in range(job["threads"])]
        done = list(executor.map(work, parts))
    return {name: sum(each[name] for each in done) for name in ("items", "bytes")}


def serve(work: Callable[[Job], Done]) -> int:
    """Takes a job, waits for the start, does it and says what was done; returns the exit status.

    Args:
        work: does the job.
    """
    job = json.loads(sys.stdin.readline())
    print("ready", flush=True)
    if not sys.stdin.readline():
        return 1
    begin = time.monotonic()
    try:
        done = work(job)
    except (OSError, http.client.HTTPException) as error:
        done = {"error": f"{type(error).__name__}: {error}"}
    # Who times a part of its work alone says so.
    print(json.dumps({"begin": begin, "end": time.monotonic(), **done}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(serve(work_on))
