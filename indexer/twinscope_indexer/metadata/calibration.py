"""The physical size of pixels and of the field of an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

SCALE_TOLERANCE = 0.02
"""Maximum relative difference of two pixel sizes or field widths that count as equal. Instruments write three or four
digits."""


class Calibration(NamedTuple):
    """The calibration of an image. The values have the same names as in `InstrumentMetadata`.

    A value is None if the file does not contain it, or if two values in the file contradict each other.
    """

    pixel_width_nm: float | None = None
    pixel_height_nm: float | None = None
    field_width_um: float | None = None


@dataclass(frozen=True, slots=True)
class ImageSize:
    """Width and height of the image in a file, in pixels. An unknown width or height is None."""

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
        """Compute the field width from the pixel size, or the pixel size from the field width.

        If both the pixel size and the field width are known, check that they agree.

        Parameters
        ----------
        pixel_nm, field_um : float or None
            Width of a pixel in nanometres, and width of the whole image in micrometres. Both are positive. Nothing is
            computed or compared if the width of the image in pixels is unknown.
        pixel_height_nm : float or None
            Height of a pixel in nanometres; default: the width of a pixel.
        saved_width : int or None
            Width of the image in pixels when the instrument saved it, as recorded in the metadata.

        Returns
        -------
        Calibration
            The calibration. The calibration is empty if the image was cropped or scaled after the instrument saved it.
            Twinscope assumes such a change if the width of the image is not `saved_width`, or if the field width
            differs by more than 2 % from the product of pixel size and width in pixels.
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
        """Return how many rows of pixels the image has below the scanned field.

        The result is None if a size is unknown, if the image has fewer rows than the field, or if the image and the
        field have different widths.

        Parameters
        ----------
        field : tuple of int, or None
            Width and height of the scanned field, in pixels.
        """
        if field is None or self.height is None or field[0] != self.width or self.height < field[1]:
            return None
        return self.height - field[1]


def agree(one: float, other: float) -> bool:
    """Check whether two positive sizes differ by at most 2 % of the larger size."""
    return abs(one - other) <= SCALE_TOLERANCE * max(one, other)
