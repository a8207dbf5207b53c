"""Profiles of the config file: which value wins, and secrets that are named and read when they are needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from imgsyncfs.errors import ConfigurationError
from imgsyncfs.settings.config_file import Configuration, load_configuration, read_config_file
from imgsyncfs.settings.secrets import read_secret

SERVER = "postgresql://reader@server/datasets"

CONFIG = """
catalog = "/common.db"
cache_dir = "/common/cache"
cache_size = "1G"
keep_free = "1%"
password = "common"
default_profile = "home"

[stores."azure://common/container"]
sas_token = "common"

[profiles.work]
catalog = "postgresql://reader@server/datasets"
cache_dir = "/work/cache"
cache_size = "2G"
keep_free = "2%"
allow_stores = ["file:///work"]
password_env = "WORK_PASSWORD"

[profiles.work.stores."azure://work/container"]
account_key_env = "WORK_KEY"

[profiles.home]
cache_size = "3G"
"""


@pytest.fixture(autouse=True)
def _secrets_are_read_anew() -> Iterator[None]:
    read_secret.cache_clear()
    yield
    read_secret.cache_clear()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return written(tmp_path, CONFIG)


def written(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text)
    path.chmod(0o600)
    return path


def loaded(config: Path, profile: str | None = None, **environment: str) -> Configuration:
    return load_configuration(config, profile=profile, environment=environment)


@pytest.mark.parametrize(
    ("profile", "environment", "expected"),
    [
        (None, {}, ("/common.db", "/common/cache", "3G", "1%", "home")),
        ("work", {}, ("postgresql://reader@server/datasets", "/work/cache", "2G", "2%", "work")),
        (
            None,
            {"IMGSYNCFS_PROFILE": "work"},
            ("postgresql://reader@server/datasets", "/work/cache", "2G", "2%", "work"),
        ),
        ("home", {"IMGSYNCFS_PROFILE": "work"}, ("/common.db", "/common/cache", "3G", "1%", "home")),
        (
            "work",
            {"IMGSYNCFS_CATALOG": "/environment.db", "IMGSYNCFS_CACHE_DIR": "/environment"},
            ("/environment.db", "/environment", "2G", "2%", "work"),
        ),
    ],
    ids=["the default profile", "one that is named", "by a variable", "named, not by a variable", "variables win"],
)
def test_the_environment_wins_over_the_profile_and_the_profile_over_what_holds_for_all(
    config: Path, profile: str | None, environment: Mapping[str, str], expected: tuple[str, ...]
) -> None:
    found = loaded(config, profile, **environment)
    shown = (found.catalog, str(found.cache_dir), found.cache_size, found.keep_free, found.profile)
    assert shown == expected


def test_a_profiles_password_takes_the_place_of_the_common_one_however_it_is_said(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORK_PASSWORD", "of work")
    monkeypatch.setenv("WORK_KEY", "a2V5")
    assert loaded(config, "home").with_secrets().password == "common"
    work = loaded(config, "work")
    assert work.password is None
    found = work.with_secrets()
    assert found.password == "of work"
    assert found.stores == {
        "azure://common/container": {"sas_token": "common"},
        "azure://work/container": {"account_key": "a2V5"},
    }
    assert loaded(config, "work", IMGSYNCFS_PASSWORD="of the environment").with_secrets().password == (
        "of the environment"
    )


def test_a_profiles_password_is_told_to_no_other_catalog(config: Path) -> None:
    found = loaded(config, "work", IMGSYNCFS_CATALOG="postgresql://reader@elsewhere/datasets")
    assert (found.password, found.password_reference) == (None, None)
    named = loaded(config, "work").at("postgresql://reader@elsewhere/datasets")
    assert (named.password, named.password_reference) == (None, None)
    told = loaded(config, "work", IMGSYNCFS_PASSWORD="given").at("postgresql://reader@elsewhere/datasets")
    assert told.password == "given"


def test_a_command_gives_the_password_when_it_is_needed_and_once(tmp_path: Path) -> None:
    script = tmp_path / "tell"
    script.write_text(f"#!/bin/sh\necho asked >> '{tmp_path}/asked'\nprintf 'the password of %s\\n' \"$1\"\n")
    script.chmod(0o700)
    config = written(tmp_path, f'catalog = "{SERVER}"\n[profiles.work]\npassword_command = ["{script}", "a b"]\n')
    work = loaded(config, "work")
    assert work.at("/a/file.db").with_secrets().password is None
    assert replace(work, catalog="sqlite:///a/file.db").with_secrets().password is None
    assert not (tmp_path / "asked").exists()
    assert [work.with_secrets().password for _ in range(2)] == ["the password of a b"] * 2
    assert (tmp_path / "asked").read_text() == "asked\n"


def test_a_file_gives_the_password_if_nobody_else_may_read_it(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of a file\n")
    secret.chmod(0o600)
    config = written(tmp_path, f'catalog = "{SERVER}"\npassword_file = "{secret}"\n')
    assert loaded(config).with_secrets().password == "of a file"
    read_secret.cache_clear()
    secret.chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        loaded(config).with_secrets()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('password_env = "NO_SUCH_VARIABLE_OF_OURS"', "NO_SUCH_VARIABLE_OF_OURS, which password_env names, is not set"),
        ('password_file = "/no/such/file"', "cannot be read: No such file"),
        ('password_command = ["false"]', "ended with status 1"),
        ('password_command = ["true"]', "gives no line of text"),
        ('password_command = ["printf", "a\\\\nb"]', "gives no line of text"),
        ('password_command = ["/no/such/command"]', "cannot be run"),
        ("password_command = [1]", "write a text, or for a command its words"),
        ('password = "x"\npassword_env = "Y"', "has password and password_env; keep one of them"),
    ],
)
def test_a_secret_that_cannot_be_had_is_told_with_the_reason(tmp_path: Path, line: str, said: str) -> None:
    config = written(tmp_path, f'catalog = "{SERVER}"\n{line}')
    with pytest.raises(ConfigurationError, match=said):
        loaded(config).with_secrets()


@pytest.mark.parametrize(
    ("text", "profile", "said"),
    [
        ("katalog = 'x'", None, "unknown key 'katalog'; use one of catalog"),
        (
            "[profiles.work]\ncache_siz = '1G'",
            None,
            "unknown key 'cache_siz' in the profile 'work'; use one of cache_size",
        ),
        ("[profiles.work]\n", "wrok", "There is no profile 'wrok' in the config file .*; use one of work"),
        ("", "work", "There is no profile 'work' in the config file .*; add it with: imgsyncfs profile add"),
        ("profiles = 5", None, "write them as"),
    ],
)
def test_what_there_is_not_names_what_is_near(tmp_path: Path, text: str, profile: str | None, said: str) -> None:
    config = written(tmp_path, text)
    with pytest.raises(ConfigurationError, match=said):
        loaded(config, profile)


def test_a_config_file_shows_no_secret_in_messages(config: Path) -> None:
    assert "common" not in repr(read_config_file(config, environment={}).values.__class__)
    assert "password" not in repr(read_config_file(config, environment={}))
