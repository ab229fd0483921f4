"""The log of the server: one JSON object per line."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import TextIO


class Fields(dict[str, Any]):
    """Fields of a log line; pass them as the only argument of the message ``"%s"``."""

    def __str__(self) -> str:
        """Return the text for logs in another format."""
        return json.dumps(self, default=str)


class JsonLines(logging.Formatter):
    """Formatter of a record as one line: ``time`` (UTC), ``level``, and the fields of the record or its ``message``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {"time": time, "level": record.levelname}
        line |= record.args if isinstance(record.args, Fields) else {"message": record.getMessage()}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def log_to(stream: TextIO, level: int) -> None:
    """Write all logs of this process to a stream, one JSON object per line.

    Parameters
    ----------
    stream : TextIO
    level : int
        The lowest level that is written, such as `logging.INFO`. FAISS logs the build that it loads at INFO, so at
        least warnings are required from it.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler])
    logging.getLogger("faiss").setLevel(max(level, logging.WARNING))
