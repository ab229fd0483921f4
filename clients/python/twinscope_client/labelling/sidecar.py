"""Sidecars: a JSON file beside a labelled copy, with where its label came from and what the instrument wrote."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from twinscope_client.errors import OutputError
from twinscope_client.outputs import put_bytes, replace_if_changed

if TYPE_CHECKING:
    from pathlib import Path

    from twinscope_indexer.metadata.reader import InstrumentMetadata

_KIND: Final = "twinscope label/1"


def sidecar_path(copy: Path) -> Path:
    """Give the sidecar of a labelled copy: ``NAME.tif.json``."""
    return copy.with_name(f"{copy.name}.json")


def write_sidecar(copy: Path, provenance: dict[str, Any], metadata: InstrumentMetadata) -> bool:
    """Write the sidecar of a labelled copy; one that was written for the same image before is brought up to date.

    Parameters
    ----------
    copy : Path
        The labelled copy.
    provenance : dict
        Where the label came from; plain JSON, with ``query_sha256``.
    metadata : InstrumentMetadata
        What the instrument wrote, `verbatim` included.

    Returns
    -------
    bool
        False if the same was there already.

    Raises
    ------
    OutputError
        If it cannot be written, or something else has its name: that is left as it is.
    """
    path = sidecar_path(copy)
    content = {"kind": _KIND, "label": provenance, "instrument": metadata.to_dict()}
    data = (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")
    try:
        return put_bytes(data, path)
    except FileExistsError as error:
        if not _is_of(path, provenance["query_sha256"]):
            msg = f"{path} is another file; it was left as it is: move it away, and run again"
            raise OutputError(msg) from error
    replace_if_changed(path, data)
    return True


def _is_of(path: Path, query_sha256: str) -> bool:
    """Whether a file is the sidecar of an image."""
    try:
        known = json.loads(path.read_bytes())
        return bool(known["kind"] == _KIND and known["label"]["query_sha256"] == query_sha256)
    except (OSError, ValueError, KeyError, TypeError):
        return False
