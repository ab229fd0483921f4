"""The parser of the command: errors in one line, suggestions for misspelt words, and defaults of the project."""

from __future__ import annotations

import argparse
import os
import re
import sys
from typing import TYPE_CHECKING, Any, Final, NoReturn

from twinscope_client.cli import project
from twinscope_client.cli.console import USAGE, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

COMPLETION: Final = "_ARGCOMPLETE"
"""Environment variable with which argcomplete asks for completions."""

_HELP: Final = {"-h", "--help"}


class StoreName(argparse.Action):
    """An argument that names the store.

    Every command that needs a store has such an option, and some of these commands also have a positional argument.

    Attributes
    ----------
    needed : bool
        Whether the command ends with exit code 2 if neither the arguments nor the project name a store.
    """

    def __init__(self, *arguments: Any, needed: bool = True, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.needed = needed

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        """Record the store. If another argument names another store, end the command with exit code 2."""
        if option is None and (values is None or str(values) == str(self.default)):
            return  # the positional argument was left out
        named = getattr(namespace, "named_store", None)
        if named is not None and named != values:
            parser.error(f"two stores are named: {named} and {values}")
        namespace.named_store = values
        setattr(namespace, self.dest, values)


class CommandParser(argparse.ArgumentParser):
    """A parser of ``twinscope`` or of one of its subcommands."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("allow_abbrev", False)  # a new option must not change the meaning of an old command
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(**options)
        self.set_defaults(parser=self)

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Parse the arguments. If an argument is unknown, end the command with exit code 2."""
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            parsed.parser.refuse(unknown[0])
        return parsed

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Parse the arguments; the project and the environment give the defaults.

        Raises
        ------
        SettingsError
            If the project file cannot be used.
        """
        words = sys.argv[1:] if args is None else list(args)
        command = self.prog.partition(" ")[2]
        if command and not _HELP & set(words) and COMPLETION not in os.environ:
            self._use(*project.defaults(command, self._actions))
        parsed, unknown = super().parse_known_args(words, namespace)
        stores = [action for action in self._actions if isinstance(action, StoreName)]
        if any(action.needed and getattr(parsed, action.dest) is None for action in stores):
            self.error(
                "the store is missing: name it with --at, with the environment variable "
                f"{project.STORE_VARIABLE}, or as 'store' in the file {project.FILE_NAME}"
            )
        return parsed, unknown

    def _use(self, defaults: dict[str, Any], origins: dict[str, str]) -> None:
        self.set_defaults(**defaults, origins=origins)
        for action in self._actions:
            if action.dest in defaults:
                action.required = False

    def refuse(self, argument: str) -> NoReturn:
        """End the command with exit code 2, because an argument is unknown."""
        if not argument.startswith("-"):
            self.error(f"unexpected argument {argument!r}")
        name = argument.partition("=")[0]
        known = [option for action in self._actions for option in action.option_strings]
        if name in known:
            self.error(f"write {name} after the command: {self.prog} {name}")
        self.error(f"there is no option {name}{_suggestion(name, known)}")

    def error(self, message: str) -> NoReturn:
        """Write one line that says what is wrong, and end the command with exit code 2."""
        self.exit(USAGE, f"{self.prog}: {one_line(self._explained(message))} (help: {self.prog} --help)\n")

    def _explained(self, message: str) -> str:
        """Return the message of argparse, with the missing value or the most similar word."""
        choices = next((one.choices for one in self._actions if isinstance(one, argparse._SubParsersAction)), {})
        if message.startswith("the following arguments are required: "):
            missing = [action for action in self._actions if action.required]
            named = set(message.partition(": ")[2].split(", "))
            if choices and named & {"COMMAND", "ACTION"}:
                return f"name what to do: {', '.join(choices)}"
            parts = [_required(one) for one in missing if named & {"/".join(one.option_strings), str(one.metavar)}]
            return "; ".join(parts) or message
        found = re.match(r"argument (?:COMMAND|ACTION): invalid choice: '(.*?)' \(", message)
        if found and choices:
            return (
                f"there is no command {found[1]!r}{_suggestion(found[1], choices) or '; known: ' + ', '.join(choices)}"
            )
        return message.removeprefix("argument ")


def _required(action: argparse.Action) -> str:
    shown = f"{action.option_strings[0]} {action.metavar}" if action.option_strings else str(action.metavar)
    return f"{shown} is missing: {action.help}"


def _suggestion(word: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(word, list(known), 1)
    return f"; did you mean {near[0]}?" if near else ""
