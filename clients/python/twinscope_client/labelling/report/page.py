"""The report page of a labelling run: one HTML file that needs no other files."""

from __future__ import annotations

import base64
import unicodedata
from importlib.resources import files
from itertools import islice
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from twinscope_service.matching.grades import LABELLED
from twinscope_service.matching.policy import SETTINGS

from twinscope_client.labelling.folders import CategoryFolders
from twinscope_client.labelling.grades import DECISION_GRADES
from twinscope_client.labelling.report.gallery import link_to
from twinscope_client.labelling.shares import percent

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from twinscope_client.labelling.journal import Decision, Journal
    from twinscope_client.labelling.report.gallery import Gallery

LISTED = 200
"""Maximum number of rows in each list on the page; the CSV tables contain all rows."""

_SOURCES_LISTED = 20

_SETTINGS = {
    "version": "Twinscope version",
    "target": "Store or server",
    "store_id": "Identifier of the store",
    "generation": "Generation (published state of the store)",
    "sources": "Sources of the images",
    "min_grade": "Lowest grade that gets a label",
    "template": "Template for the names of the copies",
    "jpeg": "Also write a JPEG of each copy",
    "sidecar": "Also write a JSON file for each copy",
    "link": "Kind of copies (files or links)",
    "pages": "Pages of a stack that are images",
    "policy": "Policy",
}
_THRESHOLDS = {"name": "name", "rule": "rule"} | {setting.name: setting.label for setting in SETTINGS}


def render(journal: Journal, summary: Mapping[str, Any], plots: Mapping[str, bytes], gallery: Gallery) -> str:
    """Render the page.

    Parameters
    ----------
    journal : Journal
        The journal, from which the lists of the page are read.
    summary : mapping
        The numbers of the run; see `summarise`.
    plots : mapping of bytes
        The content of the PNG file for each plot; each key is the name of a plot.
    gallery : Gallery

    Returns
    -------
    str
        The page as HTML. All text is escaped, and unprintable characters are shown as escape sequences.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, finalize=_finalised, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": _number, "percent": _percent, "fixed": _fixed, "chance": _chance}
    template = environment.from_string(files(__package__).joinpath("page.html").read_text("utf-8"))
    folders = CategoryFolders(journal)
    return template.render(
        summary=summary,
        sentence=sentence(summary),
        risk=risk(summary),
        limits=limits(summary),
        grades=DECISION_GRADES,
        settings=list(_settings(summary["settings"])),
        plots={name: "data:image/png;base64," + base64.b64encode(png).decode() for name, png in plots.items()},
        gallery=gallery,
        folders={name: link_to(folders.of(name)) + "/" for name in summary["by_category"]},
        lists=_lists(journal, summary),
        listed=LISTED,
    )


def sentence(summary: Mapping[str, Any]) -> str:
    """Return one sentence about the outcome of the run."""
    total, outcomes = summary["images"], summary["outcomes"]
    if not total:
        return "No images were processed."
    clauses = {
        "withheld": ("got a lower grade than requested", "got a lower grade than requested"),
        "unwritten": ("has a label, but no copy yet", "have a label, but no copy yet"),
        "no_twin": ("had no twin", "had no twin"),
        "for_review": ("needs review", "need review"),
        "unhashable": ("has too little structure to be recognised", "have too little structure to be recognised"),
        "failed": ("could not be read", "could not be read"),
    }
    labelled = outcomes["labelled"]
    if labelled == total:
        return "The one image was labelled." if total == 1 else f"All {total:,} images were labelled."
    first = f"{labelled:,} of {total:,} images {'was' if labelled == 1 else 'were'} labelled"
    first = first if labelled else "No image was labelled"
    others = [f"{outcomes[key]:,} {words[outcomes[key] != 1]}" for key, words in clauses.items() if outcomes[key]]
    return "; ".join([first, *others]) + "."


def risk(summary: Mapping[str, Any]) -> str:
    """Return sentences about the probability of wrong labels; empty if no image was labelled."""
    labelled, chances = summary["labelled"]["images"], summary["p_wrong"]
    if not labelled:
        return ""
    if not chances["known"]:
        return "The probability that a label is wrong is not known."
    unknown = labelled - chances["known"]
    text = (
        f"Labels whose probability of being wrong is more than {_chance(chances['likely_wrong_from'])}: "
        f"{chances['likely_wrong']:,} of {chances['known']:,}. "
        f"The largest probability is {_chance(chances['largest'])}."
    )
    return f"{text} Labels with an unknown probability: {unknown:,}." if unknown else text


def limits(summary: Mapping[str, Any]) -> str:
    """Return sentences about the maximum distance of the search, and about candidates at a larger distance.

    The text is empty if the policy of the run is not known.
    """
    policy = summary["settings"].get("policy") or {}
    usual, far = policy.get("max_distance"), policy.get("far_distance")
    if usual is None:
        return ""
    text = f"Twinscope searched for candidates up to a distance of {usual:,} bits."
    if far is None or far <= usual:
        return text
    text += (
        " If none of these candidates was a twin, the few nearest references up to a distance of "
        f"{far:,} bits were also compared."
    )
    if policy.get("reach") == "frame":
        return text
    return (
        f"{text} Candidates at a larger distance were found in other ways. For example, the brightest or the darkest "
        "regions of two images can agree at any distance between the whole images."
    )


def printable(text: str) -> str:
    r"""Return a text in which all characters can be displayed and encoded. This function does not escape HTML.

    Some characters are replaced by escape sequences such as ``\xff``: bytes that are not UTF-8, control characters, and
    marks that change the writing direction.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or unicodedata.category(c) == "Zs" else _escaped(c) for c in text)


def _escaped(char: str) -> str:
    if 0xDC80 <= ord(char) <= 0xDCFF:  # a byte that os.fsdecode could not decode
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode()


def _finalised(value: object) -> object:
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _lists(journal: Journal, summary: Mapping[str, Any]) -> dict[str, list[Decision]]:
    """Return the first rows of each list on the page. For an empty list, the journal is not read."""
    outcomes = summary["outcomes"]
    labelled = ", ".join(f"'{grade}'" for grade in sorted(LABELLED))
    chosen = {
        "failed": (outcomes["failed"], "grade = 'failed'"),
        "unwritten": (
            outcomes["unwritten"],
            f"grade IN ({labelled}) AND NOT written AND (output <> '' OR problem <> '')",
        ),
        "outdated": (summary["outdated_copies"], "earlier_output <> ''"),
        "differing": (journal.scalar("count(*)", "stack_conflict <> ''"), "stack_conflict <> ''"),
    }
    return {
        name: list(islice(journal.decisions(where), LISTED)) if count else [] for name, (count, where) in chosen.items()
    }


def _settings(settings: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Yield the title and the values of every setting. For an unknown setting, the title is the key of the setting."""
    for key in [*(key for key in _SETTINGS if key in settings), *sorted(set(settings) - set(_SETTINGS))]:
        value, name = settings[key], _SETTINGS.get(key, key)
        if isinstance(value, dict):
            for field, threshold in value.items():
                yield f"{name}: {_THRESHOLDS.get(field, field)}", [_shown(threshold)]
        elif isinstance(value, list):
            more = len(value) - _SOURCES_LISTED
            shown = [_shown(item) for item in value[:_SOURCES_LISTED]]
            yield name, shown + ([f"and {more:,} more"] if more > 0 else [])
        else:
            yield name, [_shown(value)]


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def _number(value: int) -> str:
    return f"{value:,}"


def _percent(share: float | None) -> str:
    return "–" if share is None else percent(share)


def _fixed(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def _chance(probability: float | None) -> str:
    """Return a probability in percent: below 10 % with two significant digits, otherwise with three digits."""
    if probability is None:
        return "–"
    if probability < 0.0001:
        return "less than 0.01 %"
    if 0.9995 <= probability < 1:
        return "more than 99.9 %"
    return f"{100 * probability:.{2 if probability < 0.1 else 3}g} %"
