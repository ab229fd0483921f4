"""How large a picture is in reality."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

_AGREEMENT = 0.02  # relative; calibrations are written with three or four digits


class Calibration(NamedTuple):
    """The calibration of a picture, by the names that `InstrumentMetadata` has for it.

    None is what is not written, or written in two ways that disagree.
    """

    pixel_width_nm: float | None = None
    pixel_height_nm: float | None = None
    field_width_um: float | None = None


@dataclass(frozen=True, slots=True)
class ImageSize:
    """The sides of the picture in a file, in pixels; None if they are not known."""

    width: int | None = None
    height: int | None = None

    def calibrated(
        self,
        pixel_nm: float | None,
        field_um: float | None = None,
        *,
        pixel_height_nm: float | None = None,
        saved_width: int | None = None,
    ) -> Calibration:
        """Complete a pixel size by a field width, or the other way round, and check that they belong together.

        Parameters
        ----------
        pixel_nm, field_um : float or None
            Width of a pixel, and of the whole picture; positive. Nothing is completed or compared if the width of the
            picture in pixels is not known.
        pixel_height_nm : float or None
            Height of a pixel; by default it is square.
        saved_width : int or None
            Width in pixels that the instrument says it saved.

        Returns
        -------
        Calibration
            Empty if the picture was cut or scaled after it was saved: it has another width than `saved_width`, or its
            two sizes differ by more than 2 %.
        """
        width = self.width
        if width is not None:
            if saved_width is not None and saved_width != width:
                return Calibration()
            if pixel_nm is not None and field_um is not None and not agree(pixel_nm * width, field_um * 1000):
                return Calibration()
            if pixel_nm is None and field_um is not None:
                pixel_nm = field_um * 1000 / width
            elif pixel_nm is not None and field_um is None:
                field_um = pixel_nm * width / 1000
        return Calibration(pixel_nm, pixel_height_nm or pixel_nm, field_um)

    def rows_below(self, field: tuple[int, int] | None) -> int | None:
        """Count the rows below the scanned field, of which width and height in pixels are given.

        None if something is not known, or the picture is smaller than the field or has another width.
        """
        if field is None or self.height is None or field[0] != self.width or self.height < field[1]:
            return None
        return self.height - field[1]


def agree(one: float, other: float) -> bool:
    """Check whether two sizes, both positive, differ by 2 % at most."""
    return abs(one - other) <= _AGREEMENT * max(one, other)
