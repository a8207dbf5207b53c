"""The exceptions of imgsyncfs, one small tree.

::

    ImgsyncfsError
    ├── ConfigurationError       a wrong option, URL or config file; something is not installed
    ├── NamingError              a dataset id or file name that breaks the grammar
    ├── FormatError              an annotation format nobody knows
    ├── AnnotationError          an annotation that does not parse (has .field and .reason)
    ├── CatalogError
    │   ├── CatalogMissing       no such database file or database
    │   │   └── NotInCatalog     the database is there, and a dataset or an image is not in it
    │   ├── NotACatalog          the database is there but holds no catalog
    │   ├── CatalogRefused       user or password refused
    │   ├── DatasetChanged       a dataset was published again since the table of datasets was read
    │   └── CatalogUnreachable   server unreachable, or no answer in time
    │       ├── CatalogNotReady  the server is there, and says that it will answer later
    │       ├── CatalogSessionEnded  the server or the network has ended the session: another one can be opened
    │       └── CatalogConflict  others write to it at the same time: what was undone can be done again
    ├── StoreError
    │   ├── StoreMissing         no such folder or container
    │   ├── StoreRefused         credentials refused
    │   │   └── StoreNotAllowed  neither the catalog's own store nor one that its reader allowed
    │   ├── StoreUnreachable     server unreachable, or no answer in time
    │   ├── BlobMissing          the catalog names a blob that the store does not hold
    │   ├── BlobRefused          a link leads to it out of the store's folder
    │   └── BlobChanged          a blob's content is not what the catalog says
    ├── CacheError
    │   └── ListingDamaged       a saved listing that cannot be trusted
    ├── LayoutError              a folder of images whose layout is not known, or contradicts itself
    ├── ConvertError             files that cannot be converted as asked
    ├── PreviewError             an image or annotation that cannot be shown
    ├── PublishError             a folder or container that cannot be published as asked
    ├── QueryError               SQL that cannot be run over the tables
    ├── SyncError                a folder that datasets cannot be copied to
    ├── MountError               a mount that cannot be made, or is not there
    └── WorkerLost               a job whose worker processes died, or that was cut off by the end

Every message names the thing, the reason and the remedy in one sentence, and holds no secret. It fits whoever reads it,
in a notebook or on a terminal: what an option is called there, the command adds (`ImgsyncfsError.option`).
"""

from __future__ import annotations


class ImgsyncfsError(Exception):
    """The root: whatever imgsyncfs raises on purpose.

    Attributes:
        option: the parameter that the remedy is about, by its name in Python, such as ``cache_dir``; ``""`` for none.
    """

    def __init__(self, message: str = "", *, option: str = "") -> None:
        super().__init__(message)
        self.option = option


class ConfigurationError(ImgsyncfsError):
    """A wrong option, URL or config file, or something that is not installed."""


class NamingError(ImgsyncfsError):
    """A dataset id or a file name that breaks the grammar."""


class FormatError(ImgsyncfsError):
    """An annotation format nobody knows."""


class AnnotationError(ImgsyncfsError):
    """An annotation that does not parse.

    Attributes:
        field: where in the document, for example ``labels[0].object[3].w``; empty for the document as a whole.
        reason: what is wrong there.
    """

    def __init__(self, reason: str, *, field: str = "") -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.field = field
        self.reason = reason


class CatalogError(ImgsyncfsError):
    """Something is wrong with the catalog."""


class CatalogMissing(CatalogError):
    """There is no such database."""


class NotInCatalog(CatalogMissing):
    """The database is there, and a dataset or an image is not in it (any more)."""


class NotACatalog(CatalogError):
    """The database is there but holds no catalog."""


class CatalogRefused(CatalogError):
    """The server refused the user or the password."""


class DatasetChanged(CatalogError):
    """A dataset was published again since the table of datasets was read: what is known of it is of two revisions."""


class CatalogUnreachable(CatalogError):
    """The server cannot be reached, or did not answer in time."""


class CatalogNotReady(CatalogUnreachable):
    """The server is there and will answer later: its database resumes, moves to another machine, or is busy."""


class CatalogSessionEnded(CatalogUnreachable):
    """The server, or the network, has ended the session; another one can be opened."""


class CatalogConflict(CatalogUnreachable):
    """Others write to the catalog at the same time; what was undone for that can be done again."""


class StoreError(ImgsyncfsError):
    """Something is wrong with a store."""


class StoreMissing(StoreError):
    """There is no such folder or container."""


class StoreRefused(StoreError):
    """The store refused the credentials."""


class StoreNotAllowed(StoreRefused):
    """The catalog names a store that is neither its own nor one that whoever reads has allowed."""


class StoreUnreachable(StoreError):
    """The store cannot be reached, or did not answer in time."""


class BlobMissing(StoreError):
    """The catalog names a blob that the store does not hold."""


class BlobRefused(StoreError):
    """A link leads to the blob out of the store's folder: to a file that whoever put the link there may not read."""


class BlobChanged(StoreError):
    """A blob's content is not what the catalog says."""


class CacheError(ImgsyncfsError):
    """Something is wrong with the disk cache."""


class CacheFull(CacheError):
    """The disk of the cache has no room even for an empty one."""


class ListingDamaged(CacheError):
    """A saved listing that cannot be trusted; it is built again from the catalog."""


class PublishError(ImgsyncfsError):
    """A folder or container that cannot be published as asked."""


class QueryError(ImgsyncfsError):
    """SQL that cannot be run over the tables."""


class SyncError(ImgsyncfsError):
    """A folder that datasets cannot be copied to."""


class LayoutError(ImgsyncfsError):
    """A folder of images whose layout is not known, or that contradicts itself."""


class ConvertError(ImgsyncfsError):
    """Files that cannot be converted as asked."""


class PreviewError(ImgsyncfsError):
    """An image or annotation that cannot be shown, or a preview that cannot be written."""


class MountError(ImgsyncfsError):
    """A mount that cannot be made, or that is not there."""


class WorkerLost(ImgsyncfsError):
    """A job whose worker processes died, or that was cut off by the end of a mount: nobody knows what it would give."""


def printable(name: str) -> str:
    """Return a file name fit for one printed line: control characters and bytes that are no UTF-8 are escaped."""
    escaped = name.encode("utf-8", "backslashreplace").decode()
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in escaped)
