"""``init --adopt``: a catalog of another system's tables."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import click

from imgsyncfs.catalog.isolation import REMEDY
from imgsyncfs.catalog.mapping import parse_mapping
from imgsyncfs.cli.common import open_configured_catalog, open_configured_store
from imgsyncfs.errors import ConfigurationError, printable
from imgsyncfs.library.configuration import catalog_url
from imgsyncfs.settings.config_file import Configuration


def adopt_tables(path: Path, configuration: Configuration, *, create: bool, schema: str) -> None:
    """Check a mapping against the database, tell what is found, and print or run the SQL that makes the catalog.

    Exits with 1 if it cannot be made so.

    Args:
        path: of the mapping.
        configuration: names the database.
        create: whether the SQL is run.
        schema: that it makes the views in; ``""`` for the user's own.

    Raises:
        ConfigurationError: the mapping cannot be read, or makes no sense.
        StoreError: the store cannot be read.
        CatalogError: the database cannot be read, or refuses the SQL.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"The mapping {path} cannot be read ({error}); check its path.") from error
    mapping = parse_mapping(text, str(path))
    catalog, configuration = open_configured_catalog(configuration)
    with catalog, closing(open_configured_store(mapping.store, configuration)) as store:
        store.check()
        mapping = replace(mapping, store=store.url)
        adoption = catalog.adoption(mapping, schema=schema)
        findings = catalog.look_at_mapping(mapping, schema=schema)
        if not any(finding.is_fault for finding in findings):
            findings += catalog.blob_findings(mapping, store)
        for finding in findings:
            click.echo(f"{'Fault' if finding.is_fault else 'Note'}: {printable(finding.text)}", err=True)
        if any(finding.is_fault for finding in findings):
            click.echo("Nothing was made; correct the mapping or the tables, and type this again.", err=True)
            sys.exit(1)
        if not create:
            click.echo("".join(statement + adoption.separator for statement in adoption.statements), nl=False)
            click.echo("Nothing was made yet: run this SQL, or type this again with --create.", err=True)
        else:
            catalog.adopt(adoption)
            click.echo(f"{catalog_url(configuration)} is ready, read-only; next: imgsyncfs mount DIR")
        if catalog.readers_wait():
            # For whoever writes the tables as well.
            click.echo(f"Note: {REMEDY}", err=True)
        if adoption.for_users:
            click.echo(f"For each user: {adoption.for_users}", err=True)
