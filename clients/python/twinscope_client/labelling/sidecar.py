"""Sidecars: a JSON file next to each labelled copy, with the origin of its label and the instrument metadata."""

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
    """Return the path of the sidecar of a labelled copy: ``NAME.tif.json``."""
    return copy.with_name(f"{copy.name}.json")


def write_sidecar(copy: Path, provenance: dict[str, Any], metadata: InstrumentMetadata) -> bool:
    """Write the sidecar of a labelled copy, or update it if it was written for the same image.

    Parameters
    ----------
    copy : Path
        The labelled copy.
    provenance : dict
        The origin of the label: plain JSON, with ``query_sha256``.
    metadata : InstrumentMetadata
        The instrument metadata, `verbatim` included.

    Returns
    -------
    bool
        False if the file has this content already.

    Raises
    ------
    OutputError
        If it cannot be written, or another file has its name; that file is left unchanged.
    """
    path = sidecar_path(copy)
    content = {"kind": _KIND, "label": provenance, "instrument": metadata.to_dict()}
    data = (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")
    try:
        return put_bytes(data, path)
    except FileExistsError as error:
        if not _is_sidecar_of(path, provenance["query_sha256"]):
            msg = f"{path} is another file: it was left unchanged. Move it away, and run again"
            raise OutputError(msg) from error
    replace_if_changed(path, data)
    return True


def _is_sidecar_of(path: Path, query_sha256: str) -> bool:
    """Check whether a file is the sidecar of an image."""
    try:
        content = json.loads(path.read_bytes())
        return bool(content["kind"] == _KIND and content["label"]["query_sha256"] == query_sha256)
    except (OSError, ValueError, KeyError, TypeError):
        return False
