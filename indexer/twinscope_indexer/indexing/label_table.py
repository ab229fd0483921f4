"""Tables of labels: CSV files that give a category to each image of a collection."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from twinscope_indexer.errors import TaxonomyError
from twinscope_indexer.sources.tables import CATEGORY, IMAGE, image_path, read_table

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from twinscope_indexer.sources.corpus import Item

_ABSOLUTE: Final = re.compile(r"/|[A-Za-z]:/")
NOT_LISTED: Final = "no label in the table of labels"
"""Cause that is recorded for the images that a table of labels does not list."""


@dataclass(frozen=True, slots=True)
class LabelTable:
    """The labels of a table.

    Attributes
    ----------
    labels : dict
        Keys: base names, and paths of images; see `image_path`. Values: the categories in the spelling of the table.
    folder : str
        Folder of the collection in the absolute paths of the table; see `for_images`. Empty if no image has one.
    repeated : frozenset of str
        Base names in the table that belong to more than one image. No image gets its label from such a base name.
    """

    labels: dict[str, str]
    folder: str = ""
    repeated: frozenset[str] = frozenset()

    def for_images(self, items: Iterable[Item]) -> LabelTable:
        r"""Return the table for the images of a collection.

        A table that was written on another computer has absolute paths such as ``C:\lab\Tips\a.jpg``. To find the
        folder of the collection in these paths, count for each folder how many images of the collection the table lists
        in this folder. The folder with the highest number is used.

        Parameters
        ----------
        items : iterable of Item
            All images. `items` is read only if the table contains base names or absolute paths.
        """
        names = {name for name in self.labels if "/" not in name}
        absolute = {name for name in self.labels if _ABSOLUTE.match(name)}
        if not names and not absolute:
            return self
        by_name: dict[str, list[str]] = {}
        for path in absolute:
            by_name.setdefault(PurePosixPath(path).name, []).append(path)
        counts: Counter[str] = Counter()
        folders: Counter[str] = Counter()
        for item in items:
            path = image_path(item.inner_path)
            name = PurePosixPath(path).name
            counts[name] += name in names
            folders.update(full[: -len(path) - 1] for full in by_name.get(name, ()) if full.endswith(f"/{path}"))
        [(folder, most), (_, second)] = [*folders.most_common(2), ("", 0), ("", 0)][:2]
        repeated = frozenset(name for name, times in counts.items() if times > 1)
        return replace(self, folder=folder if most > second else "", repeated=repeated)

    def label_of(self, path: str) -> str:
        """Return the label of an image.

        The label of the path is used. If the table does not list the path, the label of the base name is used.

        Parameters
        ----------
        path : str
            Path of the image relative to the source, with forward slashes.

        Raises
        ------
        TaxonomyError
            If the table does not list the image, or lists only a base name that occurs more than once.
        """
        path = image_path(path)
        name = PurePosixPath(path).name
        known = next((one for one in (path, f"{self.folder}/{path}") if one in self.labels), None)
        if known is None and name in self.labels and name in self.repeated:
            msg = (
                f"several images are named {name!r}: in the table of labels, give the path of each image relative to "
                "the source"
            )
            raise TaxonomyError(msg, cause="several images have the file name in the table of labels")
        label = self.labels.get(name if known is None else known, "")
        if not label:
            msg = f"{path!r} has no label in the table of labels; paths in the table must be relative to the source"
            raise TaxonomyError(msg, cause=NOT_LISTED)
        return label


def read_label_table(path: Path) -> LabelTable:
    """Read a table of labels.

    Parameters
    ----------
    path : Path
        A CSV file with a column for the images and a column for the categories; see `tables.read_table`. The column for
        the images contains base names, or paths relative to the indexed source (``folder/name.jpg``, or
        ``folder/archive.tar/name.jpg`` for archive members), or absolute paths.

    Raises
    ------
    TaxonomyError
        If the file cannot be read, lacks a column, or gives one image two different labels.
    """
    labels: dict[str, str] = {}
    for row in read_table(path, {"file": IMAGE, "category": CATEGORY}).rows:
        name, label = image_path(row.cells.get("file", "")), row.cells.get("category", "")
        if name in {".", "/"}:
            msg = f"{path}, line {row.line}: the row names no image; write its path or file name, or remove the row"
            raise TaxonomyError(msg)
        if labels.setdefault(name, label) != label:
            msg = f"{path}, line {row.line}: {name!r} is labelled both {labels[name]!r} and {label!r}"
            raise TaxonomyError(msg)
    return LabelTable(labels)
