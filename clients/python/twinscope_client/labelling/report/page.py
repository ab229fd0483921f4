"""The page of a run: one self-contained HTML file."""

from __future__ import annotations

import base64
import unicodedata
from importlib.resources import files
from itertools import islice
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from twinscope_service.matching.policy import SETTINGS

from twinscope_client.labelling.grades import DECISION_GRADES
from twinscope_client.labelling.report.gallery import link_to
from twinscope_client.outputs import category_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from twinscope_client.labelling.journal import Decision, Journal
    from twinscope_client.labelling.report.gallery import Gallery

LISTED = 200
"""Maximum number of rows of a list in the page; the CSV tables have all rows."""

_SOURCES_LISTED = 20

_SETTINGS = {
    "version": "Twinscope version",
    "target": "Labelled collection",
    "store_id": "Identity of the collection",
    "generation": "State of the collection (generation)",
    "sources": "Images taken from",
    "min_grade": "Lowest grade that is labelled",
    "template": "Names of the copies",
    "jpeg": "JPEG for each copy",
    "sidecar": "JSON file for each copy",
    "link": "Kind of copies",
    "policy": "Policy",
}
_THRESHOLDS = {"name": "name", "rule": "rule"} | {setting.name: setting.label for setting in SETTINGS}


def render(journal: Journal, summary: Mapping[str, Any], plots: Mapping[str, bytes], gallery: Gallery) -> str:
    """Render the page.

    Parameters
    ----------
    journal : Journal
        The source of the lists.
    summary : mapping
        See `summarise`.
    plots : mapping of bytes
        PNG files by name.
    gallery : Gallery

    Returns
    -------
    str
        HTML; all text is escaped, and unprintable characters are shown as escape sequences.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, finalize=_finalised, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": _number, "percent": _percent, "fixed": _fixed, "chance": _chance}
    template = environment.from_string(files(__package__).joinpath("page.html").read_text("utf-8"))
    return template.render(
        summary=summary,
        sentence=sentence(summary),
        risk=risk(summary),
        limits=limits(summary),
        grades=DECISION_GRADES,
        settings=list(_settings(summary["settings"])),
        plots={name: "data:image/png;base64," + base64.b64encode(png).decode() for name, png in plots.items()},
        gallery=gallery,
        folders={name: link_to(category_folder(name)) + "/" for name in summary["by_category"]},
        lists=_lists(journal, summary),
        listed=LISTED,
    )


def sentence(summary: Mapping[str, Any]) -> str:
    """Return one sentence about the outcome of the run."""
    total, outcomes = summary["images"], summary["outcomes"]
    if not total:
        return "No images were processed."
    clauses = {
        "withheld": ("matched below the requested grade", "matched below the requested grade"),
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
    """Return one sentence about how likely the labels are to be wrong; empty if nothing was labelled."""
    labelled, chances = summary["labelled"]["images"], summary["p_wrong"]
    if not labelled:
        return ""
    if not chances["known"]:
        return "It is not known how likely the labels are to be wrong."
    unknown = labelled - chances["known"]
    return (
        f"Labels that are more than {_chance(chances['limit'])} likely to be wrong: {chances['above_limit']:,} of "
        f"{chances['known']:,}{f' (unknown for {unknown:,} more)' if unknown else ''}; the largest probability is "
        f"{_chance(chances['largest'])}."
    )


def limits(summary: Mapping[str, Any]) -> str:
    """Return how far candidates were searched, and what lies beyond; empty if the policy is not known."""
    policy = summary["settings"].get("policy") or {}
    usual, far = policy.get("max_distance"), policy.get("far_distance")
    if usual is None:
        return ""
    text = f"Candidates were searched up to {usual:,} bits"
    if far is None or far <= usual:
        return f"{text}."
    text += f"; if none of them was a twin, the few nearest ones up to {far:,} bits were also compared."
    if policy.get("reach") == "frame":
        return text
    return (
        f"{text} Candidates farther away were found in other ways, for example by the brightest or the darkest regions "
        "of the images, which can agree at any distance between the whole images."
    )


def printable(text: str) -> str:
    r"""Return a text that can be shown and encoded; HTML is not escaped here.

    Bytes that are not UTF-8, control characters, and marks that change the writing direction become escape sequences
    such as ``\xff``.
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
    """Return the first rows of each list; the journal is read only for lists that have rows."""
    outcomes = summary["outcomes"]
    chosen = {
        "failed": (outcomes["failed"], "grade = 'failed'"),
        "unwritten": (
            outcomes["unwritten"],
            "grade IN ('excellent', 'good') AND NOT written AND (output <> '' OR problem <> '')",
        ),
        "outdated": (summary["outdated_copies"], "earlier_output <> ''"),
    }
    return {
        name: list(islice(journal.decisions(where), LISTED)) if count else [] for name, (count, where) in chosen.items()
    }


def _settings(settings: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Yield every setting with its title; an unknown setting is shown by its key."""
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
    """Return a share in percent, rounded down so that 100 % means all."""
    return "–" if share is None else f"{int(share * 1000 + 1e-9) / 10:.1f} %"


def _fixed(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def _chance(probability: float | None) -> str:
    """Return a probability in percent with two significant digits (three from 10 %)."""
    if probability is None:
        return "–"
    if probability < 0.0001:
        return "less than 0.01 %"
    return f"{100 * probability:.{2 if probability < 0.1 else 3}g} %"
