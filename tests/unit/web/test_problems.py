"""Problems: every error of ours has its status, and nothing else says anything of itself."""

from __future__ import annotations

import json

import pytest

from customhouse import errors
from customhouse.errors import CustomhouseError, Fault, Invalid, Overloaded
from customhouse.web.problems import KINDS, catalogue, problem_of, problem_of_router

INTERNAL = {errors.SettingsError, errors.DatabaseRefused, errors.Unsignable, errors.Unsealable}


def _family(root: type[CustomhouseError]) -> list[type[CustomhouseError]]:
    return [cls for below in root.__subclasses__() if below.__module__ == "customhouse.errors" for cls in (below, *_family(below))]


@pytest.mark.parametrize("cls", _family(CustomhouseError), ids=lambda cls: cls.__name__)
def test_every_error_has_a_status_or_is_internal_on_purpose(cls: type[CustomhouseError]) -> None:
    """A new class fails here until somebody has decided what callers see of it."""
    problem = problem_of(cls("canary"))
    if cls in INTERNAL:
        assert (problem.status, problem.code) == (500, "internal_error")
        assert "canary" not in problem.detail
    else:
        assert cls in KINDS
        assert (problem.status, problem.code) == (KINDS[cls].status, cls.code)
        assert "canary" in problem.detail


def test_one_code_means_one_status() -> None:
    statuses: dict[str, set[int]] = {}
    for cls, kind in KINDS.items():
        statuses.setdefault(cls.code, set()).add(kind.status)
    assert {code: found for code, found in statuses.items() if len(found) != 1} == {}


@pytest.mark.parametrize("error", [ValueError("canary"), KeyError("canary"), ExceptionGroup("canary", [ValueError("canary")])])
def test_a_foreign_exception_says_nothing_of_itself(error: Exception) -> None:
    problem = problem_of(error)
    assert problem.status == 500
    assert b"canary" not in problem.body()


def test_the_body_has_the_members_of_rfc_9457() -> None:
    said = json.loads(problem_of(Invalid("No.", (Fault("/name", "is required"),))).body())
    assert said == {
        "type": "/problems/invalid_request",
        "title": "The request is not acceptable",
        "status": 422,
        "detail": "No.",
        "code": "invalid_request",
        "errors": [{"pointer": "/name", "detail": "is required"}],
    }


def test_only_the_first_hundred_faults_are_told() -> None:
    said = problem_of(Invalid("No.", tuple(Fault(f"/{number}", "x") for number in range(500)))).members()
    assert isinstance(said["errors"], list)
    assert len(said["errors"]) == 100


def test_what_passes_says_when_and_what_needs_a_key_says_how() -> None:
    assert problem_of(Overloaded(retry_after=9)).headers()["retry-after"] == "9"
    assert problem_of(errors.Unauthenticated()).headers()["www-authenticate"] == "Bearer"
    assert set(problem_of(errors.NotFound()).headers()) == {"content-type"}


def test_a_status_of_the_router_that_we_do_not_know_is_internal() -> None:
    assert (problem_of_router(404).code, problem_of_router(405).code) == ("not_found", "method_not_allowed")
    assert (problem_of_router(418).status, problem_of_router(418).code) == (500, "internal_error")


def test_the_catalogue_explains_every_code() -> None:
    found = catalogue()
    assert {"not_found", "method_not_allowed", "internal_error", "overloaded", "head_too_large"} <= set(found)
    assert all(kind.title and advice.endswith(".") for kind, advice in found.values())
