"""Measure the server under load, compared with a server that only echoes messages, and with FAISS in this process.

    python benchmarks/load.py [--quick] [--sizes 25000 1000000] [--out FILE.json]

The server and the echo server run in separate processes, and the client runs in this process. All three programs use
the same cores. Sixteen requests are in flight at any time. The stored hashes are random (seed 0). The queries are
stored hashes with up to 40 changed bits. The images are synthetic.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path

import faiss
import grpc
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from twinscope.v1 import similarity_pb2, similarity_pb2_grpc
from twinscope_client.demo.micrographs import CATEGORIES, synthesise
from twinscope_client.doctor import machine, versions
from twinscope_indexer.files import utc_now
from twinscope_indexer.hashing.perceptual import RECIPE
from twinscope_indexer.indexing.run import index
from twinscope_indexer.store.reader import CATALOG_NAME, open_writer

IN_FLIGHT = 16
BATCH = 256
_ECHO = "/twinscope.bench.Echo/Echo"


@dataclass(frozen=True)
class Load:
    """The measurements of one kind of request. Times are in milliseconds."""

    what: str
    requests: int
    queries_a_second: float
    p50_ms: float
    p99_ms: float
    errors: int


def measure(what: str, call: Callable[[int], object], seconds: float, queries: int = 1) -> Load:
    """Keep sixteen calls in flight for `seconds` seconds, wait for the last call, and return the measurements.

    Before the measurement, each of the sixteen threads makes one call that is not counted.
    """
    times: list[float] = []
    errors = 0
    lock = threading.Lock()
    ready = threading.Barrier(IN_FLIGHT)
    began: list[float] = []

    def work(worker: int) -> None:
        nonlocal errors
        call(worker)
        ready.wait()
        began.append(time.perf_counter())
        number = worker
        while (start := time.perf_counter()) < began[0] + seconds:
            try:
                call(number)
                failed = 0
            except grpc.RpcError:
                failed = 1
            number += IN_FLIGHT
            with lock:
                times.append(1000 * (time.perf_counter() - start))
                errors += failed

    with futures.ThreadPoolExecutor(IN_FLIGHT) as pool:
        list(pool.map(work, range(IN_FLIGHT)))
    took = time.perf_counter() - began[0]
    ordered = sorted(times)
    p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    return Load(what, len(times), len(times) * queries / took, statistics.median(times), p99, errors)


def synthetic_store(folder: Path, codes: NDArray[np.uint8], first: int = 0) -> int:
    """Write hashes without files and thumbnails into a store. Return the first generation that contains them.

    The ids of the new records begin with `first`. All records are inserted by one SQL statement, so that a million
    records take only seconds.
    """
    with open_writer(folder, create=True) as writer:
        root_id, _, _ = writer.catalog.root_for(Path("/nowhere"))
        generation, now = writer.generation, utc_now()
    rows = (
        (
            number, root_id, f"{number}.jpg", 1, 1, bytes(32), "JPEG", "L", 8, 1, 1, code.tobytes(), RECIPE,
            CATEGORIES[number % 10], f"L{number % 10}", "", now, generation,
        )
        for number, code in enumerate(codes, first)
    )  # fmt: skip
    columns = (
        "id, root_id, path, size, mtime_ns, sha256, format, mode, bits, width, height, hash, recipe, category, code,"
        " taxonomy, indexed_at, generation"
    )
    with closing(sqlite3.connect(folder / CATALOG_NAME)) as catalog, catalog:
        catalog.executemany(f"INSERT INTO images ({columns}) VALUES ({','.join('?' * 18)})", rows)
    with open_writer(folder) as writer:
        return writer.publish()


@contextmanager
def process(*arguments: str) -> Iterator[str]:
    """Run a server in another process. Read its address from stderr, and yield the address."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env=environment) as running:
        try:
            if running.stderr is None:
                raise RuntimeError(arguments)
            line = next(line for line in running.stderr if "grpc://" in line)
            threading.Thread(target=running.stderr.read, daemon=True).start()
            yield line.partition("grpc://")[2].partition(";")[0].strip()
        finally:
            running.terminate()


def serve_echo() -> None:
    """Run a gRPC server with an echo method until the process is terminated."""
    server = grpc.server(futures.ThreadPoolExecutor(32), options=[("grpc.so_reuseport", 0)])
    handler = grpc.unary_unary_rpc_method_handler(lambda request, _: request)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("twinscope.bench.Echo", {"Echo": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"grpc://127.0.0.1:{port}", file=sys.stderr)
    server.wait_for_termination()


def changed(codes: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """Return queries: randomly selected stored hashes with up to 40 changed bits."""
    random = np.random.default_rng(1)
    bits = np.unpackbits(codes[random.integers(0, len(codes), count)], axis=1)
    for row in bits:
        row[random.integers(0, 1024, 40)] ^= 1
    return np.packbits(bits, axis=1)


def bare_faiss(codes: NDArray[np.uint8], queries: NDArray[np.uint8], seconds: float) -> float:
    """Return the number of queries per second that FAISS answers in this process, in batches of 256 on all cores."""
    flat = faiss.IndexBinaryFlat(1024)
    flat.add(codes)
    faiss.omp_set_num_threads(os.cpu_count() or 1)
    flat.search(queries[:BATCH], 6)
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        flat.search(queries[:BATCH], 6)
        done += BATCH
    return done / (time.perf_counter() - start)


def hash_loads(address: str, queries: NDArray[np.uint8], seconds: float) -> list[Load]:
    """Measure hash queries, one query per call and in batches."""
    with grpc.insecure_channel(address, [("grpc.max_receive_message_length", -1)]) as channel:
        stub = similarity_pb2_grpc.SimilarityServiceStub(channel)
        single = [similarity_pb2.SearchRequest(query={"hash": code.tobytes()}) for code in queries]
        batch = similarity_pb2.BatchSearchRequest(queries=[{"hash": code.tobytes()} for code in queries[:BATCH]])
        return [
            measure("hash queries, one per message", lambda i: stub.Search(single[i % len(single)]), seconds),
            measure(f"hash queries, {BATCH} per message", lambda _: stub.BatchSearch(batch), 3 * seconds, BATCH),
        ]


def image_load(work: Path, seconds: float) -> Load:
    """Measure searches in a small store with uploaded images of 1024 x 768 pixels."""
    uploads = []
    for category in CATEGORIES:
        pixels = synthesise(category, 0, width=1024, height=768)
        path = work / "images" / category / "0.jpg"
        path.parent.mkdir(parents=True)
        Image.fromarray(pixels).save(path, quality=100)
        data = BytesIO()
        tifffile.imwrite(data, pixels)
        uploads.append(data.getvalue())
    index([work / "images"], work / "images.store")

    def messages(data: bytes) -> Iterator[similarity_pb2.SearchByImageRequest]:
        yield similarity_pb2.SearchByImageRequest(header={"size_bytes": len(data)})
        for start in range(0, len(data), 256 << 10):
            yield similarity_pb2.SearchByImageRequest(chunk=data[start : start + (256 << 10)])

    with process(*_serve(work / "images.store")) as address, grpc.insecure_channel(address) as channel:
        stub = similarity_pb2_grpc.SimilarityServiceStub(channel)
        return measure(
            "images of 0.8 Mpx, uploaded", lambda i: stub.SearchByImage(messages(uploads[i % len(uploads)])), seconds
        )


def echo_load(queries: NDArray[np.uint8], seconds: float) -> Load:
    """Measure the echo of a message that is as long as a query."""
    with process(sys.executable, __file__, "--serve-echo") as address, grpc.insecure_channel(address) as channel:
        echo = channel.unary_unary(_ECHO)
        message = similarity_pb2.SearchRequest(query={"hash": queries[0].tobytes()}).SerializeToString()
        return measure("echo of 128 bytes", lambda _: echo(message), seconds)


def _serve(store: Path) -> tuple[str, ...]:
    return (
        str(Path(sys.executable).with_name("twinscope")), "serve", str(store), "--port", "0", "--quiet",
    )  # fmt: skip


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="measure for 3 instead of 10 seconds")
    parser.add_argument("--sizes", type=int, nargs="+", default=[25_000, 1_000_000])
    parser.add_argument("--out", type=Path, help="write the result as JSON")
    parser.add_argument("--serve-echo", action="store_true", help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.serve_echo:
        serve_echo()
        return
    seconds = 3.0 if parsed.quick else 10.0
    result: dict[str, object] = {"machine": machine(), "versions": versions(), "in_flight": IN_FLIGHT}
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        for size in parsed.sizes:
            codes = random.integers(0, 256, (size, 128), dtype=np.uint8)
            queries = changed(codes, 4096)
            synthetic_store(work / f"{size}.store", codes)
            echo = echo_load(queries, seconds)
            bare = bare_faiss(codes, queries, seconds)
            with process(*_serve(work / f"{size}.store")) as address:
                loads = [echo, *hash_loads(address, queries, seconds)]
            print(f"{size} hashes; FAISS alone in this process, batches of {BATCH}: {bare:.0f} queries/s")
            _print(loads)
            print(f"  one per message / echo: {loads[1].queries_a_second / echo.queries_a_second:.0%}; "
                  f"batches / FAISS alone: {loads[2].queries_a_second / bare:.0%}")  # fmt: skip
            result[str(size)] = {"bare_faiss": bare, "loads": [asdict(load) for load in loads]}
        images = image_load(work, seconds)
        _print([images])
        result["images"] = asdict(images)
    if parsed.out:
        parsed.out.write_text(json.dumps(result, indent=1), encoding="utf-8")


def _print(loads: list[Load]) -> None:
    for load in loads:
        print(f"  {load.what:<32} {load.queries_a_second:9.0f}/s  p50 {load.p50_ms:8.2f} ms  p99 {load.p99_ms:8.2f} ms"
              f"  errors {load.errors}")  # fmt: skip


if __name__ == "__main__":
    main()
