"""Functions that MkDocs calls when it builds the documentation site.

The functions add pages from outside docs/, change links, and check the finished site.

Links in the documents point to files of the repository. If the site has a page for the file, the link points to this
page. If the site has no page for the file, the link becomes plain text. A broken link is not changed. The strict build
then fails.
"""

from __future__ import annotations

import ast
import os
import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

if TYPE_CHECKING:
    from collections.abc import Callable

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
BORROWED = {
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "deploy.md": "deploy/README.md",
    "node.md": "clients/node/README.md",
}
"""Pages of the site that come from files outside docs/, with the path of each file in the repository."""
_INSTEAD = {
    "README.md": "index.md",
    "proto/twinscope/v1": "wire.md",
    "clients/node": "node.md",
    "deploy": "deploy.md",
    "clients/python/twinscope_client/errors.py": "api/errors.md",
}
"""Files and folders that links may point to, with the page of the site that each link points to instead."""
_PARTS = re.compile(r"(^ *```.*?^ *```[^\n]*$|`[^`\n]+`)", re.MULTILINE | re.DOTALL)
_LOADED = re.compile(r'<(?:script|link|img)\b[^>]*?(?:src|href)="(https?:[^"]+)')
_LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that come from files outside docs/."""
    for page, origin in BORROWED.items():
        files.append(File.generated(config, page, content=(ROOT / origin).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Change the links of a page so that they are valid on the site."""
    return relinked(markdown, page.file.src_uri, lambda uri: files.get_file_from_path(uri) is not None)


def relinked(markdown: str, uri: str, on_site: Callable[[str], bool]) -> str:
    """Return the text of a page with links for the site. Code is not changed.

    Parameters
    ----------
    markdown : str
        Text of the page. Links in this text point to files of the repository.
    uri : str
        Name of the page on the site.
    on_site : callable
        Function that takes a name and returns whether the site has a page or a file with this name.
    """
    here = posixpath.dirname(BORROWED.get(uri, f"docs/{uri}"))

    def replaced(link: re.Match[str]) -> str:
        text, target = link.groups()
        path, mark, anchor = target.partition("#")
        if not path or ":" in path:
            return link[0]
        place = posixpath.normpath(posixpath.join(here, path))
        name = _page_of(place)
        if on_site(name):
            return f"[{text}]({posixpath.relpath(name, posixpath.dirname(uri) or '.')}{mark}{anchor})"
        return text if (ROOT / place).exists() else link[0]

    parts = _PARTS.split(markdown)
    # Parts with odd numbers are code. The text of a link may be code. Therefore, placeholders replace the code until
    # all links have been changed.
    codes = parts[1::2]
    joined = "".join(part if number % 2 == 0 else f"\x00{number // 2}\x00" for number, part in enumerate(parts))
    return re.sub(r"\x00(\d+)\x00", lambda code: codes[int(code[1])], _LINK.sub(replaced, joined))


def _page_of(place: str) -> str:
    """Return the name of the page that the site would have for a file of the repository."""
    borrowed = {origin: page for page, origin in BORROWED.items()}
    return borrowed.get(place) or _INSTEAD.get(place) or place.removeprefix("docs/")


def on_post_build(config: MkDocsConfig) -> None:
    """Check that the site documents each public name, and that no page loads files from other machines."""
    pages = [path.read_text(encoding="utf-8") for path in Path(config.site_dir).rglob("*.html")]
    missing = [name for name in public_names() if not any(f'id="twinscope.{name}"' in page for page in pages)]
    if missing:
        raise PluginError(f"docs/api does not document {', '.join(missing)}; add a line '::: twinscope.NAME' to a page")
    foreign = {url for page in pages for url in _LOADED.findall(page)}
    if foreign:
        raise PluginError(f"pages load files from other machines: {', '.join(sorted(foreign))}")


def public_names() -> list[str]:
    """Return the names of ``twinscope.__all__``, without importing the package."""
    source = ROOT / "clients" / "python" / "twinscope" / "__init__.py"
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    raise PluginError(f"{os.fspath(source)} has no __all__")
