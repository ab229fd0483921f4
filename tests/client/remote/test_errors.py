"""The exception for a server status depends on its machine-readable details, never on the message text."""

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


def visible(error: Exception) -> tuple[Any, ...]:
    return type(error), str(error), vars(error)


def status_of(error: Exception) -> Status:
    return statuses.request_error(error, "request").status


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_the_exception_equals_that_of_an_embedded_store(error: Exception) -> None:
    assert visible(exception_of(status_of(error), "grpc://host:1")) == visible(error)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("sentence", ["", "another sentence", "x: y 12"])
def test_the_message_text_does_not_matter(error: Exception, sentence: str) -> None:
    status = status_of(error)
    status.message = sentence
    assert visible(exception_of(status, "grpc://host:1")) == visible(error)


def test_all_unknown_categories_are_reported() -> None:
    faults = [("options.categories[0]", "no 'a'"), ("options.categories[1]", "no 'b: c'")]
    error = exception_of(statuses.invalid(faults, "UNKNOWN_CATEGORY").status, "grpc://host:1")
    assert visible(error) == visible(twinscope.TaxonomyError("no 'a'; no 'b: c'"))


@pytest.mark.parametrize("reason", ["IMAGE_NOT_FOUND", "GENERATION_NOT_REACHED"])
def test_a_status_without_details_is_a_server_error(reason: str) -> None:
    error = statuses.RequestError(statuses.grpc.StatusCode.NOT_FOUND, reason, "there is no image 0123456789abcdef")
    found = exception_of(error.status, "grpc://host:1")
    assert type(found) is twinscope.ServerError
    assert found.reason == reason
    assert str(found) == "grpc://host:1: there is no image 0123456789abcdef"
