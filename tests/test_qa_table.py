"""Questions as columns: equal to the JSON they come from, cached, whatever is done to a sample."""

import copy
import json
import zipfile
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecgkit.data import ecgqa, qa_reading, qa_shards, qa_table
from ecgkit.data.qa_reading import ATTRIBUTE_TYPES, FORMS, KEYS, PAIRINGS
from ecgkit.text import question_cache
from ecgkit.text.question_tokenizer import encode_questions, train_tokenizer
from ecgkit.types import DataError


@pytest.fixture(scope="module")
def subset(shared):
    return shared / "data" / "ecgqa-subset.zip"


def plain(subset, variant: str, flavour: str) -> pd.DataFrame:
    """Every sample of the .zip, one after another, as pandas lays out dicts."""
    rows = []
    with zipfile.ZipFile(subset) as archive:
        for split in qa_reading.SPLITS:
            folder = f"ecg-qa/ecgqa/{variant}/{flavour}/{split}/"
            names = [n for n in archive.namelist() if n.startswith(folder) and n.endswith(".json")]
            for name in sorted(names):
                rows += [sample | {"split": split} for sample in json.loads(archive.read(name))]
    return pd.DataFrame(rows)


def fake_cohort(ids, name="ptbxl"):
    """Someone for every ECG, two ECGs each."""
    ids = np.unique(ids)
    table = pd.DataFrame({"ecg_id": ids, "patient_id": 7 + np.arange(len(ids)) // 2})
    return SimpleNamespace(name=name, simulated=False, table=table)


# --- equal to the JSON ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "variant, flavour, n_classes",
    [("ptbxl", "template", 103), ("ptbxl", "paraphrased", 103), ("mimic-iv-ecg", "template", 187)],
)
def test_columns_hold_what_the_json_says(subset, variant, flavour, n_classes):
    rows = plain(subset, variant, flavour)
    cohort = fake_cohort(np.concatenate(rows["ecg_id"].tolist()), variant)
    questions = ecgqa.read_questions(subset, cohort, flavour)
    table = questions.table
    assert len(table) == questions.n_in == len(rows) == {"p": 24348, "m": 4364}[variant[0]]
    pd.testing.assert_frame_equal(table[[*KEYS, "split"]], rows[[*KEYS, "split"]])
    ids = cohort.table["ecg_id"].to_numpy()
    for number in (0, 1):
        here = np.array([len(ecgs) > number for ecgs in rows["ecg_id"]])
        asked = np.array([ecgs[number] for ecgs in rows["ecg_id"][here]])
        found = table[f"row{number + 1}"].to_numpy()
        people = table[f"patient{number + 1}"].to_numpy()
        assert (ids[found[here]] == asked).all() and (found[~here] == -1).all()
        assert (people[here] == 7 + found[here] // 2).all() and (people[~here] == -1).all()
    type1 = rows["question_type"].str.split("-").str[0].map(PAIRINGS.index)
    type2 = type1 * 3 + rows["question_type"].str.split("-").str[1].map(FORMS.index)
    assert table["type1"].tolist() == type1.tolist() and table["type2"].tolist() == type2.tolist()
    type3 = type2 * 6 + rows["attribute_type"].map(ATTRIBUTE_TYPES.index)
    assert table["type3"].tolist() == type3.tolist()
    assert len(questions.classes) == n_classes


@pytest.mark.parametrize("variant", ["ptbxl", "mimic-iv-ecg"])
def test_labels_and_masks_of_the_real_answers(subset, variant):
    rows = plain(subset, variant, "paraphrased")
    cohort = fake_cohort(np.concatenate(rows["ecg_id"].tolist()), variant)
    questions = ecgqa.read_questions(subset, cohort, "paraphrased")
    some = np.random.default_rng(0).choice(len(rows), 500, replace=False)
    labels, masks = questions.labels(some), questions.valid_mask(some)
    for row, label, mask in zip(rows.iloc[some].itertuples(), labels, masks):
        said = {questions.classes[k] for k in np.flatnonzero(label)}
        allowed = {questions.classes[k] for k in np.flatnonzero(mask)}
        assert said == set(row.answer) - {"none"}
        assert allowed == set(questions.valid[row.template_id]) - {"none"}


# --- the cache ------------------------------------------------------------------------------------


def test_the_second_opening_reads_no_json(subset, monkeypatch):
    shelf = qa_reading.open_shelf(subset)
    one = qa_table.open_table(shelf, "paraphrased")
    monkeypatch.setattr(qa_shards, "load_shard", None)
    monkeypatch.setattr(qa_table, "_MAPPED_BYTES", 0)
    two = qa_table.open_table(shelf, "paraphrased")
    assert isinstance(two.ecg_id, np.memmap)
    for name in ("sample_id", "question_id", "split", "kind", "text", "ecg_id", "kinds"):
        assert (getattr(one, name) == getattr(two, name)).all()
    assert (one.texts, one.answers, one.attributes) == (two.texts, two.answers, two.attributes)
    pd.testing.assert_frame_equal(one.files, two.files)


def test_a_question_takes_less_than_thirty_bytes(subset, cache):
    table = qa_table.open_table(qa_reading.open_shelf(subset), "paraphrased")
    used = sum(f.stat().st_size for f in (cache / f"questions-{table.key}").iterdir())
    assert used < 30 * len(table)


def test_changed_files_are_read_again(tmp_path):
    write(tmp_path, BASE)
    one = qa_table.open_table(qa_reading.open_shelf(tmp_path), "template")
    write(tmp_path, [*BASE, BASE[0] | {"sample_id": 99}])
    two = qa_table.open_table(qa_reading.open_shelf(tmp_path), "template")
    assert len(two) == len(one) + 1 and one.key != two.key


def test_dropped_rows_and_files_outlive_the_cache(tmp_path):
    write(tmp_path, [*BASE, {}, BASE[0]])
    (tmp_path / "ptbxl/template/train/1.json").write_text("[")
    shelf = qa_reading.open_shelf(tmp_path)
    fresh = qa_table.read_table(shelf, "template")
    again = [qa_table.open_table(shelf, "template") for _ in range(2)][1]
    pd.testing.assert_frame_equal(again.dropped, fresh.dropped)
    pd.testing.assert_frame_equal(again.files, fresh.files)
    assert again.dropped["reason"].tolist() == ["missing_key", "duplicate_sample_id"]


@pytest.mark.parametrize("file", ["text.json.gz", "kind.npy", "kinds.npy"])
def test_a_damaged_cache_is_a_sentence(tmp_path, monkeypatch, file):
    monkeypatch.setenv("ECGKIT_CACHE", str(tmp_path / "cache"))
    write(tmp_path / "qa", BASE)
    shelf = qa_reading.open_shelf(tmp_path / "qa")
    folder = tmp_path / "cache" / f"questions-{qa_table.open_table(shelf, 'template').key}"
    for content in ((folder / file).read_bytes()[:-9], b"", b"garbage", None):
        (folder / file).unlink()
        if content is not None:
            (folder / file).write_bytes(content)
        with pytest.raises(DataError, match="questions-.* cannot be read .*; delete it and run"):
            qa_table.open_table(shelf, "template")


# --- tokens ---------------------------------------------------------------------------------------


def test_cached_tokens_equal_those_of_encode_questions(subset, monkeypatch):
    texts = plain(subset, "ptbxl", "paraphrased")["question"].to_numpy()[::7]
    tokenizer = train_tokenizer(texts[:200], 300)
    ids, padding = encode_questions(tokenizer, texts, 24)  # and the tokenizer remembers the cut
    tokens = question_cache.open_tokens(tokenizer, texts, 24)
    for one, two in zip(tokens.all(), (ids, padding)):
        assert one.dtype == two.dtype and (one == two).all()
    some = np.array([5, 3, 5, 400])
    part, pad = tokens.read(some)
    longest = (~padding[some]).sum(1).max()
    assert (part == ids[some, :longest]).all() and (pad == padding[some, :longest]).all()
    encode_questions(tokenizer, texts[:2], 100)
    monkeypatch.setattr(question_cache, "token_lists", None)
    again = question_cache.open_tokens(tokenizer, texts[::-1], 24)
    assert (again.all()[0] == ids[::-1]).all()


def test_damaged_tokens_are_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("ECGKIT_CACHE", str(tmp_path))
    texts = ["Is atrial fibrillation present?", "Which leads show it?"]
    tokenizer = train_tokenizer(texts, 300)
    question_cache.open_tokens(tokenizer, texts)
    next(tmp_path.glob("tokens-*/ids.npy")).write_bytes(b"")
    with pytest.raises(DataError, match="tokens-.* cannot be read .*; delete it and run again"):
        question_cache.open_tokens(tokenizer, texts)


def test_another_tokenizer_never_reads_these_tokens():
    texts = ["Is atrial fibrillation present?", "Which leads show it?"]
    for words in (texts, ["present it show lead is"]):
        tokenizer = train_tokenizer(words, 300)
        tokens = question_cache.open_tokens(tokenizer, texts)
        assert (tokens.all()[0] == encode_questions(tokenizer, texts)[0]).all()


# --- mutated samples ------------------------------------------------------------------------------

BASE = [
    {
        "template_id": 26, "question_id": 1745, "sample_id": 0, "question_type": "single-verify",
        "attribute_type": "noise", "question": "Does this ECG show noise?", "answer": ["no"],
        "ecg_id": [1], "attribute": ["baseline drift"],
    },
    {
        "template_id": 68, "question_id": 2470, "sample_id": 1,
        "question_type": "comparison_irrelevant-query", "attribute_type": "numeric_feature",
        "question": "What has become normal?", "answer": ["none"], "ecg_id": [1, 2],
        "attribute": None,
    },
]  # fmt: skip


def write(folder, samples, answers=("no", "not sure", "yes", "none", "qt interval")):
    base = folder / "ptbxl"
    (base / "template" / "train").mkdir(parents=True, exist_ok=True)
    (base / "template" / "train" / "0.json").write_text(json.dumps(samples))
    rows = "".join(f"{i},{name}\n" for i, name in enumerate(answers))
    (base / "answers.csv").write_text("index,class\n" + rows)
    lists = f"26,\"['no', 'yes']\"\n68,\"{list(answers)}\"\n"
    (base / "answers_for_each_template.csv").write_text("template_id,classes\n" + lists)


@pytest.fixture(scope="module")
def real(shared, subset, tmp_path_factory):
    """A shelf with the real answer tables, its only shard, real samples for it, their cohort."""
    folder = tmp_path_factory.mktemp("mutated") / "ptbxl"
    (folder / "template" / "train").mkdir(parents=True)
    with zipfile.ZipFile(subset) as archive:
        for name in ("answers.csv", "answers_for_each_template.csv"):
            (folder / name).write_bytes(archive.read(f"ecg-qa/ecgqa/ptbxl/{name}"))
    shard = folder / "template" / "train" / "00000.json"
    shard.write_text("[]")
    rows = plain(subset, "ptbxl", "template").drop(columns="split")
    rows["list"] = rows["answer"].map(tuple)
    rows = rows.drop_duplicates(["template_id", "list"]).drop(columns="list").head(40)
    samples = [{k: v for k, v in row.items()} for row in rows.to_dict("records")]
    for i, sample in enumerate(samples):
        sample["sample_id"], sample["attribute"] = i, sample["attribute"] or None
    cohort = fake_cohort(np.concatenate(rows["ecg_id"].tolist()))
    return qa_reading.open_shelf(folder), shard, samples, cohort


# What JSON may hold where a list of strings, a number or a text is asked.
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)
_NO_ID = _JSON.filter(lambda v: type(v) is not int or not -(2**63) <= v < 2**63)


def _no_names(value) -> bool:
    names = isinstance(value, list) and value and all(isinstance(v, str) for v in value)
    return value is not None and not names


_NO_NAMES = _JSON.filter(_no_names)
_NO_TEXT = _JSON.filter(lambda v: not isinstance(v, str)) | st.just(" ")


@st.composite
def mutation(draw, sample: dict):
    """(mutated sample, its declared outcome: a reason, or None = stored equal to the original)."""
    sample = copy.deepcopy(sample)
    kind = draw(st.sampled_from(sorted(_OUTCOMES)))
    return _OUTCOMES[kind](draw, sample)


def _set(reason, key, values):
    def change(draw, sample):
        return sample | {key: draw(values)}, reason

    return change


def _extra(draw, sample):
    return sample | {"x" + draw(st.text(max_size=4)): draw(_JSON)}, None


def _reordered(draw, sample):
    return {key: sample[key] for key in draw(st.permutations(list(sample)))}, None


def _without(draw, sample):
    gone = draw(st.sets(st.sampled_from(KEYS), min_size=1))
    return {k: v for k, v in sample.items() if k not in gone}, "missing_key"


def _no_sample(draw, sample):
    return draw(_JSON.filter(lambda v: not isinstance(v, dict))), "missing_key"


def _wrong_number(draw, sample):
    ids = draw(
        st.lists(st.integers(1, 400), max_size=4).filter(lambda v: len(v) != len(sample["ecg_id"]))
    )
    return sample | {"ecg_id": ids}, "ill_typed"


def _nowhere(draw, sample):
    position = draw(st.integers(0, len(sample["ecg_id"]) - 1))
    ids = list(sample["ecg_id"])
    ids[position] = draw(st.integers(30_000, 2**40) | st.integers(-(2**40), 0))
    return sample | {"ecg_id": ids}, "ecg_not_stored"


def _answer(reason, names):
    def change(draw, sample):
        return sample | {"answer": [*sample["answer"], draw(names)]}, reason

    return change


_OUTCOMES = {
    "extra": _extra, "reordered": _reordered, "without": _without, "no_sample": _no_sample,
    "wrong_number": _wrong_number, "nowhere": _nowhere,
    "accents": _set(None, "question", st.just("Où est le bruit — dérivation V₁ ?")),
    "template_id": _set("ill_typed", "template_id", _NO_ID),
    "sample_id": _set("ill_typed", "sample_id", _NO_ID),
    "question_id": _set("ill_typed", "question_id", _NO_ID),
    "unknown_template": _set("unknown_template", "template_id", st.integers(71, 2**40)),
    "question_type": _set("ill_typed", "question_type", _JSON),
    "attribute_type": _set("ill_typed", "attribute_type", _JSON),
    "question": _set("ill_typed", "question", _NO_TEXT),
    "answer": _set("ill_typed", "answer", _NO_NAMES | st.none()),
    "ecg_id": _set("ill_typed", "ecg_id", _JSON.filter(lambda v: not isinstance(v, list))),
    "attribute": _set("ill_typed", "attribute", _NO_NAMES),
    "unknown_answer": _answer("unknown_answer", st.text(max_size=6)),
    "foreign_answer": _answer("answer_not_allowed", st.just("left axis deviation")),
}  # fmt: skip


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_mutated_real_samples_have_their_declared_outcome(real, data):
    shelf, shard, samples, cohort = real
    chosen = data.draw(st.permutations(range(len(samples))))[:8]
    n_bad = data.draw(st.integers(0, 6))
    written = [samples[i] for i in chosen]
    reasons = [None] * len(written)
    for place in range(n_bad):
        written[place], reasons[place] = data.draw(mutation(written[place]))
    written.append(written[-1])  # one twice; the last one is never mutated
    shard.write_text(json.dumps(written))
    table = qa_table.read_table(shelf, "template")
    questions = ecgqa.join_questions(table, shelf, cohort, "template", "ECG-QA")
    assert questions.n_in == len(written) == len(questions) + len(questions.dropped)
    named = [r for r in reasons if r is not None] + ["duplicate_sample_id"]
    assert sorted(questions.dropped["reason"]) == sorted(named)
    assert questions.dropped["sentence"].str.len().min() > 10
    kept = [s for s, reason in zip(written, reasons) if reason is None]
    for row, sample in zip(questions.table.to_dict("records"), kept):
        assert {key: row[key] for key in KEYS} == {key: sample[key] for key in KEYS}


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damaged_bytes_never_crash_and_every_question_is_counted(real, data):
    """A shard cut short or with bytes changed, beside a whole one: listed, or read and counted."""
    shelf, shard, samples, cohort = real
    raw = bytearray(json.dumps(samples[:5], indent=4).encode())
    for _ in range(data.draw(st.integers(0, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    shard.write_bytes(raw[: data.draw(st.integers(0, len(raw)) | st.just(len(raw)))])
    whole = shard.with_name("10000.json")
    whole.write_text(json.dumps(samples[10:12]))
    both = qa_reading.open_shelf(shard.parents[2])
    questions = ecgqa.join_questions(
        qa_table.read_table(both, "template"), both, cohort, "template", "ECG-QA"
    )
    whole.unlink()
    first, second = questions.files.to_dict("records")
    assert second["kept"] == second["questions"] == 2
    assert (first["questions"] == -1) == (first["reason"] != "") == (first["sentence"] != "")
    assert questions.n_in == len(questions) + len(questions.dropped)
    assert questions.n_in == max(first["questions"], 0) + 2
