"""The directories above the datasets' files, and what the kernel is told when they change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from imgsyncfs.catalog.mirror import DatasetTable
from imgsyncfs.catalog.rows import DatasetRow
from imgsyncfs.library.numbers import ROOT, dataset_number
from imgsyncfs.library.tree import Tree, build_tree

CONTROL = (b".imgsyncfs", 3 << 61)


def row(name: str, *, image_type: str = "rgb", updated_at: int = 5) -> DatasetRow:
    return DatasetRow(name, "1.0.0", image_type, ("person",), (), ("bbox",), 1, "", "file:///data", 1, updated_at)


def tree_of(
    rows: Iterable[DatasetRow],
    *,
    views: Mapping[bytes, Mapping[bytes, int] | None] = MappingProxyType({}),
    is_complete: bool = True,
) -> Tree:
    rows = list(rows)
    known = {each.dataset_id: each for each in rows}
    table = DatasetTable(known, known, {}, (), "id", "digest", max(each.updated_at for each in rows), 1.0, "file:///d")
    numbered = {each.dataset_id.encode(): (dataset_number(place), each) for place, each in enumerate(rows, 1)}
    return build_tree(table, numbered, views=views, control=CONTROL, since=1, is_complete=is_complete)


def at(tree: Tree, path: str) -> int:
    """The number of the node at a path."""
    number = ROOT
    for name in filter(None, path.split("/")):
        number = tree.nodes[number].children[name.encode()]
    return number


def test_every_dataset_is_at_the_root_and_below_its_values() -> None:
    tree = tree_of([row("a"), row("b", image_type="fisheye360")])
    assert {*tree.nodes[ROOT].children} == {
        b".imgsyncfs",
        b".views",
        b".selections",
        b".by",
        b".subscriptions",
        b"a",
        b"b",
    }
    assert at(tree, "a") == dataset_number(1)
    link = tree.nodes[at(tree, ".by/image_type/fisheye360/b")]
    assert link.target == b"../../../b"
    assert b"a" not in tree.nodes[at(tree, ".by/image_type/fisheye360")].children


def test_a_view_shows_every_dataset_and_one_that_the_root_shows_leads_there() -> None:
    tree = tree_of([row("a"), row("b")], views={b"labelme": {b"a": 7 << 44, b"b": 8 << 44}, b"plain": None})
    assert at(tree, ".views/labelme/b") == 8 << 44
    assert tree.nodes[8 << 44].parent == at(tree, ".views/labelme")
    assert tree.nodes[at(tree, ".views/plain")].target == b".."


def test_a_tree_is_the_same_in_another_process() -> None:
    for is_complete in (True, False):
        tree = tree_of([row("a"), row("b")], is_complete=is_complete)
        other = Tree.from_bytes(tree.to_bytes())
        assert other.is_complete == is_complete
        assert {number: node._replace(children=dict(node.children)) for number, node in other.nodes.items()} == {
            number: node._replace(children=dict(node.children)) for number, node in tree.nodes.items()
        }


def test_without_what_is_below_the_hidden_directories_all_else_has_the_same_number() -> None:
    short, whole = (tree_of([row("a"), row("b")], is_complete=each) for each in (False, True))
    assert short.nodes.keys() < whole.nodes.keys()
    assert short.nodes[ROOT].children == whole.nodes[ROOT].children
    assert not short.nodes[at(short, ".by")].children


def test_nothing_is_told_of_what_has_not_changed() -> None:
    changes = tree_of([row("a"), row("b")]).changes_from(tree_of([row("a"), row("b")]))
    assert (changes.entries, changes.nodes) == ((), ())


def test_names_that_came_went_or_lead_elsewhere_are_told() -> None:
    before = tree_of([row("a"), row("b")])
    after = tree_of([row("a"), row("b", image_type="dewarp", updated_at=9), row("c")])
    changes = after.changes_from(before)
    assert (ROOT, b"c") in changes.entries
    assert (at(before, ".by/image_type"), b"dewarp") in changes.entries
    assert (at(before, ".by/image_type/rgb"), b"b") in changes.entries
    assert (at(before, ".by/image_type/rgb"), b"a") not in changes.entries
    assert (ROOT, b"b") not in changes.entries
    assert {ROOT, dataset_number(2)} <= {*changes.nodes}
    assert dataset_number(1) not in changes.nodes


def test_a_publish_leaves_links_and_their_directories_as_they_were() -> None:
    before = tree_of([row("a"), row("b")])
    changes = tree_of([row("a"), row("b", updated_at=9)]).settled(before).changes_from(before)
    assert changes.entries == ()
    assert {*changes.nodes} == {ROOT, dataset_number(2)}


def test_a_directory_of_links_has_another_time_when_a_link_came_and_all_others_keep_theirs() -> None:
    before = tree_of([row("a")])
    after = tree_of([row("a"), row("b", image_type="dewarp", updated_at=9)]).settled(before)
    times = {
        path: after.nodes[at(after, f".by/{path}")].modified_at for path in ("image_type", "image_type/rgb", "source")
    }
    assert times == {"image_type": 9, "image_type/rgb": 5, "source": 9}
    assert after.nodes[at(after, ".by/image_type/rgb/a")].modified_at == 5


def test_looking_below_the_hidden_directories_for_the_first_time_changes_nothing_above() -> None:
    short = tree_of([row("a")], is_complete=False)
    later = tree_of([row("a", updated_at=9)], is_complete=False).settled(short)
    whole = tree_of([row("a", updated_at=9)]).settled(later)
    assert whole.nodes[at(whole, ".by")].modified_at == short.nodes[at(short, ".by")].modified_at
    assert whole.nodes[at(whole, ".by/image_type/rgb/a")].modified_at == 9
