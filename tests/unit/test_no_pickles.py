"""No program text of ours writes or reads a pickle, which runs what it likes when it is read."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest
from support.places import REPOSITORY

PACKAGE = REPOSITORY / "imgsyncfs"

RUNNING = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "pandas.read_pickle"}
"""Modules whose files run code when they are read."""


def faults_in(source: str) -> Iterator[str]:
    """What in a program's text reads a pickle, or could be made to."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (f"{node.lineno}: {name.name}" for name in node.names if name.name in RUNNING)
        elif isinstance(node, ast.ImportFrom) and node.module in RUNNING:
            yield f"{node.lineno}: {node.module}"
        elif isinstance(node, ast.Call):
            name, options = ast.unparse(node.func), {each.arg: ast.unparse(each.value) for each in node.keywords}
            if name in {"np.load", "np.save", "numpy.load", "numpy.save"} and options.get("allow_pickle") != "False":
                yield f"{node.lineno}: {name} without allow_pickle=False"
            if name == "yaml.load" and options.get("Loader") not in {"yaml.BaseLoader", "yaml.SafeLoader"}:
                yield f"{node.lineno}: {name} makes any object"
            if name in {"eval", "exec", "torch.load", "pd.read_pickle", "np.fromregex", "yaml.unsafe_load"}:
                yield f"{node.lineno}: {name}"


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text)",
        "torch.load(path)",
    ],
)
def test_what_reads_a_pickle_is_noticed(source: str) -> None:
    assert [*faults_in(source)]


def test_the_package_reads_and_writes_no_pickle() -> None:
    files = [*PACKAGE.rglob("*.py")]
    assert len(files) > 200
    found = [f"{path.relative_to(PACKAGE)}:{fault}" for path in files for fault in faults_in(path.read_text())]
    assert found == []
