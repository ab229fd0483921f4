"""Print docs/wire.md, the page that lists all services, messages and enums of ``twinscope.v1``.

The explanations on the page are the comments in the proto files.

python docs/wire_page.py > docs/wire.md
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
    ServiceDescriptorProto,
)

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ".twinscope.v1."
# Field numbers in google/protobuf/descriptor.proto. The path of a comment is a sequence of these numbers and indices.
_MESSAGES, _ENUMS, _SERVICES, _SYNTAX = 4, 5, 6, 12
_FIELDS, _NESTED, _NESTED_ENUMS, _VALUES, _METHODS = 2, 3, 4, 2, 2

_ORDER = ("similarity", "catalog", "types", "errors")
"""Names of the proto files, in the order in which the page lists them."""

HEAD = """# The wire contract

`make reference` generates this page from the files in [proto/twinscope/v1](../proto/twinscope/v1). A test checks that
the page is up to date. [Compatibility](compatibility.md) explains which parts of the contract stay the same in later
releases. [The server](server.md) shows queries from Python, Node, Go and the shell. [Errors](server.md#errors) lists
all errors with their status codes.

"""


@dataclass(frozen=True)
class Source:
    """One proto file of the contract. `comments` maps the path of an element to the comment of the element."""

    file: FileDescriptorProto
    comments: dict[tuple[int, ...], str]

    def comment(self, *path: int) -> str:
        """Return the comment of the element at a path. If the element has no comment, return an empty text."""
        return self.comments.get(path, "")


def page() -> str:
    """Return the page as Markdown."""
    sources = sorted(map(_source, contract().file), key=lambda source: _ORDER.index(Path(source.file.name).stem))
    services = "".join(_services(source) for source in sources)
    messages = "".join(_types(source) for source in sources)
    return f"{HEAD}{_contents(sources)}\n{_rules(sources)}{services}{messages}".rstrip("\n") + "\n"


def contract() -> FileDescriptorSet:
    """Compile the proto files of the contract, and keep the comments.

    Raises
    ------
    RuntimeError
        If buf is not installed, or cannot compile the proto files.
    """
    buf = shutil.which("buf", path=str(Path(sys.executable).parent)) or shutil.which("buf")
    if buf is None:
        raise RuntimeError("buf is missing; install it: pip install -e '.[dev]'")
    command = [buf, "build", "-o", "-#format=binpb", "--as-file-descriptor-set", "--path", "proto/twinscope"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)  # noqa: S603
    if done.returncode:
        raise RuntimeError(f"buf build failed: {done.stderr.decode(errors='replace').strip()}")
    found = FileDescriptorSet.FromString(done.stdout)
    return FileDescriptorSet(file=[file for file in found.file if file.package == "twinscope.v1"])


def _source(file: FileDescriptorProto) -> Source:
    comments: dict[tuple[int, ...], str] = {}
    for location in file.source_code_info.location:
        text = location.leading_comments
        if tuple(location.path) == (_SYNTAX,):
            text = text or "\n".join(location.leading_detached_comments)
        if text:
            comments[tuple(location.path)] = "\n".join(line.removeprefix(" ") for line in text.strip().splitlines())
    return Source(file, comments)


def _contents(sources: Sequence[Source]) -> str:
    rows = []
    for source in sources:
        for service in source.file.service:
            methods = ", ".join(f"[{method.name}](#{_anchor(service.name, method.name)})" for method in service.method)
            rows.append(f"| [{service.name}](#{_anchor(service.name)}) | {methods} |\n")
    return "| service | methods |\n| --- | --- |\n" + "".join(rows)


def _rules(sources: Sequence[Source]) -> str:
    """Return the rules for the whole contract: the comment at the beginning of types.proto."""
    [text] = [source.comment(_SYNTAX) for source in sources if source.file.name.endswith("/types.proto")]
    rules = text[text.index("* ") :]  # skips the introduction of the comment
    return f"## Rules for the whole contract\n\n{_prose(rules)}\n"


def _services(source: Source) -> str:
    return "".join(_service(source, number, service) for number, service in enumerate(source.file.service))


def _service(source: Source, number: int, service: ServiceDescriptorProto) -> str:
    text = f"\n## {service.name}\n\n{_prose(source.comment(_SERVICES, number))}\n"
    for index, method in enumerate(service.method):
        comment = source.comment(_SERVICES, number, _METHODS, index)
        text += f"\n### {service.name}.{method.name}\n\n{_signature(method)}\n\n{_prose(comment)}\n"
    return text


def _signature(method: MethodDescriptorProto) -> str:
    def side(type_name: str, streaming: bool) -> str:
        return f"{'a stream of ' if streaming else ''}{_type_link(type_name)}"

    request = side(method.input_type, method.client_streaming)
    return f"{request} → {side(method.output_type, method.server_streaming)}"


def _types(source: Source) -> str:
    name = source.file.name.rpartition("/")[2]
    messages = "".join(
        _message(source, (_MESSAGES, number), message, "") for number, message in enumerate(source.file.message_type)
    )
    enums = "".join(_enum(source, (_ENUMS, number), enum, "") for number, enum in enumerate(source.file.enum_type))
    return f"\n## Messages and enums of {name}\n{messages}{enums}"


def _message(source: Source, path: tuple[int, ...], message: DescriptorProto, outer: str) -> str:
    name = f"{outer}{message.name}"
    text = f"\n### {name}\n\n{_prose(source.comment(*path))}\n"
    if message.field:
        text += "\n| field | type | meaning |\n| --- | --- | --- |\n"
        text += "".join(_field(source, (*path, _FIELDS, n), field, message) for n, field in enumerate(message.field))
    for number, nested in enumerate(message.nested_type):
        if not nested.options.map_entry:
            text += _message(source, (*path, _NESTED, number), nested, f"{name}.")
    for number, enum in enumerate(message.enum_type):
        text += _enum(source, (*path, _NESTED_ENUMS, number), enum, f"{name}.")
    return text


def _field(source: Source, path: tuple[int, ...], field: FieldDescriptorProto, message: DescriptorProto) -> str:
    choice = ""
    if field.HasField("oneof_index") and not field.proto3_optional:
        choice = f"One of `{message.oneof_decl[field.oneof_index].name}`. "
    return f"| `{field.name}` | {_field_type(field, message)} | {choice}{_cell(source.comment(*path))} |\n"


def _field_type(field: FieldDescriptorProto, message: DescriptorProto) -> str:
    for nested in message.nested_type:
        if nested.options.map_entry and field.type_name.endswith(f".{nested.name}"):
            return f"map of {_plain_type(nested.field[0])} to {_plain_type(nested.field[1])}"
    label = "repeated " if field.label == FieldDescriptorProto.LABEL_REPEATED else ""
    return ("optional " if field.proto3_optional else label) + _plain_type(field)


def _plain_type(field: FieldDescriptorProto) -> str:
    if field.type_name:
        return _type_link(field.type_name)
    return FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()


def _enum(source: Source, path: tuple[int, ...], enum: EnumDescriptorProto, outer: str) -> str:
    text = f"\n### {outer}{enum.name}\n\n{_prose(source.comment(*path))}\n"
    text += "\n| value | number | meaning |\n| --- | ---: | --- |\n"
    for number, value in enumerate(enum.value):
        text += f"| `{value.name}` | {value.number} | {_cell(source.comment(*path, _VALUES, number))} |\n"
    return text


def _type_link(type_name: str) -> str:
    """Return the name of a type, with a link if the contract defines the type."""
    if not type_name.startswith(PACKAGE):
        return f"`{type_name.removeprefix('.')}`"
    name = type_name.removeprefix(PACKAGE)
    return f"[{name}](#{_anchor(name)})"


def _anchor(*names: str) -> str:
    return re.sub(r"[^a-z0-9_-]", "", "".join(names).lower())


def _prose(comment: str) -> str:
    return comment.replace("<", "&lt;")


def _cell(comment: str) -> str:
    return " ".join(_prose(comment).split()).replace("|", "\\|")


def names() -> Iterator[str]:
    """Yield every name that the page must contain: services with methods, messages, fields and enum values."""
    for file in contract().file:
        for service in file.service:
            yield from (f"{service.name}.{method.name}" for method in service.method)
        for message in file.message_type:
            yield message.name
            yield from (field.name for field in message.field)
        for enum in file.enum_type:
            yield from (value.name for value in enum.value)


if __name__ == "__main__":
    sys.stdout.write(page())
