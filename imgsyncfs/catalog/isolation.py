"""How readers of SQL Server are kept from waiting for a publish: by versions of rows, if the database keeps them.

PostgreSQL and SQLite do so by themselves. In SQL Server somebody has to allow it (Microsoft's documentation of "SET
TRANSACTION ISOLATION LEVEL" and of READ_COMMITTED_SNAPSHOT); Azure SQL has it on from the beginning.
"""

from __future__ import annotations

from dataclasses import dataclass

from imgsyncfs.catalog.connection import Connection
from imgsyncfs.catalog.schema import SQL_SERVER
from imgsyncfs.errors import CatalogError

READ_SNAPSHOTS = "SET TRANSACTION ISOLATION LEVEL SNAPSHOT"
READ_COMMITTED = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"

REMEDY = (
    "readers wait for whoever publishes, and may give up: have the database's administrator run, when nobody is "
    "connected, ALTER DATABASE CURRENT SET READ_COMMITTED_SNAPSHOT ON"
)

_ALLOWED = (
    "SELECT CAST(is_read_committed_snapshot_on AS BIGINT), CAST(snapshot_isolation_state AS BIGINT) "
    "FROM sys.databases WHERE name = DB_NAME()"
)


@dataclass(frozen=True)
class Isolation:
    """What keeps readers from waiting.

    Attributes:
        has_versions: the database gives every statement the rows as they were when it began.
        reads_snapshots: it does not, but a session may ask for that.
    """

    has_versions: bool = True
    reads_snapshots: bool = False

    @property
    def readers_wait(self) -> bool:
        """Whether nothing does."""
        return not (self.has_versions or self.reads_snapshots)


def find_isolation(connection: Connection) -> Isolation:
    """Ask a database what keeps readers from waiting."""
    if connection.dialect is not SQL_SERVER:
        return Isolation()
    try:
        found = list(connection.rows(_ALLOWED))
    except CatalogError:
        # Whoever may not see that may read all the same.
        return Isolation()
    if not found:
        return Isolation()
    versions, snapshots = found[0]
    return Isolation(bool(versions), not versions and snapshots == 1)
