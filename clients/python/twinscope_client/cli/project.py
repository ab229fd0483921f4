"""The settings of a project: the file ``twinscope.toml`` and two environment variables.

The variables are ``TWINSCOPE_STORE`` and ``TWINSCOPE_MAX_MEGAPIXELS``. An option of the command overrides the
environment variable, and the environment variable overrides the file. The file is the first one that is found in the
working folder or in a folder above it.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from twinscope_indexer.imaging.limits import BUDGET_VARIABLE, MEGAPIXEL, default_pixel_budget

from twinscope_client.cli.budget_option import BUDGET

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

FILE_NAME: Final = "twinscope.toml"
STORE_VARIABLE: Final = "TWINSCOPE_STORE"
INPUT_DEFAULT: Final = "input_default"
"""Attribute with the inputs of a command if its arguments name none; see `inputs.add_inputs`."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the project file.

    Attributes
    ----------
    about : str
        What the key means.
    commands : tuple of str
        Commands that use the key; empty if each command with a fitting option uses the key.
    kind : str
        ``path``, ``paths``, ``store`` or ``value``. Relative paths start at the folder of the file.
    targets : tuple of str
        Attributes of the parsed arguments that get the value; by default, the attribute with the name of the key.
    """

    about: str
    commands: tuple[str, ...] = ()
    kind: str = "value"
    targets: tuple[str, ...] = ()


_SEARCHING: Final = ("label", "search")
KEYS: Final = {
    "store": Key("folder of the store, or address of a server", kind="store", targets=("at", "store")),
    "collection": Key("SOURCE of index: a path or a list of paths", ("index",), "paths", (INPUT_DEFAULT,)),
    "images": Key("PATH of label: a path or a list of paths", ("label",), "paths", (INPUT_DEFAULT,)),
    "out": Key("output folder of label; report and evaluate read this folder", ("label", "report", "evaluate"), "path",
               ("out", "run_dir")),
    "policy": Key("--policy of label and search", _SEARCHING),
    "thresholds": Key("table with the thresholds of label and search, such as max_p_wrong = 0.01", _SEARCHING),
    "min_grade": Key("--min-grade of label", ("label",)),
    "name": Key("--name of label", ("label",)),
    "link": Key("--link of label", ("label",)),
    "jpeg": Key("--jpeg of label: true or false", ("label",)),
    "sidecar": Key("--sidecar of label: true or false", ("label",)),
    "fail_on": Key("--fail-on of label, index, search, hash and convert"),
    "max_megapixels": Key("--max-megapixels of the commands that read images", targets=(BUDGET,)),
    "workers": Key("--workers of label, index, hash and calibrate", ("label", "index", "hash", "calibrate")),
}  # fmt: skip
"""All keys of the project file."""


@dataclass(frozen=True, slots=True)
class Setting:
    """The value of one key, and where the value comes from."""

    value: Any
    origin: str


def found_file() -> Path | None:
    """Return the project file of the working folder; None if there is no such file."""
    try:
        here = Path.cwd()
    except OSError:  # the working folder was removed
        return None
    return next((folder / FILE_NAME for folder in (here, *here.parents) if os.path.isfile(folder / FILE_NAME)), None)  # noqa: PTH113


def settings() -> dict[str, Setting]:
    """Return the settings that apply in the working folder, by key.

    Raises
    ------
    SettingsError
        If the project file cannot be read, or contains an unknown key or a value of the wrong type, or if the
        environment variable of the pixel budget has a wrong value.
    """
    file = found_file()
    read = {} if file is None else {key: Setting(value, f"file {file}") for key, value in _read(file).items()}
    store = os.environ.get(STORE_VARIABLE, "")
    if store:
        read["store"] = Setting(store, f"environment variable {STORE_VARIABLE}")
    if os.environ.get(BUDGET_VARIABLE, "").strip():
        megapixels = default_pixel_budget() // MEGAPIXEL
        read["max_megapixels"] = Setting(megapixels, f"environment variable {BUDGET_VARIABLE}")
    return read


def defaults(command: str, actions: Iterable[argparse.Action]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the defaults of a command, by attribute of the parsed arguments, and the origin of each used key.

    Parameters
    ----------
    command : str
        Name of the subcommand, such as ``label`` or ``store stats``.
    actions : iterable of Action
        The arguments of the subcommand.

    Raises
    ------
    SettingsError
        If the project file cannot be used, or if a value does not fit the option of the command.
    """
    by_target: dict[str, list[argparse.Action]] = {}
    for action in actions:
        by_target.setdefault(action.dest, []).append(action)
    usable: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for key, setting in settings().items():
        described = KEYS[key]
        if described.commands and command not in described.commands:
            continue
        values = setting.value if key == "thresholds" else dict.fromkeys(described.targets or (key,), setting.value)
        for target, value in values.items():
            if target in by_target:
                _require_fitting(by_target[target][0], key, value, setting.origin)
            elif target != INPUT_DEFAULT:
                continue
            usable[target], origins[key] = value, setting.origin
    return usable, origins


def _read(file: Path) -> dict[str, Any]:
    from twinscope_service.errors import SettingsError

    try:
        document = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        msg = f"project file {file} cannot be read: {error}"
        raise SettingsError(msg) from error
    for key in document:
        if key not in KEYS:
            raise _unknown(file, "key", key, KEYS)
    return {key: _checked(file, key, value) for key, value in document.items()}


def _checked(file: Path, key: str, value: Any) -> Any:
    """Check the type of a value, and return the value; a relative path becomes absolute."""
    from twinscope_service.errors import SettingsError

    kind = KEYS[key].kind
    if key == "thresholds":
        known = _thresholds()
        if not isinstance(value, dict):
            msg = f"project file {file}: thresholds must be a table, such as [thresholds]"
            raise SettingsError(msg)
        for name in value:
            if name not in known:
                raise _unknown(file, "threshold", name, known)
        return value
    texts = value if kind == "paths" and isinstance(value, list) else [value]
    if kind != "value" and not all(isinstance(text, str) and text for text in texts):
        form = "a path or a list of paths" if kind == "paths" else "a path"
        msg = f"project file {file}: {key} must be {form}, got {value!r}"
        raise SettingsError(msg)
    if kind == "value":
        return value
    located = [text if "://" in text else os.path.normpath(file.parent / text) for text in texts]
    return located if kind == "paths" else located[0]


@cache
def _thresholds() -> tuple[str, ...]:
    from twinscope_service.matching.policy import THRESHOLDS

    return tuple(sorted(THRESHOLDS))


def _unknown(file: Path, kind: str, name: str, known: Iterable[str]) -> Exception:
    from difflib import get_close_matches

    from twinscope_service.errors import SettingsError

    near = get_close_matches(name, list(known), 1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return SettingsError(f"project file {file}: there is no {kind} {name!r}.{hint} Known: {', '.join(known)}")


def _require_fitting(action: argparse.Action, key: str, value: Any, origin: str) -> None:
    from twinscope_service.errors import SettingsError

    if action.nargs == 0:
        fits, form = isinstance(value, bool), "true or false"
    elif action.choices is not None:
        fits, form = value in action.choices, f"one of {', '.join(map(str, action.choices))}"
    elif action.type is int:
        fits, form = isinstance(value, int) and not isinstance(value, bool), "a whole number"
    elif action.type is float:
        fits, form = isinstance(value, (int, float)) and not isinstance(value, bool), "a number"
    else:
        fits, form = isinstance(value, str), "a text"
    if not fits:
        name = action.dest if key == "thresholds" else key
        msg = f"{origin}: {name} must be {form}, got {value!r}"
        raise SettingsError(msg)
