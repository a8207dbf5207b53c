"""What a sync did, in numbers and names."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class SyncFailure:
    """A file that could not be copied or removed.

    Attributes:
        path: ``dataset/path``, or the dataset alone if none of it could be had.
        reason: why.
    """

    path: str
    reason: str


@dataclass(frozen=True)
class DatasetSummary:
    """What was done for one dataset.

    Attributes:
        dataset_id: the dataset.
        copied: how many files were copied.
        copied_bytes: their length in all.
        kept: how many files were there already, as the catalog has them.
        changed: paths in the dataset of files that somebody changed in the target, and that were therefore kept.
        removed: how many files were removed, since the catalog no longer has them.
        failed: files that could not be copied or removed.
    """

    dataset_id: str
    copied: int
    copied_bytes: int
    kept: int
    changed: tuple[str, ...]
    removed: int
    failed: tuple[SyncFailure, ...]

    @property
    def files(self) -> int:
        """How many files were looked after: all but the removed ones."""
        return self.copied + self.kept + len(self.changed) + len(self.failed)


@dataclass(frozen=True)
class SyncSummary:
    """What a sync did.

    Attributes:
        datasets: a summary of each dataset, in the order of the work; those that are gone from the catalog and of
            which files were removed come last.
    """

    datasets: tuple[DatasetSummary, ...]

    @property
    def copied(self) -> int:
        """How many files were copied."""
        return sum(dataset.copied for dataset in self.datasets)

    @property
    def copied_bytes(self) -> int:
        """The length in all of the files that were copied."""
        return sum(dataset.copied_bytes for dataset in self.datasets)

    @property
    def kept(self) -> int:
        """How many files were there already, as the catalog has them."""
        return sum(dataset.kept for dataset in self.datasets)

    @property
    def changed(self) -> tuple[str, ...]:
        """``dataset/path`` of the files that somebody changed in the target, and that were therefore kept."""
        return tuple(f"{dataset.dataset_id}/{name}" for dataset in self.datasets for name in dataset.changed)

    @property
    def removed(self) -> int:
        """How many files were removed."""
        return sum(dataset.removed for dataset in self.datasets)

    @property
    def failed(self) -> tuple[SyncFailure, ...]:
        """The files that could not be copied or removed."""
        return tuple(failure for dataset in self.datasets for failure in dataset.failed)


@dataclass
class Tally:
    """Counts what is done for one dataset; see `DatasetSummary`."""

    dataset_id: str
    copied: int = 0
    copied_bytes: int = 0
    kept: int = 0
    removed: int = 0
    changed: list[str] = field(default_factory=list)
    failed: list[SyncFailure] = field(default_factory=list)

    def fail(self, name: str, reason: str) -> None:
        """Note a file that could not be copied or removed; without a name, that it was the dataset as a whole."""
        self.failed.append(SyncFailure(f"{self.dataset_id}/{name}" if name else self.dataset_id, reason))

    def summary(self) -> DatasetSummary:
        """What was counted."""
        return DatasetSummary(
            dataset_id=self.dataset_id,
            copied=self.copied,
            copied_bytes=self.copied_bytes,
            kept=self.kept,
            changed=tuple(self.changed),
            removed=self.removed,
            failed=tuple(self.failed),
        )
