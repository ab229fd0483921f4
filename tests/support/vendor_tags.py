"""TIFF tags in the format of the vendors, for tests of metadata."""

from __future__ import annotations

import io
import itertools

import numpy as np
import tifffile

Extra = tuple[int, int, int, object, bool]
WIDTH, HEIGHT = 64, 48


def tiff(*extra: Extra, width: int = WIDTH, height: int = HEIGHT, **options: object) -> bytes:
    buffer = io.BytesIO()
    pixels = np.arange(width * height, dtype=np.uint8).reshape(height, width)
    tifffile.imwrite(buffer, pixels, metadata=None, extratags=list(extra), **options)
    return buffer.getvalue()


def text_tag(code: int, text: str, encoding: str = "cp1252") -> Extra:
    data = text.encode(encoding) + b"\0"
    return code, 2, len(data), data, True


def bytes_tag(code: int, data: bytes) -> Extra:
    return code, 7, len(data), data, True


ZEISS = {
    "DP_SEM": "Sem = Merlin",
    "DP_IMAGE_STORE": "Store resolution = 64 * 48",
    "DP_DETECTOR_CHANNEL": "Signal A = InLens",
    "DP_DETECTOR_TYPE": "Detector = InLens",
    "DP_FIB_IMAGING": "FIB Imaging = SEM",
    "DP_MIXING": "Mixing = Off",
    "DP_IMPLIED_DETECTOR": "Signal B = ESB",
    "AP_ACTUALKV": "EHT =  5.00 kV",
    "AP_WD": "WD =   8.2 mm",
    "AP_MAG": "Mag =    1.14 K X",
    "AP_IMAGE_PIXEL_SIZE": "Image Pixel Size = 48.83 nm",
    "AP_WIDTH": "Width = 3.125 µm",
    "AP_STAGE_AT_X": "Stage at X =  69.3945 mm",
    "AP_STAGE_AT_Y": "Stage at Y =  -59.698 mm",
    "AP_STAGE_AT_Z": "Stage at Z =   47323 µm",
    "AP_STAGE_AT_R": "Stage at R = 350.0 °",
    "AP_STAGE_AT_T": "Stage at T =   0.0 °",
    "AP_DATE": "Date :26 Apr 2021",
    "AP_TIME": "Time :17:58:45",
}


def zeiss_text(**changes: str | None) -> str:
    parameters = {key: line for key, line in {**ZEISS, **changes}.items() if line is not None}
    head = ["0", "0", "0", "7.8125e-07", "1143.296"]
    return "\r\n".join([*head, *itertools.chain(*parameters.items())]) + "\r\n"
