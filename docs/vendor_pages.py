"""Write docs/vendors: a page for each module of a vendor, with the values that it reads, and a list of all pages.

Everything on these pages comes from the modules: the docstring, the tags, the names of the files, and the values.

python docs/vendor_pages.py
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType

from twinscope_indexer.metadata import vendors
from twinscope_indexer.metadata.vendor import VendorReader

FOLDER = Path(__file__).resolve().parent / "vendors"
_UNITS = {"kev": "keV", "mm": "mm", "nm": "nm", "um": "µm", "deg": "degrees", "px": "pixels"}
_NOTE = "The command `make reference` generates this page from {source}."
_PAGE = """# {title}

{note}

{text}

## Where the metadata are

{places}

If a file contains metadata from both a microscope and a camera, Twinscope uses the metadata from the microscope.

## Values

The page [instrument metadata](../instruments.md) explains the values. A value is missing if the instrument did not
write it, or if its unit is unknown. The whole text of the instrument is also kept. In the last column, *written* means
that the file contains the unit.

| value | unit | keys of the vendor | their unit |
| --- | --- | --- | --- |
{rows}

## How the reader was checked

{checked}
"""
_INDEX = """# Vendors

{note}

Each page lists the keys of the vendor that Twinscope reads, with their units, and how the reader was checked. The page
[instrument metadata](../instruments.md) explains what Twinscope does with the values, and how to add a vendor.

| instruments | location of the metadata |
| --- | --- |
{rows}
"""


def pages() -> dict[str, str]:
    """Return the pages as Markdown, by the names of their files."""
    found = {f"{_name(module)}.md": _page(module) for module in _modules()}
    rows = "\n".join(f"| [{_title(module)}]({_name(module)}.md) | {_places(module.READER)} |" for module in _modules())
    source = "the modules in `indexer/twinscope_indexer/metadata/vendors`"
    return {"index.md": _INDEX.format(note=_NOTE.format(source=source), rows=rows), **found}


def _modules() -> Iterator[ModuleType]:
    for module in iter_modules(vendors.__path__, f"{vendors.__name__}."):
        yield import_module(module.name)


def _name(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]


def _title(module: ModuleType) -> str:
    """Return the part of the docstring before the first colon."""
    return (module.__doc__ or "").partition(":")[0]


def _page(module: ModuleType) -> str:
    reader: VendorReader = module.READER
    rows = (
        f"| `{row.name}` | {_UNITS.get(row.name.rpartition('_')[2], '')} | {_cell(row.source)} | {row.unit} |"
        for row in reader.mapped
    )
    text = (module.__doc__ or "").strip().replace("``", "`")
    return _PAGE.format(
        title=_title(module),
        note=_NOTE.format(source=f"`indexer/twinscope_indexer/metadata/vendors/{_name(module)}.py`"),
        text=re.sub(r"^Sources?:", "**Sources:**", text, flags=re.MULTILINE),
        places=f"{_places(reader)}.",
        rows="\n".join(rows),
        checked=reader.checked,
    )


def _cell(text: str) -> str:
    """Escape the characters that end a cell of a table or begin a link."""
    return text.replace("|", "\\|").replace("[", "\\[").replace("]", "\\]")


def _places(reader: VendorReader) -> str:
    codes = [str(tag.code) for tag in reader.tags] + (["270 (ImageDescription)"] if _in_description(reader) else [])
    names = dict.fromkeys(name.lower() for name in (reader.text.beside if reader.text else ()))
    files = _any([f"`{_example(name)}`" for name in names])
    return ", or ".join([f"TIFF tag {_any(codes)}", *([f"the file {files} beside the image"] if files else [])])


def _any(words: list[str]) -> str:
    """Join words with commas and "or"."""
    return " or ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def _in_description(reader: VendorReader) -> bool:
    return reader.text is not None and reader.text.convert is None


def _example(name: str) -> str:
    return name.format(stem="NAME", suffix="tif")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, page in pages().items():
        (FOLDER / name).write_text(page, encoding="utf-8")
