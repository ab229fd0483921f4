"""Gatan DigitalMicrograph: TIFF tag 65027, or a file ``NAME.dm3`` or ``NAME.dm4`` in the folder of the image.

The program writes these files and tags for cameras and scan systems of electron microscopes. The module
`digital_micrograph` reads this form of tags. The TIFF tags 65009 and 65010 contain the width and height of a pixel, and
the tags 65003 and 65004 contain their units. The pixels of ``.dm3`` and ``.dm4`` files are not read.

Sources: The units of the voltage (volts), of the stage (micrometres, degrees) and the numbers of the TIFF tags are from
HyperSpy. They were compared with public files of two microscopes.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

from twinscope_indexer.metadata.calibration import Calibration, ImageSize
from twinscope_indexer.metadata.digital_micrograph import read_tags
from twinscope_indexer.metadata.model import InstrumentMetadata, StagePosition
from twinscope_indexer.metadata.quantity import LENGTH, moment, number, positive, quantity, words
from twinscope_indexer.metadata.text import decode
from twinscope_indexer.metadata.vendor import MappedValue, TagValue, VendorReader, VendorTag, VendorText

_VENDOR = "Gatan"
_KEY = "DigitalMicrograph"
_START = f'{{"{_KEY}": '  # start of the text that `_convert` makes
_UNITS, _SIZES = (65003, 65004), (65009, 65010)  # TIFF tags; x first


def _read(tag: TagValue) -> InstrumentMetadata:
    """Read the value of the TIFF tag. If the value is of another kind, the result is empty."""
    tree = read_tags(io.BytesIO(tag.data))
    if not tree:
        return InstrumentMetadata()
    pixel, height = (
        _length(_double(tag.read_other(size, 8), tag.directory.order), decode(tag.read_other(unit, 16)).strip())
        for size, unit in zip(_SIZES, _UNITS, strict=True)
    )
    return _normalise(tree, tag.image_size.calibrated(pixel, pixel_height_nm=height), tree)


def _double(data: bytes, order: str) -> float | None:
    return struct.unpack(order + "d", data)[0] if len(data) == 8 else None


def _length(size: object, unit: object) -> float | None:
    """Return a length in nanometres. In diffraction patterns, the unit is no length, and the result is None."""
    return positive(quantity(f"{size!r} {unit}", LENGTH, 9)) if isinstance(size, float) else None


def _convert(stream: BinaryIO) -> str:
    """Return the tags of a ``.dm3`` or ``.dm4`` file as text in JSON."""
    return _START + json.dumps(read_tags(stream)) + "}"


def _is_text(text: str) -> bool:
    return text.startswith(_START)


def _read_text(text: str, image_size: ImageSize) -> InstrumentMetadata:
    """Read the text of `_convert`.

    If the file has several images, the image with the right size is used. If no image has this size, the last image is
    used, without its scale.
    """
    try:
        tree = json.loads(text)[_KEY]
    except (ValueError, RecursionError):
        return InstrumentMetadata()
    images = [image for image in _group(tree, "ImageList").values() if isinstance(image, Mapping)]
    if not images:
        return InstrumentMetadata()
    sizes = [tuple(_group(image, "ImageData/Dimensions").values()) for image in images]
    same = (image for image, size in zip(images, sizes, strict=True) if size == (image_size.width, image_size.height))
    image = next(same, None)
    calibration = Calibration()
    if image is not None:
        axes = (_group(image, f"ImageData/Calibrations/Dimension/{axis}") for axis in "01")
        pixel, height = (_length(axis.get("Scale"), axis.get("Units")) for axis in axes)
        calibration = image_size.calibrated(pixel, pixel_height_nm=height)
    return _normalise(_group(image or images[-1], "ImageTags"), calibration, tree)


def _normalise(tags: Mapping[str, Any], calibration: Calibration, verbatim: Mapping[str, Any]) -> InstrumentMetadata:
    """Convert the tags of an image to normalised metadata. A diffraction pattern has no magnification."""
    info, bar = _group(tags, "Microscope Info"), _group(tags, "DataBar")
    stage = _group(info, "Stage Position")
    images = info.get("Operation Mode") != "DIFFRACTION"
    device = _group(tags, "Acquisition/Device")
    return InstrumentMetadata(
        vendor=_VENDOR,
        instrument=_words(_group(tags, "Session Info").get("Microscope"))
        or _words(info.get("Microscope"))
        or _words(info.get("Name")),
        beam_energy_kev=positive(_number(info.get("Voltage"), -3)),
        magnification=positive(_number(info.get("Indicated Magnification"))) if images else None,
        **calibration._asdict(),
        detector=_words(device.get("Name")) or _words(bar.get("Device Name")),
        stage=StagePosition(
            x_mm=_number(stage.get("Stage X"), -3),
            y_mm=_number(stage.get("Stage Y"), -3),
            z_mm=_number(stage.get("Stage Z"), -3),
            tilt_deg=_number(stage.get("Stage Alpha")),
        ),
        acquired=moment(_words(bar.get("Acquisition Date")), _words(bar.get("Acquisition Time"))),
        verbatim={_KEY: verbatim},
    )


def _group(tree: Any, path: str) -> Mapping[str, Any]:
    """Return a group of tags. If it does not exist, the result is empty."""
    for name in path.split("/"):
        tree = tree.get(name) if isinstance(tree, Mapping) else None
    return tree if isinstance(tree, Mapping) else {}


def _number(value: object, shift: int = 0) -> float | None:
    return number(repr(value), shift) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _words(value: object) -> str | None:
    return words(value) if isinstance(value, str) else None


READER = VendorReader(
    _VENDOR,
    tags=(VendorTag(65027, _KEY, _read),),
    text=VendorText(
        _is_text,
        _read_text,
        beside=("{stem}.dm3", "{stem}.dm4", "{stem}.DM3", "{stem}.DM4"),
        convert=_convert,
    ),
    makes_cameras=True,
    mapped=(
        MappedValue(
            "instrument", "Session Info/Microscope, or else Microscope Info/Microscope, or else Microscope Info/Name"
        ),
        MappedValue("beam_energy_kev", "Microscope Info/Voltage", "V"),
        MappedValue("magnification", "Microscope Info/Indicated Magnification; not in diffraction patterns"),
        MappedValue("pixel_width_nm", "TIFF tag 65009; files: ImageData/Calibrations/Dimension/0", "written"),
        MappedValue("pixel_height_nm", "TIFF tag 65010; files: ImageData/Calibrations/Dimension/1", "written"),
        MappedValue("field_width_um", "pixel width multiplied by the width of the image"),
        MappedValue("detector", "Acquisition/Device/Name, or else DataBar/Device Name"),
        MappedValue("stage.x_mm", "Microscope Info/Stage Position/Stage X", "µm"),
        MappedValue("stage.y_mm", "Microscope Info/Stage Position/Stage Y", "µm"),
        MappedValue("stage.z_mm", "Microscope Info/Stage Position/Stage Z", "µm"),
        MappedValue("stage.tilt_deg", "Microscope Info/Stage Position/Stage Alpha", "degrees"),
        MappedValue(
            "acquired", "DataBar/Acquisition Date and Acquisition Time, if the order of day and month is clear"
        ),
    ),
    checked=(
        "Real files: 110 files `.dm3` and `.dm4` from the tests of HyperSpy 1.7.6, and a TIFF file. All numbers and"
        " texts are the same as those of ncempy 1.16. pynxtools-em 0.4.6 reads the same values, with one "
        "difference. It reads the stage in metres and radians. In a real file, the stage position "
        "is -470, which is impossible in metres."
    ),
)
