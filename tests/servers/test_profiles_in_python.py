"""Profiles of the config file, used from Python."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.tds_server import TdsServer

import imgsyncfs
from imgsyncfs.catalog import open_catalog
from imgsyncfs.errors import CatalogError

SECRET = "of the profile"


@pytest.fixture(autouse=True)
def _without_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IMGSYNCFS_CATALOG", "IMGSYNCFS_PASSWORD", "IMGSYNCFS_PROFILE"):
        monkeypatch.delenv(name, raising=False)


def config_for(folder: Path, catalog: str, password: str) -> Path:
    """A config file whose default profile names a catalog and its password."""
    config = folder / "config.toml"
    config.write_text(
        f'default_profile = "work"\n[profiles.work]\ncatalog = "{catalog}"\npassword = "{password}"\n'
        '[profiles.other]\ncatalog = "/no/such/catalog.db"\n'
    )
    config.chmod(0o600)
    return config


def test_a_profile_names_the_catalog_and_gives_its_password(sql_server: TdsServer, tmp_path: Path) -> None:
    with open_catalog(sql_server.url, password=sql_server.password, create=True) as catalog:
        catalog.initialize(store=f"file://{tmp_path}/store")
    config = config_for(tmp_path, sql_server.url, sql_server.password)
    with imgsyncfs.connect(profile="work", config=config, cache_dir=tmp_path / "cache") as opened:
        assert list(opened.datasets) == []
    with pytest.raises(CatalogError, match="/no/such/catalog"):
        imgsyncfs.connect(profile="other", config=config, cache_dir=tmp_path / "cache")


def test_a_profiles_password_is_told_to_no_other_catalog(sql_server: TdsServer, tmp_path: Path) -> None:
    config = config_for(tmp_path, "postgresql://reader@elsewhere.example/datasets", SECRET)
    with pytest.raises(CatalogError):
        imgsyncfs.connect(sql_server.url, config=config, cache_dir=tmp_path / "cache")
    assert sql_server.logins
    assert SECRET not in {login.password for login in sql_server.logins}
