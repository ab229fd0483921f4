"""The messages that upload an image to a server."""

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
"""Size of one chunk of an upload, in bytes. In measurements, sizes from 256 KiB to 1 MiB were fastest."""


class Upload:
    """The messages of one upload. The image file is read from disk while the messages are sent.

    Parameters
    ----------
    content : path, bytes, binary file, or ndarray of uint8, shape (height, width)
        An image file, or an array of grey pixels if there is no file. The pixels of an array are sent as a TIFF.
    options : Options
        Options of the search.
    instrument : message, optional
        Instrument metadata of the image. By default, the server reads the metadata from the file.

    Attributes
    ----------
    failure : ImageError or None
        The error that ended the upload early, or None. The error is stored here, because gRPC does not report an
        exception of an iterator of requests.
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
        """Yield the message with the header, then the messages with the chunks of the file.

        Raises
        ------
        ImageError
            If the file cannot be read during the upload.
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
