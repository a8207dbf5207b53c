"""The view imagefolder: torchvision sees each classified image in the class of its label."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.generated_dataset import DATASET
from support.house_boxes import HouseImage, house_images
from torchvision.datasets import ImageFolder

CLASSIFIED = "opensource_imdbwiki&affectnet_rgb_clf&reg"


def classification(image: HouseImage, name: str) -> str | None:
    """What the first classification says, or the first of a name."""
    found = [each for each in image.labels if each["label_type"] == "clf" and name in ("", each["label_name"])]
    return found[0]["label"] if found else None


@pytest.mark.parametrize("name", ["", "Gender"])
@pytest.mark.parametrize("dataset", [DATASET, CLASSIFIED])
def test_torchvision_sees_every_classified_image_in_its_class(everything: Path, dataset: str, name: str) -> None:
    top = everything / ".views" / f"imagefolder:{name}".rstrip(":") / dataset
    seen: dict[str, str] = {}
    for split in top.iterdir():
        found = ImageFolder(str(split))
        seen |= {Path(path).stem: found.classes[number] for path, number in found.samples}
    expected = {stem: classification(image, name) for stem, image in house_images(everything / dataset).items()}
    assert seen == {stem: label for stem, label in expected.items() if label is not None}
