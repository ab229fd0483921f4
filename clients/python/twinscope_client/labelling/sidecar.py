"""Sidecars: JSON files next to the labelled copies, with the origin of the label and the instrument metadata."""

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
        The origin of the label, as values that can be written to JSON. The key ``query_sha256`` is required.
    metadata : InstrumentMetadata
        The instrument metadata, including `verbatim`.

    Returns
    -------
    bool
        True if the sidecar was written; False if an existing sidecar has the same content.

    Raises
    ------
    OutputError
        If the sidecar cannot be written, or another file has the name of the sidecar. The other file is not changed.
    """
    path = sidecar_path(copy)
    content = {"kind": _KIND, "label": provenance, "instrument": metadata.to_dict()}
    data = (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")
    try:
        return put_bytes(data, path)
    except FileExistsError as error:
        if not _is_sidecar_of(path, provenance["query_sha256"]):
            msg = f"{path} is not the sidecar of this image and was left unchanged. Move this file away, and run again"
            raise OutputError(msg) from error
    replace_if_changed(path, data)
    return True


def _is_sidecar_of(path: Path, query_sha256: str) -> bool:
    """Check whether a file is the sidecar of the image with this SHA-256."""
    try:
        content = json.loads(path.read_bytes())
        return bool(content["kind"] == _KIND and content["label"]["query_sha256"] == query_sha256)
    except (OSError, ValueError, KeyError, TypeError):
        return False
