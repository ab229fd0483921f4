"""Print the settings of the project that apply in the working folder.

The settings come from the file twinscope.toml in the working folder or in the nearest folder above it. The environment
variable TWINSCOPE_STORE overrides the store of the file, and TWINSCOPE_MAX_MEGAPIXELS overrides max_megapixels. Options
of a command override both. Relative paths in the file start at the folder of the file. An example of the file:

  store = "lab.store"          # or a server: "grpcs://match.lab:50051"
  collection = "collection"    # SOURCE of twinscope index
  images = "tiffs"             # PATH of twinscope label
  out = "labelled"             # output folder of label; report and evaluate read it
  policy = "default"
  fail_on = "review"

  [thresholds]
  max_p_wrong = 0.01

The other keys are min_grade, name, link, jpeg, sidecar, workers and max_megapixels. These keys have the same meaning as
the options of label.

Example: twinscope config
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from twinscope_client.cli import project
from twinscope_client.cli.console import DONE, emit, say

HELP = "print the settings of the project that apply in the working folder"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand to the parser."""
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def run(parsed: argparse.Namespace) -> int:
    """Run the subcommand, and return the exit code."""
    found = project.settings()
    if parsed.json:
        emit(json.dumps({key: asdict(setting) for key, setting in found.items()}))
        return DONE
    file = project.found_file()
    if file is None:
        say(f"There is no {project.FILE_NAME} in this folder or in a folder above it.")
    for key, setting in found.items():
        emit(f"{key} = {json.dumps(setting.value, ensure_ascii=False)}    ({setting.origin})")
    return DONE
