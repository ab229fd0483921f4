"""Folders of the labelled copies: each category has its own folder, on every file system."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from twinscope_client.outputs import category_folder, folded, numbered

if TYPE_CHECKING:
    from twinscope_client.labelling.journal import Journal


class CategoryFolders:
    """The folder of each category. A folder that an earlier run has chosen stays the same.

    Two categories can have the same name for a folder, for example ``a:b`` and ``a?b``, or ``Tips`` and ``tips`` on
    Windows. The second of these categories gets a folder with a number. Otherwise, copies of two categories would lie
    in one folder.

    Parameters
    ----------
    journal : Journal
        The journal, which contains the outputs of earlier runs.
    """

    def __init__(self, journal: Journal) -> None:
        folder = "substr(output, 1, instr(output, '/') - 1)"
        where = "output <> '' AND typeof(output) = 'text' AND typeof(category) = 'text'"
        pairs = journal.counts(f"json_array(category, {folder})", where)
        self._folders: dict[str, str] = dict(map(json.loads, pairs))

    def of(self, category: str) -> str:
        """Return the name of the folder of a category."""
        if category not in self._folders:
            taken = {folded(name) for name in self._folders.values()}
            names = (path.name for path in numbered(Path(category_folder(category))))
            self._folders[category] = next(name for name in names if folded(name) not in taken)
        return self._folders[category]
