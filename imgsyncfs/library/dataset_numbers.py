"""The numbers of datasets in node numbers: kept beside the cache, so that the next mount gives them again.

They need to be the same within one mount only; that they last is for programs that remember inode numbers. A number
that was given up is given again by a later mount: the kernel then knows nothing of it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterable
from pathlib import Path

import orjson

from imgsyncfs.library.numbers import MOST_DATASETS
from imgsyncfs.settings.private_folders import read_own_file

logger = logging.getLogger(__name__)


class DatasetNumbers:
    """Gives datasets their numbers. For one thread.

    Args:
        path: of the file that keeps them; its folder must be there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._numbers: dict[str, int] = {}
        with contextlib.suppress(FileNotFoundError):
            try:
                self._numbers = _checked(orjson.loads(read_own_file(path)))
            except FileNotFoundError:
                raise
            except (OSError, ValueError, TypeError, AttributeError) as error:
                logger.warning("The numbers of datasets in %s are damaged and given anew: %s", path, error)
        self._highest = max(self._numbers.values(), default=0)
        taken = {*self._numbers.values()}
        self._gaps = (number for number in range(1, self._highest) if number not in taken)

    def of(self, dataset_ids: Iterable[str]) -> dict[str, int]:
        """The numbers of some datasets; those that have none get one."""
        ids = list(dataset_ids)
        fresh = [dataset_id for dataset_id in ids if dataset_id not in self._numbers]
        for dataset_id in fresh:
            self._give(dataset_id)
        if fresh:
            self._save()
        return {dataset_id: self._numbers[dataset_id] for dataset_id in ids}

    def renew(self, dataset_id: str) -> int:
        """Give a dataset another number: its files' numbers have begun anew."""
        self._give(dataset_id)
        self._save()
        return self._numbers[dataset_id]

    def _give(self, dataset_id: str) -> None:
        number = next(self._gaps, 0)
        if not number:
            self._highest = number = self._highest + 1
        if number > MOST_DATASETS:
            raise OverflowError(f"more than {MOST_DATASETS} datasets")
        self._numbers[dataset_id] = number

    def _save(self) -> None:
        temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}.{threading.get_native_id()}")
        try:
            temporary.write_bytes(orjson.dumps(self._numbers))
            temporary.replace(self._path)
        except OSError as error:
            logger.warning("The numbers of datasets could not be saved: %s", error)


def _checked(found: dict[str, int]) -> dict[str, int]:
    numbers = {str(name): int(number) for name, number in found.items()}
    if len(set(numbers.values())) < len(numbers) or not all(0 < each <= MOST_DATASETS for each in numbers.values()):
        raise ValueError("a number is given twice, or is none")
    return numbers
