"""An answer as HTML for notebooks: the thumbnails of query and best match, the grade and the measurements."""

from __future__ import annotations

from base64 import b64encode
from html import escape
from typing import TYPE_CHECKING, Any, Final, Protocol

from twinscope_service.matching.presentation import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_LISTED: Final = 5
"""Maximum number of candidates in the table of one answer."""
_IMAGE: Final = "height:180px;max-width:100%;object-fit:contain;display:block"
_CELL_STYLE: Final = "text-align:left;padding:2px 12px 2px 0"


class Thumbnails(Protocol):
    """Source of the thumbnails of an answer. The methods return None if a thumbnail is not available."""

    def query(self) -> bytes | None:
        """Return the thumbnail of the query as JPEG."""

    def reference(self, image_id: str) -> bytes | None:
        """Return the thumbnail of a reference as JPEG."""


def page_of(answer: Mapping[str, Any], thumbnails: Thumbnails | None) -> str:
    """Return an answer as HTML. Special characters in all texts are escaped.

    Parameters
    ----------
    answer : mapping
        The dictionary that `Answer.to_dict` returns.
    thumbnails : Thumbnails, optional
        Source of the thumbnails. If there is no source, for example after unpickling, the page shows no thumbnails.
    """
    return f'<div style="max-width:60em">{"".join(_sections(answer, thumbnails))}</div>'


def _sections(answer: Mapping[str, Any], thumbnails: Thumbnails | None) -> Iterator[str]:
    label = "no label" if answer["category"] is None else f"{answer['category']} ({answer['code']})"
    yield f"<p><strong>{_text(answer['grade'])}: {_text(label)}</strong>"
    yield f"<br>{_text(answer['reason'])}{_chance(answer)}</p>"
    matches = answer["matches"]
    if thumbnails is not None:
        yield '<div style="display:flex;gap:1em;flex-wrap:wrap">'
        yield _figure("query", thumbnails.query())
        if matches:
            best = matches[0]
            yield _figure(f"best candidate: {best['category']}", thumbnails.reference(best["image_id"]))
        yield "</div>"
    if matches:
        yield from _table(matches)


def _chance(answer: Mapping[str, Any]) -> str:
    chance = answer["p_wrong"]
    if not chance or answer["category"] is None:
        return ""
    return f"<br>Estimated probability of error: {chance['estimate']:.2g} (at most {chance['high']:.2g})"


def _figure(caption: str, jpeg: bytes | None) -> str:
    if jpeg is None:
        shown = f'<div style="{_IMAGE}">(no thumbnail)</div>'
    else:
        shown = f'<img alt="{_text(caption)}" style="{_IMAGE}" src="data:image/jpeg;base64,{b64encode(jpeg).decode()}">'
    return f'<figure style="margin:0">{shown}<figcaption>{_text(caption)}</figcaption></figure>'


def _table(matches: list[Any]) -> Iterator[str]:
    heads = ("category", "bits", "scene score", "SSIM", "compared as", "source")
    yield f"<table><thead><tr>{''.join(_cell('th', head) for head in heads)}</tr></thead><tbody>"
    for match in matches[:_LISTED]:
        values = (
            f"{match['category']} ({match['code']})", str(match["distance"]), _number(match["scene_score"]),
            _number(match["ssim"]), _compared(match), match["source"],
        )  # fmt: skip
        yield f"<tr>{''.join(_cell('td', value) for value in values)}</tr>"
    yield "</tbody></table>"
    if len(matches) > _LISTED:
        yield f"<p>and {len(matches) - _LISTED} more candidates</p>"


def _compared(match: Mapping[str, Any]) -> str:
    if match["scene_score"] is None:
        return ""
    transform = match["transform"] or {}
    parts = [transform.get("symmetry", "")]
    parts += [
        f"{of}: {frame}" for of in ("query", "reference") if (frame := transform.get(f"{of}_frame", "whole")) != "whole"
    ]
    return "; ".join(part for part in parts if part) or "whole images"


def _cell(tag: str, text: str) -> str:
    return f'<{tag} style="{_CELL_STYLE}">{_text(text)}</{tag}>'


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _text(text: str) -> str:
    return escape(printable(text))
