"""Conversion of the statistics of a store to a message, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf.timestamp_pb2 import Timestamp
from twinscope.v1 import catalog_pb2

from twinscope_service.wire.answers import REACH_OF, REACHES
from twinscope_service.wire.text import escaped, unescaped

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_COUNTS = ("images", "searchable", "unhashable", "failures", "prefixes", "contradicting_prefixes")


def index_message(stats: Mapping[str, Any]) -> catalog_pb2.GetIndexResponse:
    """Convert the statistics of a store to a message; the server adds the fields that describe the server.

    Parameters
    ----------
    stats : mapping
        The keys are ``store``, ``store_id``, ``generation``, ``recipe``, ``index`` (a mapping with the keys ``kind``,
        ``base``, ``delta``, ``reach``), ``calibration`` (a mapping with the keys ``name``, ``images``,
        ``least_p_wrong``), ``created``, ``roots``, and the keys of `Catalog.counts`.
    """
    created = None
    if stats["created"] is not None:
        created = Timestamp()
        created.FromJsonString(stats["created"])
    index, calibration = stats["index"], stats["calibration"]
    return catalog_pb2.GetIndexResponse(
        store_id=stats["store_id"],
        store=escaped(stats["store"]),
        generation=stats["generation"],
        recipe=stats["recipe"],
        create_time=created,
        roots=[escaped(root) for root in stats["roots"]],
        index=catalog_pb2.IndexFacts(
            kind=index["kind"], base_count=index["base"], delta_count=index["delta"], reach=REACHES[index["reach"]]
        ),
        calibration=catalog_pb2.CalibrationFacts(
            name=escaped(calibration["name"]),
            image_count=calibration["images"],
            least_p_wrong=calibration["least_p_wrong"],
        ),
        counts=catalog_pb2.ImageCounts(
            **{name: stats[name] for name in _COUNTS},
            by_category=_groups(stats["category"]),
            by_format=_groups(stats["format"]),
            by_bits=_groups(stats["bits"]),
        ),
    )


def stats_of(message: catalog_pb2.GetIndexResponse) -> dict[str, Any]:
    """Convert a message to the statistics of a store, in the same order; the inverse of `index_message`."""
    index, counts = message.index, message.counts
    return {
        "store": unescaped(message.store),
        "store_id": message.store_id,
        "generation": message.generation,
        "recipe": message.recipe,
        "index": {
            "kind": index.kind,
            "base": index.base_count,
            "delta": index.delta_count,
            "reach": REACH_OF.get(index.reach, "frame"),
        },
        "calibration": {
            "name": unescaped(message.calibration.name),
            "images": message.calibration.image_count,
            "least_p_wrong": message.calibration.least_p_wrong,
        },
        "created": message.create_time.ToJsonString() if message.HasField("create_time") else None,
        "roots": [unescaped(root) for root in message.roots],
        **{name: getattr(counts, name) for name in _COUNTS},
        "category": {unescaped(group.value): group.images for group in counts.by_category},
        "format": {unescaped(group.value): group.images for group in counts.by_format},
        "bits": {int(group.value): group.images for group in counts.by_bits},
    }


def _groups(counted: Mapping[Any, int]) -> Iterable[catalog_pb2.GroupCount]:
    return [catalog_pb2.GroupCount(value=escaped(str(value)), images=count) for value, count in counted.items()]
