"""Call a function for many items in a few threads, and take the results in order."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD = 4
"""Items in the queue for each thread: one slow item at the front leaves no thread idle for long."""


def map_in_order(function: Callable[[Item], Result], items: Iterable[Item], *, threads: int) -> Iterator[Result]:
    """Call a function for each item in a few threads.

    Unlike `concurrent.futures.Executor.map` it takes no more items than it can work on soon, so a million of them cost
    no memory. There is no time limit: a call must end by itself, as reading a file and asking a store do.

    Args:
        function: called in another thread, once for each item.
        items: taken one by one as threads become free.
        threads: how many calls run at once.

    Yields:
        The results in the order of the items. What a call raises is raised here; calls that have not begun are then
        dropped, and those that run are waited for.
    """
    with ThreadPoolExecutor(max_workers=threads) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= threads * _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
