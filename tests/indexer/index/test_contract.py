"""Every engine, and an index of two engines, gives the same answers as a full scan."""

from __future__ import annotations

from index_contract import IndexContract
from toy_engine import ToySegment
from twinscope_indexer.index.engines import engine_index
from twinscope_indexer.index.paired import PairedIndex
from twinscope_indexer.index.protocol import Index
from twinscope_indexer.index.segments import SegmentedIndex


class TestScan(IndexContract):
    def empty(self) -> Index:
        return engine_index("scan")


class TestFaiss(IndexContract):
    def empty(self) -> Index:
        return engine_index("faiss")


class TestPaired(IndexContract):
    def empty(self) -> Index:
        return PairedIndex(engine_index("faiss"), engine_index("scan"))


class TestToy(IndexContract):
    def empty(self) -> Index:
        return SegmentedIndex("toy", ToySegment)
