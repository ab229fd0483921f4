"""Print docs/command.md, the page that lists every subcommand of ``twinscope`` with its options.

The text comes from the argument parsers.

python docs/command_page.py > docs/command.md
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from twinscope_client.cli.main import _parser as command_parser

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD = """# The command

`make reference` generates this page from the code of the command. A test checks that the page is up to date.
`twinscope COMMAND --help` prints the same text.

TARGET is the folder of a store or the address of a server: `grpc://host:port`, or `grpcs://host:port` with TLS.

| exit code | meaning |
| ---: | --- |
| 0 | the command succeeded |
| 1 | the command failed |
| 2 | the arguments of the command were wrong |
| 3 | the command finished, but it could not read some inputs; it lists these inputs (not with `--fail-on never`) |
| 4 | the command finished, but a person must review some images (only with `--fail-on review`) |
| 130 | the user stopped the command with Ctrl-C |

The command prints results to standard output. It prints messages for people to standard error.

"""


def page() -> str:
    """Return the page as Markdown."""
    commands = list(_commands(command_parser()))
    contents = "".join(f"| [`{parser.prog}`](#{_anchor(parser.prog)}) | {_cell(text)} |\n" for parser, text in commands)
    sections = "".join(_section(parser, 2) for parser, _ in commands)
    return f"{HEAD}| command | what it does |\n| --- | --- |\n{contents}{sections}"


def _commands(parser: argparse.ArgumentParser) -> Iterator[tuple[argparse.ArgumentParser, str]]:
    """Yield each subcommand of a parser, and the line of help for the subcommand."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            yield from ((sub, helps[name]) for name, sub in action.choices.items())


def _section(parser: argparse.ArgumentParser, level: int) -> str:
    actions = [action for action in parser._actions if action.help != argparse.SUPPRESS and action.dest != "help"]
    shown = [action for action in actions if not isinstance(action, argparse._SubParsersAction)]
    usage = " ".join((parser.prog, *map(_usage, sorted(shown, key=_is_optional, reverse=True))))
    text = f"\n{'#' * level} {parser.prog}\n\n```text\n{_wrapped(usage)}\n```\n"
    if parser.description:
        text += f"\n{_prose(parser.description)}\n"
    for group in parser._action_groups:
        rows = [action for action in group._group_actions if action in shown]
        if rows:
            title = "" if group.title in {"positional arguments", "options"} else f"{_capital(group.title or '')}:\n\n"
            text += f"\n{title}| {_kind(rows)} | meaning |\n| --- | --- |\n" + "".join(map(_row, rows))
    for sub, help_line in _commands(parser):
        sub.description = sub.description or f"{_capital(help_line)}."
        text += _section(sub, level + 1)
    return text


def _is_optional(action: argparse.Action) -> bool:
    return bool(action.option_strings)


def _kind(actions: list[argparse.Action]) -> str:
    return "option" if _is_optional(actions[0]) else "argument"


def _row(action: argparse.Action) -> str:
    return f"| {_code(_names(action))} | {_cell(_help(action))} |\n"


def _names(action: argparse.Action) -> str:
    value = _value(action)
    if not action.option_strings:
        return value
    return ", ".join(action.option_strings) + (f" {value}" if value else "")


def _value(action: argparse.Action) -> str:
    """Return the placeholder for the value of an argument. If the argument takes no value, return an empty text."""
    if action.nargs == 0 or isinstance(action, argparse.BooleanOptionalAction):
        return ""
    if action.metavar is not None:
        return str(action.metavar)
    if action.choices is not None:
        return "|".join(map(str, action.choices))
    return action.dest.upper() if _is_optional(action) else action.dest


def _usage(action: argparse.Action) -> str:
    value = _value(action)
    if not _is_optional(action):
        return {"+": f"{value}...", "?": f"[{value}]", "*": f"[{value}...]"}.get(str(action.nargs), value)
    text = f"{action.option_strings[0]} {value}".rstrip()
    return text if action.required else f"[{text}]"


def _help(action: argparse.Action) -> str:
    """Return the help text of an argument. Leave out default values that depend on the machine."""
    if action.dest == "workers" and isinstance(action.help, str):
        head, found, _ = action.help.partition(" (default: ")
        return f"{head} (default: one per core)" if found else action.help
    text = action.help or ""
    return text % {**vars(action), "prog": "twinscope"} if "%(" in text else text.replace("%%", "%")


def _wrapped(usage: str) -> str:
    """Break a usage line into lines of at most 78 characters. Break only between two arguments."""
    lines = [""]
    for word in usage.replace("[", "\x00[").replace(" --", " \x00--").split("\x00"):
        if len(lines[-1]) + len(word) > 78:
            lines.append("    ")
        lines[-1] += word
    return "\n".join(line.rstrip() for line in lines)


def _prose(text: str) -> str:
    """Return a description as Markdown. Indented blocks become code blocks; all other blocks become paragraphs."""
    blocks = text.strip("\n").split("\n\n")
    return "\n\n".join(
        f"```text\n{block}\n```" if block.startswith(" ") else _escaped(block.strip()) for block in blocks
    )


def _code(text: str) -> str:
    """Return a piece of code as the text of a table cell.

    The character | becomes an HTML entity, because some Markdown programs do not accept it in code, even if escaped.
    """
    return f"<code>{text.replace('|', '&#124;')}</code>" if "|" in text else f"`{text}`"


def _cell(text: str) -> str:
    return _escaped(" ".join(text.split())).replace("|", "\\|")


def _escaped(text: str) -> str:
    return text.replace("<", "&lt;").replace("*", "\\*")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _anchor(title: str) -> str:
    return title.replace(" ", "-")


if __name__ == "__main__":
    sys.stdout.write(page())
