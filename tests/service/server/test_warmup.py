"""After the warm-up, no query waits for compilation."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from PIL import Image
from twinscope_client.demo.micrographs import CATEGORIES, synthesise
from twinscope_indexer.indexing.run import index

_PROGRAM = """
import gc, sys
import numpy as np
from numba.core.registry import CPUDispatcher
from twinscope_client import connect
from twinscope_client.demo.micrographs import synthesise
from twinscope_service.server.warmup import warm

def compiled():
    found = (one for one in gc.get_objects() if isinstance(one, CPUDispatcher))
    return {(one.py_func.__module__, one.py_func.__name__, len(one.signatures)) for one in found if one.signatures}

warm()
before = compiled()
kernels = __import__("twinscope_indexer.index.kernels", fromlist=["by_row"])
assert kernels.by_row.signatures
assert before
known = synthesise("Powder", 1, width=640, height=480)
noisy = np.clip(known[::-1] + np.random.default_rng(0).normal(0, 20, known.shape), 0, 255).astype(np.uint8)
with connect(sys.argv[1]) as engine:
    queries = [known, known[:-60], noisy, synthesise("Powder", 40, width=640, height=480), sys.argv[2]]
    print([engine.search(query).category for query in queries], sorted(compiled() - before))
"""


def test_queries_compile_nothing_after_the_warm_up(tmp_path: Path) -> None:
    for category in CATEGORIES[:4]:
        for number in range(2):
            path = tmp_path / "labelled" / category / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(synthesise(category, number, width=640, height=480)).save(path, quality=95)
    powder = Image.fromarray(synthesise("Powder", 1, width=640, height=480))
    (tmp_path / "labelled" / "Powder").mkdir(exist_ok=True)
    powder.save(tmp_path / "labelled" / "Powder" / "1.jpg", quality=95)
    powder.convert("RGB").save(tmp_path / "colour.jpg")
    index([tmp_path / "labelled"], tmp_path / "store", workers=2)
    command = [sys.executable, "-c", _PROGRAM, str(tmp_path / "store"), str(tmp_path / "colour.jpg")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['Powder', 'Powder', 'Powder', None, 'Powder'] []"
