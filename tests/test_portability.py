"""The main commands need no system call that exists only on Linux or only on Unix.

These tests run on Linux and remove such calls. The tests cannot show other differences of Windows and macOS.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import bare_system
import numpy as np
import pytest
import tifffile
from shelf import Shelf

_ROOT = Path(__file__).resolve().parents[1]
_FOLDERS = [_ROOT / folder for folder in ("indexer", "service", "clients/python")]
_UNIX_MODULES = {"crypt", "fcntl", "grp", "nis", "posix", "pty", "pwd", "resource", "spwd", "syslog", "termios", "tty"}
_UNIX_CALLS = {
    "os": """chown chroot confstr copy_file_range ctermid eventfd fchdir fchown fdatasync fork forkpty getegid geteuid
        getgid getgroups getloadavg getpgid getpgrp getpriority getresuid getsid getuid initgroups killpg lchown lockf
        major makedev memfd_create minor mkfifo mknod nice openpty pathconf pidfd_open pipe2 posix_fadvise
        posix_fallocate posix_spawn pread preadv pwrite pwritev register_at_fork sched_get_priority_max
        sched_getaffinity sched_setaffinity sched_yield sendfile setegid seteuid setgid setpgid setpriority setsid
        setuid splice statvfs sync sysconf tcgetpgrp ttyname uname wait wait3 wait4 waitid
        O_CLOEXEC O_DIRECTORY O_DIRECT O_DSYNC O_NOATIME O_NOCTTY O_NOFOLLOW O_NONBLOCK O_PATH O_SYNC O_TMPFILE""",
    "signal": """SIGALRM SIGCHLD SIGCONT SIGHUP SIGIO SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGTSTP SIGTTIN SIGTTOU SIGUSR1
        SIGUSR2 SIG_BLOCK alarm pause pthread_kill pthread_sigmask setitimer siginterrupt sigpending sigtimedwait
        sigwait sigwaitinfo""",
    "mmap": "MADV_DONTNEED MADV_SEQUENTIAL MADV_WILLNEED MAP_ANONYMOUS MAP_PRIVATE MAP_SHARED PROT_READ PROT_WRITE",
    "socket": "AF_UNIX SO_REUSEPORT sendmsg socketpair",
    "time": "clock_gettime_ns clock_settime pthread_getcpuclockid tzset",
    "select": "epoll kqueue poll",
}
_COMMANDS = """
import json, sys
from twinscope_client.cli.main import main
for command in json.loads(sys.argv[1]):
    assert main(command) == 0, command
"""


def test_the_main_commands_need_no_unix_calls_and_no_extras(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "lab").mkdir()
    tifffile.imwrite(tmp_path / "lab" / "x.tif", shelf.pixels["Tips", 0])
    tifffile.imwrite(tmp_path / "lab" / "y.tif", np.ascontiguousarray(np.rot90(shelf.pixels["Fibres", 1])))
    commands = [
        ["index", str(shelf.references), "--store", "store", "--workers", "1"],
        ["search", "lab/x.tif", "--at", "store"],
        ["label", "lab", "--at", "store", "--out", "out", "--workers", "1"], ["report", "out"],
        ["doctor"], ["hash", "lab"], ["convert", "lab", "--out", "jpegs"],
        ["evaluate", "out", "--truth", "out/matches.csv"],
    ]  # fmt: skip
    run = subprocess.run(
        [sys.executable, "-c", _COMMANDS, json.dumps(commands)],
        env=bare_system.environment(tmp_path / "site"), cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stderr
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "pip install &#39;twinscope[plots]&#39;" in page or "pip install 'twinscope[plots]'" in page
    assert {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").glob("*/L*")} == {
        "Tips/L9_x.tif", "Fibres/L1_y.tif",
    }  # fmt: skip


def test_a_missing_extra_is_named(tmp_path: Path) -> None:
    script = """
import sys
import numpy as np
import twinscope
from twinscope_client.cli.main import main
from twinscope_service.similarity.legacy_ssim import legacy_ssim

grey = np.zeros((9, 9), np.uint8)
for call in (
    lambda: twinscope.connect("grpc://localhost:1"), lambda: twinscope.aio,
    lambda: twinscope.PHash(bytes(128)).to_imagehash(), lambda: legacy_ssim(grey, grey),
):
    try:
        call()
    except twinscope.TwinscopeError as error:
        print(error)
sys.stderr = sys.stdout
assert main(["health", "grpc://localhost:1"]) == main(["serve", "store"]) == 1
"""
    command = [sys.executable, "-c", script]
    environment = bare_system.environment(tmp_path / "site")
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
    needing = "needs a component that is not installed: pip install 'twinscope"
    assert said == [
        f"a connection to a server {needing}[client]'", f"twinscope.aio {needing}[client]'",
        f"PHash.to_imagehash {needing}[legacy]'", f"the policy legacy {needing}[legacy]'",
        f"twinscope health: the health check {needing}[server]'",
        f"twinscope serve: the server {needing}[server]'",
    ]  # fmt: skip


def test_the_calls_are_really_taken_away(tmp_path: Path) -> None:
    """Otherwise, the test above would show nothing."""
    script = """
import os
for name in ("fcntl", "resource", "pwd", "grp"):
    try:
        __import__(name)
    except ImportError:
        continue
    raise AssertionError(name)
assert not any(hasattr(os, name) for name in ("fork", "sched_getaffinity", "sched_setaffinity", "register_at_fork"))
try:
    os.open(".", os.O_RDONLY)
except PermissionError:
    print("bare")
"""
    command = [sys.executable, "-c", script]
    environment = bare_system.environment(tmp_path / "site")
    assert subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout == "bare\n"


def _unguarded(tree: ast.Module) -> set[str]:
    """Return the names that only Unix has and that a module uses, except if the module first checks whether they
    exist."""
    asked = {
        node.args[1].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"hasattr", "getattr"}
        if isinstance(node.args[1], ast.Constant)
    }
    asked |= {"SIG_BLOCK"} if "pthread_sigmask" in asked else set()
    tried = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.Try) and any("ImportError" in ast.dump(handler) for handler in node.handlers)
        for inner in node.body
    }
    unix = {module: {*names.split()} for module, names in _UNIX_CALLS.items()}
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and id(node) not in tried:
            found |= {alias.name for alias in node.names if alias.name in _UNIX_MODULES}
        if isinstance(node, ast.ImportFrom) and id(node) not in tried and node.module in _UNIX_MODULES:
            found.add(node.module)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found |= {f"{node.value.id}.{name}" for name in {node.attr} & unix.get(node.value.id, set()) - asked}
    return found


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import fcntl", {"fcntl"}), ("try:\n import fcntl\nexcept ImportError:\n pass", set()),
        ("from resource import getrlimit", {"resource"}), ("import os\nos.fork()", {"os.fork"}),
        ("import os\nif hasattr(os, 'fork'):\n os.fork()", set()), ("import os\nos.open('x', os.O_RDONLY)", set()),
    ],
)  # fmt: skip
def test_unix_only_names_are_found(code: str, found: set[str]) -> None:
    assert _unguarded(ast.parse(code)) == found


def test_no_module_needs_names_that_only_unix_has() -> None:
    modules = [path for folder in _FOLDERS for path in folder.rglob("*.py")]
    assert len(modules) > 100
    found = {path.name: _unguarded(ast.parse(path.read_text(encoding="utf-8"))) for path in modules}
    assert {name: names for name, names in found.items() if names} == {}
