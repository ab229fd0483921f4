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


ORION = {
    "System.Model": ("NanoFab", ""),
    "AccelerationVoltage": ("29997", "V"),
    "WorkingDistance": ("11.977", "mm"),
    "MagnificationDisplay": ("114300", "x"),
    "ScalingX": ("1.0e-08", "m"),
    "ScalingY": ("1.1e-08", "m"),
    "Fov": ("0.64", "um"),
    "ImageWidth": ("64", ""),
    "DetectorName": ("ETDetector", ""),
    "StageX": ("25157.23", "um"),
    "StageY": ("-1500", "um"),
    "StageZ": ("10.5", "mm"),
    "StageTilt": ("0.16", "Degrees"),
    "StageRotate": ("46.2", "Degrees"),
    "TimeStamp": ("2025-05-27T10:32:12.498-04:00", ""),
}


def orion_text(**changes: tuple[str, str]) -> str:
    values = {**ORION, **changes}
    elements = (
        f"<{name}><Value>{value}</Value><Units>{unit}</Units></{name}>" for name, (value, unit) in values.items()
    )
    return f'<?xml version="1.0"?><ImageTags>{"".join(elements)}</ImageTags>'


def diss_text(quantities: str, tool: str = "point electronic DISS 5.15.31.0") -> str:
    return f"""<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 5.1.2"><rdf:RDF
 xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:xmp="http://ns.adobe.com/xap/1.0/">
 <rdf:Description rdf:about="" xmp:CreatorTool="{tool}"><xmp:CreateDate>2021-03-03T11:31:14+01:00</xmp:CreateDate>
 </rdf:Description>
 <rdf:Description rdf:about="" xmlns:d="http://ns.pointelectronic.com/DISS/1.0/">{quantities}</rdf:Description>
</rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>"""


DISS = """<d:HV rdf:parseType="Resource"><rdf:value>15</rdf:value><d:Unit>kV</d:Unit></d:HV>
<d:WD rdf:parseType="Resource"><rdf:value>8.5</rdf:value><d:Unit>mm</d:Unit></d:WD>
<d:Mag>5000</d:Mag><d:PixelSizeX>1e-08</d:PixelSizeX><d:PixelSizeY>1.1e-08</d:PixelSizeY>"""

TVIPS: dict[str, object] = {
    "ImageSizeX": 64,
    "ImageSizeY": 48,
    "Date": 2017 << 16 | 4 << 8 | 12,
    "Time": 32477,
    "ImageName": "Grid – 7",
    "PixelSizeX": 1.5,
    "PixelSizeY": 1.75,
    "TemType": "MCL_04",
    "TemHighTension": 99000.0,
    "TemMagnification": 32000.0,
    "TemStagePosition": (0.25e-3, -0.5e-3, 0.125e-3, -0.5, 2.0),
    "CameraType": "F416",
    "Magic": 0xAAAAAAAA,
}


def tvips_header(order: str = "<", version: int = 2, **changes: object) -> bytes:
    """A structure of EM-MENU, as tifffile describes it."""
    first = np.zeros((), np.dtype(tifffile.TIFF.TVIPS_HEADER_V1).newbyteorder(order))
    second = np.zeros((), np.dtype(tifffile.TIFF.TVIPS_HEADER_V2).newbyteorder(order))
    first["Version"] = version
    for name, value in {**TVIPS, **changes}.items():
        second[name] = value.encode("utf-16-le" if order == "<" else "utf-16-be") if isinstance(value, str) else value
    return first.tobytes() + second.tobytes()


def tvips(order: str = "<", **changes: object) -> bytes:
    """Return a TIFF file with the structure at its end. The value of the tag is the offset of the structure."""
    data = tiff((37706, 4, 1, 0x1234ABCD, True), byteorder=order)
    mark, at = (number.to_bytes(4, "little" if order == "<" else "big") for number in (0x1234ABCD, len(data)))
    return data.replace(mark, at) + tvips_header(order, **changes)
