"""Names of blobs, kept as templates.

A loose blob's name is mostly made of its file's name and digest (``<dataset>/<stem>.<12 hex of md5>.<ext>``). So blob
names are kept as templates, each once, with a mark where the stem and the digest stand; a name that has nothing of
them is its own template, as a pack's is. A NUL cannot be in any of these names, so it makes the marks.
"""

from __future__ import annotations

from collections.abc import Sequence

NAME_MARK = b"\0name"
DIGEST_MARK = b"\0md5"
DIGEST_DIGITS = 12

FILES_A_PACK = 8
"""From this number of files in a blob on, its name is parsed once, and not for each file."""

_SLASH, _DOT = b"/."


def blob_template(blob: bytes, stem: bytes, md5: bytes) -> bytes:
    """Take stem and digest out of a blob's name. What is given is all that the result depends on.

    Args:
        blob: name of the blob, UTF-8, without NUL.
        stem: of the file; not empty.
        md5: of the file in lower-case hexadecimal, or empty.

    Returns:
        The template: `expand_template` makes the name of it again, exactly.
    """
    start = blob.rfind(stem)
    end = start + len(stem)
    # A stem such as "7" is found by chance in other names: it must stand by itself.
    if start < 0 or (start and blob[start - 1] != _SLASH) or (end < len(blob) and blob[end] != _DOT):
        return blob
    tail = blob[end:]
    digest = md5[:DIGEST_DIGITS]
    if digest and tail.startswith(digest, 1):
        tail = b".%b%b" % (DIGEST_MARK, tail[1 + DIGEST_DIGITS :])
    return b"%b%b%b" % (blob[:start], NAME_MARK, tail)


def blob_templates(blobs: Sequence[bytes], stems: Sequence[bytes], digests: Sequence[bytes]) -> Sequence[bytes]:
    """The template of each blob; see `blob_template`."""
    distinct = set(blobs)
    if len(distinct) <= len(blobs) // FILES_A_PACK and set[bytes]().union(*map(_parts, distinct)).isdisjoint(stems):
        return blobs
    return list(map(blob_template, blobs, stems, digests))


def _parts(blob: bytes) -> set[bytes]:
    """All that stands by itself in a blob's name: a stem that is none of these has no mark in it."""
    starts = [0, *(place + 1 for place, byte in enumerate(blob) if byte == _SLASH)]
    ends = [*(place for place, byte in enumerate(blob) if byte == _DOT), len(blob)]
    return {blob[start:end] for start in starts for end in ends if start < end}


def expand_template(template: bytes, stem: bytes, md5: bytes) -> bytes:
    """Make a blob's name of its template; see `blob_template`."""
    return template.replace(DIGEST_MARK, md5[:DIGEST_DIGITS]).replace(NAME_MARK, stem)
