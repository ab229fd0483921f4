"""The contract and the Node client have the same grades as the table `GRADES`."""

from __future__ import annotations

import re
from pathlib import Path

from twinscope.v1 import errors_pb2, types_pb2
from twinscope_service.matching.grades import GRADES

_ROOT = Path(__file__).resolve().parents[3]
_NODE = _ROOT / "clients" / "node"
_PREFIX = "GRADE_"


def test_contract_has_the_grades_of_the_table() -> None:
    names = {name.removeprefix(_PREFIX).lower() for name in types_pb2.Grade.keys()}  # noqa: SIM118  no mapping
    assert names == {grade.name for grade in GRADES} | {"unspecified"}


def test_contract_names_the_labelled_grades() -> None:
    text = (_ROOT / "proto" / "twinscope" / "v1" / "types.proto").read_text()
    found = re.search(r"Only ([A-Z_, ]+(?: and [A-Z_]+)?) carry a label;", text)
    assert found
    assert set(re.findall(r"[A-Z_]+", found[1])) == {grade.name.upper() for grade in GRADES if grade.labelled}


def test_node_client_has_the_grades_in_the_order_of_the_table() -> None:
    table = re.search(r"export const GRADES = \{\n(.*?)\n\} as const", (_NODE / "src" / "answer.ts").read_text(), re.S)
    assert table
    rows = re.findall(r"^  (\w+): \{ labelled: (true|false) \}", table[1], re.M)
    assert len(rows) == len(table[1].splitlines())
    assert [(name, labelled == "true") for name, labelled in rows] == [(one.name, one.labelled) for one in GRADES]


def test_node_client_names_grades_only_in_its_table() -> None:
    """If a condition named a grade, a developer could forget this condition when the table changes."""
    code = {path.name: path.read_text() for path in (_NODE / "src").glob("*.ts") if path.name != "answer.ts"}
    code["answer.ts"] = (_NODE / "src" / "answer.ts").read_text().replace("export const GRADES", "", 1)
    for name, text in code.items():
        assert not re.findall(rf"===? '(?:{'|'.join(one.name for one in GRADES)})'", text), name


def test_node_client_lists_no_error_reasons() -> None:
    """Check that the client passes on all reasons, so that a new reason needs no change of the client."""
    text = (_NODE / "src" / "errors.ts").read_text()
    reasons = {name.removeprefix("ERROR_REASON_") for name in errors_pb2.ErrorReason.keys()}  # noqa: SIM118  no mapping
    assert not {name for name in reasons if f"'{name}'" in text}
