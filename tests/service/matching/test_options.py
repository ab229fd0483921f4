"""Options and policies are checked by the rules of the wire contract."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_type_hints

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twinscope_indexer.hashing.reach import Reach
from twinscope_service.errors import OptionError
from twinscope_service.matching.name_rules import name_faults, sent_size
from twinscope_service.matching.options import Options
from twinscope_service.matching.policy import POLICIES, THRESHOLDS, FullSize, Policy, Thresholds, named_policy
from twinscope_service.wire.queries import options_message, options_of
from twinscope_service.wire.rules import MessageError
from twinscope_service.wire.text import escaped

NAMES = st.text(st.characters() | st.sampled_from("\\\udce4\udcff\N{LATIN SMALL LETTER E WITH ACUTE}"), max_size=300)


@given(NAMES)
def test_size_of_a_name_is_its_size_on_the_wire(name: str) -> None:
    assert sent_size(name) == len(escaped(name).encode())


@given(NAMES, st.integers(1, 300))
def test_name_is_refused_by_its_size(name: str, most: int) -> None:
    assert bool(tuple(name_faults(name, most))) is not (1 <= len(escaped(name).encode()) <= most)


@given(st.lists(NAMES, max_size=70), st.integers(-3, 3), st.booleans())
def test_client_and_server_refuse_the_same_options(categories: list[str], generation: int, verify: bool) -> None:
    message = options_message(Options())
    message.categories.extend(escaped(name) for name in categories)
    message.min_generation = generation
    try:
        options = Options(POLICIES["default"], verify, tuple(categories), generation)
    except OptionError:
        with pytest.raises(MessageError):
            options_of(message)
    else:
        assert options_of(options_message(options)) == options


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"categories": ("",)}, r"categories\[0\] must be set"),
        ({"categories": ("Tips", "x" * 257)}, r"categories\[1\] must have 1 to 256 bytes, has 257"),
        ({"categories": ("Tips", 5)}, r"categories\[1\] must be a name, code or alias, not int"),
        ({"categories": ("Tips",) * 65}, "at most 64 elements, has 65"),
        ({"min_generation": -1}, "min_generation must be a whole number of at least 0, got -1"),
        ({"min_generation": 1 << 63}, "min_generation"),
        ({"min_generation": 1.0}, "min_generation"),
        ({"verify": "no"}, "verify must be True or False, got 'no'"),
        ({"policy": "default"}, "policy must be the name of a policy or a Policy"),
        ({"categories": ("",), "min_generation": -1}, r"categories\[0\] must be set; min_generation"),
    ],
)
def test_invalid_options_are_refused(given: dict[str, Any], text: str) -> None:
    with pytest.raises(OptionError, match=text):
        Options(**given)


@pytest.mark.parametrize("name", ["", "x" * 65, "\\" * 33])
def test_invalid_policy_names_are_refused(name: str) -> None:
    with pytest.raises(OptionError, match="the name of a policy must"):
        Policy(name=name)


@pytest.mark.parametrize(
    ("threshold", "value"),
    [
        ("k", 0), ("k", 1001), ("k", True), ("k", 2.0), ("k", "5"), ("k", None), ("max_distance", 1025),
        ("good_scene", 1.01), ("good_scene", float("nan")), ("good_scene", True), ("good_scene", "0.5"),
        ("max_p_wrong", -0.1), ("ssim_margin", 2.1), ("reach", "all"), ("reach", None), ("ssim", 1), ("rule", "old"),
    ],
)  # fmt: skip
def test_invalid_thresholds_are_refused(threshold: str, value: Any) -> None:
    with pytest.raises(OptionError, match=f"^{threshold} must be"):
        Policy(**{threshold: value})
    if value is not None and threshold != "rule":
        with pytest.raises(OptionError, match=f"^{threshold} must be"):
            POLICIES["default"].adjusted({threshold: value})


def test_numbers_become_python_numbers() -> None:
    policy = Policy(k=np.int64(3), max_distance=np.uint16(200), excellent_ssim=1, good_scene=np.float32(0.25))
    assert [type(getattr(policy, name)) for name in ("k", "max_distance", "excellent_ssim", "good_scene")] == [
        int, int, float, float,
    ]  # fmt: skip
    assert POLICIES["default"].adjusted({"k": np.int64(5), "good_scene": np.float64(0.5)}) is POLICIES["default"]


def test_unknown_threshold_is_refused() -> None:
    with pytest.raises(OptionError, match=r"no threshold 'max_distence'. Did you mean 'max_distance'\? Known: "):
        POLICIES["default"].adjusted({"max_distence": 3})
    for name in ("name", "rule"):
        with pytest.raises(OptionError, match="no threshold"):
            POLICIES["default"].adjusted({name: "legacy"})
    with pytest.raises(OptionError, match="no policy 'legcy'"):
        named_policy("legcy")


def test_every_threshold_is_a_typed_option() -> None:
    """If a policy gets a new threshold, searches must accept it: `Thresholds` lists them for mypy."""
    policy = {field.name for field in fields(Policy)} - {"name", "rule"}
    assert policy == set(THRESHOLDS) == set(Thresholds.__optional_keys__)
    accepted, own = get_type_hints(Thresholds, localns={"Reach": Reach, "FullSize": FullSize}), get_type_hints(Policy)
    assert accepted == {name: own[name] | None for name in policy}
