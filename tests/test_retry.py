"""Trying again: how often, after which waits, and what is raised in the end."""

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

import hone
from hone import retry
from hone.retry import Backoff, retried, steady

SOURCE = Path(hone.__file__).parent


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses asked for, none of which is taken."""
    asked: list[float] = []
    monkeypatch.setattr(retry.time, "sleep", asked.append)
    return asked


def failing(times: int, error: Exception) -> Callable[[], str]:
    """A call that fails so many times and then answers."""
    left = [error] * times

    def call() -> str:
        if left:
            raise left.pop()
        return "answer"

    return call


def test_a_call_that_succeeds_is_made_once_and_nothing_is_waited_for(waits: list[float]):
    assert retried(failing(0, OSError()), Backoff(5, 1.0, 8.0), OSError) == "answer"
    assert waits == []


def test_the_waits_double_up_to_the_longest(waits: list[float]):
    assert retried(failing(5, OSError()), Backoff(6, 1.0, 5.0, jitter=False), OSError) == "answer"
    assert waits == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_a_steady_backoff_waits_the_same_every_time(waits: list[float]):
    assert retried(failing(3, OSError()), steady(4, 2.5), OSError) == "answer"
    assert waits == [2.5, 2.5, 2.5]


def test_with_jitter_a_wait_is_any_part_of_the_whole_one(waits: list[float]):
    retried(failing(200, OSError()), Backoff(201, 4.0, 4.0), OSError)
    assert all(0 <= wait <= 4.0 for wait in waits)
    assert min(waits) < 1.0
    assert max(waits) > 3.0


def test_after_the_last_try_the_error_itself_is_raised_and_nothing_is_waited_for(waits: list[float]):
    error = OSError("down")
    with pytest.raises(OSError, match="down") as raised:
        retried(failing(3, error), steady(3, 1.0), OSError)
    assert raised.value is error
    assert waits == [1.0, 1.0]


def test_what_a_lasting_fault_means_is_raised_from_it_with_the_number_of_tries(waits: list[float]):
    error = OSError("down")
    with pytest.raises(ValueError, match="down 3 times") as raised:
        retried(failing(9, error), steady(3, 1.0), OSError, lasting=lambda e, tries: ValueError(f"{e} {tries} times"))
    assert raised.value.__cause__ is error


def test_an_error_of_another_kind_passes_through_at_once(waits: list[float]):
    with pytest.raises(KeyError):
        retried(failing(1, KeyError()), steady(3, 1.0), OSError, TimeoutError)
    assert waits == []


def test_every_failure_is_seen_with_its_number_the_last_too(waits: list[float]):
    seen: list[int] = []
    with pytest.raises(OSError):  # noqa: PT011
        retried(failing(3, OSError()), steady(3, 1.0), OSError, failed=lambda _, attempt: seen.append(attempt))
    assert seen == [1, 2, 3]


def test_whoever_sees_a_failure_can_end_the_tries(waits: list[float]):
    def failed(error: Exception, attempt: int) -> None:
        if attempt == 2:
            raise KeyError from error

    with pytest.raises(KeyError):
        retried(failing(9, OSError()), steady(9, 1.0), OSError, failed=failed)
    assert waits == [1.0]


def test_no_other_loop_of_the_source_catches_an_error_and_waits():
    """A `try` beside a `sleep` in one loop would be a second rule of trying again."""
    loops: list[str] = []
    for file in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if not isinstance(node, ast.While | ast.For):
                continue
            inside = [part for statement in node.body for part in ast.walk(statement)]
            sleeps = any(isinstance(part, ast.Attribute) and part.attr == "sleep" for part in inside)
            if sleeps and any(isinstance(part, ast.Try) for part in inside):
                loops.append(file.relative_to(SOURCE).as_posix())
    assert loops == ["retry.py"]
