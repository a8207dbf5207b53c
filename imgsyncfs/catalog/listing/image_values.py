"""The value of a classification of each image of a listing, such as ``Female``: in a column, and saved beside it.

It belongs to one revision, as the listing does, so it is saved in the listing's own folder and goes with it. A mount
then knows without the database which images have which value. A digest, and NumPy's format NPZ behind it.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
import xxhash

from imgsyncfs.catalog.listing.columns import Column, compact
from imgsyncfs.catalog.listing.table import Listing
from imgsyncfs.catalog.listing_folder import UNFINISHED
from imgsyncfs.errors import ListingDamaged
from imgsyncfs.settings.private_folders import read_own_file

DIGEST_BYTES = 16


@dataclass(frozen=True)
class ImageValues:
    """The values of a listing's images.

    Attributes:
        values: each value that an image has, once, by code points.
        numbers: by the index of the image, the place of its value among `values`, counted from 1; 0 without one. In as
            few bytes as they need.
    """

    values: tuple[str, ...]
    numbers: Column

    @classmethod
    def of(cls, listing: Listing, found: Mapping[str, str]) -> ImageValues:
        """Make the column.

        Args:
            listing: the images.
            found: stem to value; those of images that are not listed are left out.
        """
        stems = [stem.decode() for stem in listing.stems.texts()]
        values = tuple(sorted({found[stem] for stem in stems if stem in found}))
        numbers = {value: number for number, value in enumerate(values, 1)}
        places = (numbers[found[stem]] if stem in found else 0 for stem in stems)
        return cls(values, compact(np.fromiter(places, np.uint32, len(stems))))

    def to_bytes(self) -> bytes:
        """For a file, or another process: a digest, and what it is of; see `from_bytes`."""
        target = io.BytesIO()
        np.savez(target, values=np.frombuffer(orjson.dumps(self.values), np.uint8), numbers=self.numbers)
        content = target.getvalue()
        return xxhash.xxh3_128_digest(content) + content

    @classmethod
    def from_bytes(cls, content: bytes) -> ImageValues:
        """Back from `to_bytes`.

        Raises:
            ListingDamaged: that is not what was made.
        """
        made = content[DIGEST_BYTES:]
        if xxhash.xxh3_128_digest(made) != content[:DIGEST_BYTES]:
            raise ListingDamaged("The values of images are not what was saved; they are read again from the catalog.")
        # Only now: NumPy's reader raises whatever it comes upon in a damaged file.
        with np.load(io.BytesIO(made), allow_pickle=False) as parts:
            return cls(tuple(orjson.loads(parts["values"].tobytes())), parts["numbers"])


def join_values(listing: Listing, parts: Sequence[tuple[Listing, ImageValues]]) -> ImageValues:
    """The values of a selection's images.

    Args:
        listing: the selection's.
        parts: listing and values of each of its datasets.
    """
    known = {part.dataset_id: (part, found) for part, found in parts}
    values: dict[str, str] = {}
    for index in range(len(listing)):
        dataset_id, stem = listing.origin_of(index)
        part, found = known[dataset_id]
        place = part.find(stem)
        number = int(found.numbers[place]) if place >= 0 else 0
        if number:
            values[listing.stem(index).decode()] = found.values[number - 1]
    return ImageValues.of(listing, values)


def save_values(values: ImageValues, folder: Path, label_name: str | None) -> None:
    """Save the values beside the listing that they belong to.

    Args:
        values: what to save.
        folder: the listing's.
        label_name: of the classification; None for the first of each image.

    Raises:
        OSError: they cannot be written; nothing is left behind.
    """
    descriptor, name = tempfile.mkstemp(prefix=UNFINISHED, dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(values.to_bytes())
        Path(name).replace(folder / _file_name(label_name))
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def load_values(listing: Listing, folder: Path, label_name: str | None) -> ImageValues | None:
    """Load saved values of a listing's images; None if there are none that can be used. See `save_values`."""
    try:
        values = ImageValues.from_bytes(read_own_file(folder / _file_name(label_name)))
    except (OSError, ListingDamaged):
        return None
    return values if len(values.numbers) == len(listing) else None


def _file_name(label_name: str | None) -> str:
    # Names of labels hold whatever people write.
    named = "first" if label_name is None else hashlib.sha256(label_name.encode()).hexdigest()[:32]
    return f"values-{named}"
