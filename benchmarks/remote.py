"""Check that a remote server gives the same labels as an embedded store, on real micrographs.

    python benchmarks/remote.py [--micrographs DIR]

The benchmark indexes every micrograph as `real_twins.py` does, and runs the commands of a user: `twinscope label`
with the embedded store, and `twinscope label` with a server at `grpcs://`. The server (`twinscope serve`) requires a
token and uses TLS, with certificates from `deploy/make-certificates.sh`. The tables of both runs must be identical
byte by byte.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from real_twins import DEFAULT, Micrograph, prepare
from twinscope_indexer.indexing.run import index
from twinscope_indexer.taxonomy import load_taxonomy

_ROOT = Path(__file__).resolve().parents[1]
_TWINSCOPE = str(Path(sys.executable).with_name("twinscope"))
_TABLES = ("matches.csv", "review.csv", "failures.csv")


def label(work: Path, made: list[Micrograph], target: str, out: str, *flags: str) -> float:
    """Label all TIFFs, and return the time that this took, in seconds."""
    tiffs = [str(one.tiff) for one in made]
    command = [_TWINSCOPE, "label", *tiffs, "--at", target, "--out", str(work / out), "--link", "sym", *flags]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 3):
        raise RuntimeError(done.stderr)
    return time.perf_counter() - start


@contextmanager
def served(work: Path, store: Path) -> Iterator[tuple[str, str]]:
    """Serve a store with TLS and tokens. Yield the address of the server and a token."""
    subprocess.run(["sh", str(_ROOT / "deploy" / "make-certificates.sh"), str(work / "pki")], check=True,
                   capture_output=True)  # fmt: skip
    made = subprocess.run([_TWINSCOPE, "serve", "--new-token", "bench"], capture_output=True, text=True, check=True)
    token, line = made.stdout.splitlines()
    (work / "tokens").write_text(line + "\n", encoding="utf-8")
    command = [
        _TWINSCOPE, "serve", str(store), "--port", "0", "--quiet", "--tokens", str(work / "tokens"),
        "--tls-certificate", str(work / "pki" / "server.pem"), "--tls-key", str(work / "pki" / "server.key"),
    ]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        try:
            lines = iter(running.stderr or ())
            found = next(match for match in (re.search(r"grpcs://[^;]+", line) for line in lines) if match)
            yield found[0].replace("127.0.0.1", "localhost"), token
        finally:
            running.terminate()


def main() -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--micrographs", type=Path, default=DEFAULT)
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        made, _ = prepare(parsed.micrographs, work)
        store = work / "store"
        index([work / "jpeg"], store, taxonomy=load_taxonomy(keep_unknown=True))
        seconds = label(work, made, str(store), "embedded")
        with served(work, store) as (target, token):
            os.environ["TWINSCOPE_TOKEN"] = token
            remote = label(work, made, target, "remote", "--ca", str(work / "pki" / "ca.pem"))
        print(f"{len(made)} micrographs; embedded {seconds:.1f} s, over grpcs:// with a token {remote:.1f} s")
        same = True
        for name in _TABLES:
            tables = [(work / out / name).read_bytes() for out in ("embedded", "remote")]
            rows = tables[0].count(b"\n") - 1
            same &= tables[0] == tables[1]
            print(f"  {name:<13} {rows:4d} rows  {'identical' if tables[0] == tables[1] else 'DIFFERENT'}  "
                  f"SHA-256 {hashlib.sha256(tables[0]).hexdigest()[:16]}")  # fmt: skip
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
