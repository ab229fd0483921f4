"""Ingest: make a record of a store from an image file.

Indexing and uploads to a server use this module.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from twinscope_indexer.files import utc_now
from twinscope_indexer.hashing.perceptual import RECIPE, PHash, hash_pixels
from twinscope_indexer.hashing.thumbnail import encode_thumbnail
from twinscope_indexer.imaging.reader import read_image
from twinscope_indexer.indexing.reframing import encoded_frames
from twinscope_indexer.metadata.reader import NO_METADATA, InstrumentMetadata, read_metadata
from twinscope_indexer.store.catalog.catalog import Record
from twinscope_indexer.taxonomy import published_prefix

if TYPE_CHECKING:
    from pathlib import Path

    from twinscope_indexer.hashing.hashability import Unhashable
    from twinscope_indexer.hashing.reach import Reach
    from twinscope_indexer.sources.location import Content
    from twinscope_indexer.store.catalog.catalog import Catalog
    from twinscope_indexer.taxonomy import Category


@dataclass(frozen=True, slots=True)
class FileFacts:
    """Properties of an image file. The columns of `Record` have the same names and the same meanings."""

    size: int = 0
    mtime_ns: int = 0
    sha256: bytes = b""
    format: str = ""
    mode: str = ""
    bits: int = 0
    width: int = 0
    height: int = 0
    page: int = 0


@dataclass(frozen=True, slots=True)
class DescribedImage:
    """Everything that a store keeps about the content of an image.

    Attributes
    ----------
    file : FileFacts
        Properties of the image file.
    hashed : PHash or Unhashable
        Hash of the image, or the reason why the image has no hash.
    thumbnail : bytes
        Thumbnail, as returned by `encode_thumbnail`. Empty if the image has no thumbnail.
    instrument : InstrumentMetadata
        Metadata that the instrument wrote.
    """

    file: FileFacts
    hashed: PHash | Unhashable
    thumbnail: bytes = b""
    instrument: InstrumentMetadata = NO_METADATA

    def frames(self, reach: Reach) -> bytes:
        """Return the concatenated codes of the image's frames. The result is empty for an unhashable image.

        The codes are computed from the thumbnail, not from the image at full size. A store can therefore compute the
        codes again without the image files.
        """
        hashed = isinstance(self.hashed, PHash) and self.thumbnail
        return encoded_frames(self.thumbnail, reach) if hashed else b""


@dataclass(frozen=True, slots=True)
class Origin:
    """The origin of an image. A store identifies an image by its root, path, member and page.

    Attributes
    ----------
    root_id : int
        Number of the root in the catalog.
    root : Path
        Folder of the root.
    path : str
        Path of the image file relative to the root. If the image is in an archive: path of the archive.
    member : str or None
        Path of the image within the archive. None if the image is not in an archive.
    published_name : str
        A file name that may begin with the code of a category.
    pages : int
        Number of images in the file. 0 if only the first image of the file was looked for.
    """

    root_id: int
    root: Path
    path: str
    member: str | None
    published_name: str
    pages: int = 0


def describe(
    content: Content,
    digest: bytes,
    *,
    name: str,
    page: int = 0,
    mtime_ns: int = 0,
    sidecar: bytes | None = None,
    pixel_budget: int | None = None,
) -> DescribedImage:
    """Read an image file, or a page of a stack, and describe its content.

    Parameters
    ----------
    content : Content
        Content of the file.
    digest : bytes
        SHA-256 of the file, as returned by `Content.sha256`.
    name : str
        Name of the image in error messages.
    page : int
        Number of the page of a stack, or 0 if the file is one image.
    mtime_ns : int
        Time of the last modification of the file, in nanoseconds since 1970.
    sidecar : bytes, optional
        Content of the text file that the instrument saved with the image; see `read_sidecar`.
    pixel_budget : int, optional
        Maximum number of pixels, as for `read_image`. Larger images are not decoded.

    Raises
    ------
    ImageError
        If the image file cannot be read.
    """
    image = read_image(content.stream, name=name, pixel_budget=pixel_budget, page=page)
    facts = FileFacts(
        size=content.size,
        mtime_ns=mtime_ns,
        sha256=digest,
        format=image.format,
        mode=image.mode,
        bits=image.bits,
        width=image.width,
        height=image.height,
        page=page,
    )
    instrument = read_metadata(content.stream, name=name, sidecar=sidecar)
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
        Id of the image in the store.
    generation : int
        Number of the first generation that contains the record.
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
        unhashable=None if isinstance(hashed, PHash) else hashed.to_text(),
        recipe=RECIPE,
        category=category.name,
        code=category.code,
        taxonomy=taxonomy,
        published_prefix=published_prefix(origin.published_name),
        indexed_at=utc_now(),
        generation=generation,
        page=facts.page,
        pages=origin.pages,
    )


def put_image(catalog: Catalog, record: Record, root_id: int, image: DescribedImage, frames: bytes) -> None:
    """Write the record, thumbnail, frames and instrument metadata of an image into a catalog.

    If the catalog already contains the image, the new values replace the old values.

    Parameters
    ----------
    catalog : Catalog
    record : Record
        Record of the image, as returned by `record_of`.
    root_id : int
        Id of the root that contains the image; see `Origin`.
    image : DescribedImage
    frames : bytes
        Codes of the frames that the reach of the store defines, as returned by `DescribedImage.frames`.
    """
    catalog.put(record, root_id, image.thumbnail, frames, image.instrument)
