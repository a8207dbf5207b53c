"""The command completion: what makes a shell complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

PROGRAM = "imgsyncfs"
VARIABLE = "_IMGSYNCFS_COMPLETE"
"""Which click looks for."""

SHELLS = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion_command(context: click.Context, *, shell: str) -> None:
    """Print what makes SHELL complete commands and options.

    For bash: eval "$(imgsyncfs completion bash)", likewise for zsh; for fish: imgsyncfs completion fish | source. In
    the shell's start-up file it holds for every session.
    """
    completer = get_completion_class(shell)
    if completer is None:
        raise click.UsageError(f"click knows no completion for {shell}; update it with: pip install --upgrade click")
    click.echo(completer(context.find_root().command, {}, PROGRAM, VARIABLE).source())
