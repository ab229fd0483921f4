"""Files of Gatan DigitalMicrograph, for tests of metadata."""

from __future__ import annotations

import struct
from typing import Any


def document(tree: dict[str, Any], version: int = 3, order: str = "<") -> bytes:
    """Return a file with these tags. Keys that are numbers become tags without a name."""
    word = "I" if version == 3 else "Q"

    def group(tags: dict[str, Any]) -> bytes:
        return struct.pack(f">BB{word}", 1, 0, len(tags)) + b"".join(tag(*item) for item in tags.items())

    def tag(name: str, value: object) -> bytes:
        written = b"" if name.isdigit() else name.encode("cp1252")
        body = group(value) if isinstance(value, dict) else data(value)
        size = struct.pack(">Q", len(body)) if version == 4 else b""
        return struct.pack(">BH", 20 if isinstance(value, dict) else 21, len(written)) + written + size + body

    def data(value: object) -> bytes:
        if isinstance(value, str):
            codec = "utf-16-le" if order == "<" else "utf-16-be"
            return _described(word, 20, 4, len(value)) + value.encode(codec)
        if isinstance(value, bytes):
            return _described(word, 20, 10, len(value)) + value
        if isinstance(value, list):
            kinds = [number for item in value for number in (0, 7 if isinstance(item, float) else 3)]
            form = "".join("d" if isinstance(item, float) else "i" for item in value)
            return _described(word, 15, 0, len(value), *kinds) + struct.pack(order + form, *value)
        kind, form = {bool: (8, "?"), int: (3, "i"), float: (7, "d")}[type(value)]
        return _described(word, kind) + struct.pack(order + form, value)

    root = group(tree)
    return struct.pack(f">I{word}I", version, len(root), int(order == "<")) + root + bytes(8)


def _described(word: str, *description: int) -> bytes:
    return b"%%%%" + struct.pack(f">{len(description) + 1}{word}", len(description), *description)


IMAGE_TAGS = {
    "Microscope Info": {
        "Name": "Tecnai Remote",
        "Operation Mode": "IMAGING",
        "Indicated Magnification": 51000.0,
        "Voltage": 200000.0,
        "Emission Current (µA)": 1.5,
        "Stage Position": {"Stage X": -469.5, "Stage Y": 122.25, "Stage Z": 10.0, "Stage Alpha": 1.5},
    },
    "DataBar": {"Acquisition Date": "27.08.2016", "Acquisition Time": "20:54:33", "Device Name": "BM"},
    "Acquisition": {"Device": {"Name": "BM-UltraScan", "Pixel Size (um)": [14.0, 14.0]}, "Frame": b"\0" * 100_000},
}


def dm_file(version: int = 3, units: str = "nm", width: int = 64, tags: dict[str, Any] = IMAGE_TAGS) -> bytes:
    """A file with a thumbnail and one image."""

    def image(wide: int, high: int, scale: float, image_tags: dict[str, Any]) -> dict[str, Any]:
        axes = {"0": {"Scale": scale, "Units": units}, "1": {"Scale": 1.25 * scale, "Units": units}}
        return {
            "ImageData": {
                "Calibrations": {"Dimension": axes}, "Data": b"\0" * 1000, "Dimensions": {"0": wide, "1": high}
            },
            "ImageTags": image_tags,
        }  # fmt: skip

    images = {"0": image(16, 12, 1.0, {}), "1": image(width, 48, 0.5, tags)}
    return document({"ImageList": images, "ImageSourceList": {}}, version)
