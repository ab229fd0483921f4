"""Categories of micrographs, their codes, and the names that folders, archives and tables use for categories."""

from __future__ import annotations

import csv
import json
import re
import tomllib
import unicodedata
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from twinscope_indexer.errors import TaxonomyError

if TYPE_CHECKING:
    from collections.abc import Container

_PREFIX = re.compile(r"(L\d+)_", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Category:
    """One category of micrographs."""

    code: str
    """Short code of the category, for example ``L5``. File names of labelled images begin with the code."""
    name: str
    """Name of the category, for example ``Particles``. The folder of the category has the same name."""
    description: str = ""
    """Description of the category for users."""
    aliases: tuple[str, ...] = ()
    """Other names and spellings of the category."""


@dataclass(frozen=True)
class Taxonomy:
    """The categories that can be used as labels.

    Attributes
    ----------
    version : str
        Version of the taxonomy. Twinscope records the version with every label, so that the meaning of a label is still
        clear years later.
    categories : tuple of Category
        All categories.
    keep_unknown : bool
        If True, an unknown name becomes a new category. If False, an unknown name raises an error.
    """

    version: str
    categories: tuple[Category, ...]
    keep_unknown: bool = False
    _by_name: dict[str, Category] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_name: dict[str, Category] = {}
        for category in self.categories:
            for spelling in (category.name, category.code, *category.aliases):
                if not _folded(spelling):
                    msg = f"taxonomy {self.version}: {spelling!r} has neither a letter nor a digit"
                    raise TaxonomyError(msg)
                other = by_name.setdefault(_folded(spelling), category)
                if other is not category:
                    msg = f"taxonomy {self.version}: {spelling!r} means both {other.name} and {category.name}"
                    raise TaxonomyError(msg)
        object.__setattr__(self, "_by_name", by_name)

    def find(self, label: str) -> Category | None:
        """Return the category with this name, code or alias, or None if there is no such category.

        The comparison ignores case and separators.
        """
        return self._by_name.get(_folded(label))

    def resolve(self, label: str) -> Category:
        """Return the category with this name, code or alias.

        Raises
        ------
        TaxonomyError
            If no category matches and `keep_unknown` is false. The message lists the known categories.
        """
        found = self.find(label)
        if found is not None:
            return found
        if (
            self.keep_unknown and _folded(label) and label.isprintable()
        ):  # isprintable() excludes control characters and broken Unicode
            return Category(code=label.strip(), name=label.strip())
        known = ", ".join(f"{c.name} ({c.code})" for c in self.categories)
        msg = f"{label!r} is not a category of taxonomy {self.version}. Known: {known}."
        raise TaxonomyError(msg)

    def of_folders(self, folders: list[str]) -> Category:
        """Find the category of an image in the names of the folders above the image.

        If several folders have the name of a category, the folder nearest to the image is used.

        Parameters
        ----------
        folders : list of str
            Names of the folders and archives above the image. The nearest folder or archive is the first.

        Raises
        ------
        TaxonomyError
            If no folder has the name of a category and `keep_unknown` is false.
        """
        for folder in folders:
            found = self.find(folder)
            if found is not None:
                return found
        return self.resolve(folders[0] if folders else "")

    def of_prefix(self, file_name: str) -> Category:
        """Return the category for a file name that begins with a code and an underscore.

        Raises
        ------
        TaxonomyError
            If the file name does not begin with a code and an underscore, or if the code is unknown.
        """
        for category in sorted(self.categories, key=lambda category: len(category.code), reverse=True):
            if file_name.casefold().startswith(f"{category.code}_".casefold()):
                return category
        prefix = published_prefix(file_name)
        if prefix is None:
            msg = f"{file_name!r} does not begin with a category code such as '{self.categories[0].code}_'"
            raise TaxonomyError(msg)
        return self.resolve(prefix)


def taxonomy_to_json(taxonomy: Taxonomy) -> str:
    """Return a taxonomy as JSON. A store contains its taxonomy in this form."""
    categories = [(c.code, c.name, c.description, c.aliases) for c in taxonomy.categories]
    return json.dumps({"version": taxonomy.version, "keep_unknown": taxonomy.keep_unknown, "categories": categories})


def taxonomy_from_json(text: str) -> Taxonomy:
    """Read a taxonomy from JSON that was made by `taxonomy_to_json`."""
    found = json.loads(text)
    categories = tuple(Category(code, name, about, tuple(also)) for code, name, about, also in found["categories"])
    return Taxonomy(found["version"], categories, keep_unknown=found["keep_unknown"])


def published_prefix(file_name: str) -> str | None:
    """Return the code at the beginning of a published file name, for example ``L5`` for ``L5_...``, or None.

    Twinscope records this code but never uses it as a label. In the published collection, the code at the beginning of
    a file name never agrees with the folder of the file.
    """
    found = _PREFIX.match(file_name)
    return found.group(1).upper() if found else None


@cache
def builtin_taxonomy() -> Taxonomy:
    """Return the built-in taxonomy with ten categories, from L0 Biological to L9 Tips."""
    text = resources.files("twinscope_indexer").joinpath("categories.toml").read_text(encoding="utf-8")
    return _from_toml(text, "the built-in taxonomy")


def load_taxonomy(path: Path | None = None, *, keep_unknown: bool = False) -> Taxonomy:
    """Read a taxonomy from a TOML file, or return the built-in taxonomy.

    Parameters
    ----------
    path : Path, optional
        File with ``version = "..."`` and one ``[[category]]`` table (code, name, description, aliases) per category.
        Default: the built-in taxonomy.
    keep_unknown : bool
        If True, an unknown name becomes a new category. If False, an unknown name raises an error.

    Raises
    ------
    TaxonomyError
        If the file cannot be read or does not have this form.
    """
    if path is None:
        taxonomy = builtin_taxonomy()
    else:
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            msg = f"taxonomy file {path} cannot be read: {error}"
            raise TaxonomyError(msg) from error
        taxonomy = _from_toml(text, str(path))
    return Taxonomy(taxonomy.version, taxonomy.categories, keep_unknown=keep_unknown)


def load_labels(path: Path) -> dict[str, str]:
    """Read a CSV of labels with the columns ``file`` and ``category``.

    Parameters
    ----------
    path : Path
        Path of the CSV file. The column ``file`` contains base names, or paths relative to the indexed source
        (``folder/name.jpg``, or ``folder/archive.tar/name.jpg`` for archive members).

    Returns
    -------
    dict
        Keys: the values of the column ``file``, with forward slashes and without ``./``. Values: the categories in the
        spelling of the CSV file.

    Raises
    ------
    TaxonomyError
        If the file cannot be read, lacks a column, or gives one image two different labels.
    """
    labels: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.DictReader(stream)
            if not {"file", "category"} <= set(rows.fieldnames or ()):
                msg = f"{path}: the columns 'file' and 'category' are needed; found {rows.fieldnames}"
                raise TaxonomyError(msg)
            for number, row in enumerate(rows, start=2):
                name, label = (row["file"] or "").replace("\\", "/"), (row["category"] or "").strip()
                name = str(PurePosixPath(name))
                if labels.setdefault(name, label) != label:
                    msg = f"{path}, line {number}: {name!r} is labelled both {labels[name]!r} and {label!r}"
                    raise TaxonomyError(msg)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        msg = f"label file {path} cannot be read: {error}"
        raise TaxonomyError(msg) from error
    return labels


def label_of(labels: dict[str, str], path: str, repeated: Container[str] = ()) -> str:
    """Return the label of an image from a table of labels.

    The function first searches the table for the path of the image. If the table does not list the path, the function
    searches for the base name.

    Parameters
    ----------
    labels : dict
        From `load_labels`.
    path : str
        Path of the image relative to the source, with forward slashes.
    repeated : container of str
        Base names that occur more than once in the source. A row with one of these base names is not used.

    Raises
    ------
    TaxonomyError
        If the table does not list the image, or lists only a base name that occurs more than once.
    """
    name = PurePosixPath(path).name
    if path not in labels and name in labels and name in repeated:
        msg = (
            f"several images are named {name!r}: in the table of labels, give the path of each image relative to the "
            "source"
        )
        raise TaxonomyError(msg)
    label = labels.get(path, labels.get(name, ""))
    if not label:
        msg = f"{path!r} has no label in the table of labels; paths in the table must be relative to the source"
        raise TaxonomyError(msg)
    return label


def _folded(label: str) -> str:
    # Accented letters are normalised. In folder names on macOS, an accented letter consists of two characters.
    return re.sub(r"[\W_]+", " ", unicodedata.normalize("NFKC", label)).strip().casefold()


def _from_toml(text: str, source: str) -> Taxonomy:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        msg = f"{source} is not valid TOML: {error}"
        raise TaxonomyError(msg) from error
    tables = document.get("category")
    version = document.get("version")
    if not isinstance(version, str) or not isinstance(tables, list) or not tables:
        msg = f"{source}: 'version' (text) and at least one [[category]] table are needed"
        raise TaxonomyError(msg)
    return Taxonomy(version, tuple(_category(table, source) for table in tables))


def _category(table: Any, source: str) -> Category:
    match table:
        case {"code": str(code), "name": str(name), **rest} if code.strip() and name.strip():
            aliases = rest.get("aliases", [])
            known = set(rest) <= {"description", "aliases"}
            if known and isinstance(aliases, list) and all(isinstance(alias, str) for alias in aliases):
                return Category(code, name, str(rest.get("description", "")), tuple(aliases))
    msg = f"{source}: a [[category]] needs 'code' and 'name', and may have 'description' and 'aliases'; got {table!r}"
    raise TaxonomyError(msg)
