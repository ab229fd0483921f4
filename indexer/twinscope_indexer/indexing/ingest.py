"""Ingest: turn an image file into a record of a store, for collections and for uploads to a server."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from twinscope_indexer.files import utc_now
from twinscope_indexer.hashing.perceptual import RECIPE, PHash, hash_pixels
from twinscope_indexer.hashing.thumbnail import encode_thumbnail
from twinscope_indexer.imaging.reader import PIXEL_BUDGET, read_image
from twinscope_indexer.indexing.reframing import encoded_frames
from twinscope_indexer.metadata.reader import NO_METADATA, InstrumentMetadata, read_metadata
from twinscope_indexer.store.catalog.catalog import Record
from twinscope_indexer.taxonomy import published_prefix

if TYPE_CHECKING:
    from pathlib import Path

    from twinscope_indexer.hashing.hashability import Unhashable
    from twinscope_indexer.hashing.reach import Reach
    from twinscope_indexer.store.catalog.catalog import Catalog
    from twinscope_indexer.taxonomy import Category


@dataclass(frozen=True, slots=True)
class FileFacts:
    """Facts about an image file; see the columns of `Record`."""

    size: int = 0
    mtime_ns: int = 0
    sha256: bytes = b""
    format: str = ""
    mode: str = ""
    bits: int = 0
    width: int = 0
    height: int = 0


@dataclass(frozen=True, slots=True)
class DescribedImage:
    """Everything that a store keeps about the content of an image.

    Attributes
    ----------
    file : FileFacts
    hashed : PHash or Unhashable
    thumbnail : bytes
        From `encode_thumbnail`; empty if there is none.
    instrument : InstrumentMetadata
        Metadata written by the instrument.
    """

    file: FileFacts
    hashed: PHash | Unhashable
    thumbnail: bytes = b""
    instrument: InstrumentMetadata = NO_METADATA

    def frames(self, reach: Reach) -> bytes:
        """Return the concatenated codes of its frames; empty for an unhashable image.

        They are computed from the thumbnail, not from the pixels, so that a store can recompute them without the files.
        """
        hashed = isinstance(self.hashed, PHash) and self.thumbnail
        return encoded_frames(self.thumbnail, reach) if hashed else b""


@dataclass(frozen=True, slots=True)
class Origin:
    """The origin of an image, which identifies it in a store.

    Attributes
    ----------
    root_id : int
    root : Path
        The folder with that id.
    path : str
        Path of the image, or of the archive that holds it, below the root.
    member : str or None
        Its path within the archive.
    published_name : str
        A file name that may begin with the code of a category.
    """

    root_id: int
    root: Path
    path: str
    member: str | None
    published_name: str


def describe(
    data: bytes, name: str, *, mtime_ns: int = 0, sidecar: bytes | None = None, pixel_budget: int = PIXEL_BUDGET
) -> DescribedImage:
    """Read an image file and describe its content.

    Parameters
    ----------
    data : bytes
        Content of the file.
    name : str
        Name of the image in errors.
    mtime_ns : int
        Last modification of the file, in nanoseconds since 1970.
    sidecar : bytes, optional
        Content of the text file beside it; see `read_sidecar`.
    pixel_budget : int
        Maximum number of pixels to decode.

    Raises
    ------
    ImageError
        If it cannot be read.
    """
    image = read_image(data, name=name, pixel_budget=pixel_budget)
    facts = FileFacts(
        size=len(data),
        mtime_ns=mtime_ns,
        sha256=sha256(data).digest(),
        format=image.format,
        mode=image.mode,
        bits=image.bits,
        width=image.width,
        height=image.height,
    )
    instrument = read_metadata(data, name=name, sidecar=sidecar)
    return DescribedImage(facts, hash_pixels(image.pixels), encode_thumbnail(image.pixels), instrument)


def record_of(
    image: DescribedImage, origin: Origin, category: Category, taxonomy: str, *, number: int, generation: int
) -> Record:
    """Build the record of an image.

    Parameters
    ----------
    image : DescribedImage
    origin : Origin
    category : Category
    taxonomy : str
        Version of the taxonomy that the category belongs to.
    number : int
        The id of the image.
    generation : int
        The first generation that contains it.
    """
    hashed, facts = image.hashed, image.file
    return Record(
        id=number,
        root=origin.root,
        path=origin.path,
        member=origin.member,
        size=facts.size,
        mtime_ns=facts.mtime_ns,
        sha256=facts.sha256 or bytes(32),
        format=facts.format,
        mode=facts.mode,
        bits=facts.bits,
        width=facts.width,
        height=facts.height,
        hash=hashed.code if isinstance(hashed, PHash) else None,
        unhashable=None if isinstance(hashed, PHash) else f"{hashed.reason}: {hashed.detail}",
        recipe=RECIPE,
        category=category.name,
        code=category.code,
        taxonomy=taxonomy,
        published_prefix=published_prefix(origin.published_name),
        indexed_at=utc_now(),
        generation=generation,
    )


def put_image(catalog: Catalog, record: Record, root_id: int, image: DescribedImage, frames: bytes) -> None:
    """Insert or replace an image in a catalog, with everything that belongs to its record.

    Parameters
    ----------
    catalog : Catalog
    record : Record
        From `record_of`.
    root_id : int
        Id of the root in its origin.
    image : DescribedImage
    frames : bytes
        From `DescribedImage.frames`, for the reach of the store.
    """
    catalog.put(record, root_id, image.thumbnail, frames, image.instrument)
