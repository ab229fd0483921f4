"""A fork waits for running operations, and the child process can use its objects."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork processes")

START = """
import os, threading
from twinscope_indexer.compute import forking

class Connection:
    log = []
    def _before_fork(self):
        self.log.append("closed")
    def _after_fork(self, *, usable):
        self.log.append(usable)

connection = Connection()
forking.protect(connection)

def in_child(action):
    child = os.fork()
    if not child:
        try:
            print(*action(), flush=True)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
"""


def printed(program: str, **environment: str) -> str:
    command = [sys.executable, "-c", START + program]
    ran = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=600, env=os.environ | environment
    )
    return ran.stdout + ran.stderr[-500:]


def test_a_fork_waits_for_the_operations_of_other_threads() -> None:
    program = """
entered, log = threading.Event(), []

def operation():
    with forking.no_fork():
        entered.set()
        with forking.no_fork():  # an inner operation does not wait for the fork
            log.append("inner")
        log.append("ended")

threads = [threading.Thread(target=operation) for _ in range(20)]
for thread in threads:
    thread.start()
    in_child(lambda: [len(log) % 2, connection.log[-2:]])
    thread.join()
"""
    assert printed(program) == "0 ['closed', True]\n" * 20


def test_a_child_is_told_that_an_operation_did_not_end() -> None:
    program = """
forking._WAIT_SECONDS = 0.05
entered, allowed = threading.Event(), threading.Event()

def operation():
    with forking.no_fork():
        entered.set()
        allowed.wait()

thread = threading.Thread(target=operation)
thread.start()
entered.wait()
in_child(lambda: connection.log)
with forking.no_fork():
    allowed.set()
    thread.join()
    in_child(lambda: connection.log)  # the operation of the forking thread itself
in_child(lambda: connection.log)
"""
    assert printed(program) == "False\nFalse\nclosed True\n"


def test_an_operation_of_a_child_does_not_wait() -> None:
    program = """
def operation():
    with forking.no_fork():
        return ["ran"]

in_child(operation)
print(*operation())
"""
    assert printed(program) == "ran\nran\n"


def test_a_child_cannot_continue_the_iterator_of_its_parent() -> None:
    program = """
from twinscope_indexer.compute.ordered import in_order

def rest():
    try:
        return [*numbers]
    except RuntimeError as error:
        return [error]

allowed = threading.Event()
numbers = in_order(lambda number: number and allowed.wait(), [0, 1, 2], 1)
next(numbers)
in_child(rest)
allowed.set()
print(*numbers)
"""
    child, parent, _ = printed(program).split("\n")
    assert child.endswith("create the iterator in this process")
    assert parent == "True True"


@pytest.mark.parametrize("engine", ["scan", "faiss"])
def test_a_child_can_search_with_several_threads(engine: str) -> None:
    program = f"""
import numpy as np
from twinscope_indexer.index.engines import engine_index
codes = np.random.default_rng(0).integers(0, 256, (5000, 128), dtype=np.uint8)
index = engine_index({engine!r}).extended([(np.arange(5000), codes)])

def found():
    return [int(near.ids[0]) for near in index.search(codes[:200:40], 1, 0)] + [len(index.search(codes[:200], 1, 0))]

in_child(found)
print(*found())
in_child(found)
"""
    assert printed(program, OMP_NUM_THREADS="4") == "0 40 80 120 160 200\n" * 3
