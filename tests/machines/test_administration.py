"""What the README tells an administrator, typed on fresh machines with systemd: Debian 12 and 13."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from support.machines import RELEASES, Machine, copy_checkout, fresh_machine
from support.places import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.mount, pytest.mark.timeout(900)]

README = (REPOSITORY / "README.md").read_text()

EXAMPLE_CATALOG = "mssql://reader@example.database.windows.net/datasets"
"""The one that it names where the administrator writes theirs."""

CATALOG = "/root/imgsyncfs-demo/catalog.db"
DATASET = "original_20200207_fisheye_rbbox"

CHECKOUT = "/root/imgsyncfs"
LOGGED_IN = f"cd {CHECKOUT}; . .venv/bin/activate; export IMGSYNCFS_CATALOG={CATALOG}\n"


def section(title: str) -> str:
    """A section of the README, without its title."""
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def block_with(text: str, *, of: str = "Administer") -> str:
    """The one block of a section that has a text in it, with the catalog that the machine has."""
    blocks: list[str] = re.findall(r"^```\w*\n(.*?)^```$", section(of), re.MULTILINE | re.DOTALL)
    [found] = [block for block in blocks if text in block]
    escaped = EXAMPLE_CATALOG.replace(":", "\\:")
    return found.replace(EXAMPLE_CATALOG, CATALOG).replace(escaped, CATALOG)


@pytest.fixture(scope="module", params=[*RELEASES])
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """Where imgsyncfs was installed by hand, and the demo catalog made."""
    release: str = request.param
    with fresh_machine(release) as machine:
        copy_checkout(machine, CHECKOUT)
        install = block_with("apt-get install", of="Install")
        if release != "12":
            install = install.replace(" libfuse2 ", " libfuse2t64 ")
        machine.types(f"cd {CHECKOUT}\n{install}")
        machine.types(f"{LOGGED_IN} imgsyncfs demo ~/imgsyncfs-demo\nimgsyncfs install-helper")
        machine.types("useradd --create-home --shell /bin/bash researcher; loginctl enable-linger researcher")
        yield machine


def test_check_finds_nothing_missing_after_an_installation(machine: Machine) -> None:
    said = machine.types(f"{LOGGED_IN} imgsyncfs check")
    assert "✗" not in said


def test_every_command_for_administrators_works_as_typed_and_in_order(machine: Machine) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```$", section("Administer"), re.MULTILINE | re.DOTALL)
    machine.types(LOGGED_IN + "set -x\n" + "".join(blocks))
    machine.types("rm -r ~/catalog.db ~/.config/imgsyncfs")


def test_a_line_of_fstab_mounts_when_somebody_looks_also_after_a_reboot(machine: Machine) -> None:
    line = block_with("x-systemd.mount-timeout")
    machine.types(f"mkdir -p /mnt/datasets; echo '{line.strip()}' >> /etc/fstab\n{block_with('remote-fs.target')}")
    assert machine.types("findmnt --noheadings --output FSTYPE /mnt/datasets").split() == ["autofs"]
    assert DATASET in machine.types("ls /mnt/datasets", user="researcher")
    machine.power_off()
    machine.boot()
    assert "fuse.imgsyncfs" not in machine.types("findmnt --noheadings --output FSTYPE /mnt/datasets")
    assert f"{DATASET}_00079.xml" in machine.types(f"ls /mnt/datasets/{DATASET}", user="researcher")
    assert machine.types("systemctl is-active mnt-datasets.mount").strip() == "active"
    machine.types("mount -a; systemctl stop mnt-datasets.mount")
    assert "autofs" in machine.types("findmnt --noheadings --output FSTYPE /mnt/datasets")
    assert DATASET in machine.types("ls /mnt/datasets")
    machine.types("umount /mnt/datasets; systemctl stop mnt-datasets.automount; sed -i '/imgsyncfs/d' /etc/fstab")


def test_a_line_of_fstab_may_leave_the_catalog_to_a_profile(machine: Machine) -> None:
    machine.types(
        "mkdir -p /etc/imgsyncfs /mnt/profile\n"
        f"printf '[profiles.work]\\ncatalog = \"{CATALOG}\"\\n' > /etc/imgsyncfs/config.toml\n"
        "echo 'none /mnt/profile imgsyncfs _netdev,nofail,allow_other,profile=work 0 0' >> /etc/fstab\n"
        "systemctl daemon-reload; systemctl start mnt-profile.mount"
    )
    assert DATASET in machine.types("ls /mnt/profile", user="researcher")
    machine.types(
        "umount /mnt/profile; rm -r /etc/imgsyncfs; sed -i '/imgsyncfs/d' /etc/fstab; systemctl daemon-reload"
    )


def test_a_service_of_the_machine_comes_up_with_it_and_again_when_it_was_killed(machine: Machine) -> None:
    machine.types(
        f"{LOGGED_IN} mkdir -p /mnt/service\n"
        f"imgsyncfs systemd-unit {CATALOG} /mnt/service -o allow_other > /etc/systemd/system/datasets.service\n"
        "systemctl daemon-reload && systemctl enable --now datasets"
    )
    assert DATASET in machine.types("ls /mnt/service", user="researcher")
    machine.power_off()
    machine.boot()
    look = f"head --bytes 4 /mnt/service/{DATASET}/{DATASET}_00079.jpg | od --address-radix=n --format=x1"
    assert machine.types(look, user="researcher").split()[:2] == ["ff", "d8"]
    restarted = (
        "number() { systemctl show --property=NRestarts --value datasets; }\n"
        "kill -9 $(systemctl show --property=MainPID --value datasets)\n"
        "until [[ $(number) == 1 && $(systemctl is-active datasets) == active ]]; do sleep 0.2; done"
    )
    machine.types(restarted, seconds=60)
    assert machine.types(look, user="researcher").split()[:2] == ["ff", "d8"]
    machine.types("systemctl disable --now datasets; ! mountpoint --quiet /mnt/service")


def test_a_service_of_a_user_is_set_up_as_typed(machine: Machine) -> None:
    machine.types("chmod 0666 /dev/fuse; cp -r /root/imgsyncfs ~researcher; chown -R researcher: ~researcher/imgsyncfs")
    own = "cd ~/imgsyncfs; . .venv/bin/activate\n"
    machine.types(
        "cd imgsyncfs; python3 -m venv --clear .venv; .venv/bin/pip install --quiet .\n"
        f"{own}imgsyncfs demo ~/imgsyncfs-demo",
        user="researcher",
    )
    machine.types(own + block_with("systemd-analyze verify"), user="researcher")
    machine.types(block_with("systemctl --user"), user="researcher")
    assert DATASET in machine.types("ls ~/as-a-service", user="researcher")
    machine.types("systemctl --user disable --now imgsyncfs-datasets", user="researcher")
    assert machine.types("ls ~/as-a-service", user="researcher") == ""


def test_autofs_mounts_by_the_lines_that_are_shown(machine: Machine) -> None:
    [master] = re.findall(r"`/etc/auto\.master` has `(.*?)`", section("Administer"))
    machine.types(
        "apt-get install --quiet=2 autofs\nmkdir -p /data\n"
        f"echo '{master}' >> /etc/auto.master\n"
        f"echo '{block_with('-fstype=imgsyncfs').strip()}' > /etc/auto.imgsyncfs\n"
        "systemctl restart autofs"
    )
    assert DATASET in machine.types("ls /data/datasets", user="researcher")
    machine.types("systemctl stop autofs; ! mountpoint --quiet /data/datasets")
