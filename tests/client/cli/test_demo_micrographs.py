"""The synthetic micrographs, and the collection built from them."""

from __future__ import annotations

import csv
import io
import tarfile
import zipfile
from pathlib import Path

import imagehash
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageOps
from twinscope_client.demo.acquisition import WINDOW, conditions
from twinscope_client.demo.infobar import bar_height
from twinscope_client.demo.micrographs import CATEGORIES, DemoCollection, synthesise, write_collection
from twinscope_client.errors import OutputError

SMALL = (320, 240)
PER_CATEGORY, QUERIES = 2, 3
EXACT = ("same scan, 8 bit", "same scan, 16 bit")
CHANGED = ("re-encoded at quality 70", "half size", "gamma 1.5", "contrast 0.6", "noise of 6 grey levels")


def fingerprint(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    image = ImageOps.autocontrast(ImageOps.equalize(Image.fromarray(pixels)))
    return imagehash.phash(image, hash_size=32).hash.ravel()


def bits_apart(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> int:
    return int((fingerprint(first) != fingerprint(second)).sum())


def written(root: Path, seed: int = 3) -> DemoCollection:
    return write_collection(root, per_category=PER_CATEGORY, queries_per_category=QUERIES, seed=seed, size=SMALL)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "new" / "folder"
    written(folder)
    return folder


@pytest.fixture(scope="module")
def truth(root: Path) -> list[dict[str, str]]:
    with (root / "truth.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def reference_pixels(root: Path, source: str) -> NDArray[np.uint8]:
    """Read a labelled JPEG from its folder or archive."""
    container, _, member = source.partition("!")
    if container.endswith(".tar"):
        with tarfile.open(root / container) as tar:
            found = tar.extractfile(member)
            assert found is not None
            content = found.read()
    elif container.endswith(".zip"):
        with zipfile.ZipFile(root / container) as archive:
            content = archive.read(member)
    else:
        content = (root / container).read_bytes()
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("L"))


def query_pixels(path: Path) -> NDArray[np.uint8]:
    """Read a TIFF; scale 16-bit counts from black to white."""
    pixels = tifffile.imread(path)
    if pixels.dtype == np.uint8:
        return pixels
    return np.rint((pixels.astype(float) - WINDOW[0]) / (WINDOW[1] - WINDOW[0]) * 255).astype(np.uint8)


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_categories_are_the_ten_published_ones() -> None:
    assert sorted(CATEGORIES) == [
        "Biological",
        "Fibres",
        "Films_Coated_Surface",
        "MEMS_devices_and_electrodes",
        "Nanowires",
        "Particles",
        "Patterned_surface",
        "Porous_Sponge",
        "Powder",
        "Tips",
    ]


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize(("width", "height"), [(640, 480), (321, 243), (64, 64), (200, 900)])
def test_micrograph_has_the_requested_size_and_full_range(category: str, width: int, height: int) -> None:
    pixels = synthesise(category, 5, width=width, height=height)
    assert pixels.shape == (height, width)
    assert pixels.dtype == np.uint8
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert pixels.std() > 10


@pytest.mark.parametrize("category", CATEGORIES)
def test_same_arguments_give_the_same_pixels(category: str) -> None:
    first = synthesise(category, 7, width=320, height=240)
    synthesise(category, 8, width=320, height=240)
    assert np.array_equal(first, synthesise(category, 7, width=320, height=240))
    assert not np.array_equal(first, synthesise(category, 8, width=320, height=240))


@pytest.mark.parametrize("info_bar", [False, True])
def test_no_two_fields_resemble_each_other(info_bar: bool) -> None:
    hashes = np.stack(
        [fingerprint(synthesise(category, seed, info_bar=info_bar)) for category in CATEGORIES for seed in range(5)]
    )
    signs = np.where(hashes, 1, -1)
    distances = ((hashes.shape[1] - signs @ signs.T) / 2)[np.triu_indices(len(hashes), 1)]
    assert distances.min() > 350
    assert abs(distances.mean() - 512) < 10


@pytest.mark.parametrize("category", CATEGORIES)
def test_8_bit_scan_is_a_window_of_the_16_bit_scan(category: str) -> None:
    counts = synthesise(category, 2, width=320, height=240, depth=16)
    assert counts.dtype == np.uint16
    assert (counts.min(), counts.max()) == WINDOW
    assert len(np.unique(counts)) > 2_000  # more than 8 bits of information
    expected = (counts.astype(float) - WINDOW[0]) / (WINDOW[1] - WINDOW[0]) * 255
    assert np.abs(synthesise(category, 2, width=320, height=240) - expected).max() <= 0.5 + 1e-4


@pytest.mark.parametrize("category", CATEGORIES)
def test_info_bar_covers_only_the_bottom(category: str) -> None:
    with_bar = synthesise(category, 4)
    without = synthesise(category, 4, info_bar=False)
    rows = bar_height(480)
    assert 0.07 <= rows / 480 <= 0.08
    assert np.array_equal(with_bar[:-rows], without[:-rows])
    strip = with_bar[-rows + 1 :]
    ground = np.bincount(strip.ravel()).argmax()
    assert (strip == ground).mean() > 0.6  # a plain strip with some text
    written_columns = np.flatnonzero((strip != ground).any(axis=0))
    assert written_columns[0] < 30  # the conditions at the left
    assert written_columns[-1] > 600  # the scale bar at the right


def test_scale_bar_has_the_length_of_its_label() -> None:
    for seed in range(12):
        taken = conditions("Fibres", seed)
        strip = synthesise("Fibres", seed)[-bar_height(480) :]
        middle = strip[bar_height(480) // 2]
        ground = np.bincount(strip[1:].ravel()).argmax()
        run = int(np.flatnonzero(middle[: 640 - 16][::-1] == ground)[0])
        length = run * taken.pixel_size(640)  # in nanometres
        mantissa = length / 10 ** np.floor(np.log10(length * 1.02))
        assert min(abs(mantissa / step - 1) for step in (1, 2, 5)) < 0.04


@pytest.mark.parametrize("category", ["", "fibres", "Other"])
def test_unknown_category_is_refused_with_a_list(category: str) -> None:
    with pytest.raises(ValueError, match="no micrographs of category") as caught:
        synthesise(category, 0)
    assert all(name in str(caught.value) for name in CATEGORIES)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [({"depth": 12}, "8 or 16"), ({"width": 63}, "63 x 480"), ({"height": 10}, "640 x 10"), ({"seed": -1}, "-1")],
)
def test_invalid_arguments_are_refused(arguments: dict[str, int], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        synthesise("Tips", **{"seed": 0, **arguments})


def test_truth_lists_every_tiff_once(root: Path, truth: list[dict[str, str]]) -> None:
    assert list(truth[0]) == ["query", "change", "category", "reference"]
    on_disk = sorted(path.relative_to(root).as_posix() for path in (root / "lab").rglob("*") if path.is_file())
    assert sorted(row["query"] for row in truth) == on_disk
    assert len(truth) == len(CATEGORIES) * QUERIES + 2
    for row in truth:
        assert bool(row["category"]) == bool(row["reference"]) == (row["change"] in EXACT + CHANGED)
        if row["reference"]:
            assert reference_pixels(root, row["reference"]).shape == SMALL[::-1]
            assert row["reference"].split("/")[1].split(".")[0] == row["category"]


def test_every_change_and_exact_twins_of_every_category_occur(truth: list[dict[str, str]]) -> None:
    assert {row["change"] for row in truth} == {*EXACT, *CHANGED, "no twin", "truncated", "blank"}
    for change in EXACT:
        assert {row["category"] for row in truth if row["change"] == change} == set(CATEGORIES)


def test_twins_hash_near_their_reference(root: Path, truth: list[dict[str, str]]) -> None:
    for row in truth:
        if row["reference"]:
            distance = bits_apart(query_pixels(root / row["query"]), reference_pixels(root, row["reference"]))
            assert distance <= (24 if row["change"] in EXACT else 150), row


def test_exact_twins_show_the_pixels_of_their_reference(root: Path, truth: list[dict[str, str]]) -> None:
    for row in truth:
        if row["change"] in EXACT:
            pixels = query_pixels(root / row["query"])
            assert np.abs(pixels.astype(int) - reference_pixels(root, row["reference"])).mean() < 1, row


def test_changed_twins_differ_from_their_reference(root: Path, truth: list[dict[str, str]]) -> None:
    for row in truth:
        if row["change"] in CHANGED:
            pixels, reference = query_pixels(root / row["query"]), reference_pixels(root, row["reference"])
            if row["change"] == "half size":
                assert pixels.shape == (SMALL[1] // 2, SMALL[0] // 2)
            else:
                assert np.abs(pixels.astype(int) - reference).mean() > 1.5, row


def test_image_without_a_twin_is_far_from_every_reference(root: Path, truth: list[dict[str, str]]) -> None:
    references = {row["reference"] for row in truth} - {""}
    hashes = np.stack([fingerprint(reference_pixels(root, source)) for source in sorted(references)])
    unrelated = [row["query"] for row in truth if row["change"] == "no twin"]
    assert unrelated
    for query in unrelated:
        assert (hashes != fingerprint(query_pixels(root / query))).sum(axis=1).min() > 300


def test_depths_of_the_tiffs(root: Path, truth: list[dict[str, str]]) -> None:
    for row in truth:
        with tifffile.TiffFile(root / row["query"]) as tiff:
            page = tiff.pages.first
            assert page.bitspersample == (16 if "16 bit" in row["change"] else 8)
            assert "kV" in page.description
            assert row["category"] not in page.description or not row["category"]  # the lab's TIFFs have no labels


def test_truncated_tiff_opens_but_cannot_be_read(root: Path, truth: list[dict[str, str]]) -> None:
    (broken,) = (root / row["query"] for row in truth if row["change"] == "truncated")
    with Image.open(broken) as image, pytest.raises(OSError, match="truncated"):
        image.load()


def test_blank_tiff_is_featureless(root: Path, truth: list[dict[str, str]]) -> None:
    (blank,) = (root / row["query"] for row in truth if row["change"] == "blank")
    assert np.ptp(tifffile.imread(blank)) == 0


def test_names_are_as_awkward_as_in_a_lab(truth: list[dict[str, str]]) -> None:
    names = [row["query"].rsplit("/", 1)[1] for row in truth]
    assert len(set(names)) == len(names) - 1  # two TIFFs with the same name in different folders
    assert any({" ", "'", '"'} <= set(name) and not name.isascii() for name in names)


def test_collection_is_laid_out_like_the_published_one(root: Path) -> None:
    collection = root / "collection"
    folders = {path.name for path in collection.iterdir() if path.is_dir()}
    archives = {path.stem: path.suffix for path in collection.iterdir() if path.is_file()}
    assert sorted(archives.values()) == [".tar", ".zip"]
    assert folders | set(archives) == set(CATEGORIES)
    assert not folders & set(archives)
    documented = dict(zip(sorted(CATEGORIES), range(10), strict=True))  # codes L0 to L9 in alphabetical order
    for folder in folders:
        names = [path.name for path in (collection / folder).iterdir()]
        assert len(names) == PER_CATEGORY
        for name in names:
            prefix, _, digits = name.removesuffix(".jpg").partition("_")
            assert len(digits) == 32
            int(digits, 16)
            assert prefix != f"L{documented[folder]}"  # published prefixes contradict the folders


def test_only_the_same_seed_gives_the_same_bytes(root: Path, tmp_path: Path) -> None:
    written(tmp_path / "again")
    assert contents(tmp_path / "again") == contents(root)
    write_collection(tmp_path / "other", per_category=1, queries_per_category=1, seed=4, size=(96, 72))
    write_collection(tmp_path / "third", per_category=1, queries_per_category=1, seed=5, size=(96, 72))
    other, third = contents(tmp_path / "other"), contents(tmp_path / "third")
    assert not {name for name in other if name.endswith(".jpg")} & set(third)


def test_returned_paths_exist(tmp_path: Path) -> None:
    collection = write_collection(tmp_path, per_category=1, queries_per_category=1, size=(96, 72))
    assert (collection.references, collection.queries, collection.truth) == (
        tmp_path / "collection",
        tmp_path / "lab",
        tmp_path / "truth.csv",
    )
    assert collection.references.is_dir()
    assert collection.queries.is_dir()
    assert collection.truth.is_file()


def test_folder_that_is_not_empty_is_unchanged(tmp_path: Path) -> None:
    (tmp_path / "precious.tif").write_bytes(b"data")
    with pytest.raises(OutputError, match="not empty"):
        written(tmp_path)
    assert contents(tmp_path) == {"precious.tif": b"data"}
    with pytest.raises(OutputError, match=r"precious\.tif"):
        written(tmp_path / "precious.tif")
    assert contents(tmp_path) == {"precious.tif": b"data"}


@pytest.mark.parametrize("arguments", [{"per_category": 0}, {"queries_per_category": 0}, {"seed": -1}])
def test_empty_collection_is_refused_before_anything_is_written(arguments: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not"):
        write_collection(tmp_path / "new", **arguments)
    assert not (tmp_path / "new").exists()
