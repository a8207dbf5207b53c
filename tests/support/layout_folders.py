"""Folders in the layouts of tools, written with the project's own writers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from imgsyncfs.annotations.house_format import Annotation
from imgsyncfs.formats.contract import ImageInfo
from imgsyncfs.formats.dataset_documents.coco import CocoDocument
from imgsyncfs.formats.dataset_documents.contract import DatasetDocument, DocumentEntry, LossTally
from imgsyncfs.formats.dataset_documents.cvat import CvatDocument
from imgsyncfs.formats.dataset_documents.hugging_face import HuggingFaceDocument
from imgsyncfs.formats.dataset_documents.yolo import data_yaml
from imgsyncfs.formats.registry import FORMATS, NUMBERED_FORMATS
from support.document_entries import CLASSES, HEIGHT, WIDTH
from support.publishing import jpeg

IMAGE = jpeg(7, width=WIDTH, height=HEIGHT)

_PLACES = {
    "yolo": ("train/images", "train/labels"),
    "yolo-obb": ("train/images", "train/labels"),
    "yolo-seg": ("train/images", "train/labels"),
    "dota": ("train/images", "train/labelTxt"),
    "voc": ("VOCdevkit/VOC2012/JPEGImages", "VOCdevkit/VOC2012/Annotations"),
    "labelme": ("", ""),
    "xanylabeling": ("", ""),
    "rolabelimg": ("", ""),
    "coco": ("train", ""),
    "cvat": ("images", ""),
    "hf": ("train", ""),
}

LAYOUTS = tuple(_PLACES)


def put(path: Path, content: bytes) -> Path:
    """Write a file; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def write_layout(
    folder: Path, layout: str, annotations: Mapping[str, Annotation | None], classes: tuple[str, ...] = CLASSES
) -> Path:
    """Write a folder of small images of `HEIGHT` x `WIDTH` with these annotations, by stem, in a tool's layout."""
    images, labels = (folder / place for place in _PLACES[layout])
    for stem in annotations:
        put(images / f"{stem}.jpg", IMAGE)
    if layout == "coco":
        _write_document(images / "_annotations.coco.json", CocoDocument(), annotations, classes)
    elif layout == "cvat":
        _write_document(folder / "annotations.xml", CvatDocument(), annotations, classes)
    elif layout == "hf":
        _write_document(images / "metadata.jsonl", HuggingFaceDocument(), annotations, classes)
    else:
        known = NUMBERED_FORMATS.get(layout) or FORMATS[layout]
        for stem, annotation in annotations.items():
            if annotation is not None:
                info = ImageInfo("set", stem, "jpg", HEIGHT, WIDTH, 3, classes=classes)
                put(labels / f"{stem}{known.view_suffix}", known.render(annotation, info).content)
        if layout in NUMBERED_FORMATS:
            put(folder / "data.yaml", data_yaml({"train"}, classes))
    return folder


def _write_document(
    path: Path, document: DatasetDocument, annotations: Mapping[str, Annotation | None], classes: tuple[str, ...]
) -> None:
    entries = [
        DocumentEntry(ImageInfo("set", stem, "jpg", HEIGHT, WIDTH, 3), "train", annotation)
        for stem, annotation in annotations.items()
    ]
    put(path, b"".join(document.chunks(entries, classes, LossTally())))
