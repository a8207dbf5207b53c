"""The options of mount(8) and the command."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgsyncfs.errors import ConfigurationError, MountError
from imgsyncfs.mount.options import limits_of, parse_mount_options
from imgsyncfs.mount.protocol import Limits
from imgsyncfs.settings.values import parse_seconds, parse_size


def test_options_are_sorted_by_whom_they_are_for() -> None:
    options = parse_mount_options(("ro,_netdev,nofail,x-systemd.automount,allow_other", "cache-size=5G,max_read=65536"))
    assert options.ours == {"cache_size": "5G"}
    assert options.for_fuse == {"allow_other": True, "max_read": "65536"}


def test_a_store_may_be_allowed_several_times() -> None:
    options = parse_mount_options(("allow_store=file:///one,ro", "allow-store=azure://account/container"))
    assert options.allow_stores == ("file:///one", "azure://account/container")
    assert options.ours == {}


def test_dashes_and_underscores_are_the_same() -> None:
    assert parse_mount_options(("cache-dir=/x",)).ours == parse_mount_options(("cache_dir=/x",)).ours


def test_an_unknown_option_is_refused_with_a_near_one() -> None:
    with pytest.raises(ConfigurationError, match="did you mean allow_other"):
        parse_mount_options(("alow_other",))


def test_a_missing_value_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="needs a value"):
        parse_mount_options(("refresh",))


@given(st.text(max_size=40))
def test_any_text_is_sorted_or_refused_in_words(text: str) -> None:
    with contextlib.suppress(ConfigurationError):
        parse_mount_options((text,))


@pytest.mark.parametrize("options", ["remount", "ro,nosuid,user_id=0,group_id=0,remount"])
def test_remount_is_refused_with_the_remedy(options: str) -> None:
    with pytest.raises(MountError, match="remount.*umount"):
        parse_mount_options((options,))


def test_what_fstab_says_to_others_is_no_option_of_ours() -> None:
    line = "_netdev,nofail,x-systemd.automount,x-systemd.mount-timeout=90,X-mount.mkdir=0755,comment=x,nolazytime"
    assert parse_mount_options((line,)).for_fuse == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", 0), ("1048576", 1 << 20), ("20G", 20 << 30), ("1.5 k", 1536), ("2TiB", 2 << 40), ("500MB", 500 << 20)],
)
def test_sizes_are_powers_of_1024(text: str, expected: int) -> None:
    assert parse_size(text) == expected


@pytest.mark.parametrize("text", ["", "G", "-1G", "20X", "1e3", "20GG"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="no size"):
        parse_size(text)


@pytest.mark.parametrize("text", ["9" * 400, "9999999T"])
def test_a_size_that_no_disk_has_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="more than any disk"):
        parse_size(text)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "soon", "", "1e300"])
def test_what_is_no_number_of_seconds_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="--refresh"):
        parse_seconds(text, option="--refresh")


def test_a_number_of_seconds_may_be_a_fraction() -> None:
    assert parse_seconds("0.5", option="--refresh") == 0.5


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_background", "0"), ("max_background", "70000"), ("congestion_threshold", "x"), ("max_readahead", True)],
)
def test_what_the_kernel_cannot_be_told_is_refused_with_what_it_can(name: str, value: str | bool) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} takes a number from 1 to"):
        limits_of({name: value})


def test_limits_that_are_not_given_have_their_defaults() -> None:
    assert limits_of({"max_background": "65535", "allow_other": True}) == Limits(max_background=65535)
