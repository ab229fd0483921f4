"""The log of the server: one JSON object a line."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import TextIO


class Fields(dict[str, Any]):
    """What a line says as fields; as the only argument of a message ``"%s"`` they become fields of the line."""

    def __str__(self) -> str:
        """Give the text for logs of another format."""
        return json.dumps(self, default=str)


class JsonLines(logging.Formatter):
    """A record as one line: ``time`` (UTC), ``level``, and the fields of the record or its ``message``."""

    def format(self, record: logging.LogRecord) -> str:
        """Make the line."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {"time": time, "level": record.levelname}
        line |= record.args if isinstance(record.args, Fields) else {"message": record.getMessage()}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def log_to(stream: TextIO, level: int) -> None:
    """Let everything that this process logs go to a stream, one JSON object a line.

    Parameters
    ----------
    stream : TextIO
    level : int
        The lowest that is written, such as `logging.INFO`. Of FAISS, which tells at INFO which of its builds it loads,
        warnings only.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler])
    logging.getLogger("faiss").setLevel(max(level, logging.WARNING))
