"""YOLO's layouts, as ultralytics, Roboflow, CVAT, labelImg and others write them.

Source: ``data/utils.py`` of ultralytics 8.4 and the exports of these tools. Labels of an image are in ``labels`` where
its path has ``images``, and beside it otherwise. Class names stand in ``data.yaml`` (or ``dataset.yaml``, or one of
another name), in ``classes.txt``, or in ``obj.names``.

The kind of labels is told by their fields: five are a box; nine everywhere are oriented boxes, and other numbers are
outlines. ultralytics tells it by the task that it is started for, so that outlines of four corners alone look like
oriented boxes here unless somebody names them.

An empty label file is an image that was looked at and shows nothing; an image without one, nobody has looked at.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from imgsyncfs.errors import LayoutError, printable
from imgsyncfs.formats.registry import NUMBERED_FORMATS, FormatDescription
from imgsyncfs.tools.layouts.contract import SPLIT_NAMES, AnnotationFile, FolderContents, FolderLayout, FoundImage
from imgsyncfs.tools.layouts.side_by_side import paired
from imgsyncfs.tools.layouts.tree import FolderTree, FoundFile, is_image, joined
from imgsyncfs.tools.pairing import LeftOut

NAME_LISTS = ("classes.txt", "obj.names")
"""Files with the name of a class in each line."""

_DESCRIPTIONS = ("data.yaml", "dataset.yaml", "data.yml", "dataset.yml")

LABEL_SUFFIX = ".txt"

SAMPLED_FILES = 1000
"""So many label files, evenly chosen, tell the kind of all."""

_BOX_FIELDS, _CORNER_FIELDS = 5, 9

_SPLIT_KEYS = ("train", "val", "test")

_Pairs: TypeAlias = list[tuple[FoundFile, FoundFile | None]]


class YoloLayout(FolderLayout):
    """Label files with numbers for classes.

    Args:
        name: ``yolo``, whose labels tell their kind, ``yolo-obb`` or ``yolo-seg``.
    """

    def __init__(self, name: str = "yolo") -> None:
        self.name = name
        self.title = NUMBERED_FORMATS[name].shown_title

    def recognizes(self, tree: FolderTree, *, is_named: bool = False) -> bool:
        """Recognize a description of the dataset, or images and label files in their places."""
        if _directories(tree) or _description(tree) is not None:
            return True
        has_names = is_named or any(name in tree.files() for name in NAME_LISTS)
        return has_names and any(
            label is not None for path in _beside(tree) for _, label in paired(tree, path, path, LABEL_SUFFIX)[0]
        )

    def read(self, tree: FolderTree) -> FolderContents:
        """Pair images and labels, and find out what classes and kind these have; see `FolderLayout.read`."""
        description = _description(tree)
        pairs, left_out = _found(tree, description)
        labels = [label for _, label in pairs if label is not None]
        classes, where = _classes(tree, description)
        if labels and not classes:
            raise LayoutError(
                f"The labels in {tree.folder} have numbers for classes, and nothing says their names; put them into a "
                f"file classes.txt there, one a line in the order of their numbers, or into data.yaml under names."
            )
        known = self._kind(tree, labels)
        images = [FoundImage(image, _source(label, known, classes)) for image, label in pairs]
        kind = (
            f"{known.shown_title}, with the classes of {where}" if any(label.byte_count for label in labels) else "YOLO"
        )
        notes = [f"it was read as {kind}"]
        return self.contents(tree, images, left_out, notes)

    def _kind(self, tree: FolderTree, labels: Sequence[FoundFile]) -> FormatDescription:
        counts = _field_counts(tree, labels)
        outlines = {count for count in counts if count != _BOX_FIELDS}
        if self.name != "yolo":
            if counts and not outlines:
                raise LayoutError(
                    f"The labels in {tree.folder} are boxes of class, centre and size, and not {self.title}; name the "
                    "layout yolo.",
                    option="layout",
                )
            return NUMBERED_FORMATS[self.name]
        if not counts:
            # Nothing is shown in any: the kind that shows least makes least of that.
            return NUMBERED_FORMATS["yolo-obb"]
        if not outlines:
            return NUMBERED_FORMATS["yolo"]
        return NUMBERED_FORMATS["yolo-obb" if outlines == {_CORNER_FIELDS} else "yolo-seg"]


def is_boxes_alone(content: bytes) -> bool:
    """Whether all rows of a label file are boxes: in a dataset of outlines there may be such files."""
    counts = {len(row.split()) for row in content.splitlines() if row.strip()}
    return counts == {_BOX_FIELDS}


def _source(label: FoundFile | None, known: FormatDescription, classes: tuple[str, ...]) -> tuple[AnnotationFile, ...]:
    return () if label is None else (AnnotationFile(label, known, classes),)


def _field_counts(tree: FolderTree, labels: Sequence[FoundFile]) -> Counter[int]:
    """How many rows have how many fields, in some of the label files."""
    step = max(1, -(-len(labels) // SAMPLED_FILES))
    counts = Counter[int]()
    for label in labels[::step]:
        counts.update(len(row.split()) for row in tree.read(label).splitlines() if row.strip())
    return counts


def _found(tree: FolderTree, description: _Description | None) -> tuple[_Pairs, list[LeftOut]]:
    """All images, each once, with their label files, and what goes with none."""
    places = [*_described_directories(tree, description), *_directories(tree)]
    places = places or [(path, path) for path in _beside(tree)]
    found: dict[str, tuple[FoundFile, FoundFile | None]] = {}
    left_out: dict[str, LeftOut] = {}
    for images_path, labels_path in dict.fromkeys(places):
        pairs, others = paired(tree, images_path, labels_path, LABEL_SUFFIX)
        for image, label in pairs:
            if found.get(image.path, (image, None))[1] is None:
                found[image.path] = (image, label)
        left_out.update({each.path: each for each in others})
    taken = {printable(label.path) for _, label in found.values() if label is not None}
    return [*found.values()], [each for path, each in left_out.items() if path not in taken]


def _directories(tree: FolderTree) -> list[tuple[str, str]]:
    """The directories ``images`` and ``labels``, at the top and in each split's, if there are labels in any."""
    splits = [name for name in tree.directories() if name.lower() in SPLIT_NAMES]
    found = [
        (joined(place, "images"), joined(place, "labels"))
        for place in ["", *splits]
        if tree.has_directory(joined(place, "images"))
    ]
    has_labels = any(
        name.endswith(LABEL_SUFFIX)
        for _, labels_path in found
        if tree.has_directory(labels_path)
        for path in tree.below(labels_path)
        for name in tree.files(path)
    )
    return found if has_labels else []


def _beside(tree: FolderTree) -> list[str]:
    """Directories that may have images and label files side by side: the folder, splits, and those of Darknet."""
    others = [
        name
        for name in tree.directories()
        if name.lower() in SPLIT_NAMES or (name.startswith("obj_") and name.endswith("_data"))
    ]
    return [path for path in ["", *others] if any(map(is_image, tree.files(path)))]


def _described_directories(tree: FolderTree, description: _Description | None) -> Iterator[tuple[str, str]]:
    """The directories of images that a description names, as far as they are there, and those of their labels."""
    if description is None:
        return
    for key in _SPLIT_KEYS:
        value = description.document.get(key)
        for place in value if isinstance(value, list) else [value]:
            for path in _images_at(tree, description, place) if isinstance(place, str) and place else ():
                yield path, _labels_path(path)


def _images_at(tree: FolderTree, description: _Description, place: str) -> Iterator[str]:
    root = description.document.get("path")
    root = root if isinstance(root, str) else ""
    if not place.endswith(".txt"):
        path = _nearest(tree, posixpath.join(root, place)) or _nearest(tree, place)
        yield from [] if path is None else [path]
        return
    found = tree.find(joined(root, place)) or tree.find(joined(place))
    lines = tree.read(found).decode("utf-8", "replace").splitlines() if found is not None else ()
    for directory in dict.fromkeys(posixpath.dirname(line.strip()) for line in lines):
        path = _nearest(tree, directory)
        yield from [] if path is None else [path]


def _nearest(tree: FolderTree, path: str) -> str | None:
    """The directory of the folder that a path means, of which the beginning may be of another machine."""
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return next((place for start in range(len(parts)) if tree.has_directory(place := joined(*parts[start:]))), None)


def _labels_path(images_path: str) -> str:
    """Where the labels of a directory of images are: its last part ``images`` is ``labels``."""
    parts = images_path.split("/")
    for index in reversed(range(len(parts))):
        if parts[index] == "images":
            return "/".join([*parts[:index], "labels", *parts[index + 1 :]])
    return images_path


@dataclass(frozen=True)
class _Description:
    """A file ``data.yaml`` and what it says."""

    file: FoundFile
    document: Mapping[str, Any]


def _description(tree: FolderTree) -> _Description | None:
    """The description of the dataset; None if there is none.

    Raises:
        LayoutError: it is no YAML.
    """
    files = {name: file for name, file in tree.files().items() if name.lower().endswith((".yaml", ".yml"))}
    for name in sorted(files, key=lambda name: (name not in _DESCRIPTIONS, name)):
        document = _yaml(tree, files[name])
        if "names" in document and any(key in document for key in _SPLIT_KEYS):
            return _Description(files[name], document)
    return None


def _yaml(tree: FolderTree, file: FoundFile) -> Mapping[str, Any]:
    # Late: nobody else needs it.
    import yaml

    try:
        # Texts alone: a class may be called `no` or `1`.
        document = yaml.load(tree.read(file), Loader=yaml.BaseLoader)  # noqa: S506 - makes nothing but texts, lists and mappings
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        if file.name not in _DESCRIPTIONS:
            return {}
        reason = " ".join(str(error).split())
        raise LayoutError(f"{tree.folder / file.path} is no valid YAML ({reason:.200}); correct it.") from error
    return document if isinstance(document, dict) else {}


def _classes(tree: FolderTree, description: _Description | None) -> tuple[tuple[str, ...], str]:
    """The names of classes, in the order of their numbers, and the file that says them."""
    if description is not None:
        return _described_classes(tree, description), printable(description.file.path)
    places = ["", *(labels for _, labels in _directories(tree)), *_beside(tree)]
    for path in dict.fromkeys(places):
        for name in NAME_LISTS:
            file = tree.find(joined(path, name))
            if file is not None:
                text = tree.read(file).decode("utf-8-sig", "replace")
                return tuple([line.strip() for line in text.rstrip().splitlines()]), printable(file.path)
    return (), ""


def _described_classes(tree: FolderTree, description: _Description) -> tuple[str, ...]:
    names = description.document["names"]
    if isinstance(names, dict):
        # Numbers as they are written.
        numbers = [str(number) for number in range(len(names))]
        names = [names[number] for number in numbers] if names.keys() == {*numbers} else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise LayoutError(
            f"In {tree.folder / description.file.path}, names must be a list of texts, or a mapping whose numbers "
            "count from 0 without a gap; correct it."
        )
    return tuple(names)
