"""Ingest: an image that was uploaded to a server has the same rows as an image that was indexed from a folder."""

from __future__ import annotations

import io
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from twinscope_client.demo.micrographs import synthesise
from twinscope_indexer.hashing.perceptual import PHash, hash_pixels
from twinscope_indexer.imaging.reader import PIXEL_BUDGET
from twinscope_indexer.indexing.run import index
from twinscope_indexer.store.reader import CATALOG_NAME, Store
from twinscope_service.matching.new_image import Description, Upload
from twinscope_service.matching.options import Options
from twinscope_service.matching.query import Query
from twinscope_service.matching.reference_pixels import UPLOADS_FOLDER, ReferencePixels
from twinscope_service.matching.searcher import Searcher
from twinscope_service.server.catalog_writer import Writes
from vendor_tags import text_tag, zeiss_text

_OF_THE_SOURCE = {"id", "root_id", "path", "mtime_ns", "indexed_at", "generation"}


def encoded(pixels: np.ndarray, form: str) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, form)
    return data.getvalue()


def with_metadata(pixels: np.ndarray) -> bytes:
    data = io.BytesIO()
    tifffile.imwrite(data, pixels, extratags=[text_tag(34118, zeiss_text())])
    return data.getvalue()


_PIXELS = synthesise("Tips", 5, width=320, height=240)
_FILES = {
    "L9_grey.jpg": encoded(_PIXELS, "JPEG"),
    "L2_deep.tif": encoded(_PIXELS.astype(np.uint16) * 200, "TIFF"),
    "colour.png": encoded(np.dstack([_PIXELS, _PIXELS // 2, _PIXELS]), "PNG"),
    "blank.bmp": encoded(np.full((64, 80), 9, np.uint8), "BMP"),
    "instrument.tif": with_metadata(_PIXELS),
}


def rows(store: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of the only image of a store, without the columns about its source and time."""
    with sqlite3.connect(store / CATALOG_NAME) as database:
        database.row_factory = sqlite3.Row
        found = {
            table: [
                {name: row[name] for name in row.keys() if name not in _OF_THE_SOURCE}  # noqa: SIM118
                for row in database.execute(f"SELECT * FROM {table}")
            ]
            for table in ("images", "thumbnails", "frames", "instruments")
        }
    database.close()
    return found


@pytest.mark.parametrize("reach", ["frame", "views", "windows"])
@pytest.mark.parametrize("name", _FILES)
def test_uploaded_image_has_the_rows_of_an_indexed_one(tmp_path: Path, name: str, reach: Any) -> None:
    folder = tmp_path / "data" / "Tips"
    folder.mkdir(parents=True)
    index([tmp_path / "data"], tmp_path / "uploaded", reach=reach, workers=0)
    (folder / name).write_bytes(_FILES[name])
    index([tmp_path / "data"], tmp_path / "indexed", reach=reach, workers=0)
    store = Store(tmp_path / "uploaded")
    upload = Upload(1, Description("a/source", "Tips", name), len(_FILES[name]))
    Writes(store).upload(upload, _FILES[name], PIXEL_BUDGET)
    store.close()
    indexed = rows(tmp_path / "indexed")
    assert rows(tmp_path / "uploaded") == indexed
    assert len(indexed["images"]) == len(indexed["thumbnails"]) == 1
    assert len(indexed["instruments"]) == (name == "instrument.tif")
    assert len(indexed["frames"]) == (reach != "frame" and name != "blank.bmp")


def test_an_uploaded_stack_is_its_first_page_that_can_be_hashed(tmp_path: Path) -> None:
    pages = [np.full((240, 320), 9, np.uint8), _PIXELS, np.rot90(_PIXELS).copy()]
    data = io.BytesIO()
    with tifffile.TiffWriter(data) as writer:
        for page in pages:
            writer.write(page, contiguous=False, metadata=None)
    (tmp_path / "data").mkdir()
    index([tmp_path / "data"], tmp_path / "store", workers=0)
    store = Store(tmp_path / "store")
    try:
        upload = Upload(1, Description("a/source", "Tips", "a.tif"), len(data.getvalue()))
        writes = Writes(store)
        assert writes.upload(upload, data.getvalue(), PIXEL_BUDGET)[0].change == "created"
        assert writes.upload(upload, data.getvalue(), PIXEL_BUDGET)[0].change == "unchanged"
        [record] = store.catalog.all_records()
        hashed = hash_pixels(_PIXELS)
        assert isinstance(hashed, PHash)
        assert (record.hash, record.page) == (hashed.code, 2)
        searcher = Searcher(store, ReferencePixels(uploads=tmp_path / "store" / UPLOADS_FOLDER))
        answer = searcher.answer(Query.of_pixels(_PIXELS), Options()).answer
        assert (answer.grade, answer.matches[0].source) == ("excellent", "a/source")
    finally:
        store.close()
