"""Calibration: the probability that a match is wrong, estimated from its measurements.

The logistic model (Platt, "Probabilistic outputs for support vector machines", 1999) uses scene score, closeness of the
hashes, SSIM and the lead over candidates of other categories. No weight is negative, so better evidence never raises
the probability. The interval comes from models fitted on resampled images (Efron's bootstrap). Estimate and interval
are never lower than the number of images can support.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Final

import numpy as np

from twinscope_service.errors import CalibrationError
from twinscope_service.matching.answer import ChanceOfError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from twinscope_service.matching.answer import Match

_FEATURES: Final = ("one", "scene_score", "closeness", "ssim", "lead")
_FAR: Final = 512.0
"""Bits between hashes of unrelated images, on average."""
_RIDGE: Final = 3e-4
"""Keeps the weights finite if a collection separates perfectly; relative to the mean log-likelihood."""
_VERSION: Final = 1
PRIOR: Final = 0.5
"""Assumed share of queries without a twin."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """A fitted model.

    Attributes
    ----------
    name : str
        Name of the data that it was fitted on, for people.
    weights : tuple of tuple of float
        The model, then the models of the resampled collections; one weight for each feature.
    impostors, genuine : int
        Number of images that it was fitted on, as queries without and with their twin.
    """

    name: str
    weights: tuple[tuple[float, ...], ...]
    impostors: int
    genuine: int

    def chance(self, matches: Sequence[Match]) -> ChanceOfError | None:
        """Return the probability that the best match is wrong.

        Parameters
        ----------
        matches : sequence of Match
            Best first.

        Returns
        -------
        ChanceOfError or None
            None if there is no match or its scene score is unknown.
        """
        found = features(matches)
        return None if found is None else self.judged(found)

    def judged(self, found: NDArray[np.float64]) -> ChanceOfError:
        """Return the probability that a match with these `features` is wrong."""
        values = _probability(np.array(self.weights) @ found)
        least, least_high = self.floors
        low, high = np.quantile(values[1:], (0.025, 0.975)) if len(values) > 1 else (values[0], values[0])
        estimate = max(float(values[0]), least)
        return ChanceOfError(estimate, min(float(low), estimate), max(float(high), estimate, least_high), self.name)

    @property
    def floors(self) -> tuple[float, float]:
        """The lowest estimate and the lowest upper end of its interval that the number of images supports.

        If none of n impostors came as near, Laplace's rule of succession gives 1 / (n + 2), and the one-sided 95 %
        limit of a share with no observed case is 1 - 0.05 ** (1 / n) (Clopper and Pearson, 1934).
        """
        n = self.impostors
        return 1 / (n + 2), 1 - 0.05 ** (1 / max(n, 1))

    def to_json(self) -> str:
        """Return the model as text for the catalog."""
        values = {"version": _VERSION, "name": self.name, "features": _FEATURES, "weights": self.weights}
        return json.dumps(values | {"impostors": self.impostors, "genuine": self.genuine})

    @classmethod
    def from_json(cls, text: str) -> Calibration:
        """Read a model that `to_json` wrote.

        Raises
        ------
        CalibrationError
            If it is damaged or of another version.
        """
        try:
            values = json.loads(text)
            weights = tuple(tuple(map(float, row)) for row in values["weights"])
            made = cls(str(values["name"]), weights, int(values["impostors"]), int(values["genuine"]))
            fits = values["version"] == _VERSION and tuple(values["features"]) == _FEATURES and weights
        except (ValueError, KeyError, TypeError) as error:
            raise CalibrationError("the stored calibration is damaged") from error
        if not fits or not np.isfinite(weights).all() or {len(row) for row in weights} != {len(_FEATURES)}:
            raise CalibrationError("the stored calibration is of another version")
        return made


def features(matches: Sequence[Match]) -> NDArray[np.float64] | None:
    """Return the measurements of the best match as features; None if its scene score is unknown.

    Returns
    -------
    ndarray of float64, shape (5,)
        1, scene score, closeness of the hashes (1: equal, 0: as far as unrelated ones), SSIM (0 if it was not
        computed), and the lead of its scene score over that of the best candidate of another category.
    """
    if not matches or matches[0].scene_score is None:
        return None
    best, scene = matches[0], matches[0].scene_score
    others = [m.scene_score for m in matches if m.category != best.category and m.scene_score is not None]
    closeness = max(0.0, 1 - best.distance / _FAR)
    lead = min(1.0, scene - max(others, default=0.0))
    return np.array([1.0, scene, closeness, max(0.0, best.ssim or 0.0), max(lead, 0.0)])


def fit(
    name: str,
    impostors: Sequence[Sequence[NDArray[np.float64]]],
    genuine: Sequence[Sequence[NDArray[np.float64]]],
    resamples: int = 200,
    seed: int = 0,
) -> Calibration:
    """Fit a model.

    Parameters
    ----------
    name : str
        Name of the data, for people.
    impostors, genuine : sequence of sequence of ndarray
        `features` of wrong and of correct matches, one sequence for each image that was the query. An empty sequence
        also counts: no reference was near that image.
    resamples : int
        Number of models for the interval.
    seed : int

    Returns
    -------
    Calibration

    Raises
    ------
    CalibrationError
        If there is no evidence of one of the two kinds.
    """
    if not any(len(rows) for rows in genuine) or not any(len(rows) for rows in impostors):
        msg = (
            "there are too few images to calibrate: at least one must be found again after a change, and at least "
            "one must be compared with an image of another field"
        )
        raise CalibrationError(msg)
    rng = np.random.default_rng(seed)
    weights = [_fitted(impostors, genuine)]
    for _ in range(resamples):
        drawn = [[kind[i] for i in rng.integers(0, len(kind), len(kind))] for kind in (impostors, genuine)]
        if all(any(len(rows) for rows in kind) for kind in drawn):
            weights.append(_fitted(*drawn))
    return Calibration(name, tuple(tuple(map(float, row)) for row in weights), len(impostors), len(genuine))


def _fitted(
    impostors: Sequence[Sequence[NDArray[np.float64]]], genuine: Sequence[Sequence[NDArray[np.float64]]]
) -> NDArray[np.float64]:
    """Return the weights for the log odds of a correct match with the highest likelihood; all images count equally."""
    from scipy.optimize import minimize

    groups = [(rows, sign, share) for kind, sign, share in ((impostors, -1, PRIOR), (genuine, 1, 1 - PRIOR))
              for rows in kind if len(rows)]  # fmt: skip
    images = {sign: sum(1 for _, s, _ in groups if s == sign) for sign in (-1, 1)}
    signs = np.concatenate([np.full(len(rows), sign, float) for rows, sign, _ in groups])
    mass = np.concatenate([np.full(len(rows), share / (images[sign] * len(rows))) for rows, sign, share in groups])
    signed = np.concatenate([np.stack(rows) for rows, _, _ in groups]) * signs[:, None]

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        odds = signed @ weights
        slope = -mass * _probability(odds)
        value = float(mass @ np.logaddexp(0, -odds)) + 0.5 * _RIDGE * float(weights[1:] @ weights[1:])
        return value, signed.T @ slope + _RIDGE * np.concatenate([[0.0], weights[1:]])

    bounds = [(None, None)] + [(0, None)] * (len(_FEATURES) - 1)
    fitted: NDArray[np.float64] = minimize(loss, np.zeros(len(_FEATURES)), jac=True, bounds=bounds).x
    return fitted


def _probability(odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 / (1 + exp(odds)): the probability of a wrong match from the log odds of a correct one."""
    found: NDArray[np.float64] = np.exp(-np.logaddexp(0, odds))
    return found


@lru_cache(maxsize=4)
def calibration_of(text: str | None) -> Calibration:
    """Return the calibration of a store, or the shipped one if the store has none.

    Raises
    ------
    CalibrationError
        If the stored calibration is damaged.
    """
    if text is not None:
        return Calibration.from_json(text)
    shipped = resources.files(__package__).joinpath("calibration.json").read_text(encoding="utf-8")
    return Calibration.from_json(shipped)
