"""Reflection under two names, v1 and v1alpha.

Newer tools use v1, but the library implements v1alpha. Both versions have the same messages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection, reflection_pb2

from twinscope_service.server.streams import Received

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_ALPHA: Final = "grpc.reflection.v1alpha"
_V1: Final = "grpc.reflection.v1"


def add_reflection(server: grpc.Server, services: Sequence[str], idle_seconds: float) -> None:
    """Let clients read the descriptors of the given services and of reflection itself.

    Parameters
    ----------
    server : grpc.Server
        The server that gets the reflection service.
    services : sequence of str
        Full names of the services.
    idle_seconds : float
        Maximum time without a message from the client, in seconds; the server then ends the stream.
    """
    both = (f"{_ALPHA}.ServerReflection", f"{_V1}.ServerReflection")
    _describe_v1()
    pool = _Symbols(descriptor_pool.Default())
    servicer = cast("Any", reflection.ReflectionServicer((*services, *both), cast("Any", pool)))

    def answers(messages: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        received = Received(messages, idle_seconds)
        try:
            yield from servicer.ServerReflectionInfo(received, context)
        finally:
            received.close()

    handler = grpc.stream_stream_rpc_method_handler(
        answers,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    methods = {"ServerReflectionInfo": handler}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(name, methods) for name in both])


class _Symbols:
    """A descriptor pool that also finds methods by their names; the pool of protobuf finds no methods."""

    def __init__(self, pool: descriptor_pool.DescriptorPool) -> None:
        self._pool = pool

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> Any:  # noqa: N802  protobuf's name
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            return self._pool.FindMethodByName(symbol).containing_service.file


def _describe_v1() -> None:
    """Register the v1 descriptor, made from the v1alpha descriptor. The two descriptors differ only in their package.

    Source: grpc/proto, grpc/reflection/v1/reflection.proto.
    """
    file = FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    file.name, file.package = "grpc/reflection/v1/reflection.proto", _V1
    for field in (field for message in file.message_type for field in message.field if field.type_name):
        field.type_name = field.type_name.replace(_ALPHA, _V1)
    for method in (method for service in file.service for method in service.method):
        method.input_type = method.input_type.replace(_ALPHA, _V1)
        method.output_type = method.output_type.replace(_ALPHA, _V1)
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
