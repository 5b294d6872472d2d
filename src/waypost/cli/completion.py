"""`waypost completion`: the script with which a shell completes commands and options."""

from __future__ import annotations

import click

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the completion script for a shell.

    \b
    bash:  waypost completion bash > /etc/bash_completion.d/waypost
    zsh:   waypost completion zsh > "${fpath[1]}/_waypost"
    fish:  waypost completion fish > ~/.config/fish/completions/waypost.fish
    """
    from click.shell_completion import get_completion_class

    from waypost.cli import program

    kind = get_completion_class(shell)
    assert kind is not None, "click knows these shells"
    click.echo(kind(program, {}, "waypost", "_WAYPOST_COMPLETE").source())
