"""A slow store holds up those who read from it, and nobody else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.http_proxy import Fault, HttpProxy
from support.mounting import Workplace, write_folder
from support.services import Container

READERS = 8
ANSWER_SECONDS = 5.0
LOOKS = 15_000
"""Two seconds' worth on a quiet machine, done while the readers wait for their first answer."""

DATASET = "original_20260105_rgb_rbbox"

# Runs in a process of its own, as users' programs do: sharing an interpreter with the readers would measure that.
LOOK_AROUND = """
import os, sys
looks = int(sys.argv[2])
os.chdir(sys.argv[1])
names = [name for name in os.listdir(".") if name.endswith(".jpg")]
done = 0
while done < looks:
    os.listdir(".")
    for name in names:
        os.stat(name)
    done += len(names) + 1
print(done)
"""


@pytest.mark.slow
def test_while_8_readers_wait_for_a_store_that_answers_after_5_s_15000_looks_are_done(
    container: Container, tmp_path: Path
) -> None:
    with HttpProxy(container.azurite.port) as proxy:
        connection = container.azurite.connection_string_through(proxy.port)
        workplace = Workplace(str(tmp_path / "catalog.db"), tmp_path, {"AZURE_STORAGE_CONNECTION_STRING": connection})
        workplace.run("init", "--store", container.url)
        # Loose, so that each reader waits for a request of its own.
        workplace.run("publish", write_folder(tmp_path / "one", count=200), "--name", DATASET, "--loose")
        # The kernel is told to forget names at once, so that every look is one that the daemon answers.
        with workplace.mounted("--siblings", "none", "-o", "entry_timeout=0") as mountpoint:
            folder = mountpoint / DATASET
            images = sorted(folder.glob("*.jpg"))
            proxy.forget()
            with proxy.fault(Fault(delay=ANSWER_SECONDS)):
                readers = [subprocess.Popen(["cat", image], stdout=subprocess.PIPE) for image in images[:READERS]]
                proxy.wait_for_requests(READERS)
                looking = subprocess.run(
                    [sys.executable, "-c", LOOK_AROUND, folder, str(LOOKS)],
                    capture_output=True,
                    text=True,
                    timeout=60,
                    check=True,
                )
                waiting = [reader.poll() is None for reader in readers]
                contents = [reader.communicate(timeout=60)[0] for reader in readers]
    assert int(looking.stdout) >= LOOKS
    assert waiting == [True] * READERS
    published = [(tmp_path / "one" / image.name).read_bytes() for image in images[:READERS]]
    assert contents == published
