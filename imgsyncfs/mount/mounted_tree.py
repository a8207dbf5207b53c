"""The tree that a mount shows above the datasets' files, and the numbers of the directories that show datasets.

A branch of it is made when somebody first looks into it, and kept right from then on; what nobody has looked into costs
nothing at a refresh.

To make a change takes long and needs no lock that answering needs: `branches_to`, `opening`, `renewal`, `renew` and
`save` are called by one thread at a time (`Namespace._making`). A change is made known by `take`, under
`Namespace._lock`, as is all that reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress

from imgsyncfs.library.branches import (
    SELECTIONS_NAME,
    VIEWS_NAME,
    Branches,
    Path,
    branches_above,
    directory_number,
    place_in,
)
from imgsyncfs.library.control_files import CONTROL_NUMBER
from imgsyncfs.library.dataset_numbers import DatasetNumbers, Place
from imgsyncfs.library.library import Library
from imgsyncfs.library.nodes import CONTROL_NAME
from imgsyncfs.library.numbers import NAMED, ROOT, address, dataset_number
from imgsyncfs.library.tree import Told, Tree, TreeChange

NUMBERS_FILE = "numbers.json"

_VIEWS = directory_number((VIEWS_NAME,))
_SELECTIONS = directory_number((SELECTIONS_NAME,))


class MountedTree:
    """The tree of a mount; at first there is the root alone, with what is in it.

    Args:
        library: the catalog's datasets.
        view: name of the view that the root shows; empty for the datasets' own directories.
        since: the Unix time that directories show if there is no dataset.
    """

    def __init__(self, library: Library, *, view: str, since: int) -> None:
        self._library = library
        self._view = view
        self._since = since
        self._numbers = DatasetNumbers(library.mirror.folder / NUMBERS_FILE)
        self._tree = Tree()
        self._made: list[tuple[int, Place]] = []
        self._places: dict[int, Place] = {}
        self._by_place: dict[Place, int] = {}
        self.take(self.renewal())
        self.save()

    # Under `Namespace._lock`.

    def take(self, change: TreeChange) -> None:
        """Show a change. Needs both locks."""
        self._tree.take(change)
        for number, place in self._made:
            self._places[number] = place
            self._by_place[place] = number
        self._made = []

    def whole(self) -> TreeChange:
        """The change that makes an empty tree this one."""
        return self._tree.whole()

    def has_dataset(self, number: int) -> bool:
        """Whether a name leads to a dataset, by its number."""
        return dataset_number(number) in self._tree.nodes

    def place(self, number: int) -> Place | None:
        """What the directory of a dataset shows, or has shown, by the dataset's number; None if it is unknown."""
        return self._places.get(number)

    def is_current(self, number: int) -> bool:
        """Whether a dataset's number is that of its place; another may have taken its place."""
        place = self._places.get(number)
        return place is not None and self._by_place.get(place) == number

    def forget(self, number: int) -> None:
        """Forget a dataset's number: nobody may look into the place of this name by the old one."""
        self._places.pop(number, None)

    def path_to(self, number: int) -> str:
        """The path of a directory or link, within the mount; empty if there is none."""
        with suppress(KeyError):
            return b"/".join(self._tree.path(number)).decode()
        return ""

    def counts(self) -> tuple[int, list[str]]:
        """How many nodes there are, and the paths of the branches that somebody has looked into."""
        return len(self._tree.nodes), sorted(map(self.path_to, self._tree.opened))

    # By one thread at a time.

    def told(self, change: TreeChange) -> Told:
        """What the kernel must be told of a change that is not shown yet."""
        return self._tree.told(change)

    def branches_to(self, number: int) -> Iterator[int]:
        """The branches to open, one after the other, until a node is there, and what is in it.

        The kernel has numbers from a mount alone, but whoever exports it over NFS remembers those of the mount before.

        Args:
            number: of the node.
        """
        tree = self._tree
        if number not in tree.nodes and number & NAMED:
            while number not in tree.nodes:
                # Neither a view nor the selections have named nodes in them.
                other = next((each for each in tree.unopened if each != _SELECTIONS and not self._is_view(each)), None)
                if other is None:
                    return
                yield other
        elif number not in tree.nodes:
            place = Place.of(self._numbers.name(address(number).dataset))
            yield from (each for each in branches_above(place) if each in tree.unopened)
        if number in tree.unopened:
            yield number

    def is_open(self, number: int) -> bool:
        """Whether a node is there, and what is in it is known."""
        return self._tree.is_open(number)

    def opening(self, branch: int) -> TreeChange:
        """The change that opens a branch, by its number."""
        return self._noted(self._tree.opening(branch, self._branches().inside(self._tree.path(branch))))

    def renewal(self) -> TreeChange:
        """The change that makes all that is open what the catalog says now."""
        return self._noted(self._tree.change_to(self._branches().all(self._tree.is_open)))

    def renew(self, number: int) -> None:
        """Give the place of a dataset another number with the next `renewal`, by its present one."""
        self._numbers.renew(self._places[number].name)

    def save(self) -> None:
        """Keep the numbers for the next mount."""
        self._numbers.save()

    def _noted(self, change: TreeChange) -> TreeChange:
        """The same change; what is in it of directories that show datasets is noted for `take`."""
        paths: dict[int, Path] = {ROOT: ()}
        self._made = []
        for number, node in change.nodes.items():
            if number != ROOT and not number & NAMED:
                if node.parent not in paths:
                    paths[node.parent] = self._tree.path(node.parent)
                self._made.append((address(number).dataset, place_in(paths[node.parent], node.name, self._view)))
        return change

    def _is_view(self, number: int) -> bool:
        return self._tree.nodes[number].parent == _VIEWS

    def _branches(self) -> Branches:
        library = self._library
        return Branches(
            library.mirror.table,
            library.datasets,
            library.selections,
            self._view,
            (CONTROL_NAME, CONTROL_NUMBER),
            self._since,
            self._number,
        )

    def _number(self, view: str, dataset_ids: Iterable[str]) -> list[int]:
        """The node numbers of directories that show datasets in a view."""
        return [*map(dataset_number, self._numbers.of(Place.names(view, dataset_ids)))]
