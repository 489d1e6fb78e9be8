"""A model as a judge: what is asked again, what is kept, what counts as failed."""

import threading
from dataclasses import replace

import pytest

from mmalign_eval.judges.base import OfflineJudge
from mmalign_eval.judges.budget import BudgetSpent, Limit, Spending
from mmalign_eval.judges.model import ModelJudge
from mmalign_eval.requests import Generate, GenParams, Prompt, Response, greedy
from mmalign_eval.roles import JudgeRole
from mmalign_eval.store import Store
from tests.toy import CountingModel


def parse(reply):
    return float(reply) if reply.replace(".", "").isdigit() else None


ROLE = JudgeRole(
    name="grader",
    official="big-1",
    ask=lambda record: None if record.get("skip") else Generate(Prompt(record["text"]), greedy(3)),
    parse=parse,
    offline=lambda record: 0.0,
    stand_in="rule",
    attempts=3,
    again=lambda request, n: replace(request, prompt=replace(request.prompt, text=f"{request.prompt.text} again{n}")),
    failed=0.0,
    unasked="nothing",
)


def records(*texts):
    return [{"id": f"s{i}", "text": text} for i, text in enumerate(texts)]


@pytest.fixture
def judge(tmp_path):
    stores = []

    def make(behave, runs=1, limit=None, place="store.sqlite"):
        stores.append(Store(tmp_path / place))
        model = CountingModel(behave)
        return ModelJudge(model, stores[-1], runs=runs, spending=Spending(limit or Limit())), model

    yield make
    for store in stores:
        store.close()


def ok(text, served=""):
    return Response("ok", text=text, finish="stop", new_tokens=1, served=served)


def asked(model):
    return [request.prompt.text for request in model.asked]


def test_only_what_cannot_be_read_is_asked_again_and_otherwise(judge):
    replies = {"a": "0.5", "b": "hm", "b again1": "well", "b again2": "0.7", "c": "no", "c again1": "0.1"}
    one, model = judge(lambda r: ok(replies[r.prompt.text]))
    assert one.verdicts(ROLE, records("a", "b", "c")) == [[0.5], [0.7], [0.1]]
    assert sorted(asked(model)) == sorted(replies)
    about = one.describe()
    assert (about["n_verdicts"], about["n_failed"], about["retries"], about["calls"]) == (3, 0, 3, 6)


def test_a_verdict_fails_after_every_attempt_and_is_none(judge):
    one, model = judge(lambda r: ok("never"))
    assert one.verdicts(ROLE, records("a")) == [[None]]
    assert asked(model) == ["a", "a again1", "a again2"]
    assert one.describe()["n_failed"] == 1


def test_a_failed_call_is_made_again_as_it_was_and_is_not_kept(judge):
    left = {"a": 2}

    def flaky(request):
        left["a"] -= 1
        if left["a"] >= 0:
            raise RuntimeError("HTTP 500")
        return ok("1.0")

    one, model = judge(flaky)
    assert one.verdicts(ROLE, records("a")) == [[1.0]]
    assert asked(model) == ["a"]  # only the one that was answered gets there
    left["b"] = 9
    broken, _ = judge(lambda r: (_ for _ in ()).throw(RuntimeError("HTTP 500")))
    assert broken.verdicts(ROLE, records("b")) == [[None]]
    mended, model = judge(lambda r: ok("0.2"))
    assert mended.verdicts(ROLE, records("b")) == [[0.2]]


def test_refusals_are_asked_otherwise(judge):
    one, _ = judge(lambda r: ok("0.4") if "again" in r.prompt.text else Response("refused", error="filter"))
    assert one.verdicts(ROLE, records("a")) == [[0.4]]


def test_replies_are_kept_the_unreadable_ones_too(judge):
    replies = {"a": "0.5", "b": "hm", "b again1": "0.7"}
    first, _ = judge(lambda r: ok(replies[r.prompt.text], "big-0613"))
    expected = first.verdicts(ROLE, records("a", "b"))
    second, model = judge(lambda r: ok("1.0"))
    assert second.verdicts(ROLE, records("a", "b")) == expected
    assert not model.asked
    about = second.describe()
    assert (about["calls"], about["cached"]) == (0, 3)
    assert second.name_for(ROLE) == "big-0613"  # also from the store


def test_runs_are_verdicts_of_their_own(judge):
    count = iter(range(100))
    lock = threading.Lock()

    def counting(request):
        with lock:
            return ok(f"0.{next(count)}")

    one, model = judge(counting, runs=3)
    found = one.verdicts(ROLE, records("a", "b"))
    assert sorted(v for runs in found for v in runs) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    again, model = judge(counting, runs=3)
    assert again.verdicts(ROLE, records("a", "b")) == found
    fewer, model = judge(counting, runs=1)
    assert fewer.verdicts(ROLE, records("a", "b")) == [runs[:1] for runs in found]
    assert not model.asked


def test_sampled_requests_of_runs_and_tries_have_their_own_seeds(judge):
    params = GenParams(max_new_tokens=5, temperature=0.2)
    role = replace(ROLE, ask=lambda r: Generate(Prompt(r["text"]), params), again=lambda request, n: request)
    one, model = judge(lambda r: ok("hm"), runs=2)
    one.verdicts(role, records("a", "a"))
    seeds = [request.params.seed for request in model.asked]
    assert len(seeds) == len(set(seeds)) == 2 * 2 * 3


def test_nothing_is_asked_where_the_role_asks_nothing(judge):
    one, model = judge(lambda r: ok("1.0"), runs=2)
    found = one.verdicts(ROLE, [{"id": "x", "text": "a", "skip": True}, *records("b")])
    assert found == [["nothing", "nothing"], [1.0, 1.0]]
    assert asked(model) == ["b", "b"]


def test_the_budget_stops_in_time_and_the_same_goes_on(judge):
    texts = [f"t{i}" for i in range(10)]
    one, model = judge(lambda r: ok("0.5"), limit=Limit("4calls", calls=4))
    with pytest.raises(BudgetSpent, match=r"--judge-budget 4calls is spent \(4 calls\): 6 of 10 verdicts .* remain"):
        one.verdicts(ROLE, records(*texts))
    assert len(model.asked) == 4
    more, model = judge(lambda r: ok("0.5"), limit=Limit("6calls", calls=6))
    assert more.verdicts(ROLE, records(*texts)) == [[0.5]] * 10
    assert len(model.asked) == 6


def test_the_budget_is_one_for_all_tasks_of_a_command(judge):
    one, _ = judge(lambda r: ok("0.5"), limit=Limit("3calls", calls=3))
    one.verdicts(ROLE, records("a", "b"))
    with pytest.raises(BudgetSpent, match=r"1 of 2 verdicts"):
        one.verdicts(ROLE, records("c", "d"))


def test_weights_are_named_by_their_hash(judge):
    one, model = judge(lambda r: ok("0.5"))
    assert one.name_for(ROLE) == f"scripted-{model.fingerprint()[:8]}"


def test_what_the_judge_said_is_told_beside_each_verdict(judge):
    replies = {"a": "0.5", "b": "hm", "b again1": "well", "b again2": "never"}
    one, _ = judge(lambda r: ok(replies[r.prompt.text]), runs=2)
    assert one.verdicts(ROLE, records("a", "b")) == [[0.5, 0.5], [None, None]]
    assert one.replies() == [["0.5", "0.5"], ["never", "never"]]
    assert one.verdicts(ROLE, [{"id": "x", "text": "a", "skip": True}]) == [["nothing", "nothing"]]
    assert one.replies() == [["", ""]]
    broken, _ = judge(lambda r: Response("error", error="down"), place="other.sqlite")
    assert (broken.verdicts(ROLE, records("a")), broken.replies()) == ([[None]], [[""]])
    assert OfflineJudge().replies() == []
