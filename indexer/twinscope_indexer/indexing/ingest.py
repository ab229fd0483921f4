"""Ingest: from an image file to the row of a store, the same for collections and for uploads to a server."""

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
    """What is known of an image file; see the columns of `Record`."""

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
    """All that a store keeps of the content of an image.

    Attributes
    ----------
    file : FileFacts
    hashed : PHash or Unhashable
    thumbnail : bytes
        As `encode_thumbnail` makes it; empty if there is none.
    instrument : InstrumentMetadata
        What its instrument wrote.
    """

    file: FileFacts
    hashed: PHash | Unhashable
    thumbnail: bytes = b""
    instrument: InstrumentMetadata = NO_METADATA

    def frames(self, reach: Reach) -> bytes:
        """Return the codes of its frames, one after the other; empty for an unhashable image.

        They are made from the thumbnail, not from the pixels, so that a store can make them again without its files.
        """
        hashed = isinstance(self.hashed, PHash) and self.thumbnail
        return encoded_frames(self.thumbnail, reach) if hashed else b""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an image comes from: what identifies it in a store.

    Attributes
    ----------
    root_id : int
    root : Path
        The folder of that number.
    path : str
        Below the root; of the image, or of the archive that holds it.
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
    """Read an image file, and describe its content.

    Parameters
    ----------
    data : bytes
        The file.
    name : str
        What errors call it.
    mtime_ns : int
        When the file was changed last, nanoseconds since 1970.
    sidecar : bytes, optional
        What lies beside it; see `read_sidecar`.
    pixel_budget : int
        Most pixels to decode.

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
    """Make the row of an image.

    Parameters
    ----------
    image : DescribedImage
    origin : Origin
    category : Category
    taxonomy : str
        Version of the taxonomy that the category is of.
    number : int
        The id of the image.
    generation : int
        The first that shows it.
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
    """Insert or replace an image in a catalogue, with everything that belongs to its row.

    Parameters
    ----------
    catalog : Catalog
    record : Record
        As `record_of` makes it of the image.
    root_id : int
        Of its origin.
    image : DescribedImage
    frames : bytes
        As `DescribedImage.frames` makes them for the reach of the store.
    """
    catalog.put(record, root_id, image.thumbnail, frames, image.instrument)
