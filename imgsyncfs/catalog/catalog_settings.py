"""What a catalog says of itself, in its table ``catalog_settings``: its schema, its store and its identity."""

from __future__ import annotations

import logging
import uuid

from imgsyncfs.catalog.connection import Connection
from imgsyncfs.catalog.schema import (
    ADDED,
    SCHEMA_ADDITIONS,
    SCHEMA_VERSION,
    TABLES,
    addition_statements,
    additions_level,
    create_statements,
)
from imgsyncfs.catalog.statements import insert
from imgsyncfs.errors import CatalogError, CatalogUnreachable, NotACatalog

logger = logging.getLogger(__name__)

_ADDITIONS = "schema_additions"
"""The setting that names the level of the additions to its schema that a catalog has; absent without additions."""


_READ_ONLY = "read_only"
"""The setting of a catalog whose datasets are views of another system's tables: what is not to be written, and why."""


class CatalogSettings:
    """The settings of a catalog as they were read last, and the tables that go with them.

    Args:
        connection: to the database.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._values: dict[str, str] = {}

    def read(self) -> None:
        """Read them."""
        rows = list(self._connection.rows("SELECT name, value FROM catalog_settings"))
        self._values = {str(name): str(value) for name, value in rows if value}

    def known(self, name: str) -> str:
        """A setting as it was read last; ``""`` if the catalog was made without it."""
        return self._values.get(name, "")

    def value(self, name: str) -> str:
        """A setting, which is read if it was not yet.

        Raises:
            NotACatalog: there is none.
        """
        if name not in self._values:
            self.read()
        if name not in self._values:
            raise NotACatalog(
                f"The catalog {self._connection.where} lacks its setting {name}; correct the catalog URL, or make a "
                "catalog with: imgsyncfs init"
            )
        return self._values[name]

    @property
    def level(self) -> int:
        """The level of additions to the schema that the catalog had when its settings were read."""
        return additions_level(self._values.get(_ADDITIONS))

    def check(self) -> None:
        """Make sure that this is a catalog.

        Raises:
            NotACatalog: it is none, or one that this version does not know.
        """
        version = self.value("schema_version")
        if version != SCHEMA_VERSION:
            raise NotACatalog(
                f"The catalog {self._connection.where} has the schema version {version!r} and not {SCHEMA_VERSION!r}; "
                "upgrade imgsyncfs, or make a new catalog with: imgsyncfs init"
            )

    @property
    def is_read_only(self) -> bool:
        """Whether the datasets were views of another system's tables when the settings were read."""
        return bool(self.known(_READ_ONLY))

    def refuse_read_only(self) -> None:
        """Make sure that datasets may be changed here; reads the settings.

        Raises:
            CatalogError: they are views of another system's tables.
        """
        self.read()
        if self.is_read_only:
            raise CatalogError(
                f"The catalog {self._connection.where} is read-only: its datasets are views of other tables (imgsyncfs "
                "init --adopt); change those, or publish to a catalog of its own, made with: imgsyncfs init"
            )

    def initialize(self, *, store: str) -> bool:
        """Make the tables of an empty database.

        Args:
            store: URL of the store that datasets are published to.

        Returns:
            True if they were made, False if this was a catalog with this store already; it then has all additions to
            the schema.

        Raises:
            CatalogError: it is a catalog with another store, or there are other tables of these names, or the
                additions cannot be made; nothing is changed then.
        """
        there = [table for table in TABLES if self.has_table(table)]
        if there and "catalog_settings" in there:
            self.check()
            if self.value("store") != store:
                raise CatalogError(
                    f"The catalog {self._connection.where} has the store {self.value('store')} and not {store}; give "
                    "that one, or make the catalog in another database."
                )
            if not self.known(_READ_ONLY):
                self.make_additions(must=True)
            return False
        if there:
            raise CatalogError(
                f"The database {self._connection.where} holds a table {there[0]} that is no catalog's; make the "
                "catalog in another database."
            )
        with self._connection.transaction():
            for statement in create_statements(self._connection.dialect):
                self._connection.execute(statement)
            settings = {
                "schema_version": SCHEMA_VERSION,
                _ADDITIONS: SCHEMA_ADDITIONS,
                "store": store,
                "catalog_id": uuid.uuid4().hex,
            }
            insert(self._connection, "catalog_settings", ("name", "value"), [*settings.items()])
        return True

    def missing_additions(self) -> list[str]:
        """What `initialize` would add to the schema of a catalog, for people; nothing where there is no catalog yet."""
        if not self.has_table("catalog_settings"):
            return []
        self.read()
        return [ADDED[level] for level in range(self.level + 1, int(SCHEMA_ADDITIONS) + 1)]

    def make_additions(self, *, must: bool = False) -> None:
        """Bring the schema up to date, in one transaction.

        Without the right to do so, all goes on as before, or, if it must be done, a `CatalogError` says so.
        """
        self.read()
        if self.known(_READ_ONLY):
            return
        while (level := self.level) < int(SCHEMA_ADDITIONS):
            try:
                self._add_levels(level)
            except CatalogUnreachable:
                raise
            except CatalogError as error:
                self.read()
                # Somebody else may have been quicker.
                if self.level == level:
                    told = f"could not be given what this version adds to it, and is used without ({error})"
                    if must:
                        raise CatalogError(
                            f"The catalog {self._connection.where} {told}; have whoever may change its tables do it."
                        ) from error
                    logger.warning(
                        "The catalog %s Have whoever may change its tables run: imgsyncfs init",
                        told,
                    )
                    return
            self.read()

    def _add_levels(self, level: int) -> None:
        """Make all additions above a level."""
        with self._connection.transaction():
            for each in range(level + 1, int(SCHEMA_ADDITIONS) + 1):
                for statement in addition_statements(self._connection.dialect, each):
                    self._connection.execute(statement)
            self._connection.execute("DELETE FROM catalog_settings WHERE name = ?", (_ADDITIONS,))
            insert(self._connection, "catalog_settings", ("name", "value"), [(_ADDITIONS, SCHEMA_ADDITIONS)])

    def has_table(self, table: str) -> bool:
        """Whether the database has a table of a name."""
        try:
            list(self._connection.rows(f"SELECT 1 FROM {table} WHERE 1 = 0"))  # noqa: S608  # constant names
        except NotACatalog:
            return False
        return True
