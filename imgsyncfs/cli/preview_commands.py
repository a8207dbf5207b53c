"""The command preview: images with their annotations drawn."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from imgsyncfs.cli.common import LEFT_OUT_STATUS
from imgsyncfs.errors import ImgsyncfsError, PreviewError, printable
from imgsyncfs.pictures.marks import DRAWN, mark_text
from imgsyncfs.tools.pairing import annotation_suffix
from imgsyncfs.tools.preview.files import PreviewSource, read_preview_source
from imgsyncfs.tools.preview.picture import PICTURE_FORMATS, preview_source, save_picture


@click.command("preview")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    help="A .png or .jpg file for one FILE; a folder for many. [default: FILE.preview.png, in the current directory]",
)
def preview_command(*, files: tuple[Path, ...], output: str | None) -> None:
    """Draw annotations into their images, to look at them.

    FILE is an image, or an annotation in the house format or a tool's; the other one is found beside
    it. Nothing is written beside FILE unless you are there.
    """
    failures = []
    for path, target in zip(files, output_paths(files, output), strict=True):
        try:
            source = read_preview_source(path)
            _refuse_to_overwrite(source, target)
            save_picture(preview_source(source), target, mark=mark_text(DRAWN, source.image_content))
            click.echo(printable(str(target)))
        except ImgsyncfsError as error:
            failures.append(error)
            if len(files) > 1:
                click.echo(f"imgsyncfs: {error}", err=True)
    if failures and len(files) == 1:
        raise failures[0]
    if failures:
        click.echo(f"{len(failures):,} of {len(files):,} previews could not be made.", err=True)
        sys.exit(LEFT_OUT_STATUS)


def output_paths(files: Sequence[Path], output: str | None) -> list[Path]:
    """Say where each preview goes.

    Args:
        files: what is previewed.
        output: a file (for one of `files`) or a folder, as given; None for the current directory.

    Returns:
        A path for each, all different.

    Raises:
        PreviewError: `output` is a file and there are several, or its ending is none that can be written.
    """
    folder = Path(output or ".")
    # An existing folder may be called anything; one that is to be made is told by having no ending.
    if output and not folder.is_dir() and not output.endswith("/") and folder.suffix:
        if folder.suffix.lower() not in PICTURE_FORMATS:
            endings = ", ".join(PICTURE_FORMATS)
            raise PreviewError(f"{output}: previews are written as {endings}; for a folder, end it with a slash")
        if len(files) > 1:
            raise PreviewError(f"{output} is one file, but there are {len(files)} to preview; name a folder with -o")
        return [folder]
    paths: list[Path] = []
    taken: set[str] = set()
    for path in files:
        # Several FILEs may have one stem: x.json and x.xml, or files of two folders.
        stem = path.name[: -len(annotation_suffix(path.name) or path.suffix) or None]
        wanted = [stem, path.name, *(f"{path.name}.{number}" for number in range(2, len(files) + 2))]
        name = next(each for each in wanted if each not in taken)
        taken.add(name)
        paths.append(folder / f"{name}.preview.png")
    return paths


def _refuse_to_overwrite(source: PreviewSource, target: Path) -> None:
    """Keep a preview from taking the place of what it shows."""
    shown = [source.annotation_path, *([source.image_path] if source.image_path else [])]
    if target.exists() and any(target.samefile(path) for path in shown):
        raise PreviewError(f"{printable(str(target))} is what the preview shows; give the preview another name with -o")
