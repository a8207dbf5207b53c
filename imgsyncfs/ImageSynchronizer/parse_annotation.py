"""One annotation file for notebooks, under the old name of this module: its labels as a table, and its conversion."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from imgsyncfs.annotations.house_format import Annotation
from imgsyncfs.errors import AnnotationError, ConvertError
from imgsyncfs.formats.registry import CONVERTIBLE, ImageInfo
from imgsyncfs.ImageSynchronizer.data_frames import labels_frame
from imgsyncfs.pictures.images import described_image
from imgsyncfs.tools.convert.conversion import recognize
from imgsyncfs.tools.convert.reconciliation import AnnotationPaths, find_image
from imgsyncfs.tools.convert.run import convert_paths
from imgsyncfs.tools.pairing import annotation_suffix

if TYPE_CHECKING:
    import pandas as pd


class parse_annotation:  # noqa: N801  # the name in the users' notebooks
    """An annotation file.

    Args:
        path: in the house format, labelme's or roLabelImg's.

    Attributes:
        path: the file.
        annotation: what it said when it was read, as typed objects.

    Raises:
        AnnotationError: the file cannot be read, or does not parse.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.annotation = _read(self.path)

    @property
    def objects_df(self) -> pd.DataFrame:
        """A row an object with the columns of its type, or a row a value with label_name and label.

        `imgsyncfs.ImageSynchronizer.data_frames.labels_frame` says which columns. The frame is the caller's own.

        Raises:
            ConfigurationError: pandas is not installed.
        """
        return labels_frame(self.annotation)

    def convert(self, target: str, *, output: str | os.PathLike[str] | None = None) -> None:
        """Convert the file, and print what the new one does not show.

        Args:
            target: labelme_json, rolabelimg_xml or imagesynchronizer; see `imgsyncfs.tools.convert.run.convert_paths`
            for where
                the new file stands and what becomes of this one.
            output: a folder for the new file; this one is then only read.

        Raises:
            FormatError: there is no such format.
            ConvertError: the file is gone, would be lost, or its folder cannot be written.
        """
        summary = convert_paths([self.path], to=target, output=None if output is None else Path(output))
        for left_out in summary.left_out:
            raise ConvertError(f"{left_out.path} is left as it is: {left_out.reason}")
        for loss in summary.losses:
            print(f"Not shown: {loss.count} {loss.what}: {loss.reason}")
        for change in summary.changes:
            print(f"Note: {change.count} {change.what}: {change.reason}")
        for note in summary.notes:
            print(f"Note: {', '.join(note.files)}: {note.reason}")
        print(f"Convert {self.path.name} complete!")

    def __repr__(self) -> str:
        return f"parse_annotation({str(self.path)!r})"


def _read(path: Path) -> Annotation:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise AnnotationError(f"{path} cannot be read ({error.strerror}); check the path") from error
    try:
        known = CONVERTIBLE[recognize(content, file_name=path.name)]
        return known.read(content, image=_image_beside(path) if known.is_in_stored_pixels else None).annotation
    except AnnotationError as error:
        raise AnnotationError(f"{path}: {error}; mend the annotation") from error


def _image_beside(path: Path) -> ImageInfo | None:
    stem = path.name[: -len(annotation_suffix(path.name) or path.suffix) or None]
    found = find_image(AnnotationPaths(path.parent, stem), None)
    try:
        return described_image(stem, found.read_bytes()) if found is not None else None
    except OSError as error:
        raise AnnotationError(f"{found} cannot be read ({error.strerror}); check its rights") from error
