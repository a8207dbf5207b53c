"""The directories above the datasets' files, made when somebody looks, and what the kernel is told when they change."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from imgsyncfs.catalog.mirror import DatasetTable
from imgsyncfs.catalog.rows import DatasetLabelsRow, DatasetRow, SubscriptionRow
from imgsyncfs.library.branches import BY_COLUMNS, Branches, branches_above, directory_number, place_in
from imgsyncfs.library.dataset_numbers import Place
from imgsyncfs.library.numbers import ROOT, dataset_number
from imgsyncfs.library.tree import Told, Tree, TreeChange
from imgsyncfs.library.views.registry import VIEWS

CONTROL = (b".imgsyncfs", 3 << 61)
HIDDEN = {".imgsyncfs", ".views", ".selections", ".by", ".subscriptions"}
LABELS = DatasetLabelsRow("faces", "1.0.0", (), {"Gender": ("Female", "Male")})


def row(name: str, *, image_type: str = "rgb", updated_at: int = 5) -> DatasetRow:
    return DatasetRow(name, "1.0.0", image_type, ("person",), (), ("bbox",), 1, "", "file:///data", 1, updated_at)


class Catalog:
    """What a tree is made of; a place keeps its number from one state of the rows to the next."""

    def __init__(self, *rows: DatasetRow, **columns: Any) -> None:
        self.numbers: dict[tuple[str, str], int] = {}
        self.put(*rows, **columns)

    def put(
        self, *rows: DatasetRow, view: str = "", selections: Iterable[str] = (), subscriptions: Iterable[str] = ()
    ) -> None:
        """Have other rows. A subscription has the datasets of the image type of its name."""
        known = {each.dataset_id: each for each in rows}
        table = DatasetTable(
            known,
            known,
            {name: SubscriptionRow(name, (), (f"image_type={name}",), 1) for name in subscriptions},
            (),
            "id",
            "digest",
            max((each.updated_at for each in rows), default=0),
            1.0,
            "file:///d",
            labels={each: LABELS for each in known if each.startswith("faces")},
        )
        self.branches = Branches(
            table,
            {name.encode(): each for name, each in known.items()},
            {f"@{name}".encode(): row(f"@{name}") for name in selections},
            view,
            CONTROL,
            1,
            self.number,
        )

    def number(self, view: str, dataset_ids: Iterable[str]) -> list[int]:
        places = [(view, dataset_id) for dataset_id in dataset_ids]
        return [dataset_number(self.numbers.setdefault(place, len(self.numbers) + 1)) for place in places]


def tree_of(catalog: Catalog) -> Tree:
    tree = Tree()
    renew(tree, catalog)
    return tree


def renew(tree: Tree, catalog: Catalog) -> Told:
    """Have a tree be what the catalog says; returns what the kernel must be told."""
    change = tree.change_to(catalog.branches.all(tree.is_open))
    told = tree.told(change)
    tree.take(change)
    return told


def look(tree: Tree, catalog: Catalog, *paths: str) -> None:
    """Look into branches, and into those above them."""
    for path in paths:
        names = path.encode().split(b"/")
        for length in range(1, len(names) + 1):
            branch = directory_number(tuple(names[:length]))
            if branch in tree.unopened:
                tree.take(tree.opening(branch, catalog.branches.inside(tuple(names[:length]))))


def looked_at(catalog: Catalog, *paths: str) -> Tree:
    """A tree of whose branches some are open."""
    tree = tree_of(catalog)
    look(tree, catalog, *paths)
    return tree


EVERYTHING = (
    ".selections",
    *(f".by/{column}" for column in BY_COLUMNS),
    ".subscriptions/rgb",
    ".subscriptions/dewarp",
    ".views/labelme",
    ".views/yolo",
    ".views/imagefolder",
)


def at(tree: Tree, path: str) -> int:
    """The number of the node at a path."""
    number = ROOT
    for name in filter(None, path.split("/")):
        number = tree.children(number)[name.encode()]
    return number


def names(tree: Tree, path: str) -> set[str]:
    """The names in a directory."""
    return {name.decode() for name in tree.children(at(tree, path))}


def state(tree: Tree) -> tuple[object, ...]:
    """All that a tree says, the order of names included."""
    return dict(tree.nodes), tree.unopened, {number: [*tree.children(number).items()] for number in tree.nodes}


def test_every_dataset_is_at_the_root_and_below_its_values() -> None:
    tree = looked_at(Catalog(row("a"), row("b", image_type="fisheye360")), ".by/image_type")
    assert names(tree, "") == {*HIDDEN, "a", "b"}
    link = tree.nodes[at(tree, ".by/image_type/fisheye360/b")]
    assert link.target == b"../../../b"
    assert names(tree, ".by/image_type/fisheye360") == {"b"}


def test_a_view_shows_every_dataset_and_selection_and_one_that_the_root_shows_leads_there() -> None:
    catalog = Catalog(row("a"), row("b"), view="plain", selections=["people"])
    tree = looked_at(catalog, ".views/labelme", ".views/plain")
    assert names(tree, ".views/labelme") == {"a", "b", "@people"}
    assert at(tree, ".views/labelme/b") != at(tree, "b")
    assert tree.nodes[at(tree, ".views/plain")].target == b".."
    assert names(tree, "") == {*HIDDEN, "a", "b"}


def test_nothing_is_there_below_the_hidden_directories_before_somebody_looks() -> None:
    tree = tree_of(Catalog(row("a"), row("b"), selections=["people"], subscriptions=["rgb"]))
    assert len(tree.nodes) == 1 + len(HIDDEN) + 2
    assert not any(names(tree, hidden) for hidden in HIDDEN)


@pytest.mark.parametrize(
    ("branch", "inside"),
    [
        (".selections", {"people"}),
        (".by", {*BY_COLUMNS}),
        (".subscriptions", {"rgb", "dewarp"}),
        (".views", {*VIEWS, "imagefolder:Gender"}),
    ],
)
def test_looking_into_a_hidden_directory_makes_what_is_in_it_and_nothing_else(branch: str, inside: set[str]) -> None:
    catalog = Catalog(row("a"), row("faces"), selections=["people"], subscriptions=["rgb", "dewarp"])
    tree = tree_of(catalog)
    before = len(tree.nodes)
    look(tree, catalog, branch)
    assert names(tree, branch) == inside
    assert len(tree.nodes) == before + len(inside)


@pytest.mark.parametrize(
    ("branch", "inside"),
    [
        (".views/yolo", {"a", "b", "@people"}),
        (".by/image_type", {"rgb", "rgb/a", "dewarp", "dewarp/b"}),
        (".subscriptions/rgb", {"a"}),
    ],
)
def test_looking_into_a_view_a_column_or_a_subscription_makes_that_one_alone(branch: str, inside: set[str]) -> None:
    catalog = Catalog(row("a"), row("b", image_type="dewarp"), selections=["people"], subscriptions=["rgb", "dewarp"])
    tree = looked_at(catalog, branch.partition("/")[0])
    before = len(tree.nodes)
    look(tree, catalog, branch)
    assert len(tree.nodes) == before + len(inside)
    assert all(at(tree, f"{branch}/{path}") for path in inside)


def test_a_view_for_a_label_shows_the_datasets_that_have_it() -> None:
    tree = looked_at(Catalog(row("a"), row("faces")), ".views/imagefolder:Gender")
    assert names(tree, ".views/imagefolder:Gender") == {"faces"}


def test_a_tree_is_the_same_in_another_process_however_it_came_there() -> None:
    catalog = Catalog(row("c"), row("b"), selections=["people"], subscriptions=["rgb"])
    tree, follower = Tree(), Tree()

    def take(change: TreeChange) -> None:
        tree.take(change)
        follower.take(TreeChange.from_bytes(change.to_bytes()))

    take(tree.change_to(catalog.branches.all(tree.is_open)))
    for path in (b".views", b".views/yolo", b".by", b".by/image_type"):
        names = tuple(path.split(b"/"))
        take(tree.opening(directory_number(names), catalog.branches.inside(names)))
    catalog.put(row("a"), row("c", image_type="dewarp", updated_at=9))
    take(tree.change_to(catalog.branches.all(tree.is_open)))
    late = Tree()
    late.take(TreeChange.from_bytes(tree.whole().to_bytes()))
    assert state(follower) == state(tree) == state(late)
    assert all([*tree.children(number)] == sorted(tree.children(number)) for number in tree.nodes)


def test_a_tree_that_was_renewed_has_what_one_made_anew_has() -> None:
    catalog = Catalog(row("a"), row("b"), selections=["people", "dogs"], subscriptions=["rgb"])
    tree = looked_at(catalog, *EVERYTHING)
    catalog.put(row("b", image_type="dewarp"), row("faces"), selections=["cats"], subscriptions=["dewarp", "rgb"])
    renew(tree, catalog)
    look(tree, catalog, *EVERYTHING)
    made = looked_at(catalog, *EVERYTHING)
    assert tree.nodes.keys() == made.nodes.keys()
    assert [tree.children(number) for number in tree.nodes] == [made.children(number) for number in tree.nodes]


def test_nothing_is_told_of_what_has_not_changed() -> None:
    catalog = Catalog(row("a"), row("b"))
    tree = looked_at(catalog, *EVERYTHING)
    assert renew(tree, catalog) == Told((), ())


def test_names_that_came_went_or_lead_elsewhere_are_told() -> None:
    catalog = Catalog(row("a"), row("b"))
    tree = looked_at(catalog, ".by/image_type", ".views/yolo")
    by, rgb, yolo = (at(tree, path) for path in (".by/image_type", ".by/image_type/rgb", ".views/yolo"))
    catalog.put(row("a"), row("b", image_type="dewarp", updated_at=9), row("c"))
    told = renew(tree, catalog)
    assert {*told.entries} == {(ROOT, b"c"), (yolo, b"c"), (by, b"dewarp"), (rgb, b"b"), (rgb, b"c")}
    assert {*told.nodes} == {ROOT, at(tree, "b"), yolo, at(tree, ".views/yolo/b"), by, rgb}


def test_a_place_with_another_number_is_told_as_one_name() -> None:
    catalog = Catalog(row("a"), row("b"))
    tree = looked_at(catalog, ".views/yolo")
    before = at(tree, ".views/yolo/a")
    del catalog.numbers["yolo", "a"]
    catalog.numbers["yolo", "other"] = 0
    catalog.put(row("a", updated_at=9), row("b"))
    told = renew(tree, catalog)
    assert told.entries == ((at(tree, ".views/yolo"), b"a"),)
    assert at(tree, ".views/yolo/a") != before
    assert before not in tree.nodes
    assert tree.nodes[at(tree, ".views/yolo")].modified_at == 5


def test_what_nobody_has_looked_into_is_not_told_and_is_right_when_somebody_does() -> None:
    catalog = Catalog(row("a"), row("b"), selections=["people"])
    tree = looked_at(catalog, ".views")
    before = len(tree.nodes)
    catalog.put(row("b"), row("c"), selections=["dogs"])
    assert {*renew(tree, catalog).entries} == {(ROOT, b"a"), (ROOT, b"c")}
    assert len(tree.nodes) == before
    look(tree, catalog, ".views/yolo", ".selections")
    assert names(tree, ".views/yolo") == {"b", "c", "@dogs"}
    assert names(tree, ".selections") == {"dogs"}


def test_a_branch_that_is_gone_takes_what_is_in_it_along_and_is_not_open_when_it_comes_again() -> None:
    catalog = Catalog(row("a"), row("faces"))
    tree = looked_at(catalog, ".views/imagefolder:Gender")
    view = at(tree, ".views/imagefolder:Gender")
    catalog.put(row("a"))
    told = renew(tree, catalog)
    assert {(at(tree, ".views"), b"imagefolder:Gender"), (view, b"faces")} <= {*told.entries}
    assert view not in {*tree.nodes, *tree.opened}
    catalog.put(row("a"), row("faces"))
    renew(tree, catalog)
    assert view in tree.unopened
    assert not tree.children(view)


def test_a_publish_leaves_links_and_their_directories_as_they_were() -> None:
    catalog = Catalog(row("a"), row("b"), subscriptions=["rgb"])
    tree = looked_at(catalog, *(path for path in EVERYTHING if not path.startswith(".views")))
    catalog.put(row("a"), row("b", updated_at=9), subscriptions=["rgb"])
    told = renew(tree, catalog)
    assert told.entries == ()
    assert {*told.nodes} == {ROOT, at(tree, "b")}


def test_a_directory_of_links_has_another_time_when_a_link_came_and_all_others_keep_theirs() -> None:
    catalog = Catalog(row("a"))
    tree = looked_at(catalog, ".by/image_type", ".by/source")
    catalog.put(row("a"), row("b", image_type="dewarp", updated_at=9))
    renew(tree, catalog)
    times = {
        path: tree.nodes[at(tree, f".by/{path}")].modified_at for path in ("image_type", "image_type/rgb", "source")
    }
    assert times == {"image_type": 9, "image_type/rgb": 5, "source": 9}
    assert tree.nodes[at(tree, ".by/image_type/rgb/a")].modified_at == 5


def test_looking_into_a_branch_changes_nothing_above_it() -> None:
    catalog = Catalog(row("a"))
    tree = tree_of(catalog)
    catalog.put(row("a", updated_at=9))
    renew(tree, catalog)
    before = dict(tree.nodes)
    look(tree, catalog, *EVERYTHING)
    assert before.items() <= tree.nodes.items()
    assert tree.nodes[at(tree, ".by/image_type/rgb/a")].modified_at == 9


def test_what_shows_a_dataset_is_known_by_its_path() -> None:
    catalog = Catalog(row("a"), selections=["people"])
    tree = looked_at(catalog, ".views/yolo", ".selections")
    numbers = {
        dataset_number(number): Place(dataset_id, view) for (view, dataset_id), number in catalog.numbers.items()
    }
    found = {}
    for number, node in tree.nodes.items():
        if number in numbers:
            found[number] = place_in(tree.path(number)[:-1], node.name, "")
            # And what must be opened for it.
            assert [tree.path(each) for each in branches_above(found[number])] == [
                tree.path(number)[:length] for length in range(1, len(tree.path(number)))
            ]
    assert found == numbers
