"""What users write for the cache's limits, and what it means on their disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgsyncfs.cli.mount_commands import make_settings
from imgsyncfs.errors import ConfigurationError
from imgsyncfs.settings.config_file import load_configuration
from imgsyncfs.settings.limits import CacheLimits, disk_space, parse_limits, parse_share

TOTAL = 200 << 30


@pytest.mark.parametrize(
    ("text", "expected"), [("5%", 10 << 30), ("0", 0), ("0%", 0), (" 2.5 %", 5 << 30), ("100%", TOTAL), ("1G", 1 << 30)]
)
def test_a_share_is_a_part_of_the_disk_or_a_size(text: str, expected: int) -> None:
    assert parse_share(text, total=TOTAL) == expected


@pytest.mark.parametrize("text", ["101%", "201G", "9" * 400 + "%", "-5%", "five", "%", "5%%", ""])
def test_a_share_that_makes_no_sense_is_refused_with_what_would(text: str) -> None:
    with pytest.raises(ConfigurationError, match="10G|20G"):
        parse_share(text, total=TOTAL)


@given(st.floats(min_value=0, max_value=100).map(lambda share: f"{share:.3f}%"), st.integers(1, 1 << 60))
def test_a_share_is_never_more_than_the_disk(text: str, total: int) -> None:
    assert 0 <= parse_share(text, total=total) <= total


def test_by_default_the_cache_has_20_gib_and_a_twentieth_of_the_disk_stays_free(tmp_path: Path) -> None:
    total = disk_space(tmp_path).total
    assert parse_limits(None, None, cache_dir=tmp_path / "not" / "made") == CacheLimits(20 << 30, total * 5 // 100)


def test_the_room_on_a_disk_is_that_of_where_a_folder_will_be(tmp_path: Path) -> None:
    assert disk_space(tmp_path / "not" / "made").total == disk_space(tmp_path).total > 0


@pytest.mark.parametrize(
    ("given", "options", "expected"),
    [
        ({}, (), (2 << 30, 1 << 20)),
        ({"cache_size": None, "keep_free": "0"}, ("cache_size=3G",), (3 << 30, 0)),
        ({"cache_size": "4G", "keep_free": None}, ("cache_size=3G", "keep-free=2M"), (4 << 30, 2 << 20)),
    ],
)
def test_a_limit_in_the_config_file_holds_unless_an_option_says_otherwise(
    tmp_path: Path, given: dict[str, str | None], options: tuple[str, ...], expected: tuple[int, int]
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'catalog = "{tmp_path}/catalog.db"\ncache_size = "2G"\nkeep_free = 1048576\n')
    configuration = load_configuration(config, environment={"IMGSYNCFS_CACHE_DIR": str(tmp_path)})
    library = make_settings(configuration, tmp_path / "mnt", given, options).library
    assert (library.cache_size, library.keep_free) == expected
