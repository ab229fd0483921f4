"""Generated pages of the documents are up to date, and the documents explain everything that is public in the code."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, get_args

import pytest
import twinscope
from twinscope_indexer.errors import ImageFault
from twinscope_indexer.metadata.registry import READERS
from twinscope_indexer.taxonomy import builtin_taxonomy
from twinscope_service.matching.grades import GRADE_NAMES
from twinscope_service.matching.policy import SETTINGS
from twinscope_service.matching.reasons import ReasonCode

_ROOT = Path(__file__).resolve().parent.parent
_DOCS = _ROOT / "docs"

pytestmark = pytest.mark.skipif(not _DOCS.exists(), reason="the documents are not part of this distribution")


def text(page: str) -> str:
    return (_DOCS / page).read_text(encoding="utf-8")


def module(name: str) -> ModuleType:
    """A module in the folder docs/, which is not a package."""
    specification = importlib.util.spec_from_file_location(name, _DOCS / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    found = importlib.util.module_from_spec(specification)
    # dataclasses look their module up
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, name, found)
        specification.loader.exec_module(found)
    return found


def first_column(page: str, heading: str) -> list[str]:
    """First cells of the rows of the first table below a heading."""
    below = text(page).split(f"\n## {heading}\n")[1]
    lines = below[below.index("\n| ") + 1 :].split("\n\n")[0].splitlines()
    return [line.strip("|").split("|")[0].strip().strip("`") for line in lines[2:]]


@pytest.mark.parametrize("name", ["command", "wire"])
def test_a_generated_page_is_current(name: str) -> None:
    assert text(f"{name}.md") == module(f"{name}_page").page(), "run: make reference"


def test_the_wire_page_tells_all_of_the_contract() -> None:
    page = text("wire.md")
    names = list(module("wire_page").names())
    assert {"SimilarityService.Search", "Answer", "p_wrong", "GRADE_GOOD", "ERROR_REASON_OVERLOADED"} <= {*names}
    assert [name for name in names if f"`{name}`" not in page and f"\n### {name}\n" not in page] == []


def test_no_field_of_the_wire_page_is_without_explanation() -> None:
    assert [line for line in text("wire.md").splitlines() if re.fullmatch(r"\| .*\|\s*\|", line)] == []


def test_links_within_the_wire_page_have_a_target() -> None:
    page = text("wire.md")
    titles = {re.sub(r"[^a-z0-9_-]", "", title.lower()) for title in re.findall(r"^#+ (\S+)$", page, re.MULTILINE)}
    assert {*re.findall(r"\]\(#(\S+?)\)", page)} <= titles


def test_the_command_page_has_each_threshold() -> None:
    page = text("command.md")
    assert [one.name for one in SETTINGS if f"`-{one.name} " not in page
            and f"`--{one.name.replace('_', '-')} " not in page] == []  # fmt: skip


def test_every_public_name_is_documented() -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in (_DOCS / "api").glob("*.md"))
    documented = re.findall(r"^::: twinscope\.(\w+)$|<span id=\"twinscope\.(\w+)\">", pages, re.MULTILINE)
    assert sorted(filter(None, (name for pair in documented for name in pair))) == sorted(twinscope.__all__)


def test_every_reason_is_explained() -> None:
    assert sorted(first_column("troubleshooting.md", "Reason codes")) == sorted(ReasonCode)


def test_every_grade_is_explained() -> None:
    assert first_column("troubleshooting.md", "Grades") == list(GRADE_NAMES)


def test_every_fault_of_a_file_is_explained() -> None:
    assert first_column("troubleshooting.md", "Files that cannot be read") == list(get_args(ImageFault))


def test_every_category_is_listed_with_its_other_names() -> None:
    rows = [[cell.strip() for cell in line.strip("|").split("|")]
            for line in text("categories.md").splitlines() if line.startswith("| L")]  # fmt: skip
    assert rows == [[one.code, one.name, ", ".join(one.aliases)] for one in builtin_taxonomy().categories]


def test_the_pages_of_the_vendors_are_current() -> None:
    written = {path.name: path.read_text(encoding="utf-8") for path in (_DOCS / "vendors").glob("*.md")}
    assert written == module("vendor_pages").pages(), "run: make reference"
    assert len(written) == len(READERS) + 1


def test_the_example_of_a_vendor_reads_its_tag() -> None:
    [example] = re.findall(r"```python\n(.*?)```", text("instruments.md"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(example, names)
    [tag] = names["READER"].tags
    read = tag.read(SimpleNamespace(data=b"[Microscope]\r\nModel=X 100\r\nHV=20000\r\n"))
    assert (read.vendor, read.instrument, read.beam_energy_kev) == ("Example", "X 100", 20)
    assert not tag.read(SimpleNamespace(data=b"another manufacturer's value"))


def test_every_setting_of_a_request_is_in_the_guide_to_thresholds() -> None:
    guide = text("choosing-thresholds.md")
    # The generated table explains the others.
    explained = {"max_p_wrong", "good_scene", "lone_scene", "max_distance", "far_distance", "excellent_ssim",
                 "scene_margin", "ssim_margin"}  # fmt: skip
    assert explained <= {one.name for one in SETTINGS}
    assert [name for name in explained if f"--{name.replace('_', '-')}" not in guide] == []


class TestLinks:
    """Links of the documents on the site."""

    @pytest.fixture
    def relinked(self):
        pytest.importorskip("mkdocs", reason="the site is not installed: pip install -e '.[docs]'")
        pages = {"server.md", "wire.md", "contributing.md", "deploy.md", "api/errors.md", "compatibility.md"}
        hooks = module("site_hooks")
        return lambda markdown, uri: hooks.relinked(markdown, uri, pages.__contains__)

    @pytest.mark.parametrize(
        ("uri", "link", "expected"),
        [
            ("server.md", "[a](compatibility.md)", "[a](compatibility.md)"),
            ("server.md", "[a](../proto/twinscope/v1)", "[a](wire.md)"),
            ("server.md", "[a](../deploy/README.md)", "[a](deploy.md)"),
            ("deploy.md", "[a](../docs/server.md#settings)", "[a](server.md#settings)"),
            ("contributing.md", "[a](docs/compatibility.md)", "[a](compatibility.md)"),
            ("api/errors.md", "[a](../server.md)", "[a](../server.md)"),
            ("server.md", "[a](../pyproject.toml)", "a"),
            ("server.md", "[`a`](../pyproject.toml)", "`a`"),
            ("server.md", "[a](nowhere.md)", "[a](nowhere.md)"),
            ("server.md", "[a](https://example.org)", "[a](https://example.org)"),
            ("server.md", "[a](#settings)", "[a](#settings)"),
            ("server.md", "`[a](../pyproject.toml)`", "`[a](../pyproject.toml)`"),
            ("server.md", "```\n[a](../pyproject.toml)\n```\n", "```\n[a](../pyproject.toml)\n```\n"),
        ],
    )
    def test_a_link(self, relinked, uri: str, link: str, expected: str) -> None:
        assert relinked(link, uri) == expected
