"""Find the image and the annotation that a preview shows, given either of the two, and read them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from PIL import Image

from imgsyncfs.annotations.house_format import Annotation
from imgsyncfs.errors import AnnotationError, PreviewError, PublishError, printable
from imgsyncfs.formats.registry import ImageReference, recognize_format
from imgsyncfs.pictures.images import IMAGE_EXTENSIONS, decode_content, described_image
from imgsyncfs.tools.pairing import ANNOTATION_SUFFIXES, ORIGINALS_FOLDER, image_names

_EXTENSIONS = frozenset({*IMAGE_EXTENSIONS, *(suffix.rpartition(".")[2] for suffix in ANNOTATION_SUFFIXES)})


@dataclass(frozen=True)
class PreviewSource:
    """What a preview shows.

    Attributes:
        image_path: where the image was read; None if the annotation's file holds it.
        image_content: the image file.
        annotation_path: where the annotation was read.
        annotation: the annotation.
    """

    image_path: Path | None
    image_content: bytes
    annotation_path: Path
    annotation: Annotation


def read_preview_source(path: Path) -> PreviewSource:
    """Read an image and its annotation.

    An image's annotation is the first file beside the image whose name ends in one of `ANNOTATION_SUFFIXES`. An
    annotation's image is looked for in this order (`ImageReference`): the path that the format's tool opens, the same
    stem, a path that the file mentions, the image embedded in the file.

    Args:
        path: an image, or an annotation of a format that can be read back.

    Raises:
        PreviewError: the image or the annotation is missing or cannot be read.
    """
    if path.suffix.removeprefix(".").lower() in IMAGE_EXTENSIONS:
        image_content = _read(path)
        annotation_path = _annotation_beside(path)
        annotation, _ = _read_annotation(annotation_path, image_content)
        return PreviewSource(path, image_content, annotation_path, annotation)
    annotation, reference = _read_annotation(path)
    candidates = _image_candidates(path, annotation, reference)
    image_path = next((each for each in candidates if _is_file(each)), None)
    content = _read(image_path) if image_path is not None else reference.embedded_content
    if content is not None:
        return PreviewSource(image_path, content, path, _read_annotation(path, content)[0])
    names = ", ".join(dict.fromkeys([*map(printable, reference.opened_paths), f"{_stems(path)[0]}.jpg, .png …"]))
    raise PreviewError(f"{_shown(path)}: its image is not beside it ({names}); put it there, or name the image instead")


def decode_image(source: PreviewSource) -> Image.Image:
    """Decode the image as it is stored, not yet turned as EXIF asks for.

    Raises:
        PreviewError: it is no image that is known, or damaged.
    """
    try:
        return decode_content(source.image_content)
    except PublishError as error:
        name = _shown(source.image_path) if source.image_path else f"The image in {_shown(source.annotation_path)}"
        raise PreviewError(f"{name} cannot be shown: {error}") from error


def _annotation_beside(image: Path) -> Path:
    names = [f"{image.stem}{suffix}" for suffix in ANNOTATION_SUFFIXES]
    candidates = [*(image.with_name(name) for name in names), image.parent / ORIGINALS_FOLDER / names[0]]
    found = next((each for each in candidates if _is_file(each)), None)
    if found is None:
        listed = ", ".join(map(printable, names))
        raise PreviewError(f"{_shown(image)}: no annotation is beside it ({listed}); put one there, or name it instead")
    return found


def _read_annotation(path: Path, image_content: bytes | None = None) -> tuple[Annotation, ImageReference]:
    """An annotation, and what its file says of its image; the image tells in which pixels some tools wrote."""
    content = _read(path)
    known = recognize_format(content, file_name=path.name)
    if known is None:
        raise PreviewError(f"{_shown(path)} is no annotation in the house format or a tool's; name one")
    image = None
    if known.is_in_stored_pixels and image_content is not None:
        image = described_image(path.stem, image_content)
    try:
        return known.read(content, image=image).annotation, known.image_reference(content)
    except AnnotationError as error:
        raise PreviewError(f"{_shown(path)} cannot be read: {error}; mend it, or name another file") from error


def _image_candidates(path: Path, annotation: Annotation, reference: ImageReference) -> Iterator[Path]:
    """Where the image may be, the likeliest place first."""
    folders = [path.parent, *([path.parent.parent] if path.parent.name == ORIGINALS_FOLDER else [])]
    for folder in folders:
        for name in reference.opened_paths:
            # Paths of Windows, too; and one that led elsewhere before the files were moved here.
            yield folder / name.replace("\\", "/")
            yield folder / PureWindowsPath(name).name
        for stem in _stems(path):
            yield from map(folder.joinpath, image_names(stem, annotation.ext))
        for name in reference.mentioned_paths:
            base = PureWindowsPath(name).name
            yield folder / base
            yield from map(folder.joinpath, image_names(base, annotation.ext))


def _stems(annotation: Path) -> list[str]:
    """The stems that an annotation's image may have, the likeliest first."""
    name = annotation.name
    suffixes = sorted(ANNOTATION_SUFFIXES, key=len, reverse=True)
    return [name.removesuffix(suffix) for suffix in suffixes if name.endswith(suffix)] or [annotation.stem]


def _is_file(path: Path) -> bool:
    with contextlib.suppress(OSError, ValueError):  # names that are too long or hold NUL
        return path.suffix.removeprefix(".").lower() in _EXTENSIONS and path.is_file()
    return False


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise PreviewError(f"{_shown(path)} cannot be read ({reason}); check its path and its rights") from error


def _shown(path: Path) -> str:
    return printable(str(path))
