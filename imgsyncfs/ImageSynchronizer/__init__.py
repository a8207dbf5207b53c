"""The notebook API of the system that this one follows, under its old names; a thin face over `imgsyncfs.api`.

::

    from imgsyncfs import ImageSynchronizer

    sync = ImageSynchronizer.synchronizer(server, database, username, password)
    sync.datasetsInfo
    sync.subscribe(datasets=["original_20200207_fisheye_rbbox"])
    sync.update_subscription(target_path="./test", amount=50)

Beside it `imgsyncfs.ImageSynchronizer.utils` has ``draw_box``, and `imgsyncfs.ImageSynchronizer.parse_annotation` has
``parse_annotation``. The tables are pandas's, from the extra ``notebook``. New code is better off with
`imgsyncfs.connect`.
"""

from __future__ import annotations

from imgsyncfs.ImageSynchronizer.session import synchronizer

__all__ = ["synchronizer"]
