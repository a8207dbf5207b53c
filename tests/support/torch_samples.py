"""What the tests of the PyTorch dataset share, and what goes to other processes in them."""

from __future__ import annotations

from typing import Any


class Rotation:
    """A transform that goes to spawned processes, as a lambda does not."""

    def __call__(self, image: Any) -> Any:
        return image.rotate(180)


def plain(sample: tuple[Any, dict[str, Any]]) -> tuple[Any, ...]:
    """A sample as bytes and lists, which can be compared."""
    image, target = sample
    values = {name: value.tolist() if hasattr(value, "tolist") else value for name, value in target.items()}
    return image.size, image.mode, image.tobytes(), values
