"""Types that the modules in the folder `vendors` use.

The types describe the TIFF tags and the texts of a vendor, and the functions that read them.

To add a vendor, add a module to the folder `vendors`. The module must define a `VendorReader` with the name ``READER``.
No other file has to be changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from twinscope_indexer.imaging.tiff_directories import Directory, Tag, read_at, read_value
from twinscope_indexer.metadata.calibration import ImageSize
from twinscope_indexer.metadata.model import InstrumentMetadata

MOST_TEXT = 1 << 18
"""Maximum number of bytes that are read from a text. The longest known text has 66 kB."""


@dataclass(frozen=True, slots=True)
class TagValue:
    """The value of a TIFF tag. The other tags of the directory, and the rest of the file, can also be read."""

    key: str
    """Key of the `VendorTag`."""
    data: bytes
    """Value of the tag. If the value is longer than `VendorTag.limit`, `data` contains only its first bytes."""
    entry: Tag
    directory: Directory
    stream: BinaryIO

    @property
    def image_size(self) -> ImageSize:
        """Width and height of the image of this directory, in pixels."""
        return ImageSize(self.directory.width, self.directory.height)

    def read_at(self, offset: int, size: int) -> bytes:
        """Read `size` bytes at an offset in the TIFF file.

        If the file is too short, the result has fewer bytes or is empty.
        """
        return read_at(self.stream, offset, size)

    def read_other(self, code: int, most: int) -> bytes:
        """Read at most `most` bytes of the value of another tag. If that tag does not exist, the result is empty."""
        other = self.directory.tags.get(code)
        return b"" if other is None else read_value(self.stream, other, most)


@dataclass(frozen=True, slots=True)
class VendorTag:
    """A private TIFF tag of a vendor."""

    code: int
    key: str
    """Key that the value of the tag gets in `InstrumentMetadata.verbatim`."""
    read: Callable[[TagValue], InstrumentMetadata]
    """Function that reads the value of the tag. Several vendors use the same tag number. If another vendor wrote the
    value, the function must return empty metadata."""
    limit: int = MOST_TEXT
    """Maximum number of bytes that are read from the value. If the value is only the position of a structure in the
    file, the limit is 0. In this case, `read` reads the structure at that position."""


@dataclass(frozen=True, slots=True)
class VendorText:
    """A text that instruments of a vendor write into the ImageDescription, or save as a text file with the image."""

    recognise: Callable[[str], bool]
    """Function that checks whether an instrument of this vendor wrote a text."""
    read: Callable[[str, ImageSize], InstrumentMetadata]
    """Function that reads the text. The second argument of the function is the size of the image."""
    beside: tuple[str, ...] = ()
    """Patterns for the name of the text file. ``{stem}`` and ``{suffix}`` are replaced by the parts of the image's
    name."""
    convert: Callable[[BinaryIO], str] | None = None
    """Function that makes a text from the file, if the file is not a text. The stream is seekable. The function must
    never raise an exception for the content of the file."""


@dataclass(frozen=True, slots=True)
class MappedValue:
    """Where a vendor writes a normalised value. The pages in ``docs/vendors`` list these objects."""

    name: str
    """Name of the value in `InstrumentMetadata`. The values of the stage have names such as ``stage.x_mm``."""
    source: str
    """The keys of the vendor, and how the value is computed from them."""
    unit: str = ""
    """Unit in which the vendor writes the value. The word ``written`` means that the file contains the unit."""


@dataclass(frozen=True, slots=True)
class VendorReader:
    """The reader for one type of file of a vendor: the TIFF tags and the text."""

    vendor: str
    """Name of the vendor, as in `InstrumentMetadata.vendor`."""
    tags: tuple[VendorTag, ...] = ()
    text: VendorText | None = None
    mapped: tuple[MappedValue, ...] = ()
    """All values that the reader can read."""
    checked: str = ""
    """How the reader was checked, in Markdown: real files, or only files that were made for the tests."""
    makes_cameras: bool = False
    """Whether the vendor makes cameras, or systems that scan the beam, for microscopes of other manufacturers. If a
    file contains metadata of both the camera and the microscope, the values of the microscope are used."""
