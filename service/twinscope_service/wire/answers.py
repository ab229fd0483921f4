"""Conversion of policies, matches and answers to messages, and back."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal

from twinscope.v1 import types_pb2

from twinscope_service.errors import OptionError
from twinscope_service.matching.answer import Answer, ChanceOfError, Match, Transform
from twinscope_service.matching.grades import GRADE_NAMES
from twinscope_service.matching.name_rules import MAX_POLICY_NAME
from twinscope_service.matching.policy import POLICIES, SETTINGS, Policy, named_policy
from twinscope_service.matching.reasons import Reason, ReasonCode
from twinscope_service.wire.instruments import instrument_message, instrument_of
from twinscope_service.wire.rules import MessageError, Violation, below, check_text, require
from twinscope_service.wire.text import escaped, unescaped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twinscope_indexer.hashing.reach import Reach

    from twinscope_service.matching.grades import Grade
    from twinscope_service.matching.policy import FullSize

_GRADES: Final[dict[Grade, types_pb2.Grade.ValueType]] = {
    grade: types_pb2.Grade.Value(f"GRADE_{grade.upper()}") for grade in GRADE_NAMES
}
_GRADE_OF: Final = {number: grade for grade, number in _GRADES.items()}
_CODES: Final[dict[ReasonCode, types_pb2.ReasonCode.ValueType]] = {
    code: types_pb2.ReasonCode.Value(f"REASON_CODE_{code.name}")
    for code in ReasonCode
    if code is not ReasonCode.UNKNOWN
}
_CODE_OF: Final = {number: code for code, number in _CODES.items()}
_RULES: Final[dict[Literal["scene", "legacy"], types_pb2.Rule.ValueType]] = {
    "scene": types_pb2.RULE_SCENE,
    "legacy": types_pb2.RULE_REFERENCE,
}
_RULE_OF: Final = {number: rule for rule, number in _RULES.items()}
REACHES: Final[dict[Reach, types_pb2.Reach.ValueType]] = {
    "frame": types_pb2.REACH_FRAME,
    "views": types_pb2.REACH_VIEWS,
    "windows": types_pb2.REACH_WINDOWS,
}
_FULL_SIZES: Final[dict[FullSize, types_pb2.FullSize.ValueType]] = {
    "never": types_pb2.FULL_SIZE_NEVER,
    "best": types_pb2.FULL_SIZE_BEST,
    "all": types_pb2.FULL_SIZE_ALL,
}
_FULL_SIZE_OF: Final = {number: use for use, number in _FULL_SIZES.items()}
REACH_OF: Final = {number: reach for reach, number in REACHES.items()}
_MAX_REMEMBERED: Final = 256
"""Maximum size of a policy that is cached, in bytes. A policy is larger only if it contains unknown fields."""

THRESHOLDS: Final = {setting.name: setting.wire for setting in SETTINGS}
"""Field of the message for each threshold, by the attribute of `Policy`."""
_LEFT_OUT: Final = {setting.name: setting.left_out for setting in SETTINGS if setting.optional}
"""Value of each threshold that a policy with its own rule may omit, because the threshold was added later. A threshold
with this value has no effect."""


def policy_message(policy: Policy) -> types_pb2.Policy:
    """Return the complete message of a policy. Answers contain the policy in this form.

    If a request contains this message, the request uses exactly this policy.
    """
    return types_pb2.Policy(
        name=escaped(policy.name),
        rule=_RULES[policy.rule],
        reach=REACHES[policy.reach],
        full_size=_FULL_SIZES[policy.ssim],
        **{wire: getattr(policy, name) for name, wire in THRESHOLDS.items()},
    )


_policy_message = lru_cache(maxsize=256)(policy_message)  # callers copy the cached message and must not change it


def policy_of(message: types_pb2.Policy, path: str = "policy") -> Policy:
    """Read a policy from its message.

    The message contains either the name of a policy, perhaps with changed thresholds, or a complete policy.

    Raises
    ------
    MessageError
        If the policy is unknown or incomplete, or a threshold is out of range.
    """
    sent = message.SerializeToString()
    return (_remembered if len(sent) <= _MAX_REMEMBERED else _read_policy)(sent, path)


def check_policy(message: types_pb2.Policy, path: str) -> Iterator[Violation]:
    """Yield one violation for each rule that the message of a policy breaks."""
    try:
        policy_of(message, path)
    except MessageError as error:
        yield from error.violations


def _read_policy(sent: bytes, path: str) -> Policy:
    message = types_pb2.Policy.FromString(sent)
    require(_policy_faults(message, path))
    given = _given(message)
    reach, full_size = REACH_OF.get(message.reach), _FULL_SIZE_OF.get(message.full_size)
    if message.rule == types_pb2.RULE_UNSPECIFIED:
        return named_policy(message.name or "default").adjusted(given | {"reach": reach, "ssim": full_size})
    return replace(
        POLICIES["default"],
        name=unescaped(message.name),
        rule=_RULE_OF[message.rule],
        reach=reach or "frame",
        ssim=full_size or "best",
        **(_LEFT_OUT | given),  # type: ignore[arg-type]
    )


_remembered = lru_cache(maxsize=256)(_read_policy)  # most queries and answers contain one of a few policies


def _policy_faults(message: types_pb2.Policy, path: str) -> Iterator[Violation]:
    """Yield one violation for each rule that the message of a policy breaks.

    The class `Policy` defines the ranges of the thresholds.
    """
    base, given = POLICIES["default"], _given(message)
    if message.rule == types_pb2.RULE_UNSPECIFIED:
        name_faults = tuple(check_text(message.name, below(path, "name"), 0, MAX_POLICY_NAME))
        yield from name_faults
        try:
            base = base if name_faults else named_policy(message.name or "default")
        except OptionError as error:
            yield Violation(below(path, "name"), str(error))
    else:
        yield from check_text(message.name, below(path, "name"), 1, MAX_POLICY_NAME)
        if message.rule not in _RULE_OF:
            yield Violation(below(path, "rule"), _unknown(message.rule))
        for threshold, field in THRESHOLDS.items():
            if threshold not in _LEFT_OUT and threshold not in given:
                yield Violation(below(path, field), "must be set if the policy has its own rule")
    if message.reach != types_pb2.REACH_UNSPECIFIED and message.reach not in REACH_OF:
        yield Violation(below(path, "reach"), _unknown(message.reach))
    if message.full_size != types_pb2.FULL_SIZE_UNSPECIFIED and message.full_size not in _FULL_SIZE_OF:
        yield Violation(below(path, "full_size"), _unknown(message.full_size))
    for threshold, value in given.items():
        try:
            base.adjusted({threshold: value})
        except OptionError as error:
            yield Violation(below(path, THRESHOLDS[threshold]), str(error))


def _unknown(value: int) -> str:
    return f"this release does not know the value {value}; a newer release may know it"


def _given(message: types_pb2.Policy) -> dict[str, float | int]:
    set_fields = {field.name: value for field, value in message.ListFields()}
    return {threshold: set_fields[field] for threshold, field in THRESHOLDS.items() if field in set_fields}


def match_message(match: Match) -> types_pb2.Match:
    """Convert a match to a message."""
    prefix = match.published_prefix
    return types_pb2.Match(
        image_id=match.image_id,
        source=escaped(match.source),
        category=escaped(match.category),
        code=escaped(match.code),
        distance_bits=match.distance,
        scene_score=match.scene_score,
        shift=None if match.shift is None else types_pb2.Shift(x=match.shift[0], y=match.shift[1]),
        ssim=match.ssim,
        note=escaped(match.note),
        published_prefix=None if prefix is None else escaped(prefix),
        transform=None if match.transform is None else types_pb2.Transform(**asdict(match.transform)),
        instrument=None if match.instrument is None else instrument_message(match.instrument),
        contradictions=[escaped(reason) for reason in match.contradictions],
    )


def match_of(message: types_pb2.Match) -> Match:
    """Convert a message to a match."""
    return Match(
        image_id=message.image_id,
        source=unescaped(message.source),
        category=unescaped(message.category),
        code=unescaped(message.code),
        distance=message.distance_bits,
        scene_score=message.scene_score if message.HasField("scene_score") else None,
        shift=(message.shift.x, message.shift.y) if message.HasField("shift") else None,
        ssim=message.ssim if message.HasField("ssim") else None,
        note=unescaped(message.note),
        published_prefix=unescaped(message.published_prefix) if message.HasField("published_prefix") else None,
        transform=_transform_of(message.transform) if message.HasField("transform") else None,
        instrument=instrument_of(message.instrument) if message.HasField("instrument") else None,
        contradictions=tuple(unescaped(reason) for reason in message.contradictions),
    )


def _transform_of(message: types_pb2.Transform) -> Transform:
    return Transform(message.symmetry, message.query_frame, message.reference_frame)


def _chance_message(chance: ChanceOfError) -> types_pb2.ChanceOfError:
    return types_pb2.ChanceOfError(**(asdict(chance) | {"calibration": escaped(chance.calibration)}))


def _chance_of(message: types_pb2.ChanceOfError) -> ChanceOfError:
    return ChanceOfError(message.estimate, message.low, message.high, unescaped(message.calibration))


def _reason_message(reason: Reason) -> types_pb2.Reason:
    numbers = {name: value for name, value in reason.values.items() if not isinstance(value, str)}
    texts = {name: escaped(value) for name, value in reason.values.items() if isinstance(value, str)}
    code = _CODES.get(reason.code, types_pb2.REASON_CODE_UNSPECIFIED)
    return types_pb2.Reason(code=code, numbers=numbers, texts=texts)


def _reason_of(message: types_pb2.Reason) -> Reason:
    values: dict[str, float | str] = dict(message.numbers)
    values |= {name: unescaped(text) for name, text in message.texts.items()}
    return Reason(_CODE_OF.get(message.code, ReasonCode.UNKNOWN), values)


def answer_message(answer: Answer) -> types_pb2.Answer:
    """Convert an answer to a message."""
    return types_pb2.Answer(
        grade=_GRADES[answer.grade],
        matches=[match_message(match) for match in answer.matches],
        reason=escaped(answer.reason),
        query_hash=None if answer.query_hash is None else bytes.fromhex(answer.query_hash),
        policy=_policy_message(answer.policy),
        generation=answer.generation,
        recipe=answer.recipe,
        taxonomy=escaped(answer.taxonomy),
        category=None if answer.category is None else escaped(answer.category),
        code=None if answer.code is None else escaped(answer.code),
        instrument=None if answer.instrument is None else instrument_message(answer.instrument),
        p_wrong=None if answer.p_wrong is None else _chance_message(answer.p_wrong),
        reasons=[_reason_message(reason) for reason in answer.reasons],
    )


def answer_of(message: types_pb2.Answer, path: str = "answer") -> Answer:
    """Convert a message to an answer; the inverse of `answer_message`.

    Raises
    ------
    MessageError
        If this release does not know the grade or the policy of the answer; a newer release may know them.
    """
    if message.grade not in _GRADE_OF:
        raise MessageError([Violation(below(path, "grade"), _unknown(message.grade))])
    return Answer(
        grade=_GRADE_OF[message.grade],
        matches=tuple(match_of(match) for match in message.matches),
        reason=unescaped(message.reason),
        query_hash=message.query_hash.hex() if message.HasField("query_hash") else None,
        policy=policy_of(message.policy, below(path, "policy")),
        generation=message.generation,
        recipe=message.recipe,
        taxonomy=unescaped(message.taxonomy),
        instrument=instrument_of(message.instrument) if message.HasField("instrument") else None,
        p_wrong=_chance_of(message.p_wrong) if message.HasField("p_wrong") else None,
        reasons=tuple(_reason_of(reason) for reason in message.reasons),
    )
