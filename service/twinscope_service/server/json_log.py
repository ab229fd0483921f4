"""The log of the server, in which each line is one JSON object."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import TextIO


class Fields(dict[str, Any]):
    """Values of a log line by name. A caller passes them as the only argument of the message ``"%s"``."""

    def __str__(self) -> str:
        """Return the values as JSON, for logs that are not written as JSON lines."""
        return json.dumps(self, default=str)


class JsonLines(logging.Formatter):
    """Formatter that writes a log record as one line.

    Each line contains the ``time`` (UTC), the ``level``, and the fields of the record. A record without fields has a
    ``message`` instead.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line for a log record."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {"time": time, "level": record.levelname}
        line |= record.args if isinstance(record.args, Fields) else {"message": record.getMessage()}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def json_line(level: int, message: str) -> str:
    """Return a message as a line of the log.

    Parameters
    ----------
    level : int
        Level of the message, such as `logging.INFO`.
    message : str
    """
    record = {"levelno": level, "levelname": logging.getLevelName(level), "msg": message}
    return JsonLines().format(logging.makeLogRecord(record))


def log_to(stream: TextIO, level: int) -> None:
    """Write all logs of this process to a stream, one JSON object per line.

    Parameters
    ----------
    stream : TextIO
    level : int
        Minimum level of the logs that are written, such as `logging.INFO`. The library FAISS logs at INFO which of its
        builds it loads, so the minimum level for FAISS is at least WARNING.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler])
    logging.getLogger("faiss").setLevel(max(level, logging.WARNING))
