"""The command check: whether everything is there that a mount, and whoever publishes, needs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace

import click

from imgsyncfs.cli import checks
from imgsyncfs.cli.checks import BAD, GOOD, ODD, Found
from imgsyncfs.cli.common import catalog_options, echo_json, open_configured_catalog
from imgsyncfs.errors import ImgsyncfsError, printable
from imgsyncfs.library.configuration import NO_CATALOG
from imgsyncfs.settings.config_file import Configuration, load_configuration
from imgsyncfs.settings.values import parse_seconds

MARKS = {GOOD: "✓", ODD: "!", BAD: "✗"}
PLAIN_MARKS = {GOOD: "ok  ", ODD: "note", BAD: "FAIL"}


@click.command("check")
@click.argument("profile_name", metavar="[PROFILE]", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON: a list of name, state (good, odd, bad) and text.")
@click.option("--timeout", metavar="SECONDS", default="15", help="For each answer. [default: 15]")
@catalog_options
def check_command(*, profile_name: str | None, as_json: bool, timeout: str, configuration: Configuration) -> None:
    """Look whether all is there that a mount needs: system, drivers, catalog, stores, cache. Mounts nothing.

    The exit status is 1 if something is bad.
    """
    if profile_name:
        named = load_configuration(profile=profile_name)
        configuration = replace(named, catalog=named.catalog or configuration.catalog)
    seconds = parse_seconds(timeout, option="timeout")
    found = []
    marks = MARKS if (sys.stdout.encoding or "").lower().replace("-", "") == "utf8" else PLAIN_MARKS
    for each in _look(configuration, seconds):
        found.append(each)
        if not as_json:
            click.echo(f"{marks[each.state]} {each.name}: {printable(each.text)}")
    if as_json:
        echo_json([asdict(each) for each in found])
    if any(each.state == BAD for each in found):
        sys.exit(1)


def _look(configuration: Configuration, seconds: float) -> Iterator[Found]:
    """Look at one thing after the other; at stores at the same time."""
    yield from checks.guarded("system", checks.machine)
    yield from checks.guarded("config file", lambda: checks.configuration_file(configuration))
    yield from checks.guarded("cache", lambda: checks.cache(configuration))
    if not configuration.catalog:
        yield Found("catalog", BAD, NO_CATALOG)
        return
    try:
        opened, configuration = open_configured_catalog(configuration, timeout=seconds)
    except ImgsyncfsError as error:
        yield Found("catalog", BAD, str(error))
        return
    with opened:
        yield from checks.guarded("catalog", lambda: checks.catalog(configuration, opened))
        try:
            samples = {
                url: checks.blobs_of(opened, dataset) if dataset else ([], 0.0)
                for url, dataset in checks.stores_of(opened).items()
            }
        except ImgsyncfsError as error:
            yield Found("stores", BAD, str(error))
            return
    with ThreadPoolExecutor(len(samples)) as pool:
        looks = [
            pool.submit(checks.look_at_store, url, configuration, blobs, mean, seconds)
            for url, (blobs, mean) in samples.items()
        ]
        for look in looks:
            yield from look.result()
