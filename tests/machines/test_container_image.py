"""The recipe of the image: built and run as its first lines say, on a fresh machine, with podman's ``docker``.

No registry can be asked here: what stands for Python's own image is a Debian 13 with its Python, under that name.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest
from support.machines import Machine, copy_checkout, debian, fresh_machine
from support.places import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.mount, pytest.mark.timeout(1200)]

RELEASE = "13"
DATASET = "original_20200207_fisheye_rbbox"
RECIPE = (REPOSITORY / "scripts/container/Containerfile").read_text()

CONFIGURATION = """
[containers]
cgroups = "disabled"
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
netns = "host"
volumes = ["/root/imgsyncfs-demo:/root/imgsyncfs-demo"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
"""Of a machine within a machine: it may have no control groups to hand on. The demo is there in each container."""

STORAGE = """
[storage]
driver = "vfs"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"
"""


def typed(start: str) -> str:
    """The command of the recipe's comment that begins so."""
    comment = re.sub(r"^# ?", "", RECIPE.partition("\nFROM ")[0], flags=re.MULTILINE)
    [command] = [each.strip() for each in comment.replace("\\\n", "").splitlines() if each.strip().startswith(start)]
    return command


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """Where the image was built."""
    [python] = {line.split()[1] for line in RECIPE.splitlines() if line.startswith("FROM ")}
    with fresh_machine(RELEASE) as machine:
        machine.types(
            "mkdir imgsyncfs-demo; apt-get install --quiet=2 --no-install-recommends podman podman-docker crun buildah"
        )
        for name, text in (("containers.conf", CONFIGURATION), ("storage.conf", STORAGE)):
            (machine.root / "etc/containers" / name).write_text(text)
        # Containers' files lie in folders there. Were that no mount of its own, they would share none with the machine.
        machine.types("mkdir -p /var/lib/containers; mount --bind /var/lib/containers /var/lib/containers")
        archive = machine.root / "var/tmp/debian.tar"
        subprocess.run(["tar", "--create", "--file", archive, "--directory", debian(RELEASE), "."], check=True)
        (machine.root / "var/tmp/Containerfile").write_text(
            "FROM localhost/debian\n"
            "RUN apt-get update && apt-get install --no-install-recommends python3 python3-venv \\\n"
            "    && ln -s python3 /usr/bin/python\n"
        )
        build = "export BUILDAH_ISOLATION=chroot\n"
        machine.types(
            f"podman import --quiet /var/tmp/debian.tar localhost/debian; rm /var/tmp/debian.tar\n"
            f"{build} docker build --tag {python} --file /var/tmp/Containerfile /var/tmp",
            seconds=600,
        )
        copy_checkout(machine, "/root/imgsyncfs")
        image = typed("docker build").replace("docker build", "docker build --format docker")
        machine.types(f"cd imgsyncfs; {build} {image}", seconds=600)
        yield machine


def test_a_container_mounts_for_its_host_and_ends_when_it_is_stopped(machine: Machine) -> None:
    machine.types("docker run --rm imgsyncfs demo /root/imgsyncfs-demo")
    run = typed("docker run").replace("docker run", "docker run --detach --name mounting")
    machine.types(f"mkdir -p /mnt/datasets; export IMGSYNCFS_CATALOG=/root/imgsyncfs-demo/catalog.db\n{run}")
    healthy = "until docker healthcheck run mounting > /dev/null; do sleep 0.2; done"
    machine.types(healthy, seconds=60)
    assert f"{DATASET}_00079.labelme.json" in machine.types(f"ls /mnt/datasets/{DATASET}")
    assert "fuse.imgsyncfs" in machine.types("findmnt --noheadings --output FSTYPE /mnt/datasets")
    machine.types("docker stop --time 20 mounting; ! mountpoint --quiet /mnt/datasets", seconds=30)
