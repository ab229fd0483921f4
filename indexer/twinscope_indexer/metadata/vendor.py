"""What a module of the folder `vendors` declares: the TIFF tags and texts of a vendor, and how they are read.

To add a vendor, add a module to that folder which defines ``READER``, a `VendorReader`. Nothing else need be changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from twinscope_indexer.imaging.tiff_directories import Directory, Tag, read_at, read_value
from twinscope_indexer.metadata.calibration import ImageSize
from twinscope_indexer.metadata.model import InstrumentMetadata

MOST_TEXT = 1 << 18
"""Bytes of a text that are read; the longest that was seen is 66 kB."""


@dataclass(frozen=True, slots=True)
class TagValue:
    """The value of a tag, and what else lies in the same directory of a TIFF file."""

    key: str
    """That of the `VendorTag`."""
    data: bytes
    """The value, or its beginning."""
    entry: Tag
    directory: Directory
    stream: BinaryIO

    @property
    def image_size(self) -> ImageSize:
        """The sides of the directory's picture."""
        return ImageSize(self.directory.width, self.directory.height)

    def read_at(self, offset: int, size: int) -> bytes:
        """Read bytes anywhere in the file; less, or none, if it ends before."""
        return read_at(self.stream, offset, size)

    def read_other(self, code: int, most: int) -> bytes:
        """Read the value of another tag, `most` bytes of it at the most; none if there is no such tag."""
        other = self.directory.tags.get(code)
        return b"" if other is None else read_value(self.stream, other, most)


@dataclass(frozen=True, slots=True)
class VendorTag:
    """A TIFF tag that is a vendor's own."""

    code: int
    key: str
    """Key of `InstrumentMetadata.verbatim` under which its value is kept."""
    read: Callable[[TagValue], InstrumentMetadata]
    """Returns empty metadata if the value is not the vendor's: numbers of tags are used twice."""
    limit: int = MOST_TEXT
    """Bytes of the value that are read; 0 if it points to a structure that `read` reads itself."""


@dataclass(frozen=True, slots=True)
class VendorText:
    """A text that a vendor's instruments write as the ImageDescription of a picture, or into a file beside it."""

    recognise: Callable[[str], bool]
    read: Callable[[str, ImageSize], InstrumentMetadata]
    beside: tuple[str, ...] = ()
    """Names of such files, where ``{stem}`` and ``{suffix}`` stand for those of the picture's name."""


@dataclass(frozen=True, slots=True)
class VendorReader:
    """What is known of one kind of files of a vendor."""

    vendor: str
    """Name for `InstrumentMetadata.vendor`."""
    tags: tuple[VendorTag, ...] = ()
    text: VendorText | None = None
    makes_cameras: bool = False
    """Whether these are cameras on the microscopes of others: what a microscope wrote goes before."""
