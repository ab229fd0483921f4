"""Names of labelled copies: the placeholders of the template, missing values, and categories without a code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tifffile
from shelf import Shelf
from twinscope import label
from twinscope_client.labelling.journal import Decision
from twinscope_client.labelling.naming import copy_name, jpeg_name, short_hash
from twinscope_client.labelling.run import LabelSettings
from twinscope_indexer.indexing.run import index
from twinscope_service.errors import OptionError


def decision(path: str = "/lab/2024-03-12/image001.tif", category: str = "Tips", code: str = "L9", **metadata: str):
    instrument = json.dumps(metadata) if metadata else ""
    return Decision(
        path, 1, 1, "ab" * 32, "s", "t", "good", "", category=category, code=code, query_hash="cd" * 128,
        instrument=instrument,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("template", "made", "expected"),
    [
        ("{code}_{stem}{suffix}", decision(), "L9_image001.tif"),
        ("{parent}_{stem}{suffix}", decision(), "2024-03-12_image001.tif"),
        ("{parent}_{stem}{suffix}", decision("/image.tif"), "_image.tif"),
        ("{date}_{stem}{suffix}", decision(acquired="2024-03-12T09:08:07"), "2024-03-12_image001.tif"),
        ("{date}_{stem}{suffix}", decision(acquired="2024-03-12"), "2024-03-12_image001.tif"),
        ("{date}_{stem}{suffix}", decision(acquired="March 2024"), "no-date_image001.tif"),
        ("{date}_{stem}{suffix}", decision(), "no-date_image001.tif"),
        ("{instrument}_{stem}{suffix}", decision(), "no-instrument_image001.tif"),
        ("{instrument}_{stem}{suffix}", decision(vendor="Zeiss"), "Zeiss_image001.tif"),
        ("{instrument}_{stem}{suffix}", decision(vendor="FEI", instrument="Quanta 200"), "Quanta 200_image001.tif"),
        ("{instrument}_{stem}{suffix}", decision(instrument="../a\\b\n\0c"), "_a_b__c_image001.tif"),
        ("{parent}{parent}_{stem}{suffix}", decision(f"/{'x' * 200}/y.tif"), f"{'x' * 239}.tif"),
    ],
)
def test_placeholders(template: str, made: Decision, expected: str) -> None:
    name = copy_name(template, made)
    assert name == expected
    assert Path(name).name == name


def test_a_category_without_a_code_is_not_repeated() -> None:
    kept = decision(category="Patterned surface (neu)", code="Patterned surface (neu)")
    assert copy_name("{code}_{stem}{suffix}", kept) == "image001.tif"
    assert copy_name("{stem}-{code}{suffix}", kept) == "image001-.tif"
    assert copy_name("{category}_{stem}{suffix}", kept) == "Patterned surface (neu)_image001.tif"  # as wished
    assert copy_name("{{code}}_{stem}", kept) == "{code}_image001"
    assert jpeg_name(kept) == f"{short_hash(kept)}.jpg"
    assert jpeg_name(decision()) == f"L9_{short_hash(kept)}.jpg"


@pytest.mark.parametrize("template", ["{parent}{suffix}", "{date}", "{folder}_{stem}", "{stem.x}", "{0}"])
def test_a_template_that_cannot_tell_images_apart_is_refused(template: str) -> None:
    with pytest.raises(OptionError):
        LabelSettings(template=template)


def test_sessions_stay_apart_and_nothing_is_overwritten(shelf: Shelf, tmp_path: Path) -> None:
    """Categories without a code, two sessions with the same file name, and a file of another person at the preferred
    name."""
    (tmp_path / "refs" / "Spitzen \u2013 alt").mkdir(parents=True)
    for number in range(2):
        shutil.copy(shelf.reference("Tips", number), tmp_path / "refs" / "Spitzen \u2013 alt")
    index([tmp_path / "refs"], tmp_path / "store", keep_unknown=True, workers=1)
    for number, session in enumerate(("monday", "tuesday")):
        (tmp_path / "lab" / session).mkdir(parents=True)
        tifffile.imwrite(tmp_path / "lab" / session / "image001.tif", shelf.pixels["Tips", number])
    folder = tmp_path / "out" / "Spitzen \u2013 alt"
    folder.mkdir(parents=True)
    (folder / "monday_image001.tif").write_text("of somebody else")
    settings = LabelSettings(template="{code}_{parent}_{stem}{suffix}", workers=1)
    for _ in range(2):
        label(tmp_path / "lab", tmp_path / "store", tmp_path / "out", settings)
        assert sorted(path.name for path in folder.iterdir()) == [
            "monday_image001.tif", "monday_image001_2.tif", "tuesday_image001.tif",
        ]  # fmt: skip
    assert (folder / "monday_image001.tif").read_text() == "of somebody else"
    assert (folder / "monday_image001_2.tif").read_bytes() == (tmp_path / "lab/monday/image001.tif").read_bytes()
