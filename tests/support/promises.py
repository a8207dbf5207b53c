"""What the README promises of a mount, and which tests hold it: `tests/semantics.txt`."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
README = TESTS.parent / "README.md"
TABLE = TESTS / "semantics.txt"
SECTIONS = ("Semantics", "When something goes wrong")

# A sentence ends with a period, which may stand in brackets; another begins with a capital, a bracket or a literal.
_BETWEEN_SENTENCES = re.compile(r"(?<=\.)\s+(?=[A-Z(`])|(?<=\.\))\s+(?=[A-Z`])")


def promised(text: str) -> list[str]:
    """All sentences, and rows of tables, of the sections about what a mount does.

    Args:
        text: the README's.

    Returns:
        Sentences without bold type; the cells of a row that are not empty, divided by " | ".
    """
    found: list[str] = []
    for section in SECTIONS:
        content = text.split(f"\n## {section}\n", 1)[1].split("\n## ", 1)[0]
        for block in re.split(r"\n\n|\n(?=- )", content.strip()):
            if block.startswith("|"):
                # The first two rows are the names of columns and the line below them.
                found += [" | ".join(filter(None, _cells(row))) for row in block.splitlines()[2:]]
            else:
                found += _BETWEEN_SENTENCES.split(" ".join(block.removeprefix("- ").replace("**", "").split()))
    return found


def held() -> dict[str, list[str]]:
    """Each sentence and row of the table, with its tests as ``FILE::FUNCTION``, seen from the folder of the tests."""
    found: dict[str, list[str]] = {}
    sentence = ""
    for line in TABLE.read_text().splitlines():
        if line.startswith("    "):
            found[sentence].append(line.strip())
        elif line and not line.startswith("#"):
            sentence = line
            found[sentence] = []
    return found


def functions_in(file: str) -> set[str]:
    """The names of the test functions of a file; none where it is not there."""
    path = TESTS / file
    if not path.is_file():
        return set()
    return {node.name for node in ast.parse(path.read_bytes()).body if isinstance(node, ast.FunctionDef)}


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip().strip("|").split("|")]
