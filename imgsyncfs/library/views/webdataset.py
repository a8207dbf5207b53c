"""webdataset's layout: ``train-000000.tar`` and so on, with the files of each image side by side.

Nothing of a tar file is stored: it is put together from packs when it is read (`imgsyncfs.library.tar_shards`). So tar
files may be small, and there are enough of them for many workers.

Source: webdataset's ``WebDataset``, which reads tar files from the beginning, and its ``ShardWriter`` for the names.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from imgsyncfs.errors import ConfigurationError
from imgsyncfs.library.views.contract import DatasetFacts, Document, Layout, View, without_images
from imgsyncfs.library.views.split import SPLIT_NAMES
from imgsyncfs.settings.values import parse_size

if TYPE_CHECKING:
    # Not imported otherwise: numpy comes with it, and a mount's start need not wait for that.
    from imgsyncfs.catalog.listing import Listing
    from imgsyncfs.catalog.listing.columns import Column

NAME = "webdataset"
CLASSES_NAME = b"classes.txt"

SHARD_BYTES = 64 << 20
"""The greatest length of a tar file. webdataset deals tar files to nodes and workers, each of which needs at least one;
where they are stored, larger ones are usual, since each costs a request."""

LEAST_SHARD_BYTES = 1 << 20
"""Each tar file takes some memory in each process that answers."""


class WebDatasetView(View):
    """Tar files of images with their annotations, of each split.

    Args:
        shard_bytes: the greatest length of a tar file in bytes; one with a single image may be longer.
        name: how users call it.
    """

    has_splits = True
    has_labels = False
    has_values = True
    documents_version = 1

    def __init__(self, shard_bytes: int = SHARD_BYTES, name: str = NAME) -> None:
        self.name = name
        self._shard_bytes = shard_bytes

    def with_parameter(self, parameter: str) -> WebDatasetView:
        """The view with tar files of another length, as in ``webdataset:16M``.

        Raises:
            ConfigurationError: that is no length of a tar file.
        """
        shard_bytes = parse_size(parameter)
        if shard_bytes < LEAST_SHARD_BYTES:
            raise ConfigurationError(f"Tar files of {parameter} are too short; let them have at least 1M.")
        return WebDatasetView(shard_bytes, f"{NAME}:{parameter}")

    def layout(self, listing: Listing, facts: DatasetFacts) -> Layout:  # noqa: ARG002 - the same for all
        """No image is beside the tar files; see `View.layout`."""
        return without_images(listing)

    def documents(self, listing: Listing, layout: Layout, facts: DatasetFacts) -> Sequence[Document]:  # noqa: ARG002 - as it is for all
        """The tar files; a split without images has none. See `View.documents`."""
        # Late, as above.
        import numpy as np

        from imgsyncfs.library.rewritten_annotations import REWRITTEN_NAME, RewrittenAnnotations, rewritten_chunks
        from imgsyncfs.library.tar_shards import TarShards

        order = listing.images.columns["order"]
        images = (order if len(order) else np.arange(len(listing))).astype(np.uint32)
        splits = facts.splits[images] if facts.splits is not None else np.zeros(len(images), np.uint8)
        numbers = class_numbers(facts)
        rewritten = RewrittenAnnotations(listing) if listing.facts.choice else None
        shards = TarShards(listing, numbers, rewritten)
        names = [Document(0, CLASSES_NAME, make=partial(_class_names, facts))] if numbers is not None else []
        if rewritten is not None:
            names.append(Document(0, REWRITTEN_NAME, write=partial(rewritten_chunks, listing), rewritten=rewritten))
        return names + [
            Document(0, b"%b-%06d.tar" % (name, number), assembly=shard, rewritten=rewritten)
            for split, name in enumerate(SPLIT_NAMES)
            for number, shard in enumerate(shards.cut(images[splits == split], self._shard_bytes))
        ]


def class_numbers(facts: DatasetFacts) -> Column | None:
    """The number of each image's class, for ``x.cls``: the place of its first classification among ``classes.txt``.

    Returns:
        By index in the listing, below 0 for an image without a classification; None if no image is known to have one.
    """
    values = facts.values
    return values.numbers.astype("int64") - 1 if values is not None and values.values else None


def _class_names(facts: DatasetFacts) -> bytes:
    values = facts.values.values if facts.values is not None else ()
    return "".join(f"{' '.join(value.split())}\n" for value in values).encode(errors="backslashreplace")
