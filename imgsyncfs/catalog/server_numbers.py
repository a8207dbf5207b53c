"""What SQL Server and Azure SQL mean by the numbers of their errors, whatever language their words are in.

Drivers put the number behind the words: ``… (40613) (SQLDriverConnect)``. Sources: Microsoft's "Database Engine events
and errors" and "Troubleshoot transient connection errors in SQL Database".
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from imgsyncfs.catalog.fault_kinds import DuplicateRow, FaultKind
from imgsyncfs.errors import (
    CatalogConflict,
    CatalogError,
    CatalogMissing,
    CatalogNotReady,
    CatalogRefused,
    CatalogSessionEnded,
    CatalogUnreachable,
    NotACatalog,
)

# Those of 200xx are FreeTDS's own, about its connection.
_KINDS: tuple[tuple[tuple[int, ...], FaultKind], ...] = (
    (
        (40613, 922, 18401),
        FaultKind(CatalogNotReady, "a database that was paused is there again within a minute or two: try again then"),
    ),
    (
        (596,),
        FaultKind(CatalogSessionEnded, "the server's administrator, or its resources, ended the session: try again"),
    ),
    (
        (40197, 4221),
        FaultKind(CatalogNotReady, "the database is moving to another server: try again in a minute"),
    ),
    (
        (40501, 10928, 10929, 10936, 49918, 49919, 49920, 701, 8645, 17809, 17830),
        FaultKind(CatalogNotReady, "the server is busy: try again in a minute, or have it given more capacity"),
    ),
    ((37396,), FaultKind(CatalogNotReady, "the access token has ended: try again, which takes a new one")),
    (
        (40615, 40914),
        FaultKind(CatalogUnreachable, "have a firewall rule for this machine's address added to the server"),
    ),
    (
        (47073,),
        FaultKind(CatalogUnreachable, "the server takes no connections from public networks: use its private endpoint"),
    ),
    (
        (47072,),
        FaultKind(CatalogUnreachable, "the server asks for a newer version of TLS: install Microsoft's ODBC driver 18"),
    ),
    (
        (40532,),
        FaultKind(CatalogRefused, "check the server's name in the catalog URL, or write its user as user@server"),
    ),
    (
        (4060, 4063, 4064, 911),
        FaultKind(
            CatalogMissing,
            "correct the database's name in the catalog URL, or have the user given access to it, in the database: "
            "CREATE USER … FOR LOGIN …",
        ),
    ),
    (
        (916,),
        FaultKind(CatalogRefused, "have the user given access to the database, in it: CREATE USER … FOR LOGIN …"),
    ),
    ((18470,), FaultKind(CatalogRefused, "have the login enabled: ALTER LOGIN … ENABLE")),
    ((18486,), FaultKind(CatalogRefused, "have the login unlocked: ALTER LOGIN … WITH PASSWORD = … UNLOCK")),
    ((18463, 18464, 18465, 18466, 18487, 18488), FaultKind(CatalogRefused, "give the login a new password")),
    (
        (18450, 18451, 18452, 18456, 18458, 18459, 18461),
        FaultKind(
            CatalogRefused,
            "check the user in the catalog URL, and IMGSYNCFS_PASSWORD or password in the config file",
        ),
    ),
    (
        (229, 230, 262, 297, 300, 1088, 2760, 15247),
        FaultKind(
            CatalogRefused,
            "have the missing right granted: GRANT SELECT ON SCHEMA::dbo TO … to read, INSERT, UPDATE and DELETE too "
            "to publish, and CREATE TABLE and ALTER for `imgsyncfs init`",
        ),
    ),
    (
        (1205, 3960, 41302, 41305, 41325),
        FaultKind(CatalogConflict, "try again when nobody else is writing to it"),
    ),
    (
        (1222,),
        FaultKind(
            CatalogConflict,
            "try again when nobody else is writing to it; readers do not wait for that where "
            "READ_COMMITTED_SNAPSHOT is on",
        ),
    ),
    ((2601, 2627), FaultKind(DuplicateRow, "try again")),
    ((2628, 8152), FaultKind(CatalogError, "shorten that value, or have the column widened")),
    (
        (515, 547),
        FaultKind(
            CatalogError,
            "the table has a column, key or rule of its own that imgsyncfs knows nothing of: give the column a "
            "default, or drop the rule",
        ),
    ),
    ((1105, 9002), FaultKind(CatalogError, "make room for the database and its log")),
    ((40544,), FaultKind(CatalogError, "make room in the database, or have its largest size raised")),
    ((40552,), FaultKind(CatalogError, "publish fewer images at once, or have the database given more capacity")),
    (
        (42119,),
        FaultKind(CatalogError, "this month's free allowance is used up: wait for the next, or have it go on paid"),
    ),
    ((3906, 3908), FaultKind(CatalogError, "make the database writable, or write to its primary replica")),
    ((823, 824, 825, 5242), FaultKind(CatalogError, "restore the database from a backup")),
    (
        (20004, 20006, 20017),
        FaultKind(CatalogSessionEnded, "check the network, the server and the catalog URL"),
    ),
    (
        (20002, 20003, 20009, 20012, 20013),
        FaultKind(CatalogUnreachable, "check the network, the server and the catalog URL"),
    ),
    ((207, 208, 213), FaultKind(NotACatalog, "correct the catalog URL, or make a catalog with: imgsyncfs init")),
)

_BY_NUMBER = {number: kind for numbers, kind in _KINDS for number in numbers}

_NUMBER = re.compile(r"\((\d+)\)\s*(?:\(SQL\w+\)\s*)?(?=;\s*\[|$)")


def kind_by_number(text: str) -> FaultKind | None:
    """What a message of a driver for SQL Server means.

    Args:
        text: the whole message, which may be several joined by ``;``.

    Returns:
        None if it is of another server, or has no number that decides.
    """
    return next(filter(None, map(_BY_NUMBER.get, _numbers(text))), None)


def _numbers(text: str) -> Iterator[int]:
    if "[SQL Server]" in text:
        yield from (int(found) for found in _NUMBER.findall(text))
