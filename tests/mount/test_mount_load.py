"""A slow store holds up those who read from it, and nobody else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.http_proxy import Fault, HttpProxy
from support.mounting import Workplace, write_folder
from support.services import Container

READERS = 64
SIBLINGS = 16
ANSWER_SECONDS = 5.0
LOOKS = 5_000
"""Half a second's worth on a quiet machine, done while the readers wait for their first answer."""

DATASET = "original_20260105_rgb_rbbox"

# Runs in a process of its own, as users' programs do: sharing an interpreter with the readers would measure that.
LOOK_AROUND = """
import os, sys
os.chdir(sys.argv[1])
for number in range(int(sys.argv[2])):
    # A name that nobody has asked for: the kernel must ask.
    if os.path.exists(f"absent-{number}.jpg"):
        sys.exit(1)
    if number % 500 == 0:
        os.listdir(".")
print(number + 1)
"""


@pytest.mark.slow
def test_while_64_readers_and_16_looks_at_siblings_wait_for_a_slow_store_others_look_around_in_the_same_directory(
    container: Container, tmp_path: Path
) -> None:
    with HttpProxy(container.azurite.port) as proxy:
        connection = container.azurite.connection_string_through(proxy.port)
        workplace = Workplace(str(tmp_path / "catalog.db"), tmp_path, {"AZURE_STORAGE_CONNECTION_STRING": connection})
        workplace.run("init", "--store", container.url)
        # Loose, so that each reader waits for a request of its own.
        workplace.run("publish", write_folder(tmp_path / "one", count=200), "--name", DATASET, "--loose")
        with workplace.mounted() as mountpoint:
            folder = mountpoint / DATASET
            images = sorted(folder.glob("*.jpg"))
            siblings = sorted(folder.glob("*.xml"))[-SIBLINGS:]
            proxy.forget()
            with proxy.fault(Fault(delay=ANSWER_SECONDS)):
                looks = [subprocess.Popen(["stat", sibling], stdout=subprocess.DEVNULL) for sibling in siblings]
                readers = [subprocess.Popen(["cat", image], stdout=subprocess.PIPE) for image in images[:READERS]]
                proxy.wait_for_requests(SIBLINGS)
                looking = subprocess.run(
                    [sys.executable, "-c", LOOK_AROUND, folder, str(LOOKS)],
                    capture_output=True,
                    text=True,
                    timeout=60,
                    check=True,
                )
                waiting = [each.poll() is None for each in (*readers, *looks)]
                contents = [reader.communicate(timeout=60)[0] for reader in readers]
                assert [look.wait(60) for look in looks] == [0] * SIBLINGS
    assert int(looking.stdout) == LOOKS
    assert waiting == [True] * (READERS + SIBLINGS)
    published = [(tmp_path / "one" / image.name).read_bytes() for image in images[:READERS]]
    assert contents == published
