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
from typing import NamedTuple

import orjson

from imgsyncfs.catalog.listing_folder import UNFINISHED
from imgsyncfs.library.numbers import MOST_DATASETS
from imgsyncfs.settings.private_folders import read_own_file

logger = logging.getLogger(__name__)


class Place(NamedTuple):
    """A directory that shows a dataset.

    Attributes:
        dataset_id: which one.
        view: name of the view that it is shown in; empty for the dataset's own directory.
    """

    dataset_id: str
    view: str = ""

    @property
    def name(self) -> str:
        """The name that its number is kept under; no dataset's id has a slash."""
        [name] = self.names(self.view, [self.dataset_id])
        return name

    @staticmethod
    def names(view: str, dataset_ids: Iterable[str]) -> Iterable[str]:
        """The names of several places in a view."""
        return (f"{view}/{dataset_id}" for dataset_id in dataset_ids) if view else dataset_ids

    @classmethod
    def of(cls, name: str) -> Place:
        """The place whose number is kept under a name."""
        view, _, dataset_id = name.rpartition("/")
        return cls(dataset_id, view)


class DatasetNumbers:
    """Gives the places of datasets their numbers. For one thread at a time.

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
        self._is_saved = True

    def of(self, names: Iterable[str]) -> list[int]:
        """The numbers of places by their names; those that have none get one."""
        return [self._numbers.get(name) or self._give(name) for name in names]

    def renew(self, name: str) -> int:
        """Give a place another number: its files' numbers have begun anew."""
        return self._give(name)

    def name(self, number: int) -> str:
        """The name of the place that has a number, from this mount or an earlier one; empty if there is none."""
        return next((name for name, given in self._numbers.items() if given == number), "")

    def _give(self, name: str) -> int:
        number = next(self._gaps, 0)
        if not number:
            self._highest = number = self._highest + 1
        if number > MOST_DATASETS:
            raise OverflowError(f"more than {MOST_DATASETS} datasets")
        self._numbers[name] = number
        self._is_saved = False
        return number

    def save(self) -> None:
        """Keep the numbers for the next mount, if any were given since."""
        if self._is_saved:
            return
        self._is_saved = True
        temporary = self._path.with_name(f"{UNFINISHED}{self._path.name}.{os.getpid()}.{threading.get_native_id()}")
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
