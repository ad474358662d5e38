"""Appendix A's ablation: reference texts, every setting scored, kept texts, a chat model on a real
local server, and its figure. No text of torch_ecg is here: a package of its shape is made.
"""

import numpy as np
import pandas as pd
import pytest
from chat_server import ChatServer, Reply

from ecgkit.config.cqa import CqaSettings
from ecgkit.reports.cqa_figures import plot_ablation
from ecgkit.tasks import cqa_ablation as study
from ecgkit.tasks.cqa_references import knowledge_of, reference_texts
from ecgkit.text import encoders, llm
from ecgkit.text.bertscore import BertScorer, Scores
from ecgkit.text.passages import Passage
from ecgkit.types import ConfigError, DataError

REFERENCES = {
    "atrial fibrillation": "No P waves, irregular RR intervals.",
    "first degree av block": "PR interval longer than 200 ms.",
    "left axis deviation": "QRS is positive in I and negative in aVF.",
}
PASSAGES = [
    Passage("Atrial fibrillation", (), "P waves are absent. RR varies.", "rhythm.md"),
    Passage("Atrial fibrillation, coarse", (), "f waves are large. They vary.", "rhythm.md"),
    Passage("First degree AV block", (), "PR exceeds 200 ms. It is constant.", "conduction.md"),
    Passage("Left axis deviation", (), "I is positive. Then aVF is negative.", "conduction.md"),
]
ENTRIES = '''
from ..cfg import CFG
import pandas as pd
__all__ = ["LEADS", "AA", "BB", "EMPTY", "SUM", "ALIAS"]
LEADS = ["I", "II"]
AA = CFG({"fullname": "finding a", "url": [], "knowledge": ["first a", "second a ", ""]})
BB = CFG({"fullname": "finding b", "url": AA["url"], "knowledge": AA["knowledge"]})
EMPTY = CFG({"fullname": "nothing", "knowledge": [""]})
HIDDEN = CFG({"fullname": "not exported", "knowledge": ["x"]})
SUM = CFG({"fullname": "sum", "knowledge": AA["knowledge"] + HIDDEN["knowledge"]})
ALIAS = HIDDEN
_table = pd.read_csv("never run")
'''


class WordScorer:
    """Shares of words in common; counts how often it is asked."""

    def __init__(self):
        self.asked = 0

    def score(self, texts, references):
        self.asked += 1
        sets = [(set(t.lower().split()), set(r.lower().split())) for t, r in zip(texts, references)]
        p = np.array([len(t & r) / max(1, len(t)) for t, r in sets])
        return Scores(p, p, p, np.array([not t for t, _ in sets]))


def row(table, part, setting):
    return table[(table["table"] == part) & (table["setting"] == setting)].iloc[0]


# --- references ---


def test_the_packages_entries_are_read_without_running_it(tmp_path, monkeypatch):
    assert knowledge_of(ENTRIES) == {
        "finding a": "first a; second a", "finding b": "first a; second a",
        "sum": "first a; second a; x", "not exported": "x",
    }  # fmt: skip
    with pytest.raises(DataError, match="holds no descriptions"):
        knowledge_of("x = 1")
    (tmp_path / "torch_ecg" / "utils").mkdir(parents=True)
    (tmp_path / "torch_ecg" / "__init__.py").write_text("raise RuntimeError('was run')")
    (tmp_path / "torch_ecg" / "utils" / "ecg_arrhythmia_knowledge.py").write_text(ENTRIES)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "finding a" in reference_texts()


def test_the_real_package_has_28(monkeypatch):
    try:
        assert len(reference_texts()) == 28
    except DataError as why:
        pytest.skip(str(why))


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("name,words\na,b\n", "no column text"), ("name,text\n", "has no rows"),
        ("name,text\na, \n", "Row 2 of r.csv lacks"), ("name,text\na,b\na,c\n", "'a' twice"),
        ("", "cannot be read"), (None, "cannot be read as CSV .No such file"),
    ],
)  # fmt: skip
def test_a_bad_csv_is_a_sentence(tmp_path, content, match):
    path = tmp_path / "r.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=match):
        reference_texts(path)


# --- the ablation ---


def test_every_setting_has_a_row_and_is_scored_once():
    scorer = WordScorer()
    table = study.Ablation(REFERENCES, PASSAGES, scorer).run()
    assert table.groupby("table").size().to_dict() == {
        "top-k": 5, "knowledge": 4, "prompt": 5, "control": 1
    }
    assert scorer.asked == 12 + 1  # (all, 2, question) is in three tables
    assert row(table, "knowledge", "none")["n_empty"] == 3
    alone = row(table, "knowledge", "rhythm.md")
    assert alone["n_empty"] == 2 and alone["f1_written"] == pytest.approx(3 * alone["f1"])
    both = row(table, "knowledge", "all")
    assert both["n_empty"] == 0 and both["f1"] == row(table, "top-k", "2")["f1"]
    assert both["f1"] > row(table, "control", "another's reference")["f1"]
    assert both["published_f1"] == row(table, "top-k", "2")["published_f1"] == 0.8296
    mean, sd = study.over_prompts(table)
    f1 = table.loc[table["table"] == "prompt", "f1"]
    assert mean == pytest.approx(f1.mean()) and sd == pytest.approx(f1.std())


def test_texts_come_from_the_files_and_the_number_asked_for():
    ablation = study.Ablation(REFERENCES, PASSAGES, WordScorer())
    assert ablation.texts("all", 1, "question") == {
        "atrial fibrillation": "P waves are absent.",
        "first degree av block": "PR exceeds 200 ms.",
        "left axis deviation": "I is positive.",
    }
    two = ablation.texts("rhythm.md", 2, "question")
    assert two["atrial fibrillation"] == "P waves are absent. f waves are large."
    assert two["left axis deviation"] == "" and len(ablation.knowledge) == 4
    assert list(study.knowledge_sets(PASSAGES[:2])) == ["none", "all"]


def test_a_chat_model_writes_and_what_it_wrote_is_kept(tmp_path):
    def answer(text):
        return f"Written for: {text.rsplit(chr(10), 1)[-1]}"

    def ablation(server):
        client = llm.ChatClient(server.url, "m", retries=0, log=tmp_path / "chat.jsonl")
        return study.Ablation(
            REFERENCES, PASSAGES, WordScorer(), kept=tmp_path / "texts.jsonl",
            make_writer=lambda prompt, closed: llm.ChatWriter(client, prompt, closed),
        )  # fmt: skip

    with ChatServer([Reply(200, "oops")], reply=answer) as server:
        with pytest.raises(DataError, match="no text for 1 of 3 findings.*others are kept"):
            ablation(server).texts("all", 2, "question")
        again = ablation(server).texts("all", 2, "question")
        assert len(server.asked) == 4  # three, and the one that failed
        assert "How is first degree av block reflected" in again["first degree av block"]
        table = ablation(server).run(top_ks=(2,))
        assert row(table, "knowledge", "none")["n_empty"] == 0  # answered from memory
        n_asked = len(server.asked)
        ablation(server).run(top_ks=(2,))
        assert len(server.asked) == n_asked


# --- the command ---


@pytest.fixture(scope="module")
def scorer_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scorer")
    texts = [p.text for p in PASSAGES] + list(REFERENCES.values())
    tokenizer = encoders.train_wordpiece(texts, 200)
    tokenizer.save_pretrained(folder)
    encoders.small_bert(len(tokenizer), 16, 1).save_pretrained(folder)
    return folder


def test_the_command_writes_its_table(tmp_path, capsys, scorer_folder):
    pd.Series(REFERENCES, name="text").rename_axis("name").to_csv(tmp_path / "r.csv")
    out = tmp_path / "out"
    ask = ["--references", str(tmp_path / "r.csv"), "--scorer", str(scorer_folder),
           "--out", str(out)]  # fmt: skip
    assert study.main([*ask, "--set", "TOP_K=1"]) == 0
    table = pd.read_csv(out / "cqa_ablation.csv")
    assert set(table["table"]) == {"top-k", "knowledge", "prompt", "control"}
    said = capsys.readouterr().out
    assert "control" in said and "published 0.8295" in said
    assert study.main([*ask, "--set", "TOPK=1"]) == 2
    assert "TOPK is not a parameter" in capsys.readouterr().err
    assert study.main([*ask, "--set", "TOP_K"]) == 2
    assert study.main(["--references", str(tmp_path / "absent.csv")]) == 2


def test_the_settings_reach_endpoint_and_index(tmp_path, scorer_folder):
    scorer = BertScorer(str(scorer_folder), device="cpu")
    with ChatServer(reply=lambda text: "P waves are absent.") as server:
        config = CqaSettings.from_params({
            "WRITER": "chat", "LLM_URL": server.url, "LLM_MODEL": "m", "LLM_JOBS": 2,
            "EMBEDDER": "endpoint:e",
        })  # fmt: skip
        ablation = study.open_ablation(config, REFERENCES, scorer, tmp_path)
        texts = ablation.texts("all", 1, "question")
        paths = {a.path: a.body["model"] for a in server.asked}
    assert set(texts.values()) == {"P waves are absent."}
    assert paths == {"/v1/embeddings": "e", "/v1/chat/completions": "m"}
    assert (tmp_path / "chat.jsonl").exists() and (tmp_path / "texts.jsonl").exists()


def test_a_remote_endpoint_without_a_key_is_a_sentence(monkeypatch, tmp_path):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    config = CqaSettings.from_params(
        {"WRITER": "chat", "LLM_URL": "https://api.example.com/v1", "LLM_MODEL": "m"}
    )
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        study.open_ablation(config, REFERENCES, WordScorer(), tmp_path)


# --- the figure ---


def test_the_figure_shows_each_part():
    table = study.Ablation(REFERENCES, PASSAGES, WordScorer()).run()
    for published in (False, True):
        figure = plot_ablation(table, "words", published)
        titles = [ax.get_title(loc="left") for ax in figure.axes]
        assert titles == ["Passages retrieved", "Files", "Wording of the question"]
        assert [t.get_text() for t in figure.axes[1].get_yticklabels()] == [
            "none", "rhythm", "conduction", "all"
        ]  # fmt: skip
        labels = [t.get_text() for t in figure.legends[0].get_texts()]
        assert ("published" in labels) == published and "control: another's reference" in labels
        figure.canvas.draw()
    with pytest.raises(DataError, match="lacks control, prompt"):
        plot_ablation(table[table["table"].isin(["top-k", "knowledge"])])
