"""Errors of database drivers, as imgsyncfs's own.

Drivers agree on little: psqlODBC gives 08001 for every failure to connect and SQLite's driver HY000 for everything, so
that the words of the message have to decide.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from imgsyncfs.errors import (
    CatalogError,
    CatalogMissing,
    CatalogRefused,
    CatalogUnreachable,
    ConfigurationError,
    ImgsyncfsError,
    NotACatalog,
)

LONGEST_DRIVER_TEXT = 300


class DuplicateRow(CatalogError):
    """A row whose key is there already: somebody else wrote it in the meantime."""


@dataclass(frozen=True)
class _Rule:
    """One kind of failure.

    Attributes:
        states: SQLSTATEs, a regular expression for the whole of it.
        words: in the message, a regular expression for a part of it.
        kind: the error to be raised.
        remedy: what to do.
        vague: its SQLSTATE also comes with other failures: the words are asked first.
    """

    states: str
    words: str
    kind: type[ImgsyncfsError]
    remedy: str
    vague: bool = False


_RULES = (
    _Rule(
        states="IM00[2349]",
        words="can't open lib|data source name not found",
        kind=ConfigurationError,
        remedy="install the ODBC driver, or correct its name (odbcinst -q -d lists those there are)",
    ),
    _Rule(
        states="3D000",
        words='database ".*" does not exist|cannot open database|connect failed \\(14\\)|unable to open database file',
        kind=CatalogMissing,
        remedy="make it, or correct the catalog URL",
    ),
    _Rule(
        states="28...|42501",
        words="password authentication failed|no password supplied|login failed|authentication failed|access denied|"
        "permission denied|permission was denied|no pg_hba.conf entry|role .* does not exist",
        kind=CatalogRefused,
        remedy="check the user in the catalog URL, and IMGSYNCFS_PASSWORD or password in the config file",
        vague=True,
    ),
    _Rule(
        states="42P01|42S02|42S22|42703",
        words="no such table|no such column|not a database|invalid object name|invalid column name",
        kind=NotACatalog,
        remedy="correct the catalog URL, or make a catalog with: imgsyncfs init",
    ),
    _Rule(states="23505|23000", words="unique constraint|duplicate key", kind=DuplicateRow, remedy="try again"),
    _Rule(
        states="55P03|40001|40P01",
        words="is locked|lock timeout|lock request time|deadlock",
        kind=CatalogUnreachable,
        remedy="try again when nobody else is writing to it",
    ),
    _Rule(
        states="08...|HYT0.|57...|53300",
        words="timeout|timed out|could not connect|connection refused|connection .* lost|could not translate host|"
        "communication link|server closed the connection",
        kind=CatalogUnreachable,
        remedy="check the network, the server and the catalog URL",
        vague=True,
    ),
    _Rule(
        states="25006",
        words="readonly database|read-only",
        kind=CatalogError,
        remedy="make the database writable, or write as another user",
    ),
    _Rule(
        states="53100",
        words="disk is full|disk full|no space left",
        kind=CatalogError,
        remedy="make room on the database's disk",
    ),
    _Rule(states="XX00.", words="malformed", kind=CatalogError, remedy="restore the database from a backup"),
)

_UNKNOWN = _Rule(states="", words="", kind=CatalogError, remedy="see what the database's own log says")


def driver_fault(where: str, text: str, *, state: str = "", secrets: Iterable[str] = ()) -> ImgsyncfsError:
    """Turn a driver's error into one of ours.

    Args:
        where: the catalog, as messages name it; no secret in it.
        text: the driver's message.
        state: SQLSTATE, if there is one.
        secrets: texts that must not get into the message.

    Returns:
        The error, to be raised: its message holds the driver's words without secrets.
    """
    reason = readable(text, secrets)
    rule = _find_rule(state, text)
    return rule.kind(f"The catalog {where} cannot be used: {reason}; {rule.remedy}.")


def _find_rule(state: str, text: str) -> _Rule:
    for rule in _RULES:
        if not rule.vague and re.fullmatch(rule.states, state):
            return rule
    for rule in _RULES:
        if re.search(rule.words, text, re.IGNORECASE):
            return rule
    for rule in _RULES:
        if rule.vague and re.fullmatch(rule.states, state):
            return rule
    return _UNKNOWN


def readable(text: str, secrets: Iterable[str]) -> str:
    """Make a driver's message fit to be shown: one line, no tags in brackets, no secrets."""
    for secret in secrets:
        for form in {secret, secret.replace("}", "}}")}:
            if form:
                text = text.replace(form, "***")
    text = re.sub(r"(?i)\b(pwd|password)\s*=\s*(\{(?:[^}]|\}\})*\}|[^;\s]*)", r"\1=***", text)
    text = re.sub(r"^(\[[^\]]*\]\s*)+", "", text)
    text = re.sub(r"(\s*\(\d+\))*(\s*\(SQL\w+\))?\s*$", "", text)
    text = " ".join(text.split()).rstrip(".;")
    return text if len(text) <= LONGEST_DRIVER_TEXT else text[:LONGEST_DRIVER_TEXT] + "…"
