"""Images with an annotation file beside each: as the house format, labelme, X-AnyLabeling and roLabelImg have them.

All are in one directory; where that has no image, they are in directories named as splits, as Roboflow exports them.
"""

from __future__ import annotations

from imgsyncfs.errors import printable
from imgsyncfs.formats.losses_file import LOSSES_NAME
from imgsyncfs.formats.registry import FormatDescription
from imgsyncfs.tools.convert.own_files import RECORD_FILE, written_files
from imgsyncfs.tools.layouts.contract import SPLIT_NAMES, AnnotationFile, FolderContents, FolderLayout, FoundImage
from imgsyncfs.tools.layouts.tree import FolderTree, is_image
from imgsyncfs.tools.pairing import ORIGINALS_FOLDER, LeftOut, annotation_suffix, pair_names

ANY_FORMAT = "beside"
"""The name of the layout whose files tell their formats by their content; nobody gives it."""

_NOT_SEARCHED = "sub-folders are not searched; publish it under an id of its own"

_EDITED = (
    "it was changed since `imgsyncfs convert` wrote it, and the annotation beside its image counts; to take what it "
    "says, name its layout with --from, or remove it"
)


class BesideLayout(FolderLayout):
    """Images with annotation files beside them.

    Args:
        format_: of the annotations; None if the content of each is to tell.
    """

    is_beside = True

    def __init__(self, format_: FormatDescription | None = None) -> None:
        self._format = format_
        self.name = format_.name if format_ is not None else ANY_FORMAT
        self.title = format_.shown_title if format_ is not None else "annotations beside the images"

    def recognizes(self, tree: FolderTree, *, is_named: bool = False) -> bool:  # noqa: ARG002 - as much is enough
        """Recognize an image with an annotation beside it."""
        return any(self._has_annotation(tree, directory) for directory in ("", *_splits(tree)))

    def read(self, tree: FolderTree) -> FolderContents:
        """Pair images and annotations by name; see `FolderLayout.read`."""
        # Without annotations, splits are left alone: something else about them was not recognized.
        splits = _splits(tree) if self.recognizes(tree) else ()
        images: list[FoundImage] = []
        left_out = [
            LeftOut(f"{printable(name)}/", _NOT_SEARCHED)
            for name in tree.directories()
            # What `convert` keeps there is in the files of labelme's beside.
            if name not in (*splits, ORIGINALS_FOLDER)
        ]
        for directory in ("", *splits):
            found, others = self._paired(tree, directory)
            images += found
            left_out += [*tree.left_out(directory), *others]
        return self.contents(tree, images, left_out)

    def _paired(self, tree: FolderTree, directory: str) -> tuple[list[FoundImage], list[LeftOut]]:
        files = tree.files(directory)
        if self._format is not None:
            return _of_format(self._format, tree, directory), []
        # What a view does not show was named for people, beside its files; what a conversion wrote can be made again.
        written = written_files(files, lambda name: tree.read(files[name]))
        pairs, others = pair_names(name for name in files if name != LOSSES_NAME and name not in written.own)
        reasons = {printable(name): _EDITED for name in written.edited}
        if written.fault:
            reasons[RECORD_FILE] = written.fault
        images = [
            FoundImage(files[pair.image], tuple([AnnotationFile(files[name]) for name in pair.annotations]))
            for pair in pairs
        ]
        prefix = f"{printable(directory)}/" if directory else ""
        return images, [LeftOut(prefix + each.path, reasons.get(each.path, each.reason)) for each in others]

    def _has_annotation(self, tree: FolderTree, directory: str) -> bool:
        if self._format is not None:
            return any(image.sources for image in _of_format(self._format, tree, directory))
        names = tree.files(directory)
        stems = {name.rpartition(".")[0] for name in names if is_image(name)}
        return any(
            (suffix := annotation_suffix(name)) and name.removesuffix(name[-len(suffix) :]) in stems for name in names
        )


def _splits(tree: FolderTree) -> tuple[str, ...]:
    """The directories of splits that hold the images, if the folder itself holds none."""
    if any(map(is_image, tree.files())):
        return ()
    found = [name for name in tree.directories() if name.lower() in SPLIT_NAMES]
    return tuple(name for name in found if any(map(is_image, tree.files(name))))


def _of_format(known: FormatDescription, tree: FolderTree, directory: str) -> list[FoundImage]:
    """The images of a directory, with the files that have a suffix of one format, in whichever letter case."""
    files = tree.files(directory)
    named: dict[str, AnnotationFile] = {}
    for suffix in dict.fromkeys((known.suffix, known.view_suffix)):
        for name, file in files.items():
            if name.lower().endswith(suffix):
                named.setdefault(name[: -len(suffix)], AnnotationFile(file, known))
    images = [FoundImage(file) for name, file in files.items() if is_image(name)]
    return [FoundImage(image.file, (named[image.stem],) if image.stem in named else ()) for image in images]
