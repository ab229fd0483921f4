"""Types for the modules of the folder `vendors`: the TIFF tags and texts of a vendor, and how to read them.

To add a vendor, add a module to that folder that defines ``READER``, a `VendorReader`. Nothing else must be changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from twinscope_indexer.imaging.tiff_directories import Directory, Tag, read_at, read_value
from twinscope_indexer.metadata.calibration import ImageSize
from twinscope_indexer.metadata.model import InstrumentMetadata

MOST_TEXT = 1 << 18
"""Maximum number of bytes of a text that are read; the longest known text has 66 kB."""


@dataclass(frozen=True, slots=True)
class TagValue:
    """The value of a tag, with access to the rest of its directory and TIFF file."""

    key: str
    """Key of the `VendorTag`."""
    data: bytes
    """The value, or its beginning."""
    entry: Tag
    directory: Directory
    stream: BinaryIO

    @property
    def image_size(self) -> ImageSize:
        """Width and height of the image of the directory."""
        return ImageSize(self.directory.width, self.directory.height)

    def read_at(self, offset: int, size: int) -> bytes:
        """Read bytes anywhere in the file; fewer, or none, if the file ends first."""
        return read_at(self.stream, offset, size)

    def read_other(self, code: int, most: int) -> bytes:
        """Read at most `most` bytes of the value of another tag; none if there is no such tag."""
        other = self.directory.tags.get(code)
        return b"" if other is None else read_value(self.stream, other, most)


@dataclass(frozen=True, slots=True)
class VendorTag:
    """A private TIFF tag of a vendor."""

    code: int
    key: str
    """Key of `InstrumentMetadata.verbatim` for its value."""
    read: Callable[[TagValue], InstrumentMetadata]
    """Returns empty metadata if the value is not from this vendor, because some tag numbers are used by several."""
    limit: int = MOST_TEXT
    """Maximum number of bytes of the value to read; 0 if it points to a structure that `read` reads itself."""


@dataclass(frozen=True, slots=True)
class VendorText:
    """A text that instruments of a vendor write as the ImageDescription of an image or into a file beside it."""

    recognise: Callable[[str], bool]
    read: Callable[[str, ImageSize], InstrumentMetadata]
    beside: tuple[str, ...] = ()
    """Names of such files; ``{stem}`` and ``{suffix}`` are those of the image's name."""


@dataclass(frozen=True, slots=True)
class VendorReader:
    """The tags and the text of one kind of file of a vendor."""

    vendor: str
    """Name for `InstrumentMetadata.vendor`."""
    tags: tuple[VendorTag, ...] = ()
    text: VendorText | None = None
    makes_cameras: bool = False
    """True for cameras on microscopes of other makers; metadata written by the microscope take precedence."""
