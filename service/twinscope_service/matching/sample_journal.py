"""The journal of a calibration: it keeps the data of each sampled image, so that a stopped calibration can continue.

The journal is a file of JSON lines in the folder of the store. Its first line identifies the generation of the store,
and the code that measured the data. If the store has changed since, the journal starts again.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from twinscope_indexer.files import write_durably
from twinscope_indexer.hashing.perceptual import RECIPE

from twinscope_service.errors import CalibrationError
from twinscope_service.matching.double_labels import DoubleLabel

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from twinscope_indexer.store.reader import Store

JOURNAL_NAME: Final = "calibration.journal"


@dataclass(frozen=True, slots=True)
class Sample:
    """Calibration data of one image.

    Attributes
    ----------
    impostors, genuine : list of ndarray of float64
        Features of wrong matches and of correct matches; see `calibration.features`.
    copies : list of DoubleLabel
        Pairs of files that show one field but have different categories.
    readable : bool
        Whether the file of the image was readable.
    """

    impostors: list[NDArray[np.float64]]
    genuine: list[NDArray[np.float64]]
    copies: list[DoubleLabel]
    readable: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the data as values that can be written to JSON. No digit of a number is lost."""
        return {
            "impostors": [row.tolist() for row in self.impostors],
            "genuine": [row.tolist() for row in self.genuine],
            "copies": [asdict(pair) for pair in self.copies],
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build a sample from the result of `to_dict`."""
        impostors, genuine = ([np.array(row, np.float64) for row in values[name]] for name in ("impostors", "genuine"))
        return cls(impostors, genuine, [DoubleLabel(**pair) for pair in values["copies"]], readable=True)


class SampleJournal:
    """The journal of a calibration.

    Parameters
    ----------
    store : Store
        The store that is calibrated.

    Attributes
    ----------
    kept : int
        Number of images whose data were in the journal when it was opened.

    Raises
    ------
    CalibrationError
        If the journal cannot be read or created.
    """

    def __init__(self, store: Store) -> None:
        self._path = store.folder / JOURNAL_NAME
        made_by = {"store": store.store_id, "generation": store.view.generation, "recipe": RECIPE}
        head = json.dumps(made_by | {"version": version("twinscope")}) + "\n"
        try:
            self._samples = _read(self._path, head)
            if not self._samples:
                write_durably(self._path, head.encode())  # a new file: another process may still write to the old one
            self._stream = self._path.open("a", encoding="utf-8")
            self._stream.write("\n")  # ends a line that a killed process did not complete
        except OSError as error:
            raise _unusable(self._path, error) from error
        self.kept = len(self._samples)

    def find(self, number: int) -> Sample | None:
        """Return the data of an image; None if the journal does not contain the image."""
        return self._samples.get(number)

    def add(self, number: int, sample: Sample) -> None:
        """Keep the data of an image. If the file of the image was not readable, the data are not kept.

        Raises
        ------
        CalibrationError
            If the journal cannot be written.
        """
        if number in self._samples or not sample.readable:
            return
        self._samples[number] = sample
        try:
            self._stream.write(json.dumps({"image": number} | sample.to_dict()) + "\n")
            self._stream.flush()
        except OSError as error:
            raise _unusable(self._path, error) from error

    def __len__(self) -> int:
        """Return the number of images whose data are kept."""
        return len(self._samples)

    def close(self) -> None:
        """Close the file; the data are kept for the next call."""
        with suppress(OSError):  # if the disk is full, the last line is lost
            self._stream.close()

    def remove(self) -> None:
        """Close and remove the file, because the calibration is complete."""
        self.close()
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def _read(path: Path, head: str) -> dict[int, Sample]:
    """Return the samples in a file. The result is empty if the file is missing or belongs to other data."""
    try:
        first, *rows = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    except (FileNotFoundError, ValueError):
        return {}
    if first != head:
        return {}
    samples = {}
    for row in rows:
        with suppress(ValueError, KeyError, TypeError):  # an empty line, or the last line of a killed process
            values = json.loads(row)
            samples[int(values["image"])] = Sample.from_dict(values)
    return samples


def _unusable(path: Path, error: OSError) -> CalibrationError:
    return CalibrationError(f"the journal {path} cannot be used: {error.strerror or error}")
