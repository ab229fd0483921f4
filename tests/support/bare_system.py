"""A system without the calls that Windows lacks, and without the packages of the extras.

The module ``sitecustomize``, which every new Python process runs, removes these calls and packages.
"""

from __future__ import annotations

import os
from pathlib import Path

SITE = """
import os, signal, sys

EXTRAS = ("google.protobuf", "google.rpc", "grpc", "imagehash", "matplotlib", "prometheus_client", "skimage")
for name in ("fcntl", "resource", "pwd", "grp", "termios", "syslog", *EXTRAS):
    sys.modules[name] = None  # `import` raises ModuleNotFoundError
for module, names in (
    (os, "fork forkpty register_at_fork sched_getaffinity sched_setaffinity pread pwrite getuid chown mkfifo"),
    (signal, "pthread_sigmask SIGHUP"),
):
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)

_open = os.open

def _open_no_folder(path, flags, *arguments, **named):
    if not isinstance(path, int) and os.path.isdir(path):
        raise PermissionError(13, "Permission denied", path)
    return _open(path, flags, *arguments, **named)

os.open = _open_no_folder
"""


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of processes that cannot use these calls; `folder` will hold the module."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SITE)
    return os.environ | {"PYTHONPATH": str(folder)}
