"""Types for the modules of the folder `vendors`: the TIFF tags and the texts of a vendor, with functions to read them.

To add a vendor, add a module to the folder `vendors`. The module must define ``READER``, which is a `VendorReader`. No
other file has to be changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from twinscope_indexer.imaging.tiff_directories import Directory, Tag, read_at, read_value
from twinscope_indexer.metadata.calibration import ImageSize
from twinscope_indexer.metadata.model import InstrumentMetadata

MOST_TEXT = 1 << 18
"""Maximum number of bytes that are read of a text. The longest known text has 66 kB."""


@dataclass(frozen=True, slots=True)
class TagValue:
    """The value of a tag, with access to the other tags of the directory and to the TIFF file."""

    key: str
    """Key of the `VendorTag`."""
    data: bytes
    """Value of the tag, or its first bytes if the value is longer than the limit of the `VendorTag`."""
    entry: Tag
    directory: Directory
    stream: BinaryIO

    @property
    def image_size(self) -> ImageSize:
        """Width and height in pixels of the image that the directory describes."""
        return ImageSize(self.directory.width, self.directory.height)

    def read_at(self, offset: int, size: int) -> bytes:
        """Read `size` bytes at an offset in the TIFF file. The result is shorter or empty if the file ends first."""
        return read_at(self.stream, offset, size)

    def read_other(self, code: int, most: int) -> bytes:
        """Read at most `most` bytes of the value of another tag. The result is empty if that tag does not exist."""
        other = self.directory.tags.get(code)
        return b"" if other is None else read_value(self.stream, other, most)


@dataclass(frozen=True, slots=True)
class VendorTag:
    """A private TIFF tag of a vendor."""

    code: int
    key: str
    """Key in `InstrumentMetadata.verbatim` for the value of the tag."""
    read: Callable[[TagValue], InstrumentMetadata]
    """Function that reads the value of the tag. The function must return empty metadata if another vendor wrote the
    value, because several vendors use the same tag number."""
    limit: int = MOST_TEXT
    """Maximum number of bytes of the value that are read. The limit is 0 if the value is only the position of a
    structure in the file; then `read` reads this structure itself."""


@dataclass(frozen=True, slots=True)
class VendorText:
    """A text that instruments of a vendor write into the ImageDescription, or into a text file beside the image."""

    recognise: Callable[[str], bool]
    """Function that checks whether an instrument of this vendor wrote a text."""
    read: Callable[[str, ImageSize], InstrumentMetadata]
    """Function that reads the text. The second argument of the function is the size of the image."""
    beside: tuple[str, ...] = ()
    """Patterns for the name of the text file. ``{stem}`` and ``{suffix}`` stand for the parts of the image's name."""


@dataclass(frozen=True, slots=True)
class VendorReader:
    """The reader for one kind of file of a vendor: its TIFF tags and its text."""

    vendor: str
    """Name of the vendor, as in `InstrumentMetadata.vendor`."""
    tags: tuple[VendorTag, ...] = ()
    text: VendorText | None = None
    makes_cameras: bool = False
    """Whether the vendor makes cameras for microscopes of other makers. If both the camera and the microscope wrote
    metadata, the values of the microscope are used."""
