"""The file ``data.yaml`` of a dataset in YOLO's layout, for ultralytics, supervision, RF-DETR and others.

``path`` is left out: it then is the file's own directory, wherever that is mounted. A split without images would
be fatal to trainers, so another one is named for it: train, if there are images in it. Text is quoted as JSON does it,
which is YAML as well but for some characters that YAML cannot hold or would take for the end of a line.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence

from imgsyncfs.annotations.house_format import encode_json
from imgsyncfs.formats.dataset_documents.contract import DatasetDocument, DocumentEntry, LossTally

DIRECTORIES = {"train": "train", "validation": "valid", "test": "test"}
"""Split to the directory that holds its ``images`` and ``labels``."""

_KEYS = {"train": "train", "validation": "val", "test": "test"}
_NOT_IN_YAML = re.compile("[\x7f-\xa0\u2028\u2029\ufeff\ufffe\uffff]")


class YoloDocument(DatasetDocument):
    """YOLO's ``data.yaml``; of the entries only their splits are looked at."""

    def chunks(self, entries: Iterable[DocumentEntry], classes: Sequence[str], losses: LossTally) -> Iterator[bytes]:  # noqa: ARG002 - labels are in files of their own
        """Write the document; see `DatasetDocument.chunks`."""
        yield data_yaml({entry.split for entry in entries}, classes)


def data_yaml(splits: Collection[str], classes: Sequence[str]) -> bytes:
    """Write ``data.yaml``.

    Args:
        splits: those of ``train``, ``validation`` and ``test`` in which there are images.
        classes: names of all classes, in their order.

    Raises:
        AnnotationError: a name is no valid text.
    """
    instead = next((split for split in DIRECTORIES if split in splits), "train")
    lines = [f"{key}: {DIRECTORIES[split if split in splits else instead]}/images" for split, key in _KEYS.items()]
    return _with_names(lines, classes)


def undivided_data_yaml(images: str, classes: Sequence[str]) -> bytes:
    """Write ``data.yaml`` for a folder of images that is not divided: it is named for each split that trainers want.

    Args:
        images: path of the folder, seen from the file's own.
        classes: names of all classes, in their order.

    Raises:
        AnnotationError: a name is no valid text.
    """
    lines = ["# One folder of images: what is learned from is tested with as well, until val names others."]
    lines += [f"{_KEYS[split]}: {_quoted(images)}" for split in ("train", "validation")]
    return _with_names(lines, classes)


def _with_names(lines: Sequence[str], classes: Sequence[str]) -> bytes:
    lines = [*lines]
    lines += [f"nc: {len(classes)}", "names:" if classes else "names: []"]
    lines += [f"- {_quoted(name)}" for name in classes]
    return ("\n".join(lines) + "\n").encode()


def _quoted(text: str) -> str:
    return _NOT_IN_YAML.sub(lambda match: f"\\u{ord(match.group()):04x}", encode_json(text).decode())
