"""`imgsyncfs.torch` where there is no PyTorch, and everything else without it."""

from __future__ import annotations

import subprocess
import sys


def output_of(script: str) -> str:
    """What a program prints to which PyTorch cannot be imported."""
    without = "import sys; sys.modules['torch'] = sys.modules['torchvision'] = None\n"
    done = subprocess.run(
        [sys.executable, "-c", without + script], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.strip()


def test_without_pytorch_the_message_names_the_remedy() -> None:
    script = (
        "from imgsyncfs.errors import ConfigurationError\n"
        "try: import imgsyncfs.torch\n"
        "except ConfigurationError as error: print(error)"
    )
    assert output_of(script).endswith("run: pip install 'imgsyncfs[torch]'")


def test_the_api_needs_no_pytorch() -> None:
    assert output_of("import imgsyncfs; print(imgsyncfs.connect.__module__)") == "imgsyncfs.api"
