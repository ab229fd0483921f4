"""From the statuses of a server to exceptions: by what travels for programs, never by the sentence for people."""

from __future__ import annotations

from typing import Any

import pytest
import twinscope
from google.rpc.status_pb2 import Status
from twinscope_client.remote.errors import exception_of
from twinscope_service.server import status as statuses

ERRORS: list[Exception] = [
    twinscope.ImageError("upload", "truncated", "it ends: early\\"),
    twinscope.RecipeError("old\\\udce4: ", "new"),
    twinscope.TaxonomyError("'a: b' is not a category of this store; its categories: Tips: 1, Fi\udce4bres"),
    twinscope.UnknownImageError("0123456789abcdef"),
    twinscope.GenerationError(7, 3),
]


def seen(error: Exception) -> tuple[Any, ...]:
    return type(error), str(error), vars(error)


def sent(error: Exception) -> Status:
    return statuses.request_error(error, "request").status


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_is_raised_as_an_embedded_store_raises_it(error: Exception) -> None:
    assert seen(exception_of(sent(error), "grpc://host:1")) == seen(error)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("sentence", ["", "another sentence", "x: y 12"])
def test_the_sentence_may_change(error: Exception, sentence: str) -> None:
    status = sent(error)
    status.message = sentence
    assert seen(exception_of(status, "grpc://host:1")) == seen(error)


def test_several_unknown_categories_are_all_told() -> None:
    faults = [("options.categories[0]", "no 'a'"), ("options.categories[1]", "no 'b: c'")]
    error = exception_of(statuses.invalid(faults, "UNKNOWN_CATEGORY").status, "grpc://host:1")
    assert seen(error) == seen(twinscope.TaxonomyError("no 'a'; no 'b: c'"))


@pytest.mark.parametrize("reason", ["IMAGE_NOT_FOUND", "GENERATION_NOT_REACHED"])
def test_what_lacks_its_details_is_an_error_of_the_server(reason: str) -> None:
    error = statuses.RequestError(statuses.grpc.StatusCode.NOT_FOUND, reason, "there is no image 0123456789abcdef")
    found = exception_of(error.status, "grpc://host:1")
    assert type(found) is twinscope.ServerError
    assert found.reason == reason
    assert str(found) == "grpc://host:1: there is no image 0123456789abcdef"
