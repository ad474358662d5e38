"""The Cardio Query Assistant: whose answer is whose, what is kept, what is left without text."""

import json
import time

import numpy as np
import pytest
from chat_server import ChatServer, Reply

from ecgkit.config.cqa import CqaSettings
from ecgkit.text import cqa, llm
from ecgkit.text.answer_cache import AnswerCache
from ecgkit.text.cqa import Answer, Assistant, open_assistant, question
from ecgkit.text.embedders import Dense, Tfidf
from ecgkit.text.passages import Passage
from ecgkit.text.retrieval import ExactIndex
from ecgkit.types import ConfigError, DataError, KitError, ModelError

FLUTTER = Passage("Atrial flutter", ("AFLT",), "Saw-tooth waves replace P.", "a.md")
FIBRILLATION = Passage("Atrial fibrillation", ("AFIB",), "No P waves, RR irregular.", "a.md")
LONG_QT = Passage("Long QT interval", ("LNGQT",), "T ends late. Torsades threaten.", "a.md",
                  ("prolonged qt",))  # fmt: skip
DELTA = Passage("Preexcitation", (), "A slurred delta wave begins a wide QRS.", "book.md")
SHELF = [FLUTTER, FIBRILLATION, LONG_QT, DELTA]
PAIRS = [("atrial flutter", "AFLT"), ("atrial fibrillation", "AFIB"), ("long QT", "LNGQT")]


class Writer:
    """Says what it was shown, and counts."""

    def __init__(self, name="writer", fails=(), stops_at=10**9):
        self.name, self.fails, self.stops_at, self.asked = name, fails, stops_at, []

    def write(self, finding, passages):
        if len(self.asked) == self.stops_at:
            raise KeyboardInterrupt
        self.asked.append(finding)
        if finding in self.fails:
            raise ModelError("The endpoint is down.")
        return f"{finding} by {self.name}: {passages[0].text}"


def assistant(writer=None, kept=None, **options) -> Assistant:
    return Assistant(ExactIndex(SHELF, Tfidf()), writer or Writer(), kept=kept, **options)


def settings(**given) -> CqaSettings:
    return CqaSettings.from_params({"preset": "tiny", **given})


# --- whose answer is whose ---


@pytest.mark.parametrize("order", [1, -1])
def test_answers_are_keyed_to_their_finding_in_any_order(order):
    found = assistant().answers(PAIRS[::order])
    assert found.keys() == set(PAIRS)
    for (_, code), answer in found.items():
        assert code in answer.passages[0].codes and answer.scores[0] == 1.0
        assert answer.text.endswith(answer.passages[0].text) and answer.by == "writer"


def test_answers_of_an_endpoint_are_keyed_whatever_comes_back_first():
    """The published code zips answers in order of completion with findings in order of asking."""
    came_back = []

    def reply(text: str) -> str:
        asked = text.rsplit("How is ", 1)[1]
        time.sleep(0.1 if "flutter" in asked else 0)  # asked first, answered last
        came_back.append(asked)
        return asked

    with ChatServer(reply=reply) as server:
        writer = llm.ChatWriter(llm.ChatClient(server.url, "m", jobs=3))
        found = assistant(writer).answers(PAIRS)
    assert "flutter" in came_back[-1] and list(found) == PAIRS
    for (finding, _), answer in found.items():
        assert answer.text.lower().startswith(finding.lower())


def test_variants_of_a_statement_share_one_answer():
    writer = Writer()
    said = ["*** ATRIAL FLUTTER ***", "Atrial flutter.", "atrial flutter"]
    said += ["Possible atrial flutter"]
    found = assistant(writer).answers([(text, "") for text in said])
    assert len(writer.asked) == 1 and len(found) == 4
    assert len({answer.text for answer in found.values()}) == 1


def test_the_question_is_the_papers():
    assert question("atrial flutter") == "How is atrial flutter reflected in a 12-lead ECG?"


# --- which passages ---


def test_the_note_of_a_code_comes_first_then_what_is_nearest():
    answer = assistant().answers([("atrial fibrillation", "AFLT")])["atrial fibrillation", "AFLT"]
    assert answer.passages == (FLUTTER, FIBRILLATION) and answer.scores[0] > answer.scores[1] > 0
    one = assistant(k=1).answers([("atrial fibrillation", "AFLT")])
    assert one["atrial fibrillation", "AFLT"].passages == (FLUTTER,)


def test_a_machine_statement_finds_the_note_that_names_it_and_unknown_codes_are_passed_over():
    found = assistant().answers([("Prolonged QT", "XYZ"), ("delta wave", "XYZ")])
    assert found["Prolonged QT", "XYZ"].passages[0] == LONG_QT
    assert found["delta wave", "XYZ"].passages[0] == DELTA


@pytest.mark.parametrize(
    "finding",
    ["Lead(s) unsuitable for analysis: V1", "*** INTERPRETATION MADE WITHOUT KNOWING GENDER ***",
     "zebra crossing", "XYZ", "", "   ", "***"],
)  # fmt: skip
def test_what_is_technical_or_not_covered_gets_no_text_and_nobody_is_asked(finding):
    writer = Writer()
    helper = assistant(writer)
    assert helper.answers([(finding, "")]) == {(finding, ""): Answer("")} and not writer.asked
    assert helper.answer(finding) == "" and helper.counts.total() == 1


def test_sentence_vectors_that_find_everything_near_still_leave_the_unknown_without_text():
    class Same(Dense):
        def __init__(self):
            super().__init__("same", lambda texts: np.ones((len(texts), 2)))

    helper = Assistant(ExactIndex([DELTA, FLUTTER], Same()), Writer())
    assert helper.answer("zebra crossing") == ""
    assert "Saw-tooth" in helper.answer("whatever", code="AFLT")


def test_counts_add_up_to_the_findings_asked():
    helper = assistant()
    helper.answers([*PAIRS, *PAIRS, ("XYZ", ""), ("poor data quality", "")])
    helper.answers([*PAIRS, ("atrial flutter.", "")])
    assert helper.counts.total() == 6
    assert helper.report() == (
        "6 findings: 1 technical, left without text, 1 without a fitting passage, "
        "1 kept from before, 3 written."
    )


# --- what is kept ---


def test_answers_are_kept_and_asked_anew_only_where_something_changed(tmp_path):
    file = tmp_path / "answers.jsonl"
    first = assistant(Writer(), file).answers(PAIRS)
    again = Writer()
    assert assistant(again, file).answers(PAIRS) == first and not again.asked
    rows = [json.loads(line) for line in file.read_text().splitlines() if line]
    assert len(rows) == 3 and rows[0]["passages"][0] == "Atrial flutter"

    changed = [Passage("Atrial flutter", ("AFLT",), "F waves at 300.", "a.md"), *SHELF[1:]]
    Assistant(ExactIndex(changed, Tfidf()), again, kept=file).answers(PAIRS)
    assert "atrial flutter" in again.asked and "long qt" not in map(str.lower, again.asked)
    for other in (assistant(Writer("other"), file), assistant(Writer(), file, k=1)):
        other.answers(PAIRS)
        assert len(other.writer.asked) == 3


def test_a_run_killed_half_way_goes_on_where_it_was(tmp_path):
    file = tmp_path / "answers.jsonl"
    with pytest.raises(KeyboardInterrupt):
        assistant(Writer(stops_at=2), file).answers(PAIRS)
    with file.open("ab") as cut:
        cut.write(b'\n{"key": "abc", "text": "half a li')
    writer = Writer()
    helper = assistant(writer, file)
    assert len(helper.answers(PAIRS)) == 3 and len(writer.asked) == 1
    assert len(AnswerCache(file)) == 3  # the broken line did not spoil the next


def test_a_cache_of_other_content_is_passed_over(tmp_path):
    file = tmp_path / "answers.jsonl"
    file.write_bytes(b'[]\n"text"\n{"key": 1, "text": "a"}\n{"key": "k", "text": null}\n\xff\n')
    assert len(AnswerCache(file)) == 0
    file.unlink()
    file.mkdir()
    with pytest.raises(DataError, match="answers.jsonl"):
        AnswerCache(file)


# --- a writer that fails ---


def test_a_failing_writer_is_a_sentence_after_the_others_are_kept(tmp_path):
    file = tmp_path / "answers.jsonl"
    with pytest.raises(DataError, match="no text for 1 findings, e.g. 'atrial flutter'") as caught:
        assistant(Writer(fails=["atrial flutter"]), file).answers(PAIRS)
    assert "endpoint is down" in str(caught.value) and "LLM_FALLBACK" in str(caught.value)
    writer = Writer()
    assistant(writer, file).answers(PAIRS)
    assert writer.asked == ["atrial flutter"]


def test_the_fallback_is_used_only_when_asked_for_and_is_not_kept_as_the_writers(tmp_path, capsys):
    file, fails = tmp_path / "answers.jsonl", ["atrial flutter"]
    helper = assistant(Writer(fails=fails), file, fallback=llm.ExtractiveWriter())
    found = helper.answers(PAIRS)
    assert found[PAIRS[0]].text == "Saw-tooth waves replace P."
    assert found[PAIRS[0]].by == "extractive, as writer failed" and found[PAIRS[1]].by == "writer"
    assert "1 written from the passages" in helper.report()
    assert "1 findings were written from the passages instead" in capsys.readouterr().out
    assert len(AnswerCache(file)) == 2


@pytest.mark.parametrize("body", ["<html>", {"choices": []}, {"error": "overloaded"}])
def test_an_endpoint_that_answers_garbage_is_a_sentence(body):
    with ChatServer([Reply(body=body)] * 50) as server:
        client = llm.ChatClient(server.url, "m", retries=1, sleep=lambda s: None)
        with pytest.raises(DataError, match="gave no text for 3 findings"):
            assistant(llm.ChatWriter(client)).answers(PAIRS)


# --- opening one ---


def test_the_default_assistant_needs_nothing_and_is_quick():
    helper = open_assistant(settings())
    assert "Saw-tooth" in helper.answer("atrial flutter", "AFLT")
    assert open_assistant(settings(cqa=False)) is None


def test_books_stand_beside_the_notes_and_what_is_left_out_is_told(tmp_path, capsys):
    (tmp_path / "mine.md").write_text("## Zebra waves\nCodes: ZEB\n\nStripes in V1.\n")
    (tmp_path / "photo.png").write_bytes(b"\x89PNG")
    helper = open_assistant(settings(knowledge=str(tmp_path)))
    assert helper.answer("zebra waves", "ZEB") == "Stripes in V1."
    assert "Saw-tooth" in helper.answer("atrial flutter", "AFLT")
    assert "1 skipped (photo.png is none of" in capsys.readouterr().out
    with pytest.raises(DataError, match="does not exist"):
        open_assistant(settings(knowledge=str(tmp_path / "nowhere")))


REMOTE = {"llm_url": "https://api.example.com/v1", "llm_model": "m"}


@pytest.mark.parametrize("asks", [{"writer": "chat"}, {"embedder": "endpoint:vectors"}])
def test_credentialed_text_goes_to_this_machine_only(asks, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    with pytest.raises(ConfigError, match="ALLOW_REMOTE_TEXT"):
        open_assistant(settings(**REMOTE, **asks), credentialed=True)
    if "writer" in asks:  # nothing is sent by opening it
        open_assistant(settings(**REMOTE, **asks))
        open_assistant(settings(**REMOTE, **asks, allow_remote_text=True), credentialed=True)


def test_an_endpoint_that_embeds_and_writes_is_asked_once(tmp_path):
    (tmp_path / "books").mkdir()
    with ChatServer(reply=lambda text: "Waves, wide.") as server:
        config = settings(writer="chat", llm_url=server.url, llm_model="m",
                          embedder="endpoint:vectors")  # fmt: skip
        helper = open_assistant(config, tmp_path, credentialed=True)
        pairs = [("atrial flutter", "AFLT"), ("something else", "AFIB")]
        assert {a.text for a in helper.answers(pairs).values()} == {"Waves, wide."}
        n = len(server.asked)
        assert {asked.path for asked in server.asked} == {"/v1/embeddings", "/v1/chat/completions"}
        again = open_assistant(config, tmp_path, credentialed=True)
        assert again.answers(pairs) == helper.answers(pairs) and len(server.asked) == n
    assert (tmp_path / "answers.jsonl").exists() and (tmp_path / "chat.jsonl").exists()


def test_an_endpoint_that_is_down_is_a_sentence_unless_a_fallback_is_asked_for(tmp_path):
    config = {"writer": "chat", "llm_url": "http://127.0.0.1:9/v1", "llm_model": "m"}
    helper = open_assistant(settings(**config), tmp_path)
    helper.writer.client.retries = 0
    with pytest.raises(DataError, match="cannot be reached"):
        helper.answer("atrial flutter", "AFLT")
    helper = open_assistant(settings(**config, llm_fallback=True), tmp_path)
    helper.writer.client.retries = 0
    assert "Saw-tooth" in helper.answer("atrial flutter", "AFLT")


def test_notes_are_the_kits_own_and_retrieve_by_question():
    notes = cqa.Notes()
    found = notes.retrieve(question("atrial fibrillation"), k=2)
    assert found[0][1].title == "Atrial fibrillation" and len(found) == 2
    assert notes.answer("atrial fibrillation", code="AFIB") == cqa.first_sentence(found[0][1].text)
    assert len(notes.passages) == len(cqa.read_notes())


def test_any_writer_is_used_through_one_call():
    kept = {}
    items = {"a": ("x", [FLUTTER]), "b": ("y", [DELTA])}
    results = cqa.write_many(Writer(fails=["y"]), items, kept.__setitem__)
    assert isinstance(results["b"], KitError) and kept == {"a": results["a"]}
