"""Errors of database drivers, as imgsyncfs's own.

SQL Server's are told apart by their numbers (`imgsyncfs.catalog.server_numbers`). For the rest drivers agree on little:
psqlODBC gives 08001 for every failure to connect and SQLite's driver HY000 for everything, so that the words of the
message have to decide.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from imgsyncfs.catalog.fault_kinds import DuplicateRow, FaultKind
from imgsyncfs.catalog.server_numbers import kind_by_number
from imgsyncfs.errors import (
    CatalogConflict,
    CatalogError,
    CatalogMissing,
    CatalogNotReady,
    CatalogRefused,
    CatalogSessionEnded,
    CatalogUnreachable,
    ConfigurationError,
    ImgsyncfsError,
    NotACatalog,
)

LONGEST_DRIVER_TEXT = 300


@dataclass(frozen=True)
class _Rule(FaultKind):
    """One kind of failure, and what shows it.

    Attributes:
        states: SQLSTATEs, a regular expression for the whole of it.
        words: in the message, a regular expression for a part of it.
        vague: its SQLSTATE also comes with other failures: the words are asked first.
    """

    states: str
    words: str
    vague: bool = False


_RULES = (
    _Rule(
        states="IM00[2349]",
        words="can't open lib|data source name not found",
        error=ConfigurationError,
        remedy="install the ODBC driver, or correct its name (odbcinst -q -d lists those there are)",
    ),
    _Rule(
        states="3D000",
        words='database ".*" does not exist|cannot open database|connect failed \\(14\\)|unable to open database file',
        error=CatalogMissing,
        remedy="make it, or correct the catalog URL",
    ),
    _Rule(
        states="28...|42501",
        words="password authentication failed|no password supplied|login failed|authentication failed|access denied|"
        "permission denied|permission was denied|no pg_hba.conf entry|role .* does not exist",
        error=CatalogRefused,
        remedy="check the user in the catalog URL, and IMGSYNCFS_PASSWORD or password in the config file",
        vague=True,
    ),
    _Rule(
        states="42P01|42S02|42S22|42703",
        words="no such table|no such column|not a database|invalid object name|invalid column name",
        error=NotACatalog,
        remedy="correct the catalog URL, or make a catalog with: imgsyncfs init",
    ),
    _Rule(states="23505", words="unique constraint|duplicate key", error=DuplicateRow, remedy="try again"),
    _Rule(
        states="23...",
        words="not-null constraint|not null constraint|foreign key constraint|check constraint",
        error=CatalogError,
        remedy="the table has a column, key or rule of its own that imgsyncfs knows nothing of: give the column a "
        "default, or drop the rule",
    ),
    _Rule(
        states="55P03|40001|40P01",
        words="is locked|lock timeout|lock request time|deadlock",
        error=CatalogConflict,
        remedy="try again when nobody else is writing to it",
    ),
    _Rule(
        states="57P03|53300",
        words="the database system is (starting up|shutting down|in recovery mode)|too many (clients|connections)",
        error=CatalogNotReady,
        remedy="the server is busy: try again in a minute",
    ),
    _Rule(
        states="08S01|08003|08007|57P0[1245]",
        words=r"server closed the connection|connection .* lost|communication link|terminating connection|"
        r"TCP Provider: Error|no connection to the server|SSL connection has been closed|"
        r"\[FreeTDS\]\[SQL Server\]Unknown error",
        error=CatalogSessionEnded,
        remedy="check the network, the server and the catalog URL",
    ),
    _Rule(
        states="never",
        words="certificate|SSL Provider|TLS Provider|SSL error",
        # No other password helps, and what was saved is no answer to a server that may be another one.
        error=CatalogError,
        remedy="install the certificate of the authority that has signed the server's, or, in a network that you "
        "trust, do without: TrustServerCertificate=yes in the URL of an SQL Server, sslmode=require in that of a "
        "PostgreSQL",
        vague=True,
    ),
    _Rule(
        states="08...|HYT0.|57...",
        words="timeout|timed out|could not connect|connection refused|could not translate host",
        error=CatalogUnreachable,
        remedy="check the network, the server and the catalog URL",
        vague=True,
    ),
    _Rule(
        states="25006",
        words="readonly database|read-only",
        error=CatalogError,
        remedy="make the database writable, or write as another user",
    ),
    _Rule(
        states="53100",
        words="disk is full|disk full|no space left",
        error=CatalogError,
        remedy="make room on the database's disk",
    ),
    _Rule(states="XX00.", words="malformed", error=CatalogError, remedy="restore the database from a backup"),
)

_UNKNOWN = FaultKind(CatalogError, "see what the database's own log says")


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
    kind = kind_by_number(text) or _find_rule(state, text)
    return kind.error(f"The catalog {where} cannot be used: {reason}; {kind.remedy}.")


def _find_rule(state: str, text: str) -> FaultKind:
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
    parts = (_without_tags(part) for part in re.split(r";\s*(?=\[\w{5}\]\s*\[)", text))
    text = "; ".join(dict.fromkeys(filter(None, parts)))
    return text if len(text) <= LONGEST_DRIVER_TEXT else text[:LONGEST_DRIVER_TEXT] + "…"


def _without_tags(text: str) -> str:
    """One message of a driver: its words, and the number if that is the server's own."""
    kept = r"\2" if "[SQL Server]" in text else ""
    text = re.sub(r"^(\[[^\]]*\]\s*)+", "", text)
    text = re.sub(r"((?:\s*\(-?\d+\))*?)(\s*\([1-9]\d*\))?(\s*\(SQL\w+\))?\s*$", kept, text)
    return " ".join(text.split()).rstrip(".;")
