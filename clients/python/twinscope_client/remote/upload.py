"""The messages that upload an image."""

from __future__ import annotations

import io
from hashlib import sha256
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from twinscope.v1 import similarity_pb2, types_pb2
from twinscope_indexer.errors import ImageError
from twinscope_service.wire.queries import options_message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twinscope_service.matching.options import Options

CHUNK: Final = 256 << 10
"""Bytes of one chunk of an upload. Sizes from 256 KiB to 1 MiB measured fastest."""


class Upload:
    """The messages of one upload. A file is read from disk while they are sent.

    Parameters
    ----------
    content : path, bytes, binary file, or ndarray of uint8, shape (height, width)
        An image file, or grey pixels if there is no file; these are sent as a TIFF.
    options : Options
        Options of the search.
    instrument : message, optional
        Instrument metadata; by default the server reads them from the file.

    Attributes
    ----------
    failure : ImageError or None
        The error that ended the messages early. gRPC hides the exception of an iterator of requests.
    """

    def __init__(self, content: Any, options: Options, instrument: types_pb2.InstrumentMetadata | None = None) -> None:
        if isinstance(content, np.ndarray):
            content = _as_tiff(content)
        elif hasattr(content, "read"):
            content.seek(0)
            content = content.read()
        self._content: str | bytes | PathLike[str] = content
        self._options = options
        self._instrument = instrument
        self.failure: ImageError | None = None

    def __iter__(self) -> Iterator[similarity_pb2.SearchByImageRequest]:
        """Yield the header, then the chunks.

        Raises
        ------
        ImageError
            If the file can no longer be read.
        """
        try:
            yield from self._messages()
        except OSError as error:
            detail = f"cannot be read a second time for the upload: {error.strerror or error}"
            self.failure = ImageError(str(self._content), "unreadable", detail)
            raise self.failure from error

    def _messages(self) -> Iterator[similarity_pb2.SearchByImageRequest]:
        with self._open() as stream:
            digest, size = sha256(), 0
            while piece := stream.read(CHUNK):
                digest.update(piece)
                size += len(piece)
            header = similarity_pb2.ImageHeader(
                size_bytes=size, sha256=digest.digest(), options=options_message(self._options),
                instrument=self._instrument,
            )  # fmt: skip
            yield similarity_pb2.SearchByImageRequest(header=header)
            stream.seek(0)
            while piece := stream.read(CHUNK):
                yield similarity_pb2.SearchByImageRequest(chunk=piece)

    def _open(self) -> io.BufferedIOBase:
        return io.BytesIO(self._content) if isinstance(self._content, bytes) else Path(self._content).open("rb")


def _as_tiff(pixels: NDArray[np.uint8]) -> bytes:
    import tifffile

    data = io.BytesIO()
    tifffile.imwrite(data, pixels)
    return data.getvalue()
