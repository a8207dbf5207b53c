"""Messages fit whoever reads them: in Python they name no option of a command, and a command adds its own."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import imgsyncfs
from imgsyncfs import errors
from imgsyncfs.cli import main
from imgsyncfs.errors import ConfigurationError, ConvertError, ImgsyncfsError
from imgsyncfs.workers.pool import restore_error
from imgsyncfs.workers.process import describe_error

PACKAGE = Path(imgsyncfs.__file__).parent

COMMANDS_ALONE = ("cli", "mount")
"""What nobody reaches but through a command."""

OPTION = re.compile(r"(?<![\w-])--[a-z]")

NAMES_BOTH = ("connect(", "imgsyncfs init --store", "imgsyncfs init --adopt", "imgsyncfs init --example")
"""What a message has that says what to do in Python as well, or names a whole command."""


def messages_of_errors(source: Path) -> Iterator[str]:
    """The texts in a module that are raised, or that an error is made of."""
    kinds = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, ImgsyncfsError)}
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {*kinds, "FileUnusable"}:
            texts = [each.value for each in ast.walk(node) if isinstance(each, ast.Constant)]
            yield "".join(text for text in texts if isinstance(text, str))


def test_no_error_that_python_code_meets_names_an_option_of_a_command() -> None:
    found = [
        f"{source.relative_to(PACKAGE)}: {message}"
        for source in PACKAGE.rglob("*.py")
        if source.relative_to(PACKAGE).parts[0] not in COMMANDS_ALONE
        for message in messages_of_errors(source)
        if OPTION.search(message) and not any(each in message for each in NAMES_BOTH)
    ]
    assert found == []


def test_a_command_adds_what_the_option_is_called_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "ImageSynchronizer_annotation").symlink_to(tmp_path)
    monkeypatch.setattr("sys.argv", ["imgsyncfs", "convert", str(folder), "--to", "labelme"])
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().err.endswith("choose another folder for the new files: add --output DIR.\n")


def test_an_error_of_a_worker_keeps_the_option() -> None:
    error = restore_error(describe_error(ConvertError("nothing; choose another folder.", option="output")))
    assert isinstance(error, ConvertError)
    assert (str(error), error.option) == ("nothing; choose another folder.", "output")


def test_a_timeout_that_makes_no_sense_is_named_as_in_python(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^timeout takes a number of seconds above 0, not '-1'"):
        imgsyncfs.connect(str(tmp_path / "catalog.db"), timeout=-1, cache_dir=tmp_path / "cache")
