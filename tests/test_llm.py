"""Endpoints: what goes out, what may not, and every way an answer can fail, on a real local
server. Back-off waits are recorded instead of slept.
"""

import json
import socket
import threading
import time

import numpy as np
import pytest
from chat_server import ChatServer, Reply

from ecgkit.text import endpoints
from ecgkit.text.chat_replies import retry_after
from ecgkit.text.endpoints import EndpointError, check, is_loopback
from ecgkit.text.llm import PROMPTS, ChatClient, ChatWriter, ExtractiveWriter, tidy
from ecgkit.text.passages import Passage
from ecgkit.types import ConfigError, DataError

KEY = "sk-for-this-test-only-0123456789"
PASSAGE = Passage("Atrial fibrillation", ("AFIB",), "P waves are absent. RR varies.", "notes.md")


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    for name in ("OPENAI_API_KEY", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)


def client(server, **kwargs):
    """A client whose waits are listed in `.waits`, without jitter."""
    waits = []
    made = ChatClient(server.url, "m", sleep=waits.append, jitter=lambda: 0.0, **kwargs)
    made.waits = waits
    return made


def fails(server, match, **kwargs):
    chat = client(server, **kwargs)
    with pytest.raises(EndpointError, match=match) as caught:
        chat.chat("Hello")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    return chat, caught.value


# --- the loopback rule ---

HERE = ("http://localhost:8000/v1", "http://LOCALHOST/v1", "http://127.0.0.1:8000/v1",
        "https://127.9.9.9/v1", "http://[::1]:11434/v1")  # fmt: skip
ELSEWHERE = ("https://api.example.com/v1", "http://127.0.0.1.evil.com/v1", "http://0.0.0.0/v1",
             "http://localhost.evil.com/v1", "http://10.0.0.7/v1", "http://127.1/v1",
             "http://2130706433/v1", "http://localhost.localdomain/v1",
             "http://[::2]/v1")  # fmt: skip
TRICKS = ("http://127.0.0.1@evil.com/v1", "http://user:secret@127.0.0.1/v1",
          "http://evil.com\\@127.0.0.1/v1", "http://127.0.0.1\\.evil.com/v1",
          "http://evil.com#@127.0.0.1/v1", "http://127.0.0.1 .evil.com/v1",
          "http://127.0.0.1\t/v1", "ftp://127.0.0.1/v1", "file:///etc/passwd", "127.0.0.1:8000",
          "http://127.0.0.1:port/v1", "http://127。0。0。1/v1", "http:///v1",
          "http://127.0.0.1/v1?key=secret", "http://[::1/v1", "")  # fmt: skip


def test_what_is_this_machine():
    assert [url for url in HERE if not is_loopback(url)] == []
    assert [url for url in (*ELSEWHERE, *TRICKS) if is_loopback(url)] == []


@pytest.mark.parametrize("url", ELSEWHERE)
def test_credentialed_text_stays_here_unless_the_user_says_otherwise(url):
    with pytest.raises(ConfigError, match="ALLOW_REMOTE_TEXT=true"):
        check(url, credentialed=True)
    check(url, credentialed=True, allow_remote=True)
    check(url, credentialed=False)
    with pytest.raises(ConfigError, match="ALLOW_REMOTE_TEXT"):
        ChatClient(url, "m", credentialed=True)


@pytest.mark.parametrize("url", TRICKS)
def test_a_url_that_can_be_read_in_two_ways_is_refused_whatever_it_carries(url):
    with pytest.raises(ConfigError, match="LLM_URL") as caught:
        check(url, credentialed=False, allow_remote=True)
    assert "secret" not in str(caught.value)


def test_localhost_that_resolves_elsewhere_gets_nothing(monkeypatch):
    """The peer's address is asked before a byte is sent (another machine is played here)."""
    with ChatServer() as server:
        port = server.server.server_port
        url = f"http://localhost:{port}/v1"
        real = socket.create_connection

        def elsewhere(address, *args, **kwargs):
            return real(("127.0.0.1", port), *args, **kwargs)

        monkeypatch.setattr(socket, "create_connection", elsewhere)
        monkeypatch.setattr(endpoints, "_is_loopback_address", lambda host: False)
        with pytest.raises(EndpointError, match="not this machine's"):
            ChatClient(url, "m", retries=3).chat("Hello")
        assert server.asked == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_refused(status):
    with ChatServer() as other, ChatServer() as server:
        server.script = [Reply(status, headers={"Location": f"{other.url}/chat/completions"})]
        chat, error = fails(server, "redirects to http://127.0.0.1.*not followed")
        assert other.asked == [] and len(server.asked) == 1 and chat.waits == []


def test_no_proxy_for_this_machine(monkeypatch):
    with ChatServer() as proxy, ChatServer() as server:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url.removesuffix("/v1"))
        assert client(server).chat("Hello") == "Hello, said the model"
        assert proxy.asked == []


# --- the key ---


def test_the_key_is_sent_and_never_told(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\n")
    caplog.set_level(0)
    with ChatServer(needs_key=KEY) as server:
        chat = client(server, log=tmp_path / "log.jsonl")
        chat.chat("Hello")
        server.script = [
            Reply(400, {"error": {"message": f"Incorrect API key provided: {KEY}"}}),
            Reply(200, f"<html>{KEY}</html>"),
            Reply(302, headers={"Location": f"http://evil.example/?k={KEY}"}),
            Reply(200, {"choices": [{"message": {"content": f"your key is {KEY}"}}]}),
        ]
        told = []
        for _ in range(3):
            with pytest.raises(EndpointError) as caught:
                chat.chat("Hello")
            told += [str(caught.value), repr(caught.value), repr(caught.value.__context__)]
        chat.chat("Hello")
        log = (tmp_path / "log.jsonl").read_text()
        told += [repr(chat), str(chat.meter), log, caplog.text]
        assert not any(KEY in text for text in told) and "***" in log
        assert server.asked[0].headers["Authorization"] == f"Bearer {KEY}"


def test_a_missing_or_refused_key_is_a_sentence(monkeypatch):
    with pytest.raises(ConfigError, match="api.example.com needs a key.*OPENAI_API_KEY"):
        ChatClient("https://api.example.com/v1", "m")
    with ChatServer(needs_key=KEY) as server:
        chat, error = fails(server, "refuses the key.*set OPENAI_API_KEY")
        assert chat.waits == [] and error.every
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(ConfigError, match="not encrypted.*OPENAI_API_KEY") as caught:
        ChatClient("http://api.example.com/v1", "m")
    assert KEY not in str(caught.value)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-two\nlines-of-key")
    with pytest.raises(ConfigError, match="odd character") as caught:
        ChatClient("http://127.0.0.1/v1", "m")
    assert "lines-of-key" not in str(caught.value)


# --- failures that pass ---


def test_back_off_doubles_and_honours_retry_after():
    script = [Reply(500), Reply(503), Reply(429, headers={"Retry-After": "7.5"}), Reply(drop=True)]
    with ChatServer(script) as server:
        chat = client(server)
        assert chat.chat("Hello") == "Hello, said the model"
        assert chat.waits == [1, 2, 7.5, 8]
        assert (chat.meter.requests, chat.meter.failures) == (5, 4)


def test_jitter_takes_up_to_half_away():
    with ChatServer([Reply(500), Reply(500)]) as server:
        chat = client(server)
        chat._jitter = lambda: 1.0
        chat.chat("Hello")
        assert chat.waits == [0.5, 1.0]


def test_retries_end_in_a_sentence():
    with ChatServer([Reply(503, "<h1>Busy</h1>")] * 9) as server:
        chat, _ = fails(server, r"status 503 \(Busy\).*\(3 tries\)", retries=2)
        assert len(server.asked) == 3 and chat.waits == [1, 2]


def test_a_long_wait_is_told_rather_than_waited():
    with ChatServer([Reply(429, headers={"Retry-After": "3600"})]) as server:
        chat, error = fails(server, "asks to wait 3600 s")
        assert chat.waits == [] and error.every


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("3", 3), ("Thu, 01 Jan 1970 00:01:40 GMT", 60), ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
     ("-5", 0), ("nan", 0), ("soon", 0), ("", 0), (None, 0)],
)  # fmt: skip
def test_retry_after_in_both_forms(value, seconds):
    assert retry_after(value, now=40.0) == seconds


def test_spent_quota_is_not_retried():
    body = {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}
    with ChatServer([Reply(429, body)]) as server:
        chat, error = fails(server, "exceeded your quota")
        assert chat.waits == [] and error.every


def test_nobody_there_and_too_slow():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"  # bound, so that nobody else listens
        chat = ChatClient(url, "m", retries=2, sleep=lambda s: None)
        with pytest.raises(EndpointError, match="cannot be reached.*is the server up.*3 tries"):
            chat.chat("Hello")
    with ChatServer([Reply(delay_s=0.5)]) as server:
        fails(server, "did not answer within 0.1 s", timeout_s=0.1, retries=0)


def test_a_server_that_drips_is_cut_off():
    listener = socket.create_server(("127.0.0.1", 0))

    def drip():
        peer, _ = listener.accept()
        peer.recv(65536)
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        try:
            for _ in range(100):
                peer.sendall(b" ")
                time.sleep(0.03)
        except OSError:
            pass

    threading.Thread(target=drip, daemon=True).start()
    start = time.monotonic()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    with pytest.raises(EndpointError, match="did not answer within 0.3 s"):
        ChatClient(url, "m", timeout_s=0.3, retries=0).chat("Hello")
    assert time.monotonic() - start < 2
    listener.close()


# --- garbage ---


def message(content, **more):
    return {"choices": [{"message": {"content": content}, **more}]}


@pytest.mark.parametrize(
    ("body", "match"),
    [
        ("<!DOCTYPE html><html><head><script>x()</script></head><body>Log in</body></html>",
         "an HTML page instead of JSON: 'Log in'"),
        ("", "with nothing at all"),
        ("Traceback \x1b[1m(most\n recent", r"text instead of JSON: 'Traceback \[1m\(most recent"),
        (b"\xff\xfe\x00", "instead of JSON"),
        ('{"choices": [{"mess', "instead of JSON"),
        ("[" * 100_000, "instead of JSON"),
        ([1, 2], "JSON that is no object"),
        ({"id": 1, "object": "x"}, "without `choices`; it sent 'id, object'"),
        ({"choices": []}, "an empty list of choices"),
        ({"choices": [None]}, "no message"),
        ({"choices": [{"text": "completion style"}]}, "no message"),
        (message(""), "with an empty text"),
        (message(" \n"), "with an empty text"),
        (message(None), "with an empty text"),
        (message({"a": 1}), "with an empty text"),
        (message("", finish_reason="length"), "ran out of tokens"),
        ({"choices": [{"message": {"content": None, "refusal": "I will not."}}]},
         "refused: 'I will not.'"),
        ({"error": {"message": "model not loaded"}}, "an error: model not loaded"),
        ("x" * 5000, "x{100,}\\.\\.\\."),
    ],
)  # fmt: skip
def test_garbage_is_named_in_a_sentence(body, match):
    with ChatServer([Reply(body=body)]) as server:
        chat, _ = fails(server, match)
        assert chat.waits == [] and chat.meter.failures == 1


def test_wrong_address_and_wrong_model():
    with ChatServer() as server:
        server.url = server.url.removesuffix("/v1")
        _, error = fails(server, "no such address or model.*ends with /v1")
        assert error.every
        server.url += "/v1/chat/completions"  # the whole address is understood
        assert client(server).chat("Hello") == "Hello, said the model"


def test_an_option_that_the_server_refuses_is_left_out_from_then_on():
    refusal = Reply(400, {"error": {"message": "Unsupported value: 'temperature' is not 1"}})
    with ChatServer([refusal]) as server:
        chat = client(server)
        chat.chat("Hello")
        chat.chat("Hello")
        assert ["temperature" in a.body for a in server.asked] == [True, False, False]


def test_answers_in_parts_and_with_broken_characters():
    parts = [{"type": "text", "text": "P waves "}, {"type": "text", "text": "absent"}]
    with ChatServer([Reply(body=message(parts)), Reply(body=message("Q\ud800"))]) as server:
        assert client(server).chat("Hello") == "P waves absent"
        assert client(server).chat("Hello").encode() == b"Q?"


# --- many at a time ---


def test_answers_stay_with_their_keys():
    """Early requests are answered last, and one fails: nobody gets a neighbour's answer."""
    with ChatServer() as server:
        plain = server.chat

        def slow_first(body):
            number = int(body["messages"][-1]["content"].split()[-1])
            time.sleep(0.04 * (8 - number) / 8)
            return {"choices": []} if number == 3 else plain(body)

        server.chat = slow_first
        kept = {}
        asked = {("key", i): f"number {i}" for i in range(8)}
        given = client(server, jobs=4).chat_many(asked, on_answer=kept.__setitem__)
    assert list(given) == list(asked)
    assert isinstance(given.pop(("key", 3)), EndpointError)
    assert given == kept == {("key", i): f"number {i}, said the model" for i in range(8) if i != 3}
    assert 2 <= server.busiest <= 4


def test_no_more_is_sent_once_every_request_would_fail():
    with ChatServer(needs_key=KEY) as server:
        given = client(server, jobs=2).chat_many({i: "Hello" for i in range(50)})
        assert all(isinstance(v, EndpointError) for v in given.values()) and len(given) == 50
        assert len(server.asked) <= 4
    assert client(server).chat_many({}) == {}


def test_log_and_meter(tmp_path):
    with ChatServer([Reply(200, "oops")]) as server:
        chat = client(server, log=tmp_path / "deep" / "log.jsonl", prices=(1.0, 10.0), jobs=3)
        with pytest.raises(EndpointError):
            chat.chat("first")
        chat.chat_many({i: f"number {i}" for i in range(20)})
    rows = [json.loads(line) for line in (tmp_path / "deep" / "log.jsonl").read_text().splitlines()]
    assert len(rows) == 21 and "instead of JSON" in rows[0]["error"]
    for row in rows[1:]:
        assert row["answer"] == row["messages"][0]["content"] + ", said the model"
    assert (chat.meter.prompt_tokens, chat.meter.completion_tokens) == (200, 80)
    assert chat.meter.cost == pytest.approx((200 + 800) / 1e6)
    assert "21 requests (1 failed)" in str(chat.meter) and "cost 0.0010" in str(chat.meter)


def test_unknown_costs_are_said():
    with ChatServer(usage=False) as server:
        chat = client(server)
        chat.chat("Hello")
        assert chat.meter.cost is None and "cost unknown (no price given)" in str(chat.meter)
        priced = client(server, prices=(1, 1))
        priced.chat("Hello")
        assert priced.meter.cost is None and "1 answers without a count" in str(priced.meter)


# --- embeddings ---


def test_embeddings_are_batched_and_in_order():
    texts = ["x" * (1 + i) for i in range(150)]
    with ChatServer() as server:
        chat = client(server)
        given = chat.embed(texts)
        assert given.shape == (150, 2) and given.dtype == np.float32
        assert given[:, 0].tolist() == [len(t) for t in texts]
        assert [len(a.body["input"]) for a in server.asked] == [64, 64, 22]
        assert "temperature" not in server.asked[0].body and chat.embed([]).shape == (0, 0)
        with pytest.raises(DataError, match="Text 1 is empty"):
            chat.embed(["a", " "])


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        (None, "no vectors for 2 texts"),
        ([{"index": 0, "embedding": [1.0]}], "1 vectors for 2 texts"),
        ([{"index": 0, "embedding": [1.0]}] * 2, "equal width"),
        ([{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [1.0, 2.0]}], "equal width"),
        ([{"index": i, "embedding": []} for i in range(2)], "equal width"),
        ([{"index": i, "embedding": "AAAA"} for i in range(2)], "equal width"),
        ([{"index": i, "embedding": ["a"]} for i in range(2)], "no number"),
        ([{"index": i, "embedding": [[1.0]]} for i in range(2)], "no finite number"),
        ([{"index": i, "embedding": [float("nan")]} for i in range(2)], "no finite number"),
        ([None, None], "equal width"),
    ],
)
def test_garbage_embeddings(rows, match):
    with ChatServer([Reply(body={"data": rows})]) as server:
        with pytest.raises(EndpointError, match=match):
            client(server).embed(["a", "b"])


# --- writers ---


def test_the_writer_shows_the_passages_and_asks_for_nothing_else():
    with ChatServer(reply=lambda text: '"P waves are **absent**."') as server:
        writer = ChatWriter(client(server), "appearance")
        assert writer.write("atrial fibrillation", [PASSAGE]) == "P waves are absent."
        system, user = (m["content"] for m in server.asked[0].body["messages"])
        assert "NONE" in system and "[1] Atrial fibrillation: P waves are absent." in user
        assert "the way atrial fibrillation appears" in user
        assert writer.write("atrial fibrillation", []) == "" and len(server.asked) == 1
        told = ChatWriter(client(server), closed_book=True)
        assert told.write("atrial fibrillation", []) == "P waves are absent."
        assert "Passages" not in server.asked[1].body["messages"][1]["content"]


def test_many_findings_are_written_by_key():
    def reply(text):
        return "NONE" if "unsuitable" in text else text.rsplit("\n", 1)[-1]

    items = {("AFIB", 1): ("atrial fibrillation", [PASSAGE]), 2: ("leads unsuitable", [PASSAGE]),
             3: ("anything", []), 4: ("atrial flutter {finding}", [PASSAGE])}  # fmt: skip
    kept = {}
    with ChatServer(reply=reply) as server:
        given = ChatWriter(client(server)).write_many(items, kept.__setitem__)
    assert list(given) == list(items) and given[2] == given[3] == kept[2] == ""
    assert given["AFIB", 1] == "How is atrial fibrillation reflected in a 12-lead ECG?"
    assert given[4] == "How is atrial flutter {finding} reflected in a 12-lead ECG?"


def test_the_name_tells_model_and_prompt():
    here = "http://127.0.0.1:1/v1"
    writers = [ChatWriter(ChatClient(here, m), p) for m in ("a", "b") for p in PROMPTS]
    writers.append(ChatWriter(ChatClient(here, "a"), "Tell of {finding}"))
    writers.append(ChatWriter(ChatClient(here, "a"), closed_book=True))
    assert len(PROMPTS) == 5 and len({w.name for w in writers}) == 12
    assert writers[0].name == ChatWriter(ChatClient(here, "a"), "question").name
    with pytest.raises(ConfigError, match="none of question, appearance"):
        ChatWriter(ChatClient(here, "a"), "quesiton")


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("NONE", ""), ("None.", ""), ('"NONE"', ""), ("**NONE**", ""),
        ("NONE. The passages speak of other things.", ""),
        ("The passages do not cover this finding.", ""),
        ("None of the given passages describe it.", ""),
        ("None of the leads shows a Q wave.", "None of the leads shows a Q wave."),
        ("<think>Is it NONE?</think>\nP waves are absent.", "P waves are absent."),
        ("thoughts</think>NONE", ""),
        ("- P waves are absent.\n- RR varies [1].", "P waves are absent. RR varies."),
        ("ST sinks by 0.1 mV in V4-V6.", "ST sinks by 0.1 mV in V4-V6."),
    ],
)  # fmt: skip
def test_answers_are_tidied(said, kept):
    assert tidy(said) == kept


def test_the_extractive_writer_takes_first_sentences():
    other = Passage("Flutter", (), "Saw-tooth waves at 300/min. More.", "notes.md")
    assert ExtractiveWriter().write("af", [PASSAGE, other]) == "P waves are absent."
    both = ExtractiveWriter(every=True)
    assert both.write("af", [PASSAGE, other, PASSAGE]) == (
        "P waves are absent. Saw-tooth waves at 300/min."
    )
    assert both.write("af", []) == "" and both.name != ExtractiveWriter().name
