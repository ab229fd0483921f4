"""The physical size of pixels and of the field of an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

_AGREEMENT = 0.02  # relative; calibrations are written with three or four digits


class Calibration(NamedTuple):
    """The calibration of an image, with the field names of `InstrumentMetadata`.

    A value is None if it is not written, or if two written values disagree.
    """

    pixel_width_nm: float | None = None
    pixel_height_nm: float | None = None
    field_width_um: float | None = None


@dataclass(frozen=True, slots=True)
class ImageSize:
    """Width and height of the image in a file, in pixels; None if unknown."""

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
        """Compute the pixel size from the field width, or the reverse, and check that the two agree.

        Parameters
        ----------
        pixel_nm, field_um : float or None
            Width of a pixel, and of the whole image; positive. Nothing is computed or compared if the width of the
            image in pixels is unknown.
        pixel_height_nm : float or None
            Height of a pixel; default: that of a square pixel.
        saved_width : int or None
            Width in pixels that the instrument recorded for the saved image.

        Returns
        -------
        Calibration
            Empty if the image was cropped or scaled after it was saved: its width is not `saved_width`, or its two
            sizes differ by more than 2 %.
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
        """Return the number of rows below the scanned field, whose width and height are given in pixels.

        None if a size is unknown, the image is lower than the field, or their widths differ.
        """
        if field is None or self.height is None or field[0] != self.width or self.height < field[1]:
            return None
        return self.height - field[1]


def agree(one: float, other: float) -> bool:
    """Check whether two positive sizes differ by at most 2 %."""
    return abs(one - other) <= _AGREEMENT * max(one, other)
