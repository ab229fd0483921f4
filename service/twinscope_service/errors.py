"""Exceptions of the service; `twinscope_client.errors` lists these exceptions and the exceptions of the indexer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from twinscope_indexer.errors import SettingsError as SettingsError
from twinscope_indexer.errors import TwinscopeError

if TYPE_CHECKING:
    from collections.abc import Iterable


class CalibrationError(TwinscopeError):
    """A calibration cannot be computed from the available images, or a stored calibration cannot be used."""


class GenerationError(TwinscopeError):
    """A requested generation of the store was not published in time.

    Attributes
    ----------
    wanted : int
        Number of the requested generation.
    newest : int
        Number of the newest published generation.
    """

    def __init__(self, wanted: int, newest: int) -> None:
        super().__init__(f"generation {wanted} is not published yet; the newest is {newest}. Try again later.")
        self.wanted = wanted
        self.newest = newest


class OptionError(TwinscopeError, ValueError):
    """An option of a search, connection or run is unknown, misspelt, out of range, or contradicts another option."""

    @classmethod
    def unknown(cls, kind: str, name: str, known: Iterable[str]) -> Self:
        """Return the error for an unknown name.

        The error message suggests the known name that is most similar, and lists all known names.

        Parameters
        ----------
        kind : str
            Kind of the thing that has the name, such as ``option``.
        name : str
            The unknown name.
        known : iterable of str
            All known names.
        """
        from difflib import get_close_matches

        names = sorted(known)
        near = get_close_matches(name, names, 1)
        suggestion = f" Did you mean {near[0]!r}?" if near else ""
        return cls(f"there is no {kind} {name!r}.{suggestion} Known: {', '.join(names)}")
