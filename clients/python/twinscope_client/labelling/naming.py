"""File names of labelled copies: the template of the user, filled with the values of a decision."""

from __future__ import annotations

import json
import re
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Final

from twinscope_client.outputs import fitting_name

if TYPE_CHECKING:
    from twinscope_client.labelling.journal import Decision

NO_DATE: Final = "no-date"
"""Text that replaces ``{date}`` if the file does not say when the image was acquired."""
NO_INSTRUMENT: Final = "no-instrument"
"""Text that replaces ``{instrument}`` if the file does not name the instrument."""

_CODE: Final = re.compile(r"(?<!\{)\{code\}(?!\})[_\- ]?")


def copy_name(template: str, decision: Decision) -> str:
    """Return the preferred file name of a labelled copy.

    The values are: ``code`` and ``category`` of the label; ``stem`` and ``suffix`` of the file; ``parent``, the name of
    the folder of the file; ``grade``; ``hash``, a short form of the hash with 32 digits; ``date``, the day of the
    acquisition (such as 2024-03-12), or `NO_DATE`; ``instrument``, the name of the instrument, or `NO_INSTRUMENT`.

    If a category has no code of its own, its code is its name. The name of the folder already contains this text, so
    ``{code}`` is left out together with a ``_``, ``-`` or blank after it. Characters that cannot be used in a file name
    are replaced by ``_``.

    Parameters
    ----------
    template : str
        A valid template; see `LabelSettings`.
    decision : Decision
        A decision with a category.
    """
    source = Path(decision.path)
    written = json.loads(decision.instrument) if decision.instrument else {}
    if decision.code == decision.category:
        template = _CODE.sub("", template)
    name = template.format(
        code=decision.code,
        category=decision.category,
        stem=source.stem,
        suffix=source.suffix,
        hash=short_hash(decision),
        grade=decision.grade,
        parent=source.parent.name,
        date=_day(written.get("acquired", "")),
        instrument=written.get("instrument") or written.get("vendor") or NO_INSTRUMENT,
    )
    return fitting_name(name)


def jpeg_name(decision: Decision) -> str:
    """Return the preferred file name of the JPEG of a labelled copy; see `copy_name`."""
    return copy_name("{code}_{hash}.jpg", decision)


def short_hash(decision: Decision) -> str:
    """Return a short form of the hash, with 32 digits. The full hash has 256 digits and does not fit in a file name."""
    return blake2b(bytes.fromhex(decision.query_hash), digest_size=16).hexdigest()


def _day(acquired: str) -> str:
    """Return the day of a time in ISO 8601."""
    found = re.match(r"\d{4}-\d{2}-\d{2}", acquired)
    return found[0] if found else NO_DATE
