"""LLM modelling as a whole: what becomes of any reply, of a stopped run, of text that may not
travel; with a scripted server on real HTTP.
"""

import csv
import dataclasses
import json

import numpy as np
import pytest
import torch
from chat_server import ChatServer, Reply
from llm_qa_parts import Peaks, client_of, config, without_keys

from ecgkit.data.ecgqa import open_questions
from ecgkit.data.qa_vocabulary import STATEMENTS
from ecgkit.models.small_llm import build_small_llm, train_tokenizer
from ecgkit.tasks import llm_qa
from ecgkit.types import ConfigError

KEY = "sk-canary-0123456789abcdef"


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    without_keys(monkeypatch)


@pytest.fixture(scope="module")
def questions(tiny_config, tiny_cohort):
    return open_questions(tiny_config, tiny_cohort, quiet=True)


@pytest.fixture
def peaks():
    return Peaks(len(STATEMENTS)), STATEMENTS


# --- a whole run ----------------------------------------------------------------------------------


def test_a_run_from_questions_to_files(tiny_cohort, questions, peaks, tmp_path):
    with ChatServer(reply=lambda text: "None" if text.count(", None\n") else "Not sure") as server:
        settings, client = client_of(server, llm_share=0.3)
        results = llm_qa.run_llm_qa(settings, tiny_cohort, questions, peaks, tmp_path, client)
    table, test = results.table, questions.index("test")
    assert len(table) == round(results.strata["drawn"].sum()) == results.strata["drawn"].sum()
    assert set(table["position"]) <= set(test) and table["answered"].all()
    assert len(server.asked) == table["prompt"].nunique() <= len(table)
    for asked in server.asked:
        [message] = asked.body["messages"]  # one turn of the user's, no system message
        assert message["role"] == "user" and asked.body["temperature"] == 0
    # Replies are right exactly where the gold is what was said.
    verify = table["question_type"].str.endswith("verify")
    assert (table["right"] == np.where(
        verify, [g == ("not sure",) for g in table["gold"]], [g == () for g in table["gold"]]
    )).all()
    unsure = verify & np.array(["not sure" in options for options in table["options"]])
    assert (table["parsed"][unsure] == "not sure").all() and unsure.any()
    # Published: "Not sure" is taken for "no".
    published = table["right_reference"][verify]
    assert (published == [g == ("no",) for g in table["gold"][verify]]).all()
    readers = ["m", "m, published matching", llm_qa.LOOKUP, llm_qa.MAJORITY]
    assert list(results.scores["reader"].unique()) == readers
    assert set(results.scores["level"]) == {0, 1, 2, 3}
    for name in ("answers.jsonl", "prompts.jsonl", "table.csv", "scores.csv"):
        assert (tmp_path / name).stat().st_size > 0
    with open(tmp_path / "table.csv") as file:
        assert len([*csv.DictReader(file)]) == len(table)
    assert "exact match" in results.summary() and "requests" in results.summary()


def test_an_interrupted_run_goes_on_where_it_was(tiny_cohort, questions, peaks, tmp_path):
    share = {"llm_share": 0.1, "llm_jobs": 1}
    with ChatServer() as server:
        settings, client = client_of(server, **share)
        full = llm_qa.run_llm_qa(settings, tiny_cohort, questions, peaks, tmp_path / "a", client)
    stop = [Reply(body={"choices": [{"message": {"content": "yes"}}]})] * 4 + [
        Reply(401, {"error": {"message": "no"}})]  # the fifth and all after it fail
    with ChatServer(stop) as server:
        settings, client = client_of(server, **share)
        cut = llm_qa.run_llm_qa(settings, tiny_cohort, questions, peaks, tmp_path / "b", client)
        assert len(server.asked) == 5
    assert cut.table["answered"].sum() < len(full.table)
    assert (cut.scores["n"] + cut.scores["unanswered"]).max() == len(full.table)
    # A kill may tear the last line.
    kept = tmp_path / "b" / "answers.jsonl"
    kept.write_bytes(kept.read_bytes()[:-5])
    with ChatServer() as server:
        settings, client = client_of(server, **share)
        whole = llm_qa.run_llm_qa(settings, tiny_cohort, questions, peaks, tmp_path / "b", client)
        assert len(server.asked) == whole.table["prompt"].nunique() - 3
    assert whole.table["answered"].all()
    with ChatServer([Reply(500)] * 99) as server:  # all is kept: nothing is asked
        settings, client = client_of(server, **share)
        llm_qa.run_llm_qa(settings, tiny_cohort, questions, peaks, tmp_path / "b", client)
        assert not server.asked


FAILURES = [
    Reply(429, {"error": {"message": "slow down"}}), Reply(500, "<html>broken</html>"),
    Reply(200, "no JSON"), Reply(200, {"choices": []}), Reply(drop=True),
    Reply(400, {"error": {"message": "too long"}}),
]  # fmt: skip


@pytest.mark.parametrize("failure", FAILURES, ids=lambda f: str(f.body)[:12] or "hangs up")
def test_endpoint_errors_end_in_counted_unanswered_questions(
    tiny_cohort, questions, peaks, tmp_path, failure
):
    with ChatServer([failure] * 400) as server:
        settings, client = client_of(server)
        results = llm_qa.run_llm_qa(settings, tiny_cohort, questions, peaks, tmp_path, client)
    assert not results.table["answered"].any() and not results.table["right"].any()
    assert results.table["why"].str.endswith(".").all() or results.table["why"].str.len().all()
    assert results.scores["unanswered"].max() == len(results.table)
    assert f"{len(results.table)} unanswered" in results.summary()
    baseline = results.scores[results.scores["reader"] == llm_qa.MAJORITY]
    assert baseline["n"].max() == len(results.table) and baseline["exact_match"].notna().all()


def test_a_refused_connection_is_no_crash(tiny_cohort, questions, peaks, tmp_path):
    with ChatServer() as server:
        settings, client = client_of(server)
    results = llm_qa.run_llm_qa(settings, tiny_cohort, questions, peaks, tmp_path, client)
    assert not results.table["answered"].any() and "reached" in results.table["why"][0]


def test_the_key_is_written_nowhere(tiny_cohort, questions, peaks, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    echo = Reply(400, {"error": {"message": f"bad key {KEY}"}})
    with ChatServer([echo] * 3, reply=lambda text: f"yes, {KEY}", needs_key=KEY) as server:
        settings, client = client_of(server, llm_share=0.1)
        results = llm_qa.run_llm_qa(settings, tiny_cohort, questions, peaks, tmp_path, client)
        assert server.asked[0].headers["Authorization"] == f"Bearer {KEY}"
    settings.save(tmp_path / "config.json")
    said = [results.summary(), results.table.to_string(), repr(client), repr(settings),
            *results.table["why"], capsys.readouterr().out]
    said += [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(said) > 9 and not any(KEY in text for text in said)
    assert (~results.table["answered"]).sum() == 3


# --- records that may not travel ------------------------------------------------------------------


def mimic(cohort):
    """The tiny cohort as if it were MIMIC's real records."""
    return dataclasses.replace(cohort, name="mimic-iv-ecg", simulated=False)


def test_text_of_credentialed_records_stays_here(tiny_cohort, questions, peaks, tmp_path):
    far = {"llm_url": "https://api.example.com/v1", "llm_model": "m"}
    with pytest.raises(ConfigError, match="ALLOW_REMOTE_TEXT"):
        llm_qa.open_endpoint(config(**far), credentialed=True)
    with ChatServer(reply=lambda text: "yes") as server:
        settings, client = client_of(server)
        client.url = "http://10.0.0.7/v1"  # as if it were another machine
        with pytest.raises(ConfigError, match="ALLOW_REMOTE_TEXT"):
            llm_qa.run_llm_qa(settings, mimic(tiny_cohort), questions, peaks, tmp_path, client)
        assert not peaks[0].calls and not server.asked and not [*tmp_path.iterdir()]
        settings, client = client_of(server)
        llm_qa.run_llm_qa(settings, mimic(tiny_cohort), questions, peaks, tmp_path, client)
        assert server.asked and not (tmp_path / "prompts.jsonl").exists()
    assert not any("Interpretation of" in p.read_text() for p in tmp_path.iterdir())


def test_allowing_it_is_the_user_s_word(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    far = config(llm_url="https://api.example.com/v1", llm_model="m", allow_remote_text=True)
    client, _ = llm_qa.open_endpoint(far, credentialed=True)
    assert client.url == "https://api.example.com/v1"


# --- the local default ----------------------------------------------------------------------------


def test_without_a_url_a_local_model_is_served_and_closed(
    tiny_cohort, questions, peaks, tmp_path, monkeypatch
):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)  # no business of the local server's
    tokenizer = train_tokenizer(questions.table["question"].unique()[:200].tolist(), 400)
    torch.manual_seed(0)
    llm = build_small_llm(len(tokenizer), 32, 1, 2, max_tokens=700)
    settings = config(llm_max_tokens=2)
    results = llm_qa.run_llm_qa(settings, tiny_cohort, questions, peaks, tmp_path,
                                local=(llm, tokenizer))
    table = results.table
    assert table["answered"].any() and results.model == "small-llama"
    assert table.loc[~table["answered"], "why"].str.contains("positions|empty text").all()
    spent = [json.loads(s) for s in (tmp_path / "spent.jsonl").read_text().split("\n") if s]
    assert sum(map(sum, spent)) > 100 * table["answered"].sum()
    with pytest.raises(ConfigError, match="local="):
        llm_qa.open_endpoint(settings)


def test_settings_that_contradict_are_refused():
    for wrong, words in (({"llm_max_tokens": 0}, "LLM_MAX_TOKENS"),
                         ({"llm_per_minute": -1}, "LLM_PER_MINUTE"),
                         ({"llm_context": "tea"}, "LLM_CONTEXT"),
                         ({"llm_budget": 1.0}, "LLM_PRICES")):  # fmt: skip
        with pytest.raises(ConfigError, match=words):
            config(**wrong)
