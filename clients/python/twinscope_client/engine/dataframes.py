"""Conversion of answers to the columns of a table, for data frames of pandas and polars."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from twinscope_indexer.errors import ImageError
from twinscope_service.matching.answer import Answer

from twinscope_client.engine.many import image_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twinscope_service.matching.presentation import Scalar

T = TypeVar("T")


def columns(found: Iterable[Answer | tuple[T, Answer | ImageError]]) -> dict[str, list[Scalar]]:
    """Convert answers to a table that has one row for each answer.

    The table is a dict of columns, not a list of rows. From a dict, pandas and polars infer the data type of each
    column from all values of the column.

    Parameters
    ----------
    found : iterable of Answer, or of (image, Answer or ImageError)
        Answers, or the pairs that `Engine.search_many` yields.

    Returns
    -------
    dict of list
        The columns of `Answer.to_row`. For pairs, the table has two more columns. The first column, ``image``, contains
        the path of the image, or None if the image has no path. The last column is ``fault``. If an image could not be
        read, its grade is ``failed``, and the column ``reason`` contains the error message.

    Examples
    --------
    >>> pandas.DataFrame(twinscope.columns(engine.search_many(paths)))  # doctest: +SKIP
    >>> polars.DataFrame(twinscope.columns(engine.search_many(paths)))  # doctest: +SKIP
    """
    rows = [_row(one) for one in found]
    names = dict.fromkeys(name for row in rows for name in row if name != "fault")
    if any("fault" in row for row in rows):
        names["fault"] = None
    return {name: [row.get(name) for row in rows] for name in names}


def _row(found: Answer | tuple[object, Answer | ImageError]) -> dict[str, Scalar]:
    if isinstance(found, Answer):
        return found.to_row()
    image, result = found
    named: dict[str, Scalar] = {"image": image_name(image)}
    if isinstance(result, ImageError):
        return named | {"grade": "failed", "reason": result.detail, "fault": result.fault}
    return named | result.to_row() | {"fault": None}
