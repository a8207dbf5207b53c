"""Where settings and secrets come from, and that secrets stay there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from imgsyncfs.errors import ConfigurationError
from imgsyncfs.settings.config_file import load_configuration
from imgsyncfs.stores.credentials import store_credentials

SOMEBODY = 12345
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")

URL = "azure://account/container/prefix"


def write_config(folder: Path, text: str, *, mode: int = 0o600) -> Path:
    path = folder / "config.toml"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_the_environment_wins_over_the_config_file(tmp_path: Path) -> None:
    path = write_config(tmp_path, 'catalog = "/from/file.db"\npassword = "from file"\n')
    alone = load_configuration(path, environment={})
    assert (alone.catalog, alone.password) == ("/from/file.db", "from file")
    both = load_configuration(path, environment={"IMGSYNCFS_CATALOG": "/env.db", "IMGSYNCFS_PASSWORD": "from env"})
    assert (both.catalog, both.password) == ("/env.db", "from env")


def test_a_config_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="There is no config file"):
        load_configuration(tmp_path / "missing.toml", environment={})


@pytest.mark.parametrize("text", ["catalog = ", "\x00", 'katalog = "x"'])
def test_a_config_file_that_makes_no_sense_is_named(tmp_path: Path, text: str) -> None:
    path = write_config(tmp_path, text)
    with pytest.raises(ConfigurationError, match=str(path)):
        load_configuration(path, environment={})


def test_stores_are_allowed_by_a_list_and_by_sections_with_credentials(tmp_path: Path) -> None:
    path = write_config(tmp_path, 'allow_stores = ["file:///one"]\n[stores."azure://account"]\nsas_token = "x"\n')
    configuration = load_configuration(path, environment={})
    assert configuration.allowing(["file:///two"]).allowed_stores == ("file:///one", "file:///two", "azure://account")


@pytest.mark.parametrize("value", ['"file:///one"', "[1]"])
def test_allowed_stores_that_are_no_list_of_texts_are_refused(tmp_path: Path, value: str) -> None:
    path = write_config(tmp_path, f"allow_stores = {value}\n")
    with pytest.raises(ConfigurationError, match="write"):
        load_configuration(path, environment={})


def test_secrets_that_everyone_may_read_are_refused(tmp_path: Path) -> None:
    path = write_config(tmp_path, 'password = "x"\n', mode=0o644)
    with pytest.raises(ConfigurationError, match="chmod"):
        load_configuration(path, environment={})


def test_a_config_file_that_everyone_may_write_to_is_refused(tmp_path: Path) -> None:
    path = write_config(tmp_path, 'catalog = "/their.db"\n', mode=0o646)
    with pytest.raises(ConfigurationError, match=f"everyone may write to {path}; correct that, or move it"):
        load_configuration(path, environment={})


@needs_root
def test_a_config_file_that_a_group_may_write_to_is_refused(tmp_path: Path) -> None:
    path = write_config(tmp_path, 'catalog = "/their.db"\n')
    os.chown(path, -1, SOMEBODY)
    path.chmod(0o660)
    with pytest.raises(ConfigurationError, match=f"the group {SOMEBODY} may write to {path}"):
        load_configuration(path, environment={})


@needs_root
def test_a_config_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    path = write_config(tmp_path, 'catalog = "/their.db"\n')
    os.chown(path, SOMEBODY, SOMEBODY)
    with pytest.raises(ConfigurationError, match=f"{path} belongs to the user {SOMEBODY}"):
        load_configuration(path, environment={})


@pytest.mark.parametrize("where", ["named", "the user's own"])
def test_a_config_file_in_a_folder_that_everyone_may_write_to_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "imgsyncfs").mkdir()
    path = write_config(tmp_path / "imgsyncfs", 'catalog = "/their.db"\n')
    path.parent.chmod(0o777)
    with pytest.raises(ConfigurationError, match=f"everyone may write to {path.parent}"):
        load_configuration(path if where == "named" else None, environment={})


@needs_root
def test_a_link_to_a_config_file_must_be_ours_as_well(tmp_path: Path) -> None:
    path = write_config(tmp_path, 'catalog = "/ours.db"\n')
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp").chmod(0o1777)
    link = tmp_path / "tmp" / "config.toml"
    link.symlink_to(path)
    assert load_configuration(link, environment={}).catalog == "/ours.db"
    os.chown(link, SOMEBODY, SOMEBODY, follow_symlinks=False)
    with pytest.raises(ConfigurationError, match=f"{link} belongs to the user {SOMEBODY}"):
        load_configuration(link, environment={})


def test_a_config_file_that_is_not_there_is_no_matter_wherever_it_would_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "open"))
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    assert load_configuration(environment={"IMGSYNCFS_CATALOG": "/x.db"}).catalog == "/x.db"


def test_a_config_file_may_come_through_a_pipe() -> None:
    reading, writing = os.pipe()
    os.write(writing, b'password = "from a pipe"\n')
    os.close(writing)
    assert load_configuration(Path(f"/dev/fd/{reading}"), environment={}).password == "from a pipe"
    os.close(reading)


def test_a_store_has_the_credentials_of_its_own_section_or_of_one_above_it() -> None:
    stores = {"azure://account": {"account_key": "one"}, "azure://account/container": {"sas_token": "two"}}
    assert store_credentials(URL, stores, environment={}).sas_token == "two"
    assert store_credentials("azure://account/other", stores, environment={}).account_key == "one"
    assert store_credentials("azure://accountant/other", stores, environment={}).account_key is None


def test_without_a_section_azures_own_variables_serve_and_never_beside_one() -> None:
    environment = {"AZURE_STORAGE_CONNECTION_STRING": "text"}
    assert store_credentials(URL, {}, environment=environment).connection_string == "text"
    stores = {"azure://account": {"sas_token": "two"}}
    assert store_credentials(URL, stores, environment=environment).connection_string is None


def test_an_unknown_key_in_a_section_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="sas_tokn"):
        store_credentials(URL, {URL: {"sas_tokn": "x"}}, environment={})


def test_secrets_are_not_shown_when_a_configuration_is_printed(tmp_path: Path) -> None:
    path = write_config(tmp_path, f'password = "secret1"\n[stores."{URL}"]\naccount_key = "secret2"\n')
    configuration = load_configuration(path, environment={})
    assert "secret" not in repr(configuration)
    assert "secret" not in repr(store_credentials(URL, configuration.stores, environment={}))
