"""A demonstration collection: labelled JPEGs, unlabelled TIFFs of a lab, and the correct category of each TIFF."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from twinscope_client.demo.acquisition import CATEGORIES, conditions, synthesise, window
from twinscope_client.demo.infobar import Conditions
from twinscope_client.errors import OutputError

_Pixels = NDArray[np.uint8] | NDArray[np.uint16]

_PUBLISHED_PREFIX = {
    "Porous_Sponge": "L0",
    "Patterned_surface": "L1",
    "Particles": "L2",
    "Films_Coated_Surface": "L3",
    "Powder": "L4",
    "Tips": "L5",
    "Nanowires": "L6",
    "Biological": "L7",
    "MEMS_devices_and_electrodes": "L8",
    "Fibres": "L9",
}
"""Prefixes in the file names of the JPEGs that NFFA-EUROPE published. These prefixes differ from the documented codes
of the categories."""

_SHIPPED_AS = {"Powder": "tar", "Tips": "zip"}
"""Categories whose images are written into an archive instead of a folder, and the type of each archive."""

_SESSIONS = ("2024-03-11 session", "2024-03-12 session", "2024-06 Møller & Ðurić")
_ODD_NAME = 'Müller\'s "as received" grid – 5 µm.tif'
_SEED_STRIDE = 1_000_000  # so that collections with different seeds have no micrograph in common
_UNRELATED = 500_000  # added to the seeds of micrographs that have no twin in the collection
_ARCHIVE_TIME = (2021, 6, 1, 12, 0, 0)
_ARCHIVE_MTIME = 1_622_548_800  # this time in seconds since 1970, UTC


@dataclass(frozen=True)
class DemoCollection:
    """The paths of a demonstration collection.

    Attributes
    ----------
    references : Path
        Folder of the labelled JPEGs. This folder contains one folder or archive for each category.
    queries : Path
        Folder of the TIFFs of the lab.
    truth : Path
        CSV file with one row for each TIFF. The columns are the attributes of `Truth`.
    """

    references: Path
    queries: Path
    truth: Path


class Truth(NamedTuple):
    """The known correct result for one TIFF of the lab.

    Attributes
    ----------
    query : str
        Path of the TIFF relative to the root, with forward slashes.
    change : str
        The change that was applied to the scan. Other possible values are ``no twin``, ``truncated`` and ``blank``.
    category : str
        Category of the twin; empty if there is no twin.
    reference : str
        Path of the twin relative to the root. If the twin is in an archive, the path has the form ``archive!member``.
        Empty if there is no twin.
    """

    query: str
    change: str
    category: str
    reference: str


@dataclass(frozen=True)
class _Reference:
    category: str
    seed: int
    source: str


def _at_quality_70(scan: NDArray[np.uint16]) -> _Pixels:
    with Image.open(io.BytesIO(_jpeg(window(scan), 70))) as image:
        pixels: NDArray[np.uint8] = np.asarray(image.convert("L"))
    return pixels


def _halved(scan: NDArray[np.uint16]) -> _Pixels:
    image = Image.fromarray(window(scan))
    return np.asarray(image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS))


def _gamma(scan: NDArray[np.uint16]) -> _Pixels:
    darkened: NDArray[np.uint8] = np.rint(255 * (window(scan) / 255) ** 1.5).astype(np.uint8)
    return darkened


def _low_contrast(scan: NDArray[np.uint16]) -> _Pixels:
    paled: NDArray[np.uint8] = np.rint(40 + 0.6 * window(scan)).astype(np.uint8)
    return paled


def _noisy(scan: NDArray[np.uint16]) -> _Pixels:
    noise = np.random.default_rng(int(scan.sum())).normal(0, 6, scan.shape)
    return np.clip(np.rint(window(scan) + noise), 0, 255).astype(np.uint8)


_NO_TWIN = "no twin"
_EXACT: dict[str, Callable[[NDArray[np.uint16]], _Pixels]] = {
    "same scan, 8 bit": window,
    "same scan, 16 bit": lambda scan: scan,
}
"""Changes that are applied to the first TIFFs of every category. These changes do not alter the pixels of the scan."""

_FURTHER: dict[str, Callable[[NDArray[np.uint16]], _Pixels]] = {
    "re-encoded at quality 70": _at_quality_70,
    "half size": _halved,
    "gamma 1.5": _gamma,
    "contrast 0.6": _low_contrast,
    "noise of 6 grey levels": _noisy,
    _NO_TWIN: window,
}
"""Changes for all other TIFFs. Each TIFF gets the next change in this list; after the last change, the list starts
again."""


def write_collection(
    root: Path,
    *,
    per_category: int = 6,
    queries_per_category: int = 4,
    seed: int = 0,
    size: tuple[int, int] = (640, 480),
) -> DemoCollection:
    """Write labelled JPEGs, TIFFs of a lab, and the correct result for each TIFF.

    The same arguments always give the same bytes. ``collection/`` contains a folder for each category. Two categories
    have an archive instead: one has a ``.tar`` file, the other a ``.zip`` file. ``lab/`` contains a folder for each
    session at the microscope. The first two TIFFs of a category show the same scans as two labelled JPEGs. One of the
    two TIFFs has 8 bits per pixel, and the other has 16 bits. All other TIFFs were changed or have no twin. Two TIFFs
    have the same name. One file name contains spaces, quotes and non-ASCII letters. One TIFF is truncated, and one is
    blank.

    Parameters
    ----------
    root : Path
        Output folder. The folder is created if it does not exist.
    per_category, queries_per_category : int
        Number of JPEGs and number of TIFFs for each category, both at least 1. The truncated and the blank TIFF are
        not counted.
    seed : int
        Number that selects the micrographs. The number must be 0 or larger.
    size : tuple of int
        Width and height of the micrographs in pixels.

    Returns
    -------
    DemoCollection

    Raises
    ------
    OutputError
        If `root` is a file, if `root` is a folder that is not empty, or if the files cannot be written.
    ValueError
        If a number is too small.
    """
    if per_category < 1 or queries_per_category < 1:
        raise ValueError(f"a category needs at least 1 JPEG and 1 TIFF, not {per_category} and {queries_per_category}")
    if seed < 0:
        raise ValueError(f"a seed cannot be negative: {seed}")
    try:
        root.mkdir(parents=True, exist_ok=True)
        if any(root.iterdir()):
            raise OutputError(f"{root}: the folder is not empty; choose a new or an empty folder for the demonstration")
        references = {name: list(_write_category(root, name, per_category, seed, size)) for name in CATEGORIES}
        truth = list(_write_lab(root, references, queries_per_category, seed, size))
        with (root / "truth.csv").open("x", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([Truth._fields, *truth])
    except OSError as error:
        raise OutputError(f"{root}: the demonstration cannot be written here: {error.strerror or error}") from error
    return DemoCollection(root / "collection", root / "lab", root / "truth.csv")


def _write_category(root: Path, category: str, count: int, seed: int, size: tuple[int, int]) -> Iterator[_Reference]:
    """Write the JPEGs of a category as a folder or an archive, and yield the references."""
    files: dict[str, bytes] = {}
    for number in range(count):
        chosen = seed * _SEED_STRIDE + number
        pixels = synthesise(category, chosen, width=size[0], height=size[1])
        digits = hashlib.blake2b(pixels.tobytes(), digest_size=16).hexdigest()
        name = f"{category}/{_PUBLISHED_PREFIX[category]}_{digits}.jpg"
        files[name] = _jpeg(pixels, 100)
        suffix = _SHIPPED_AS.get(category)
        yield _Reference(category, chosen, f"collection/{category}.{suffix}!{name}" if suffix else f"collection/{name}")
    _ship(root / "collection", category, files)


def _ship(folder: Path, category: str, files: dict[str, bytes]) -> None:
    """Write the files of a category as a folder or an archive.

    `files` maps each path within `folder` to the content.
    """
    (folder if category in _SHIPPED_AS else folder / category).mkdir(parents=True, exist_ok=True)
    match _SHIPPED_AS.get(category):
        case "tar":
            with tarfile.open(folder / f"{category}.tar", "x", format=tarfile.PAX_FORMAT) as tar:
                for name, content in files.items():
                    member = tarfile.TarInfo(name)
                    member.size, member.mtime = len(content), _ARCHIVE_MTIME
                    tar.addfile(member, io.BytesIO(content))
        case "zip":
            with zipfile.ZipFile(folder / f"{category}.zip", "x") as archive:
                for name, content in files.items():
                    archive.writestr(zipfile.ZipInfo(name, _ARCHIVE_TIME), content)
        case _:
            for name, content in files.items():
                with (folder / name).open("xb") as file:
                    file.write(content)


def _write_lab(
    root: Path, references: dict[str, list[_Reference]], per_category: int, seed: int, size: tuple[int, int]
) -> Iterator[Truth]:
    """Write the TIFFs of the lab, and yield the correct result for each TIFF."""
    for session in _SESSIONS:
        (root / "lab" / session).mkdir(parents=True)
    width, height = size
    plan = itertools.chain((change for change in _EXACT for _ in CATEGORIES), itertools.cycle(_FURTHER))
    for number, change in enumerate(itertools.islice(plan, len(CATEGORIES) * per_category)):
        cycle, kind = divmod(number, len(CATEGORIES))
        category = CATEGORIES[kind]
        scanned = references[category][cycle % len(references[category])]
        if change == _NO_TWIN:
            scanned = _Reference(category, seed * _SEED_STRIDE + _UNRELATED + cycle, "")
        path = root / "lab" / _SESSIONS[number % len(_SESSIONS)] / _lab_name(number)
        counts = synthesise(category, scanned.seed, width=width, height=height, depth=16)
        _write_tiff(path, (_EXACT | _FURTHER)[change](counts), conditions(category, scanned.seed), width)
        yield Truth(path.relative_to(root).as_posix(), change, category if scanned.source else "", scanned.source)
    yield from _write_unusable(root, seed, size)


def _write_unusable(root: Path, seed: int, size: tuple[int, int]) -> Iterator[Truth]:
    """Write a truncated TIFF and a blank TIFF, and yield the correct result for both files."""
    width, height = size
    folder = root / "lab" / _SESSIONS[-1]
    chosen = seed * _SEED_STRIDE + _UNRELATED - 1
    taken = conditions(CATEGORIES[0], chosen)
    broken = folder / "interrupted copy.tif"
    _write_tiff(broken, synthesise(CATEGORIES[0], chosen, width=width, height=height), taken, width)
    with broken.open("r+b") as file:
        file.truncate(int(0.6 * broken.stat().st_size))
    yield Truth(broken.relative_to(root).as_posix(), "truncated", "", "")
    blank = folder / "beam off.tif"
    _write_tiff(blank, np.full((height, width), 23, np.uint8), taken, width)
    yield Truth(blank.relative_to(root).as_posix(), "blank", "", "")


def _lab_name(number: int) -> str:
    """Return the name of a TIFF.

    The first two TIFFs have the same name in different folders. The third TIFF has an unusual name.
    """
    return {0: "overview.tif", 1: "overview.tif", 2: _ODD_NAME}.get(number, f"sample_{number + 1:03d}.tif")


def _write_tiff(path: Path, pixels: _Pixels, taken: Conditions, width: int) -> None:
    """Write a TIFF that contains the instrument conditions.

    `width` is the width in pixels before the scan was resized.
    """
    nanometres = taken.pixel_size(width) * width / pixels.shape[1]
    with path.open("xb") as file:
        tifffile.imwrite(
            file,
            pixels,
            photometric="minisblack",
            metadata=None,
            description=f"{taken.line()}; pixel size {nanometres:.4g} nm",
            software="Twinscope demo microscope",
            datetime=taken.taken,
            resolution=(1e7 / nanometres, 1e7 / nanometres),  # pixels per centimetre
            resolutionunit="CENTIMETER",
        )


def _jpeg(pixels: NDArray[np.uint8], quality: int) -> bytes:
    """Return the pixels as an RGB JPEG, because the published JPEGs are RGB."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert("RGB").save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
