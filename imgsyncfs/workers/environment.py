"""The environment of processes that are started: without secrets, which go over pipes.

Whoever may look into a process reads its environment, and core files and tracebacks of tools show it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

SECRET_VARIABLES = frozenset(
    {
        "IMGSYNCFS_PASSWORD",
        "AZURE_STORAGE_CONNECTION_STRING",
        "AZURE_STORAGE_KEY",
        "AZURE_STORAGE_SAS_TOKEN",
    }
)
"""Those that whoever starts processes has read, and hands over. Others (``AZURE_CLIENT_SECRET``) are read by the
packages that need them, where they need them."""


def started_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment for a process of ours."""
    kept = {name: value for name, value in environment.items() if name not in SECRET_VARIABLES}
    # numpy's linear algebra, which nobody here uses, would begin with a thread for each processor.
    return {"OPENBLAS_NUM_THREADS": "1", **kept}
