"""The local server, on real HTTP, around a random small Llama; pace, budget, what is kept."""

import json
import threading
import urllib.error
import urllib.request

import pytest
import torch
from chat_server import ChatServer, Reply

from ecgkit.models.small_llm import build_small_llm, train_tokenizer
from ecgkit.text.answer_cache import AnswerCache
from ecgkit.text.chat_client import ChatClient
from ecgkit.text.endpoints import EndpointError
from ecgkit.text.llm_budget import TURN_TOKENS, Budget, BudgetSpent, Pace, PacedClient, ask_all
from ecgkit.text.local_server import PLAIN_END, LocalServer
from ecgkit.types import ConfigError, ModelError

POSITIONS = 64


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    for name in ("OPENAI_API_KEY", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def local():
    """(llm, tokenizer) with random weights."""
    tokenizer = train_tokenizer(["Is atrial flutter seen? Answer: yes", "Options: yes, no"], 270)
    torch.manual_seed(1)
    return build_small_llm(len(tokenizer), 32, 1, 2, POSITIONS).eval(), tokenizer


@pytest.fixture(scope="module")
def server(local):
    with LocalServer(*local, name="random") as server:
        yield server


def call(server, body, path="/chat/completions"):
    """(status, answer) of a plain POST; body as JSON, or bytes as they are."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(server.url + path, data)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def asks(text="Is it?", **more):
    return {"model": "random", "messages": [{"role": "user", "content": text}], **more}


# --- the server -----------------------------------------------------------------------------------


def test_it_says_what_greedy_decoding_says_and_counts_tokens(server, local):
    llm, tokenizer = local
    status, answer = call(server, asks(max_tokens=6, temperature=0))
    ids = [tokenizer.bos_token_id, *tokenizer("Is it?" + PLAIN_END)["input_ids"]]
    seen = torch.tensor([ids])
    with torch.no_grad():
        for _ in range(6):
            seen = torch.cat([seen, llm(input_ids=seen).logits[:, -1:].argmax(-1)], 1)
            if int(seen[0, -1]) == tokenizer.eos_token_id:
                break
    new = seen[0, len(ids):].tolist()
    text = tokenizer.decode(new, skip_special_tokens=True).strip()
    assert status == 200 and answer["choices"][0]["message"]["content"] == text
    assert answer["usage"] == {"prompt_tokens": len(ids), "completion_tokens": len(new),
                               "total_tokens": len(ids) + len(new)}  # fmt: skip
    ended = new[-1] == tokenizer.eos_token_id
    assert answer["choices"][0]["finish_reason"] == ("stop" if ended else "length")


def test_it_stops_at_the_end_of_text(local):
    llm, tokenizer = local
    eos, head = tokenizer.eos_token_id, llm.lm_head.forward
    sure = torch.nn.functional.one_hot(torch.tensor(eos), len(tokenizer)) * 1e4
    llm.lm_head.forward = lambda x: head(x) + sure
    try:
        with LocalServer(llm, tokenizer, "random") as server:
            _, answer = call(server, asks(max_tokens=20))
    finally:
        del llm.lm_head.forward
    assert answer["usage"]["completion_tokens"] == 1
    assert answer["choices"][0] == {"index": 0, "finish_reason": "stop",
                                    "message": {"role": "assistant", "content": ""}}


def test_a_chat_template_is_used_where_there_is_one(local):
    llm, tokenizer = local
    one = "<{{ m['role'] }}>{{ m['content'] }}"
    tokenizer.chat_template = "{% for m in messages %}" + one + "{% endfor %}"
    try:
        with LocalServer(llm, tokenizer, "random") as server:
            _, answer = call(server, asks("hi", max_tokens=1))
    finally:
        tokenizer.chat_template = None
    assert answer["usage"]["prompt_tokens"] == len(tokenizer("<user>hi")["input_ids"])


def test_what_is_refused_is_refused_in_a_sentence(server):
    refused = [
        (asks("word " * 80), 400, f"{POSITIONS} positions"),
        (asks(temperature=0.7), 400, "greedy"),
        (asks(stream=True), 400, "stream"),
        (asks(max_tokens=0.5), 400, "whole number"),
        ({"model": "random", "messages": []}, 400, "messages"),
        ({"model": "random", "messages": [{"role": "user", "content": 5}]}, 400, "text"),
        ({**asks(), "model": "gpt-9"}, 404, "random"),
        (b"{broken", 400, "JSON"),
        (b"[1]", 400, "object"),
    ]
    for body, status, words in refused:
        got, answer = call(server, body)
        assert got == status and words in answer["error"]["message"], (body, answer)
    assert call(server, asks(), "/embeddings")[0] == 404
    with urllib.request.urlopen(server.url + "/models") as answer:
        assert json.loads(answer.read())["data"][0]["id"] == "random"
    assert call(server, asks(max_tokens=1))[0] == 200  # none of it did harm


def test_an_answer_never_runs_beyond_the_positions(server):
    _, answer = call(server, asks("a b c d e f g h i j k", max_tokens=10_000))
    assert answer["usage"]["total_tokens"] <= POSITIONS


def test_a_model_with_rotary_positions_can_be_given_more(local):
    with LocalServer(*local, name="random", positions=500) as server:
        status, answer = call(server, asks("word " * 80, max_tokens=2))
    assert status == 200 and answer["usage"]["prompt_tokens"] > POSITIONS


def test_the_kit_s_client_speaks_with_it(server):
    client = ChatClient(server.url, "random", key_env="", options={"max_tokens": 3})
    answers = client.chat_many({i: f"Question {i}?" for i in range(6)})
    assert client.meter.requests == 6 and client.meter.prompt_tokens > 60
    assert all(isinstance(a, (str, EndpointError)) for a in answers.values())
    # An option that the server does not take is left out, and the answer comes.
    warm = ChatClient(server.url, "random", key_env="", options={"temperature": 1, "max_tokens": 3})
    warm.chat_many({0: "Question 0?"})
    assert "temperature" not in warm.options and "max_tokens" in warm.options


def test_it_is_on_loopback_alone_and_a_taken_port_is_named(server, local):
    assert server.url.startswith("http://127.0.0.1:")
    port = int(server.url.split(":")[2].split("/")[0])
    with pytest.raises(ModelError, match=str(port)):
        LocalServer(*local, port=port).start()


# --- pace -----------------------------------------------------------------------------------------


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        assert seconds > 0
        self.now += seconds


@pytest.mark.parametrize(("burst", "expected"), [(1, [0, 2, 4, 6, 8]), (3, [0, 0, 0, 2, 4])])
def test_requests_are_spread_over_the_minute(burst, expected):
    clock = Clock()
    pace = Pace(30, burst, clock, clock.sleep)
    times = []
    for _ in range(5):
        pace.take()
        times.append(clock.now - 100)
    assert times == expected
    clock.now += 1000  # an idle hour fills the bucket, and no more than the bucket
    pace.take()
    for _ in range(burst):
        before = clock.now
        pace.take()
    assert clock.now > before


def test_no_limit_never_waits():
    Pace(0, clock=lambda: 1 / 0, sleep=lambda s: 1 / 0).take()


def test_retries_take_their_turn_too():
    clock = Clock()
    script = [Reply(500, {"error": {"message": "busy"}})] * 2
    with ChatServer(script) as server:
        client = PacedClient(server.url, "m", pace=Pace(60, clock=clock, sleep=clock.sleep),
                             sleep=lambda s: None, jitter=lambda: 0)
        client.chat("Hello")
    assert len(server.asked) == 3 and clock.now == 102


# --- budget ---------------------------------------------------------------------------------------

OPTIONS = {"temperature": 0, "max_tokens": 4}


def test_a_hard_budget_stops_before_it_is_broken_and_loses_nothing(tmp_path):
    prompts = {f"k{i:02d}": f"Question {i}?" for i in range(30)}
    kept, spent = tmp_path / "answers.jsonl", tmp_path / "spent.jsonl"
    with ChatServer() as server:  # each answer costs 14 tokens
        for limit, jobs in ((300, 4), (420, 1)):
            budget = Budget(tokens=limit, kept=spent)
            before = len(server.asked)
            client = PacedClient(server.url, "m", budget=budget, options=OPTIONS, jobs=jobs)
            answers = ask_all(client, prompts, AnswerCache(kept))
            said = [a for a in answers.values() if isinstance(a, str)]
            assert 0 < 14 * len(said) == budget.tokens <= limit
            assert 14 * (len(said) + 1) > limit - 100  # what one request may cost at most
            assert 14 * (len(server.asked) - before) <= limit
            errors = [a for a in answers.values() if not isinstance(a, str)]
            assert errors and all(isinstance(a, BudgetSpent) for a in errors)
            assert f"LLM_TOKEN_BUDGET={limit}" in str(errors[0]) and "kept" in str(errors[0])
        client = PacedClient(server.url, "m", budget=Budget(kept=spent), options=OPTIONS)
        answers = ask_all(client, prompts, AnswerCache(kept))
        assert all(isinstance(a, str) for a in answers.values())
    assert len(server.asked) == 30, "no question is paid for twice"
    assert len({a.body["messages"][0]["content"] for a in server.asked}) == 30
    assert Budget(kept=spent).tokens == 30 * 14


def test_money_is_counted_by_the_prices():
    prices = (2.0, 10.0)  # per million: 10 * 2 + 4 * 10 = 60 millionths an answer
    with ChatServer() as server:
        budget = Budget(money=400e-6, prices=prices)
        client = PacedClient(server.url, "m", budget=budget, prices=prices, options=OPTIONS, jobs=3)
        answers = client.chat_many({i: "Hi?" for i in range(20)})
    n = sum(isinstance(a, str) for a in answers.values())
    assert n >= 2 and budget.money == pytest.approx(n * 60e-6) and budget.money <= 400e-6
    with pytest.raises(ConfigError, match="LLM_PRICES"):
        Budget(money=1.0)


def test_what_is_not_told_is_counted_at_its_most():
    with ChatServer(usage=False) as server:
        budget = Budget(tokens=10_000)
        PacedClient(server.url, "m", budget=budget, options=OPTIONS).chat("Hi?")
    body = json.dumps(server.asked[0].body["messages"], ensure_ascii=False)
    assert budget.tokens == len(body) + TURN_TOKENS + 4


def test_refusals_cost_nothing_and_an_endless_answer_is_not_asked_for():
    refused = Reply(400, {"error": {"message": "max_tokens is not supported"}})
    with ChatServer([refused, Reply(429, {"error": {"message": "slow"}})]) as server:
        budget = Budget(tokens=10_000)
        client = PacedClient(server.url, "m", budget=budget, options=OPTIONS, retries=0)
        with pytest.raises(EndpointError, match="max_tokens"):
            client.chat("Hi?")
        assert len(server.asked) == 1 and budget.tokens == 0
        client.options = dict(OPTIONS)
        with pytest.raises(EndpointError, match="429"):
            client.chat("Hi?")
        assert budget.tokens == 0


def test_one_waits_for_what_others_may_leave():
    budget, order = Budget(tokens=100), []
    budget.reserve(60, 10)
    waiting = threading.Thread(target=lambda: (budget.reserve(60, 10), order.append("second")))
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    order.append("first")
    budget.settle(60, 10, (5, 5))
    waiting.join(5)
    assert order == ["first", "second"]
    budget.settle(60, 10, (60, 10))
    with pytest.raises(BudgetSpent):
        budget.reserve(30, 1)


def test_a_torn_line_of_what_was_spent_is_passed_over(tmp_path):
    (tmp_path / "spent.jsonl").write_bytes(b'\n[10, 4]\n[10, 4]\n{"a"\n[3')
    assert Budget(kept=tmp_path / "spent.jsonl").tokens == 28
