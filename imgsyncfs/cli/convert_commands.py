"""The command that converts annotation files: convert."""

from __future__ import annotations

from pathlib import Path

import click

from imgsyncfs.cli.common import echo_kinds, exit_if_left_out, from_option, strict_option
from imgsyncfs.cli.progress_bar import ProgressBar
from imgsyncfs.formats.registry import FORMATS, HOUSE
from imgsyncfs.tools.convert.run import ConvertSummary, convert_paths
from imgsyncfs.tools.convert.to_layout import LAYOUT_FORMATS


@click.command("convert")
@click.argument("paths", metavar="PATH...", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--to", required=True, metavar="FORMAT", help=f"{', '.join([*FORMATS, *LAYOUT_FORMATS])} or {HOUSE}.")
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write the new files there; the source is only read. Needed for a mount.",
)
@from_option
@click.option(
    "--classes",
    metavar="LIST",
    default="",
    help="For formats that number classes: the first ones, with commas between. [default: all by name]",
)
@strict_option
def convert_command(
    *, paths: tuple[Path, ...], to: str, output: Path | None, layout: str | None, classes: str, strict: bool
) -> None:
    """Convert the annotations at PATH, files or folders, to the format of a tool, or back.

    For labelme, house annotations move into ImageSynchronizer_annotation and labelme's files take their names;
    --to imagesynchronizer brings them back, with what was edited in labelme or roLabelImg. For roLabelImg, an .xml is
    written beside. For YOLO, x.txt and data.yaml are, and for COCO, CVAT and Hugging Face (hf) a file about all images
    of the folder: _annotations.coco.json, annotations.xml, metadata.jsonl. --to imagesynchronizer takes folders as
    YOLO, COCO, Pascal VOC, DOTA and CVAT have them, too. Interrupted, it goes on where it stopped when it is run again.
    """
    names = [name.strip() for name in classes.split(",") if name.strip()]
    with ProgressBar() as progress:
        summary = convert_paths(
            paths, to=to, output=output, layout=layout, classes=names, strict=strict, progress=progress
        )
    _report(summary)


def _report(summary: ConvertSummary) -> None:
    done = f"{summary.converted:,} annotations converted to {summary.to}"
    click.echo(f"{done}; {summary.already:,} are {summary.to} already." if summary.already else f"{done}.")
    echo_kinds("Not shown", summary.losses)
    echo_kinds("Note", summary.changes)
    for note in summary.notes:
        click.echo(f"Note: {_listed(note.files, note.file_count)}: {note.reason}.", err=True)
    exit_if_left_out(summary.left_out, summary.left_out_count)


def _listed(files: tuple[str, ...], count: int) -> str:
    names = ", ".join(files)
    return f"{count:,} files ({names}, …)" if count > len(files) else f"{count:,} files ({names})"
