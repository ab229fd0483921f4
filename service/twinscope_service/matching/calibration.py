"""Calibration: an estimate of the probability that a match is wrong, computed from the measurements of the match.

The logistic model (Platt, "Probabilistic outputs for support vector machines", 1999) uses four measurements: the scene
score, the closeness of the hashes, the SSIM, and the lead over candidates of other categories. No measurement has a
negative weight. Therefore, stronger evidence for the match never increases the probability. The interval is computed
with models that were fitted to resampled images (Efron's bootstrap). A small number of images cannot prove a very low
probability. Therefore, the estimate and the upper end of the interval have minimum values that depend on the number of
images.
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
"""Mean distance between the hashes of unrelated images, in bits."""
_RIDGE: Final = 3e-4
"""Strength of the ridge penalty, relative to the mean log-likelihood. The penalty prevents infinite weights even if the
model separates all correct matches from all wrong matches."""
_VERSION: Final = 1
PRIOR: Final = 0.5
"""Share of queries without a twin that the estimate assumes."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """A fitted model of the probability that a match is wrong.

    Attributes
    ----------
    name : str
        Readable name of the data that were used to fit the model.
    weights : tuple of tuple of float
        Weights of the model, followed by the weights of the models that were fitted to resampled collections. Each
        model has one weight per feature.
    impostors, genuine : int
        Number of images in the data of the fit: images whose twin was excluded (`impostors`), and images whose twin was
        in the store (`genuine`).
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
            Candidates; the best candidate is first.

        Returns
        -------
        ChanceOfError or None
            None if there is no match, or if the scene score of the best match is unknown.
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
        """The minimum of the estimate, and the minimum of the upper end of its interval, for n impostor images.

        If none of n impostors was as similar as the match, Laplace's rule of succession estimates that the probability
        is 1 / (n + 2). The one-sided 95 % confidence limit of the probability is then 1 - 0.05 ** (1 / n) (Clopper and
        Pearson, 1934).
        """
        n = self.impostors
        return 1 / (n + 2), 1 - 0.05 ** (1 / max(n, 1))

    def to_json(self) -> str:
        """Return the model as JSON text. The catalog stores this text."""
        values = {"version": _VERSION, "name": self.name, "features": _FEATURES, "weights": self.weights}
        return json.dumps(values | {"impostors": self.impostors, "genuine": self.genuine})

    @classmethod
    def from_json(cls, text: str) -> Calibration:
        """Read a model from the text that `to_json` returned.

        Raises
        ------
        CalibrationError
            If the text is damaged or was written by another version.
        """
        try:
            values = json.loads(text)
            weights = tuple(tuple(map(float, row)) for row in values["weights"])
            made = cls(str(values["name"]), weights, int(values["impostors"]), int(values["genuine"]))
            fits = values["version"] == _VERSION and tuple(values["features"]) == _FEATURES and weights
        except (ValueError, KeyError, TypeError) as error:
            raise CalibrationError("the stored calibration is damaged") from error
        if not fits or not np.isfinite(weights).all() or {len(row) for row in weights} != {len(_FEATURES)}:
            raise CalibrationError("the stored calibration was written by another version")
        return made


def features(matches: Sequence[Match]) -> NDArray[np.float64] | None:
    """Return the measurements of the best match as the features of the model.

    Returns
    -------
    ndarray of float64, shape (5,), or None
        The constant 1, the scene score, the closeness of the hashes, the SSIM, and the lead. The closeness is 1 if the
        hashes are equal, and 0 if the distance is the mean distance of unrelated images. The SSIM is 0 if it was not
        computed. The lead is the scene score minus the scene score of the best candidate of another category. None if
        there is no match, or if the scene score of the best match is unknown.
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
    """Fit a model to the features of wrong and of correct matches.

    Parameters
    ----------
    name : str
        Readable name of the data.
    impostors, genuine : sequence of sequence of ndarray
        Results of `features` for wrong matches (`impostors`) and for correct matches (`genuine`). Each image that was
        used as a query has one sequence. If no reference was near the image, the sequence is empty. Such an image is
        also counted.
    resamples : int
        Number of resampled collections. For the interval, one model is fitted to each of them.
    seed : int
        Seed of the random numbers for the resampling.

    Returns
    -------
    Calibration

    Raises
    ------
    CalibrationError
        If there are no wrong matches, or if there are no correct matches.
    """
    if not any(len(rows) for rows in genuine) or not any(len(rows) for rows in impostors):
        msg = (
            "there are too few images to calibrate: at least one image must be found again after a change, and at "
            "least one image must be compared with an image of another field"
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
    """Return the weights of the model with the highest likelihood; the model gives the log odds of a correct match.

    All images of one kind (impostors or genuine) have equal weight.
    """
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
    """Return 1 / (1 + exp(odds)): the probability of a wrong match. `odds` are the log odds of a correct match."""
    found: NDArray[np.float64] = np.exp(-np.logaddexp(0, odds))
    return found


@lru_cache(maxsize=4)
def calibration_of(text: str | None) -> Calibration:
    """Return the calibration of a store; if it has no calibration, return the calibration that is part of Twinscope.

    Raises
    ------
    CalibrationError
        If the stored calibration is damaged.
    """
    if text is not None:
        return Calibration.from_json(text)
    shipped = resources.files(__package__).joinpath("calibration.json").read_text(encoding="utf-8")
    return Calibration.from_json(shipped)
