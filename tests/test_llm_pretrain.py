"""The small Llama's text, its training by length, its cache, and what it reads."""

import dataclasses
import re

import numpy as np
import pytest
import torch

from ecgkit.config import FewShotConfig
from ecgkit.data.ecgqa import open_questions
from ecgkit.models.prefix_llm import IGNORE, PrefixLLM, token_scores
from ecgkit.models.small_llm import build_small_llm, train_tokenizer
from ecgkit.tasks import llm_lines, llm_pretrain
from ecgkit.tasks.engine import TrainSettings
from ecgkit.tasks.llm_lines import Line, Note
from ecgkit.types import DataError

BETWEEN = re.compile(r", (?![^(]*\))")  # a comma in brackets is part of a name


@pytest.fixture(scope="module")
def questions(tiny_cohort):
    config = FewShotConfig.from_params({"preset": "tiny"})
    questions = open_questions(config, tiny_cohort, quiet=True)
    return questions.only((questions.table["attribute_type"] == "scp_code").to_numpy())


@pytest.fixture(scope="module")
def drawn(questions, tiny_cohort):
    return llm_lines.question_lines(questions, tiny_cohort, "all", n_lines=600, n_held_out=40)


def said(findings: str) -> list[str]:
    return [] if findings == llm_lines.NOTHING else BETWEEN.split(findings[:-1])


# --- lines ----------------------------------------------------------------------------------------


def test_every_type_gets_its_share_and_terms_are_what_findings_say(drawn):
    lines, held_out, terms = drawn
    kinds = [line.kind for line in lines]
    for kind, share in llm_lines.LINE_TYPES.items():
        assert kinds.count(kind) / len(lines) == pytest.approx(share, abs=0.02)
    assert {line.kind for line in held_out} == set(llm_lines.LINE_TYPES)
    assert {name for line in lines for name in said(line.findings)} <= set(terms)


def test_a_query_answer_is_copied_from_findings_that_hold_no_rival(questions, tiny_cohort, drawn):
    train = questions.table[questions.table["split"] == "train"]
    rivals = {}
    for template, answer in zip(train["template_id"], train["answer"], strict=True):
        rivals.setdefault(template, set()).update(answer)
    template_of = dict(zip(train["question"], train["template_id"], strict=True))
    queries = [line for line in drawn[0] if line.kind == "single-query" and "lead" not in str(line)]
    assert len(queries) > 50
    others = 0
    for line in queries:
        found, answer = said(line.findings), BETWEEN.split(line.answer)
        possible = [n for n in found if n in rivals[template_of[line.question]]]
        assert possible == ([] if answer == ["none"] else answer)
        others += len(found) - len(possible)
    assert others > 20  # there is something to choose from


def test_verify_lines_are_balanced_and_yes_means_it_is_there(drawn):
    verify = [line for line in drawn[0] if line.kind == "single-verify"]
    assert 0.4 < np.mean([line.answer == "yes" for line in verify]) < 0.6
    counts = {a: [len(said(x.findings)) for x in verify if x.answer == a] for a in ("yes", "no")}
    assert abs(np.mean(counts["yes"]) - np.mean(counts["no"])) < 0.5
    yes = [line for line in verify if line.answer == "yes"]
    assert all(said(line.findings) for line in yes)
    # Some questions word it otherwise ("ischemia", "anything remarkable"), most do not.
    named = [any(n.split(" in lead ")[0] in x.question for n in said(x.findings)) for x in yes]
    assert np.mean(named) > 0.7


def test_no_word_of_the_test_split_is_read(questions, tiny_cohort):
    outside = (questions.table["split"] != "train").to_numpy()
    with pytest.raises(DataError, match="no single-verify question"):
        llm_lines.question_lines(questions.only(outside), tiny_cohort, "single-verify", 10)
    marked = questions.table.copy()
    marked.loc[outside, "question"] = "never read"
    other = dataclasses.replace(questions, table=marked)
    lines, held_out, _ = llm_lines.question_lines(other, tiny_cohort, "all", 200)
    assert not any(line.question == "never read" for line in (*lines, *held_out))


def test_one_type_alone_and_the_same_lines_for_the_same_seed(questions, tiny_cohort):
    first = llm_lines.question_lines(questions, tiny_cohort, "single-verify", 50, seed=3)
    assert first == llm_lines.question_lines(questions, tiny_cohort, "single-verify", 50, seed=3)
    assert first != llm_lines.question_lines(questions, tiny_cohort, "single-verify", 50, seed=4)
    assert {line.kind for line in first[0]} == {"single-verify"}


def test_notes_are_sentences_after_their_title():
    notes = llm_lines.note_lines()
    assert len(notes) > 300 and all(isinstance(note, Note) for note in notes)
    assert any(note.text.startswith("Atrial flutter: Saw-tooth waves") for note in notes)


# --- tokens and loss ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(drawn):
    torch.manual_seed(0)
    texts = ["".join(line.parts()) for line in drawn[0]]
    tokenizer = train_tokenizer(texts, 400, llm_lines.single_names(drawn[2]))
    return tokenizer, build_small_llm(len(tokenizer), width=32, n_layers=2, n_heads=4).eval()


def test_a_finding_and_its_lead_are_one_token_each(small):
    names = llm_lines.single_names(["high qrs voltage in lead V1"])
    assert names == ["high qrs voltage", "lead V1"]
    tokenizer = train_tokenizer(["a b"], 262, names)
    ids = tokenizer(" high QRS voltage in lead V1", add_special_tokens=False)["input_ids"]
    assert len(ids) == 2 + len(" in")


def test_lines_are_tokenised_as_the_reader_does(drawn, small):
    tokenizer, llm = small
    reader = PrefixLLM(llm, tokenizer)
    lines = [*drawn[0][:30], Note("Flutter: waves.")]
    ids, at = llm_pretrain.encode_lines(tokenizer, lines)
    for row, start, line in zip(ids[:-1], at, lines, strict=False):
        answer = row[start:][row[start:] != IGNORE]
        assert answer.tolist() == reader.encode_answers([line.answer])[0].tolist()
    assert at[-1] == (ids[-1] != IGNORE).sum()  # a note has no answer


def test_the_loss_is_the_plain_one_at_the_positions_it_asks_for(drawn, small):
    tokenizer, llm = small
    ids, at = llm_pretrain.encode_lines(tokenizer, [*drawn[0][:6], Note("Flutter: waves.")])
    in_full = torch.tensor([True, False, False, True, False, False, True])
    batch = {"ids": ids, "answer_at": at, "in_full": in_full}
    mine = llm_pretrain.line_loss(llm, batch)
    answers, texts, right = [], [], []
    for row, start, full in zip(ids, at, in_full, strict=True):
        row = row[row != IGNORE]
        logits = llm(input_ids=row[None]).logits[0, :-1]
        nll = torch.nn.functional.cross_entropy(logits, row[1:], reduction="none")
        answers.append(nll[start - 1 :])
        if full:
            texts.append(nll[: start - 1])
        if start < len(row):
            scores = token_scores(logits[None, start - 1 :], row[None, start:])
            right.append(float(scores["exact"]))
    answer, text = torch.cat(answers).mean(), torch.cat(texts).mean()
    assert mine["answer"].item() == pytest.approx(answer.item(), rel=1e-5)
    assert mine["text"].item() == pytest.approx(text.item(), rel=1e-5)
    assert mine["loss"].item() == pytest.approx((answer + 0.1 * text).item(), rel=1e-5)
    assert mine["exact"].item() == pytest.approx(np.mean(right))


def test_a_line_too_long_is_left_out(small):
    short, long = Line("Is it?", "a.", "yes"), Line("Is it?", "a " * 300, "yes")
    ids, _ = llm_pretrain.encode_lines(small[0], [short, long])
    assert len(ids) == 1
    with pytest.raises(DataError, match="fits 160 tokens"):
        llm_pretrain.encode_lines(small[0], [long])


# --- training -------------------------------------------------------------------------------------


def train(drawn, n_steps=4, width=32, **more):
    settings = TrainSettings(n_steps=n_steps, batch_size=8, lr=1e-3, device="cpu", **more)
    lines, held_out, terms = drawn
    return llm_pretrain.pretrain_llm(lines[:100], held_out, width, 2, 4, 400, settings, terms)


def test_it_is_trained_once_and_then_loaded_with_its_tokenizer(drawn):
    tokenizer, llm, log = train(drawn)
    again, same, other = train(drawn)
    assert not log.reused and other.reused
    assert tokenizer.get_vocab() == again.get_vocab()
    for a, b in zip(llm.parameters(), same.parameters(), strict=True):
        assert torch.equal(a, b)
    names = {f"eval_exact{x}{k}" for x in ("", "_swapped") for k in ("", "_verify", "_query")}
    assert names <= set(log.table)
    assert not train(drawn, n_steps=5)[2].reused


def test_a_stopped_training_goes_on_to_the_same_weights(drawn):
    whole = train(drawn, n_steps=6, seed=1)[1]
    _, _, log = train(drawn, n_steps=6, seed=2, time_budget_s=1e-9)
    assert not log.finished
    _, llm, log = train(drawn, n_steps=6, seed=2)
    assert log.finished and not log.reused
    assert not all(torch.equal(a, b) for a, b in zip(whole.parameters(), llm.parameters()))


def test_it_reads_its_findings():
    """Two names, one is said: after a little training the answer follows the findings."""
    rng = np.random.default_rng(0)
    lines = []
    for _ in range(640):
        here, asked = rng.choice(["flutter", "block"], 2)
        if rng.random() < 0.5:
            lines.append(Line(f"Is {asked} seen?", f"{here}.", "yes" if here == asked else "no",
                              "single-verify"))  # fmt: skip
        else:
            lines.append(Line("What is seen?", f"{here}.", str(here), "single-query"))
    settings = TrainSettings(n_steps=60, batch_size=32, lr=5e-3, device="cpu", eval_every=60)
    terms = ["flutter", "block"]
    _, _, log = llm_pretrain.pretrain_llm(
        lines[64:], lines[:64], 32, 2, 4, 280, settings, terms, notes=False
    )
    assert log.last["eval_exact_query"] > 0.9 and log.last["eval_exact_swapped_query"] < 0.1
