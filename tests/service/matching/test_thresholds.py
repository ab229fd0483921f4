"""The table of thresholds is complete, and agrees with the documents, the contract and the command."""

from __future__ import annotations

import argparse
import importlib.util
from dataclasses import fields
from pathlib import Path

import pytest
from twinscope.v1 import types_pb2
from twinscope_client.cli.policy_options import add_policy_options
from twinscope_service.matching.policy import SETTINGS, Policy, threshold_table

_DOCS = Path(__file__).resolve().parents[3] / "docs"


@pytest.mark.skipif(not _DOCS.exists(), reason="the documents are not part of this distribution")
def test_document_matches_the_table() -> None:
    specification = importlib.util.spec_from_file_location("thresholds_table", _DOCS / "thresholds_table.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    assert (_DOCS / "thresholds.md").read_text(encoding="utf-8") == module.page()


def test_names_are_unique_and_explained() -> None:
    rows = threshold_table()
    assert len({row.name for row in rows}) == len(rows)
    assert all(row.unit and row.meaning for row in rows)


def test_every_number_of_a_policy_is_a_setting() -> None:
    numbers = {field.name for field in fields(Policy) if isinstance(getattr(Policy(), field.name), (int, float))}
    assert {setting.name for setting in SETTINGS} == numbers


def test_wire_and_command_have_every_setting() -> None:
    parser = argparse.ArgumentParser()
    add_policy_options(parser)
    parsed = parser.parse_args([])
    wire = types_pb2.Policy.DESCRIPTOR.fields_by_name
    for setting in SETTINGS:
        assert setting.wire in wire
        assert hasattr(parsed, setting.name)
