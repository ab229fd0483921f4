"""Categories of micrographs, their codes, and the names that folders, archives and tables use for categories."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
import unicodedata
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any, Final

from twinscope_indexer.errors import TaxonomyError

_SIMILAR: Final = 0.75
"""Minimum similarity between an unknown label and the category that a message suggests; see
`difflib.SequenceMatcher.ratio`."""
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

    @property
    def shown(self) -> str:
        """Name and code of the category, for example ``Tips (L9)``. A category without its own code has only a name."""
        return self.name if self.name == self.code else f"{self.name} ({self.code})"


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
            If no category matches and `keep_unknown` is false. The message names the most similar category, if there
            is one, and lists the known categories.
        """
        found = self.find(label)
        if found is not None:
            return found
        if self.keep_unknown and can_be_kept(label):
            name = unicodedata.normalize("NFC", label.strip())
            return Category(code=name, name=name)
        similar = self.similar(label)
        hint = "" if similar is None else f"; did you mean {similar.shown}?"
        known = ", ".join(category.shown for category in self.categories)
        msg = f"{label!r} is not a category of taxonomy {self.version}{hint or '.'} Known: {known}."
        raise TaxonomyError(msg, cause=f"{label!r} is not a category{hint}")

    def similar(self, label: str) -> Category | None:
        """Return the category whose name or alias is most similar to a label, or None if none is similar.

        A category is similar if all words of its name or alias are in the label, or if only a few letters differ.
        """
        folded = _folded(label)
        spelled = {_folded(one): c for c in self.categories for one in (c.name, *c.aliases)}
        within = [one for one in spelled if set(one.split()) <= set(folded.split())]
        close = difflib.get_close_matches(folded, spelled, n=1, cutoff=_SIMILAR)
        best = max(within, key=len, default=next(iter(close), None))
        return None if best is None else spelled[best]

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


def load_taxonomy(path: Path | str | None = None, *, keep_unknown: bool = False) -> Taxonomy:
    """Read a taxonomy from a TOML file, or return the built-in taxonomy.

    Parameters
    ----------
    path : Path or str, optional
        File with ``version = "..."`` and one ``[[category]]`` table (code, name, description, aliases) per category. A
        file with ``extends = "sem-majority/1"`` adds categories and aliases to the built-in taxonomy; its ``version``
        is optional. ``builtin``, ``default``, ``sem-majority/1`` and None mean the built-in taxonomy itself.
    keep_unknown : bool
        If True, an unknown name becomes a new category. If False, an unknown name raises an error.

    Raises
    ------
    TaxonomyError
        If the file cannot be read or does not have this form.
    """
    if path is None or str(path) in _builtin_names():
        taxonomy = builtin_taxonomy()
    else:
        try:
            text = Path(path).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            msg = f"taxonomy file {path} cannot be read: {error}. For the built-in categories: builtin"
            raise TaxonomyError(msg) from error
        taxonomy = _from_toml(text, str(path))
    return Taxonomy(taxonomy.version, taxonomy.categories, keep_unknown=keep_unknown)


def can_be_kept(label: str) -> bool:
    """Check whether an unknown name can become a category: it needs a letter or digit, and no control characters."""
    return bool(_folded(label)) and label.isprintable()  # isprintable() also excludes broken Unicode


def _builtin_names() -> tuple[str, ...]:
    return "builtin", "default", builtin_taxonomy().version


def _folded(label: str) -> str:
    # Accented letters are normalised. In folder names on macOS, an accented letter consists of two characters.
    return re.sub(r"[\W_]+", " ", unicodedata.normalize("NFKC", label)).strip().casefold()


def _from_toml(text: str, source: str) -> Taxonomy:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        msg = f"{source} is not valid TOML: {error}"
        raise TaxonomyError(msg) from error
    version, tables = document.get("version"), document.get("category", [])
    if not isinstance(tables, list):
        version = None
    elif "extends" in document:
        extended = _extended(document["extends"], source)
        tables = _merged(extended, tables)
        version = version or f"{extended.version}+{sha256(text.encode()).hexdigest()[:8]}"
    if not isinstance(version, str) or not tables:
        msg = f"{source}: 'version' (text) and at least one [[category]] table are needed"
        raise TaxonomyError(msg)
    return Taxonomy(version, tuple(_category(table, source) for table in tables))


def _extended(name: Any, source: str) -> Taxonomy:
    """Return the taxonomy that a file extends."""
    if name not in _builtin_names():
        msg = f"{source}: extends = {name!r} is unknown; only {builtin_taxonomy().version!r} can be extended"
        raise TaxonomyError(msg)
    return builtin_taxonomy()


def _merged(extended: Taxonomy, tables: list[Any]) -> list[Any]:
    """Return the tables of all categories: the tables of a taxonomy, and the tables of a file that extends it.

    A table with the code or the name of a category adds aliases to this category. Other tables add categories.
    """
    found: dict[str, Any] = {
        c.code: {"code": c.code, "name": c.name, "description": c.description, "aliases": list(c.aliases)}
        for c in extended.categories
    }
    added: list[Any] = []
    for table in tables:
        named = [table[key] for key in ("code", "name") if isinstance(table, dict) and key in table]
        known = {extended.find(one) if isinstance(one, str) else None for one in named}
        same = known.pop() if len(known) == 1 else None
        if same is None or not isinstance(table.get("aliases", []), list):
            added.append(table)  # a new category; if only its code or only its name is new, `Taxonomy` refuses it
            continue
        old = found[same.code]
        aliases = [*old["aliases"], *table.get("aliases", [])]
        old |= table | {"code": same.code, "name": same.name, "aliases": aliases}
    return [*found.values(), *added]


def _category(table: Any, source: str) -> Category:
    match table:
        case {"code": str(code), "name": str(name), **rest} if code.strip() and name.strip():
            aliases = rest.get("aliases", [])
            known = set(rest) <= {"description", "aliases"}
            if known and isinstance(aliases, list) and all(isinstance(alias, str) for alias in aliases):
                return Category(code, name, str(rest.get("description", "")), tuple(aliases))
    msg = f"{source}: a [[category]] needs 'code' and 'name', and may have 'description' and 'aliases'; got {table!r}"
    raise TaxonomyError(msg)
