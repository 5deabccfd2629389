"""A server that fails is asked again, with pauses; one that refuses is not."""

from collections.abc import Callable

import pytest

from distill.teachers.judges.client import Client, RequestFailed
from distill.teachers.judges.endpoint import _alternatives, word_log_probs
from tests.helpers.servers.server import Reply, alternatives, serve, stall

GOOD: Reply = (200, alternatives(good=-0.1, bad=-3.0), {})
BODY = {"messages": [{"content": "x"}]}


def ask(reply: Callable[[dict, int], Reply], retries: int = 3, timeout: float = 5.0) -> tuple[list[float], list[float]]:
    """The answer of a server, and the pauses before it."""
    pauses: list[float] = []
    with serve(reply) as (url, _):
        client = Client(url, "secret", timeout, retries, sleep=pauses.append)
        answer = client.post("/chat/completions", BODY, lambda a: word_log_probs(_alternatives(a), ["good", "bad"]))
    return answer, pauses


@pytest.mark.parametrize(
    "bad",
    [
        (500, "down", {}),
        (429, {"error": {"message": "slow down"}}, {}),
        (200, "<html>", {}),
        (200, {"choices": []}, {}),
        (200, {"choices": [{"logprobs": None}]}, {}),
        (200, alternatives(good=float("nan")), {}),
        (200, alternatives(), {}),
    ],
)
def test_it_is_asked_again_with_growing_pauses(bad: Reply) -> None:
    answer, pauses = ask(lambda body, count: bad if count < 2 else GOOD)
    assert answer == pytest.approx([-0.1, -3.0]) and pauses == [1.0, 2.0]


def test_it_waits_as_long_as_the_server_says() -> None:
    _, pauses = ask(lambda body, count: (429, "", {"Retry-After": "7"}) if count < 1 else GOOD)
    assert pauses == [7.0]


def test_a_stalled_answer_is_given_up() -> None:
    answer, pauses = ask(lambda body, count: stall(0.5, GOOD) if count < 1 else GOOD, timeout=0.2)
    assert answer == pytest.approx([-0.1, -3.0]) and len(pauses) == 1


def test_what_does_not_get_better_ends_with_the_reason_and_without_the_key() -> None:
    with pytest.raises(RequestFailed, match=r"^endpoint: http://127.0.0.1:\d+/v1 answers 503 .*, 4 times$") as error:
        ask(lambda body, count: (503, "", {}))
    assert "secret" not in str(error.value)
    with pytest.raises(RequestFailed, match=r"answers without log-probabilities \(logprobs\), 1 times$"):
        ask(lambda body, count: (200, {}, {}), retries=0)


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_refusal_is_not_tried_again(status: int) -> None:
    with pytest.raises(RequestFailed, match=rf"answers {status} .* \(no such model\)$"):
        ask(lambda body, count: (status, {"error": {"message": "no such model"}}, {}))


def test_nobody_there() -> None:
    with pytest.raises(RequestFailed, match=r"cannot be reached \(.*refused.*\), 1 times$"):
        Client("http://127.0.0.1:9/v1", retries=0).post("/chat/completions", BODY, list)


def test_the_alternatives_that_begin_a_word_are_summed() -> None:
    pairs = [(" Pos", -1.0), ("positive", -2.0), ("neg", -3.0), ("x", -0.5), (" ", -0.1)]
    from math import exp, log

    assert word_log_probs(pairs, ["positive", "negative"]) == pytest.approx([log(exp(-1) + exp(-2)), -3.0])
    assert word_log_probs([("x", -0.5)], ["positive", "negative"]) == [-20.0, -20.0]
