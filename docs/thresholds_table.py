"""Print docs/thresholds.md, the table of all decision thresholds.

The table contains the unit of each threshold, and the data that were used to choose the threshold.

python docs/thresholds_table.py > docs/thresholds.md
"""

from __future__ import annotations

import sys

from twinscope_service.matching.policy import SETTINGS, threshold_table

HEAD = """# Decision thresholds

The command `python docs/thresholds_table.py > docs/thresholds.md` generates this table from the code. A test checks
that the table is up to date. You can set the first {settable} thresholds for each query: as options of the command,
in Python and over gRPC. The other thresholds are fixed.

| name | value | unit | what it decides | chosen on |
|---|---|---|---|---|
"""


def page() -> str:
    """Return the page as Markdown."""
    rows = (
        f"| `{row.name}` | {row.value:g} | {row.unit} | {row.meaning} | {row.chosen_on} |\n"
        for row in threshold_table()
    )
    return HEAD.format(settable=len(SETTINGS)) + "".join(rows)


if __name__ == "__main__":
    sys.stdout.write(page())
