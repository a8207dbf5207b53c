"""Which texts can be the name of a blob, in every store alike."""

from __future__ import annotations

LONGEST_BLOB_NAME = 1024
"""Azure's limit on a blob's name, in characters; the local store keeps to it too, so that catalogs can move."""


def blob_name_fault(blob: str) -> str | None:
    """Say why a text cannot be a blob's name in any store; None if it can.

    A name with ``.`` or ``..`` in it would be another blob's by the time it is a path or a URL, perhaps one outside the
    store. Limits: "Naming and Referencing Containers, Blobs, and Metadata", Azure Storage REST API.
    """
    if not blob:
        return "it is empty"
    if len(blob) > LONGEST_BLOB_NAME:
        return f"it is longer than {LONGEST_BLOB_NAME} characters"
    if "\0" in blob:
        return "it holds a NUL character"
    if not {".", ".."}.isdisjoint(blob.split("/")):
        return "it has '.' or '..' between its slashes"
    try:
        blob.encode()
    except UnicodeEncodeError:
        return "it is not valid UTF-8"
    return None
