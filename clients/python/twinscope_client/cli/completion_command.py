"""Print a script with which a shell completes the subcommands and options of twinscope.

Add the line of your shell to its start file:

  bash, ~/.bashrc                     eval "$(twinscope completion bash)"
  zsh, ~/.zshrc after compinit        eval "$(twinscope completion zsh)"
  fish, ~/.config/fish/config.fish    twinscope completion fish | source

Example: twinscope completion bash
"""

from __future__ import annotations

import argparse

from twinscope_client.cli.console import DONE, emit

HELP = "print a script for the completion of options in a shell"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand to the parser."""
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell")


def run(parsed: argparse.Namespace) -> int:
    """Run the subcommand, and return the exit code."""
    from argcomplete.shell_integration import shellcode

    emit(shellcode(["twinscope"], shell=parsed.shell))
    return DONE
