"""The environment of processes that are started: without secrets, which go over pipes.

Whoever may look into a process reads its environment, and core files and tracebacks of tools show it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

LOG_IN_VARIABLES = frozenset(
    {"AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PASSWORD", "AZURE_PASSWORD", "IDENTITY_HEADER", "MSI_SECRET"}
)
"""Those that only the package azure-identity reads. The last two open a machine's own identity."""

SECRET_VARIABLES = LOG_IN_VARIABLES | {
    "IMGSYNCFS_PASSWORD",
    "AZURE_STORAGE_CONNECTION_STRING",
    "AZURE_STORAGE_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
}
"""Those that whoever starts processes has read, and hands over."""


def started_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment for a process of ours."""
    kept = {name: value for name, value in environment.items() if name not in SECRET_VARIABLES}
    # numpy's linear algebra, which nobody here uses, would begin with a thread for each processor.
    return {"OPENBLAS_NUM_THREADS": "1", **kept}


def log_in_section(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What the environment has for azure-identity that a process of ours is not started with; see `log_in_with`."""
    return {name: environment[name] for name in LOG_IN_VARIABLES if environment.get(name)}


def log_in_with(section: Mapping[str, str]) -> None:
    """Take over what `log_in_section` of the process that started this one has given.

    The system goes on showing the environment that this process was started with.
    """
    os.environ.update(section)
