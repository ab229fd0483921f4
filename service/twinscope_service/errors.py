"""Exceptions of the service, in addition to those of the indexer; `twinscope_client.errors` lists all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from twinscope_indexer.errors import TwinscopeError

if TYPE_CHECKING:
    from collections.abc import Iterable


class CalibrationError(TwinscopeError):
    """A calibration cannot be computed from the available images, or a stored calibration cannot be used."""


class GenerationError(TwinscopeError):
    """A generation of the store was not published in time.

    Attributes
    ----------
    wanted : int
        The requested generation.
    newest : int
        The newest published generation.
    """

    def __init__(self, wanted: int, newest: int) -> None:
        super().__init__(f"generation {wanted} is not published yet; the newest is {newest}. Try again later.")
        self.wanted = wanted
        self.newest = newest


class OptionError(TwinscopeError, ValueError):
    """An option of a search, a connection or a run is unknown, misspelt, out of range, or does not fit the others."""

    @classmethod
    def unknown(cls, kind: str, name: str, known: Iterable[str]) -> Self:
        """Return the error for an unknown name; its message suggests the closest known name and lists all of them.

        Parameters
        ----------
        kind : str
            What is named, such as ``option``.
        name : str
        known : iterable of str
        """
        from difflib import get_close_matches

        names = sorted(known)
        near = get_close_matches(name, names, 1)
        suggestion = f" Did you mean {near[0]!r}?" if near else ""
        return cls(f"there is no {kind} {name!r}.{suggestion} Known: {', '.join(names)}")


class SettingsError(TwinscopeError):
    """The settings of a server, or of a connection to one, contradict each other or cannot be used."""
