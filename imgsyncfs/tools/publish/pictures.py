"""Refuse pictures that views made of a dataset's images, where they would take the place of these.

A picture has a mark (`imgsyncfs.pictures.marks`), so that it does not matter how it came into the folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from imgsyncfs.errors import PublishError, printable
from imgsyncfs.pictures.marks import DRAWN

if TYPE_CHECKING:
    from imgsyncfs.tools.publish.findings import CheckedImage
    from imgsyncfs.tools.publish.publication import Published

_NAMED = 3


class Marked(NamedTuple):
    """An image on its way into the catalog.

    Attributes:
        path: what messages call it.
        stem: its name without extension.
        image: what was found out about it; None if it is left out.
    """

    path: str
    stem: str
    image: CheckedImage | None


def refuse_pictures(published: Published, images: Iterable[Marked], *, drawn: bool) -> None:
    """Refuse pictures of the dataset's own images and, unless they are meant, all with annotations drawn in.

    Smaller copies of another dataset's images are images like others. What the catalog has already stays.

    Args:
        published: the dataset before.
        images: all that would be in it.
        drawn: whether pictures with annotations drawn in are meant.

    Raises:
        PublishError: there are such; nothing was uploaded yet.
    """
    originals = {row.md5 for row in published.images.values() if row.md5}
    own: dict[str, list[str]] = {}
    others: list[str] = []
    for path, stem, image in images:
        if image is None or not image.facts.made:
            continue
        row = published.images.get(stem)
        if row is not None and row.md5 == image.md5:
            continue
        # Of an image without a digest in the catalog, its name is all that there is to go by.
        if image.facts.made_from in originals or (row is not None and not row.md5):
            own.setdefault(image.facts.made, []).append(path)
        elif image.facts.made == DRAWN:
            others.append(path)
    nothing = f"Nothing was published as {published.dataset_id}, because"
    for made, paths in own.items():
        what = "with annotations drawn into them" if made == DRAWN else "made smaller"
        raise PublishError(
            f"{nothing} the images of this dataset would be replaced by copies of themselves {what} "
            f"({''.join(_named(paths))}); publish a copy of a view that has the images as they are, or these under "
            "another id."
        )
    if others and not drawn:
        raise PublishError(
            f"{nothing} there are pictures with annotations drawn into them, from which a trainer would learn the "
            f"drawn lines ({''.join(_named(others))}); publish the images as they are, or say that these are meant.",
            option="drawn",
        )


def _named(paths: list[str]) -> Iterator[str]:
    yield ", ".join(map(printable, paths[:_NAMED]))
    if len(paths) > _NAMED:
        yield f" and {len(paths) - _NAMED:,} more"
