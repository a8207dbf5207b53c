"""A signature that ends during a mount: another one in the config file is taken, and nobody mounts anew."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from azure.storage.blob import ContainerSasPermissions, generate_container_sas
from support.mounting import Workplace, eventually, write_folder
from support.services import Container

DATASETS = [f"original_2026030{number}_rgb_bbox" for number in (1, 2, 3)]
SECONDS = 4


def signature(container: Container, *, seconds: int) -> str:
    now = dt.datetime.now(dt.timezone.utc)
    return generate_container_sas(
        container.azurite.account,
        container.name,
        account_key=container.azurite.key,
        permission=ContainerSasPermissions(read=True, list=True),
        start=now - dt.timedelta(minutes=5),
        expiry=now + dt.timedelta(seconds=seconds),
    )


def write_secret(path: Path, token: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(0o600)
    path.write_text(token)


def is_readable(path: Path) -> bool:
    try:
        return bool(path.read_bytes())
    except PermissionError:
        return False


@pytest.mark.parametrize("by_reference", [False, True], ids=["in the config file", "in a file that it names"])
def test_a_mount_goes_on_with_the_signature_that_takes_the_place_of_one_that_has_ended(
    tmp_path: Path, container: Container, by_reference: bool
) -> None:
    owner = Workplace(str(tmp_path / "catalog.db"), tmp_path, container.environment)
    owner.run("init", "--store", container.url)
    for number, dataset in enumerate(DATASETS):
        owner.run("publish", write_folder(tmp_path / str(number), count=1, first=number), "--name", dataset)
    config = tmp_path / "config" / "imgsyncfs" / "config.toml"
    secret = tmp_path / "config" / "signature"

    def write_config(token: str) -> None:
        write_secret(secret, token)
        how = f'sas_token_file = "{secret}"' if by_reference else f'sas_token = "{token}"'
        section = f'[stores."{container.url}"]\nendpoint = "{container.azurite.endpoint}"\n{how}\n'
        write_secret(config, section)

    ends = dt.datetime.now(dt.timezone.utc) + dt.timedelta(seconds=SECONDS + 1)
    write_config(signature(container, seconds=SECONDS))
    reader = Workplace(owner.catalog, tmp_path)
    with reader.mounted("--refresh", "1", "--cache-size", "1M") as mountpoint:
        images = [next((mountpoint / dataset).glob("*.jpg")) for dataset in DATASETS]
        assert is_readable(images[0])
        # Each has a blob of its own.
        assert eventually(lambda: dt.datetime.now(dt.timezone.utc) > ends)
        assert not is_readable(images[1])
        write_config(signature(container, seconds=600))
        assert eventually(lambda: is_readable(images[2]))
        # Each worker finds out by itself.
        assert eventually(lambda: is_readable(images[1]))
