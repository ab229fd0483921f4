"""A self-test of this installation.

The results of Twinscope are compared with the results of simple but slow implementations.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from twinscope_indexer.errors import MissingExtraError, extra_needed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PACKAGES = (
    "twinscope", "numpy", "scipy", "Pillow", "ImageHash", "scikit-image", "faiss-cpu", "tifffile", "imagecodecs",
    "numba", "grpcio", "protobuf", "indexed_gzip", "matplotlib",
)  # fmt: skip
_FEATURES = ("avx", "avx2", "bmi2", "fma", "f16c", "popcnt", "avx512f", "avx512vpopcntdq", "neon", "sve")


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check: its name, whether the check succeeded, and details for the user."""

    name: str
    fine: bool
    detail: str


def versions() -> dict[str, str]:
    """Return the versions of Python and of all packages that affect results.

    If a package is not installed, its version is ``missing``.
    """
    found = {"Python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "missing"
    return found


def machine() -> dict[str, str]:
    """Return the operating system, the processor, the number of cores, and the processor features that are used.

    These processor features are used by the kernels, which are the compiled functions of Twinscope.
    """
    from llvmlite import binding

    present = binding.get_host_cpu_features()
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": str(binding.get_host_cpu_name()),
        "cores": str(os.cpu_count()),
        "features": " ".join(name for name in _FEATURES if present.get(name)),
    }


def warm_up() -> Check:
    """Compile all kernels of Twinscope, and keep the machine code for later processes.

    Returns
    -------
    Check
        The check fails if the machine code cannot be kept.
    """
    from twinscope_indexer.compute.machine_code import WORK

    unkept = WORK.unkept
    _, detail = _machine_code_test()
    return Check("machine code", WORK.unkept == unkept, detail)


def checks() -> Iterator[Check]:
    """Run the self-tests one after another, and yield the result of each.

    The first run on a machine also compiles the kernels of Twinscope and stores the machine code in a cache.
    """
    for name, test in _TESTS.items():
        try:
            fine, detail = test()
        except MissingExtraError as error:
            fine, detail = True, f"not run: {error}"
        except Exception as error:  # noqa: BLE001  any failure is reported, and the remaining checks still run
            fine, detail = False, f"{type(error).__name__}: {error}"
        yield Check(name, fine, detail)


def _machine_code_test() -> tuple[bool, str]:
    from time import perf_counter

    from twinscope_indexer.compute.machine_code import NOT_KEPT, WORK
    from twinscope_service.server.warmup import warm

    start, compiled, unkept = perf_counter(), WORK.compiled, WORK.unkept
    warm()
    seconds = f"{perf_counter() - start:.1f} s"
    if WORK.unkept > unkept:
        return True, f"compiled in {seconds}, but not kept: {NOT_KEPT}"
    if WORK.compiled > compiled:
        return True, f"compiled in {seconds}, and kept in {WORK.folder} and in folders beside it"
    return True, f"loaded in {seconds} from {WORK.folder} and folders beside it"


def _hash_test() -> tuple[bool, str]:
    from PIL import Image, ImageOps

    with extra_needed("the comparison with imagehash", "legacy"):
        import imagehash
    from twinscope_indexer.hashing.perceptual import phash

    differing = 0
    for pixels in _samples():
        standard = ImageOps.autocontrast(ImageOps.equalize(Image.fromarray(pixels).convert("L")))
        differing += str(imagehash.phash(standard, hash_size=32)) != phash(pixels).tobytes().hex()
    return differing == 0, f"{differing} of {len(_samples())} hashes differ from imagehash"


def _ssim_test() -> tuple[bool, str]:
    with extra_needed("the comparison with scikit-image", "legacy"):
        from skimage.metrics import structural_similarity
    from twinscope_service.similarity.ssim import ssim

    samples = _samples()
    worst = max(
        abs(ssim(a[:480, :640], b[:480, :640]) - float(structural_similarity(a[:480, :640], b[:480, :640])))
        for a, b in pairwise(samples)
    )
    return worst < 1e-5, f"the largest difference from scikit-image is {worst:.1e}"


def _index_test() -> tuple[bool, str]:
    from twinscope_indexer.index.engines import ENGINES, engine_index

    generator = np.random.default_rng(1)
    codes = generator.integers(0, 256, (5000, 128), dtype=np.uint8)
    codes[1000:1050] = codes[0]  # equal codes have equal distances; such results must be in the order of their ids
    ids = generator.permutation(len(codes)).astype(np.int64)
    indexes = [engine_index(name).extended([(ids, codes)]) for name in ENGINES]
    wrong = 0
    for query in codes[:5]:
        distances = np.bitwise_count(codes ^ query).sum(axis=1)
        order = np.lexsort((ids, distances))[:10]
        for index in indexes:
            [found] = index.search(query[None], 10, 1024)
            wrong += not (np.array_equal(found.ids, ids[order]) and np.array_equal(found.distances, distances[order]))
    searches = f"{wrong} of {5 * len(indexes)} searches (5 with each of the engines {', '.join(ENGINES)})"
    return wrong == 0, f"{searches} differ from a NumPy scan of {len(codes)} codes"


def _index_engine_test() -> tuple[bool, str]:
    from twinscope_indexer.index.choice import MEASURED_FROM, choose
    from twinscope_indexer.index.measurement import cache_file

    choice = choose(MEASURED_FROM)
    names = f"{choice.single} for one query, {choice.batch} for several queries, {choice.frames} for frames"
    path = cache_file()
    cached = f"cached in {path}" if path is not None and path.is_file() else "not cached"
    return True, f"{names}; {choice.reason}; {cached}"


def _index_file_test() -> tuple[bool, str]:
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from twinscope_indexer.index.faiss_file import read_index, write_index

    generator = np.random.default_rng(2)
    codes = generator.integers(0, 256, (3000, 128), dtype=np.uint8)
    ids = generator.permutation(len(codes)).astype(np.int64)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "index.faiss"
        digest = write_index(path, len(codes), [(ids, codes)])
        [(found_ids, found)] = read_index(path, digest, len(codes))
    wrong = np.count_nonzero((found != codes).any(axis=1) | (found_ids != ids))
    return not wrong, f"{len(codes) - wrong} of {len(codes)} codes are the same after writing and reading a file"


def _scene_test() -> tuple[bool, str]:
    from twinscope_indexer.hashing.thumbnail import decode_thumbnail, encode_thumbnail
    from twinscope_service.similarity.scene_score import scene_scores

    first, second = (decode_thumbnail(encode_thumbnail(pixels)) for pixels in _samples()[:2])
    same, other = (found.score for found in scene_scores(first, [first, second]))
    detail = f"the scene score of an image is {same:.3f} with itself and {other:.3f} with another image"
    return same > 0.99 and abs(other) < 0.4, detail


def _reading_test() -> tuple[bool, str]:
    from io import BytesIO

    import tifffile
    from twinscope_indexer.imaging.reader import read_image

    pixels = _samples()[0]
    wrong = []
    for compression in (None, "lzw", "deflate", "packbits"):
        data = BytesIO()
        tifffile.imwrite(data, pixels, compression=compression)
        if not np.array_equal(read_image(data.getvalue()).pixels, pixels):
            wrong.append(str(compression))
    return not wrong, f"TIFF compressions that are not read correctly: {', '.join(wrong) or 'none'}"


def _samples() -> list[np.ndarray[tuple[int, int], np.dtype[np.uint8]]]:
    """Return smooth random images of several sizes, with 8 bits per pixel."""
    from scipy.ndimage import gaussian_filter

    generator = np.random.default_rng(0)
    samples = []
    for height, width, blur in ((480, 640, 3.0), (480, 640, 8.0), (512, 700, 1.0), (601, 803, 20.0)):
        noise = gaussian_filter(generator.normal(size=(height, width)), blur)
        noise = (noise - noise.min()) / (noise.max() - noise.min())
        samples.append((255 * noise).astype(np.uint8))
    return samples


_TESTS: dict[str, Callable[[], tuple[bool, str]]] = {
    "machine code": _machine_code_test,
    "reading TIFFs": _reading_test,
    "hash": _hash_test,
    "SSIM": _ssim_test,
    "scene score": _scene_test,
    "index": _index_test,
    "index engine": _index_engine_test,
    "index file": _index_file_test,
}
