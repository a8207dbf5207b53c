"""The table of datasets: the users' columns, and conditions on them."""

from __future__ import annotations

import csv

import pytest
from support.places import SAMPLES

from imgsyncfs.catalog.dataset_table import matching, to_csv
from imgsyncfs.catalog.rows import DatasetRow
from imgsyncfs.errors import ConfigurationError

SAMPLE = SAMPLES / "datasets.csv"


def sample_rows() -> list[DatasetRow]:
    """The users' own table as rows."""

    def listed(text: str) -> tuple[str, ...]:
        return tuple(text.split(","))

    with SAMPLE.open(newline="") as table:
        return [
            DatasetRow(
                dataset_id=row["dataset_id"],
                label_version=row["label_version"],
                image_type=row["image_type"],
                classes=listed(row["classes"]),
                projects=listed(row["projects"]),
                label_type=listed(row["label_type"]),
                size=int(row["size"]),
                note=row["note"],
                store="",
                revision=1,
                updated_at=0,
            )
            for row in csv.DictReader(table)
        ]


def test_the_users_table_is_written_as_they_have_it() -> None:
    assert to_csv(sample_rows()).decode().splitlines() == SAMPLE.read_text().splitlines()


@pytest.mark.parametrize(
    ("conditions", "count"),
    [
        ((), 22),
        (("image_type=fisheye360",), 8),
        (("image_type=fisheye360", "source=original"), 7),
        (("classes=emotion",), 1),
        (("class=gender", "project=bestbuy"), 1),
        (("label_type=reg",), 1),
        (("size=161",), 1),
        (("note=nothing of the kind",), 0),
    ],
)
def test_conditions_all_hold_and_a_list_matches_by_any_of_its_values(conditions: tuple[str, ...], count: int) -> None:
    assert len(matching(sample_rows(), conditions)) == count


def test_an_unknown_column_is_refused_with_near_ones_even_if_there_are_no_datasets() -> None:
    with pytest.raises(ConfigurationError, match="image_type"):
        matching([], ("imagetype=rgb",))


def test_a_condition_without_a_value_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="COLUMN=VALUE"):
        matching([], ("rgb",))
