"""Asking: what is saved, recognised, adapted to and answered; the command and the widget."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch

from ecgkit import cli
from ecgkit.config import FewShotConfig
from ecgkit.data.ecgqa import open_questions
from ecgkit.models.ecg_encoders import encoder_for, load_encoder, save_encoder
from ecgkit.models.prefix_llm import PrefixLLM
from ecgkit.models.prefix_mapper import build_mapper
from ecgkit.models.small_llm import build_small_llm, train_tokenizer
from ecgkit.reports import fewshot_widget
from ecgkit.tasks import ask_kinds, ecg_features, fewshot_look, maml
from ecgkit.tasks.ask_input import check_signal
from ecgkit.tasks.fewshot_files import find_folders, load_fewshot, save_fewshot
from ecgkit.tasks.fewshot_task import FewShotTask
from ecgkit.types import LEADS, DataError, ECGRecord, ModelError

AFIB = "Is atrial fibrillation present on this ECG?"


@pytest.fixture(scope="module")
def config() -> FewShotConfig:
    return FewShotConfig.from_params({"preset": "tiny", "llm_width": 32, "mapper_heads": 4})


@pytest.fixture(scope="module")
def questions(config, tiny_cohort):
    return open_questions(config, tiny_cohort, quiet=True)


@pytest.fixture(scope="module")
def reader(questions) -> PrefixLLM:
    torch.manual_seed(0)
    texts = [f"Question: {q} ECG: Answer: yes no" for q in questions.table["question"].unique()]
    tokenizer = train_tokenizer(texts, 400)
    return PrefixLLM(build_small_llm(len(tokenizer), width=32, n_layers=2, n_heads=4), tokenizer)


@pytest.fixture(scope="module")
def features(run_folder, tiny_cohort):
    encoder = load_encoder(run_folder / "04_esi_pretraining" / "encoder")
    return ecg_features.encoder_features(encoder, tiny_cohort, device="cpu")


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A run in which notebook 04 has left an encoder."""
    torch.manual_seed(0)
    out = tmp_path_factory.mktemp("runs") / "tiny"
    save_encoder(
        encoder_for("micro"), out / "04_esi_pretraining" / "encoder", fs=100, input="esi_preprocess"
    )
    return out


@pytest.fixture(scope="module")
def mapper(features, reader):
    torch.manual_seed(0)
    return build_mapper("attention", features.shape[1], reader.width, 4, 4, dropout=0.5).eval()


@pytest.fixture(scope="module")
def run(run_folder, mapper, reader, features, questions, tiny_cohort, config):
    """The same run after notebook 06."""
    encoder = run_folder / "04_esi_pretraining" / "encoder"
    folder = run_folder / "06_few_shot_qa" / "ask"
    save_fewshot(folder, mapper, reader, features, questions, tiny_cohort, config, encoder)
    return run_folder


@pytest.fixture(scope="module")
def answerer(run):
    return load_fewshot(run)


# --- what is kept ---------------------------------------------------------------------------------


def test_examples_are_of_the_training_split_balanced_and_each_of_another_patient(
    questions, config, tiny_cohort
):
    kinds = ask_kinds.collect_kinds(questions, config)
    train, table = set(tiny_cohort.rows("train").tolist()), questions.table
    asked = {(r.row1, r.question, ", ".join(r.answer)): r.split for r in table.itertuples()}
    shown = [kind for kind in kinds if kind.rows]
    assert len(shown) > 20
    patients = tiny_cohort.table["patient_id"].to_numpy()
    for kind in shown:
        answers = [answer for _, answer in kind.examples]
        assert set(answers) == {"yes", "no"} == set(kind.candidates)
        assert max(map(answers.count, set(answers))) <= config.k_shot
        assert answers[0] != answers[1]  # they take turns
        assert set(kind.rows) <= train
        assert len(set(patients[list(kind.rows)])) == len(kind.rows)
        for row, (question, answer) in zip(kind.rows, kind.examples, strict=True):
            assert asked[row, question, answer] == "train"


def test_a_kind_with_one_answer_gets_no_examples(questions, config):
    table = questions.table.copy()
    mine = table["attribute"].map(lambda a: a == ["atrial fibrillation"])
    table.loc[mine, "answer"] = [["no"]] * int(mine.sum())
    kinds = ask_kinds.collect_kinds(dataclasses.replace(questions, table=table), config)
    (kind,) = [k for k in kinds if k.attributes == ("atrial fibrillation",)]
    assert kind.rows == () and kind.candidates == ("no", "yes")


def test_what_is_loaded_embeds_and_answers_as_what_was_saved(
    answerer, features, mapper, reader, tiny_cohort, questions, config
):
    standard = ecg_features.standardise(features, tiny_cohort.rows("train"))
    record = tiny_cohort.record(5)
    np.testing.assert_allclose(answerer.embed(record)[0].numpy(), standard[5], atol=1e-4)
    (kind,) = [k for k in answerer.kinds if k.name == "1: atrial fibrillation"]
    (raw,) = [k for k in ask_kinds.collect_kinds(questions, config) if k.name == kind.name]
    np.testing.assert_allclose(
        answerer.support[list(kind.rows)].numpy(), standard[list(raw.rows)], atol=1e-4
    )
    # Adapting by hand through the task that meta-training uses gives the same weights.
    table = questions.table.iloc[: len(raw.rows)].reset_index(drop=True).copy()
    table["row1"] = list(raw.rows)
    table["question"] = [q for q, _ in raw.examples]
    table["answer"] = [[a] for _, a in raw.examples]
    alike = dataclasses.replace(questions, table=table)
    task = FewShotTask(alike, standard, reader, "sound", "cpu")
    positions = torch.arange(len(table))[None]
    batch = task.batch(positions, positions)
    support, query = task.embeddings(batch)
    done = maml.inner_loop(
        mapper, support, query, task.open_reader(batch), config.inner_steps, config.inner_lr
    )
    ours = answerer.adapted(kind)
    for name, value in done.params.items():
        torch.testing.assert_close(ours[name], value[0], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("missing,said", [
    ("mapper", "mapper"), ("llm", "language model"), ("support.npz", "support.npz"),
    ("encoder", "encoder"), ("ask.json", "ecgkit run 04 06"),
])  # fmt: skip
def test_a_missing_piece_is_named_with_the_notebook_to_run(run, tmp_path, missing, said):
    folder = shutil.copytree(find_folders(run)[0], tmp_path / "ask")
    piece = folder / missing
    shutil.rmtree(piece) if piece.is_dir() else piece.unlink()
    with pytest.raises(ModelError, match=said) as error:
        load_fewshot(folder)
    assert "ecgkit run" in str(error.value) and "\n" not in str(error.value)


def test_a_large_encoder_stays_where_it_is_and_is_found_after_the_run_has_moved(
    run, tmp_path, monkeypatch, mapper, reader, features, questions, tiny_cohort, config
):
    monkeypatch.setattr("ecgkit.tasks.fewshot_files.SMALL_MB", 0)
    shutil.copytree(run / "04_esi_pretraining", tmp_path / "one" / "04_esi_pretraining")
    encoder = tmp_path / "one" / "04_esi_pretraining" / "encoder"
    folder = tmp_path / "one" / "06_few_shot_qa" / "ask"
    save_fewshot(folder, mapper, reader, features, questions, tiny_cohort, config, encoder)
    assert not (folder / "encoder").exists()
    moved = shutil.move(tmp_path / "one", tmp_path / "two")
    record = tiny_cohort.record(3)
    assert load_fewshot(moved).ask(record, AFIB) == load_fewshot(run).ask(record, AFIB)


# --- what is recognised ---------------------------------------------------------------------------


def named(question, answerer) -> str:
    kind, _ = ask_kinds.recognise(question, answerer.kinds)
    return "" if kind is None else kind.in_words


@pytest.mark.parametrize("question,about", [
    (AFIB, "atrial fibrillation"),
    ("does he have ATRIAL FIBRILLATION", "atrial fibrillation"),
    ("Is there a first degree AV block?", "first degree av block"),
    ("Would you say the qt interval is above the normal range?",
     "above the normal range of qt interval"),
    ("Is the moon full?", ""),
    ("Is there a bundle branch block?", ""),  # which of them is not said
])  # fmt: skip
def test_a_question_is_recognised_by_the_attribute_it_names(answerer, question, about):
    assert named(question, answerer) == about


def test_every_known_wording_is_of_its_own_kind(answerer):
    for kind in answerer.kinds:
        found, known = ask_kinds.recognise(kind.wordings[0], answerer.kinds)
        assert known and kind.wordings[0] in found.wordings


def test_scp_codes_in_capitals_are_spelt_out(answerer, tiny_cohort):
    assert ask_kinds.spell_out("Is AFIB in V1, or LVH? SR!") == (
        "Is atrial fibrillation in V1, or left ventricular hypertrophy? SR!"
    )
    assert ask_kinds.spell_out("Set the pace") == "Set the pace"
    record = tiny_cohort.record(3)
    whole = answerer.ask(record, "Is atrial fibrillation present?")
    assert answerer.ask(record, "Is AFIB present?") == whole and whole.adapted_on


def test_a_study_with_a_mapper_for_each_kind_of_episode_is_asked_as_one(
    tmp_path, run_folder, mapper, reader, features, questions, tiny_cohort, config, capsys
):
    encoder = run_folder / "04_esi_pretraining" / "encoder"
    ask = tmp_path / "06_few_shot_qa" / "ask"
    torch.manual_seed(1)
    other = build_mapper("attention", features.shape[1], reader.width, 4, 4, dropout=0.0)
    for kind, own in (("query", other), ("verify", mapper)):
        how = dataclasses.replace(config, question_type=f"single-{kind}")
        save_fewshot(ask / kind, own, reader, features, questions, tiny_cohort, how, encoder)
    group, record = load_fewshot(tmp_path), tiny_cohort.record(3)
    verify, query = load_fewshot(ask / "verify"), load_fewshot(ask / "query")
    wording = next(kind.wordings[0] for kind in query.kinds if kind.rows)
    assert group.ask(record, AFIB) == verify.ask(record, AFIB)
    assert group.ask(record, wording) == query.ask(record, wording)
    assert group.ask(record, "Is the moon full?") == verify.ask(record, "Is the moon full?")
    assert len(group.kinds) == len(verify.kinds) + len(query.kinds) and group.simulated
    assert fewshot_look.ecg_time_relevance(group, record, AFIB).answer in ("yes", "no")
    assert fewshot_widget.AskWidget(group, tiny_cohort, [3], [AFIB, wording]).reply.value
    assert cli.main(["ask", "1", wording, "--run", str(tmp_path)]) == 0
    assert "Adapted on" in capsys.readouterr().out


def test_the_longer_name_wins(answerer):
    (kind,) = [k for k in answerer.kinds if k.name == "1: atrial fibrillation"]
    long = dataclasses.replace(kind, name="x", attributes=("fast atrial fibrillation",))
    assert ask_kinds.recognise("Any fast atrial fibrillation?", [kind, long])[0] is long
    assert ask_kinds.recognise("Any atrial fibrillation?", [kind, long])[0] is kind


# --- what is answered -----------------------------------------------------------------------------


def test_a_reply_holds_shares_of_all_candidates_and_is_repeated_exactly(answerer, run, tiny_cohort):
    record = tiny_cohort.record(3)
    reply = answerer.ask(record, AFIB)
    assert reply.adapted_on > 0 and reply.about == "atrial fibrillation"
    assert {answer for answer, _ in reply.candidates} == {"yes", "no"}
    shares = [share for _, share in reply.candidates]
    assert sum(shares) == pytest.approx(1, abs=1e-5) and shares == sorted(shares, reverse=True)
    assert answerer.ask(record, AFIB) == reply == load_fewshot(run).ask(record, AFIB)


def test_adapting_and_the_ecg_both_move_the_shares(answerer, tiny_cohort):
    one, other = tiny_cohort.record(3), tiny_cohort.record(9)
    kind, _ = ask_kinds.recognise(AFIB, answerer.kinds)
    before = answerer.shares(AFIB, answerer.prefix(answerer.embed(one)), ("yes", "no"))
    after = answerer.ask(one, AFIB).candidates
    assert dict(before)["yes"] != pytest.approx(dict(after)["yes"], abs=1e-6)
    moved = dict(answerer.ask(other, AFIB).candidates)["yes"]
    assert moved != pytest.approx(dict(after)["yes"], abs=1e-7)
    prefix = answerer.prefix(answerer.embed(one), answerer.adapted(kind))
    many = answerer.probability(AFIB, prefix.expand(2, -1, -1), "yes", ("yes", "no"))
    np.testing.assert_allclose(many, dict(after)["yes"], atol=1e-5)


@pytest.mark.parametrize("settings", [
    {"method": "in-context"}, {"method": "anil"}, {"method": "none"}, {"prefix_first": True},
    {"protocol": "reference"}, {"prompt": "2", "leads": "I II V2"},
], ids=str)  # fmt: skip
def test_every_method_and_layout_can_be_asked(
    settings, tmp_path, run_folder, mapper, reader, features, questions, tiny_cohort, config
):
    how = dataclasses.replace(config, **settings)
    layout = PrefixLLM(reader.llm, reader.tokenizer, how.prompt, how.prefix_first)
    encoder = run_folder / "04_esi_pretraining" / "encoder"
    save_fewshot(tmp_path, mapper, layout, features, questions, tiny_cohort, how, encoder)
    answerer, record = load_fewshot(tmp_path), tiny_cohort.record(3)
    reply = answerer.ask(record, AFIB)
    assert reply.adapted_on > 0 and reply == load_fewshot(tmp_path).ask(record, AFIB)
    assert fewshot_look.ask_attention(answerer, record, AFIB).parts.count("ECG") == 4
    kind, _ = ask_kinds.recognise(AFIB, answerer.kinds)
    start = dict(answerer.mapper.named_parameters())
    moved = {n for n, p in (answerer.adapted(kind) or {}).items() if not torch.equal(p, start[n])}
    if how.method == "in-context":
        assert not moved and answerer.context(kind) is not None
    elif how.method == "anil":
        assert moved and all(name.startswith(("out.", "norm2.")) for name in moved)
    else:
        assert any(name.startswith("query.") for name in moved)
    if "leads" in settings:  # as the notebook's features under LEADS are made
        encoder = load_encoder(encoder)
        own = ecg_features.encoder_features(
            encoder, tiny_cohort, device="cpu", leads=how.leads.split()
        )
        ready = answerer.spec.ready(answerer.spec.fit(record)[None])
        assert (np.ptp(ready[0, 3:6], axis=1) == 0).all() and np.ptp(ready[0, 1]) > 0
        with torch.no_grad():
            found = encoder(torch.from_numpy(ready))["embedding"][0]
        np.testing.assert_allclose(found, own[3], atol=1e-4)


def test_lora_adapters_are_kept_apart_from_the_small_llama(
    tmp_path, run_folder, mapper, features, questions, tiny_cohort, config
):
    pytest.importorskip("peft", reason="peft is not installed (pip install ecgkit[lora])")
    from ecgkit.models.lora import add_lora, lora_parameters

    tokenizer = train_tokenizer(["Question: is it ECG: Answer: yes no"] * 2, 300)
    llm = add_lora(build_small_llm(len(tokenizer), width=32, n_layers=1, n_heads=4), rank=2)
    for parameter in lora_parameters(llm).values():
        torch.nn.init.normal_(parameter)
    how = dataclasses.replace(config, frozen_lm=False)
    encoder = run_folder / "04_esi_pretraining" / "encoder"
    reader = PrefixLLM(llm, tokenizer)
    save_fewshot(tmp_path, mapper, reader, features, questions, tiny_cohort, how, encoder)
    again = load_fewshot(tmp_path).reader.llm
    ids = torch.arange(5)[None]
    torch.testing.assert_close(again(ids).logits, llm(ids).logits)


def test_an_unknown_question_is_answered_unadapted_and_says_so(answerer, tiny_cohort):
    reply = answerer.ask(tiny_cohort.record(3), "Is the moon full?")
    assert reply.adapted_on == 0 and reply.about == "" and "without adapting" in reply.note
    assert {answer for answer, _ in reply.candidates} == {"yes", "no"}
    hint = answerer.ask(tiny_cohort.record(3), "Any bundle branch block?").note
    assert "bundle branch block" in hint
    assert answerer.ask(tiny_cohort.record(3), "How old?").candidates == ()


@pytest.mark.parametrize("question", ["", "  ", "why " * 61])
def test_no_question_or_one_too_long_is_refused_in_a_sentence(answerer, tiny_cohort, question):
    with pytest.raises(DataError, match="one question"):
        answerer.ask(tiny_cohort.record(0), question)


def test_the_own_rate_length_and_lead_order_do_not_matter(answerer, tiny_cohort):
    record = tiny_cohort.record(5)
    turned = record.select(tuple(reversed(record.leads)))
    torch.testing.assert_close(answerer.embed(turned), answerer.embed(record))
    fast = ECGRecord(np.repeat(record.signal, 5, 1), 500, record.leads, "fast")
    assert answerer.spec.fit(fast).shape == answerer.spec.fit(record).shape == (12, 1000)
    short = dataclasses.replace(record, signal=record.signal[:, :400])
    assert "lasts 4 s of 10 s" in answerer.ask(short, AFIB).note
    two = answerer.ask(record.select(("I", "II")), AFIB).note
    assert "V6 are absent" in two and "lead I," not in two


def test_a_bad_signal_is_refused_in_a_sentence(tiny_cohort):
    record = tiny_cohort.record(0)

    def refused(signal, leads=LEADS):
        with pytest.raises(DataError) as error:
            check_signal(ECGRecord(signal.astype(np.float32), 100, leads, 7), LEADS)
        return str(error.value)

    gap = record.signal.copy()
    gap[4, 300:] = np.nan
    assert "70% of lead aVL is missing" in refused(gap)
    assert "flat in every lead" in refused(np.zeros((12, 1000)))
    assert "check the units" in refused(1000 * record.signal)
    assert "none of the leads" in str(
        pytest.raises(DataError, check_signal, record.select(("I",)), ("V1",)).value
    )
    check_signal(record, LEADS)


# --- the command ----------------------------------------------------------------------------------


def test_the_command_asks_an_ecg_of_the_cohort(run, answerer, tiny_cohort, capsys):
    ecg_id = str(tiny_cohort.table["ecg_id"].iloc[3])
    assert cli.main(["ask", ecg_id, AFIB, "--run", str(run)]) == 0
    lines = capsys.readouterr().out.splitlines()
    reply = answerer.ask(tiny_cohort.record(3), AFIB)
    assert lines[0] == f"ECG {ecg_id}: {AFIB}" and lines[2].strip() == reply.answer
    bars = [line for line in lines if "%" in line]
    assert [bar.split()[0] for bar in bars] == [answer for answer, _ in reply.candidates]
    assert len({bar.index("%") for bar in bars}) == 1  # aligned
    assert f"Adapted on {reply.adapted_on} examples about atrial fibrillation." in lines
    assert lines[-2:] == [
        "Trained on simulated data.", "For research and teaching, not for diagnosis."
    ]  # fmt: skip


def test_the_command_asks_a_file_and_prints_json(run, answerer, tiny_cohort, tmp_path, capsys):
    record = tiny_cohort.record(3)
    path = tmp_path / "mine.csv"
    np.savetxt(path, 1000 * record.signal.T, "%.5f", ",", header=",".join(LEADS), comments="")
    arguments = ["ask", str(path), AFIB, "--run", str(run), "--fs", "100", "--units", "uV"]
    assert cli.main([*arguments, "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    expected = answerer.ask(record, AFIB)
    assert body["record"] == "mine" and body["adapted_on"] == expected.adapted_on
    assert body["candidates"]["yes"] == pytest.approx(dict(expected.candidates)["yes"], abs=1e-3)
    assert body["simulated"] is True and "not for diagnosis" in body["warning"]
    np.save(tmp_path / "mine.npy", record.signal)
    arguments[1] = str(tmp_path / "mine.npy")
    assert cli.main([*arguments[:-1], "mV", "--leads", ",".join(LEADS)]) == 0


def test_the_command_asks_a_wfdb_record(run, answerer, tiny_cohort, capsys):
    """A record of the simulated cohort, read from its own file at 500 Hz: nearly the same ECG."""
    path = tiny_cohort.place.root / tiny_cohort.table["source_name"].iloc[3]
    assert cli.main(["ask", str(path), AFIB, "--run", str(run), "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    expected = dict(answerer.ask(tiny_cohort.record(3), AFIB).candidates)
    assert body["record"] == path.name
    assert body["candidates"]["yes"] == pytest.approx(expected["yes"], abs=0.02)


def test_plot_takes_a_wfdb_record_without_options(tiny_cohort, tmp_path, capsys):
    path = tiny_cohort.place.root / tiny_cohort.table["source_name"].iloc[3]
    assert cli.main(["plot", str(path), "--out", str(tmp_path / "ecg.png")]) == 0
    assert (tmp_path / "ecg.png").stat().st_size > 10_000


@pytest.mark.parametrize("arguments,said", [
    (["no-such-id", AFIB], "no ECG no-such-id"),
    (["some/where", AFIB], "does not exist"),
    (["gone.csv", AFIB, "--fs", "100"], "gone.csv does not exist"),
    (["1", ""], "one question"),
])  # fmt: skip
def test_errors_of_the_command_are_sentences_with_code_2(run, capsys, arguments, said):
    assert cli.main(["ask", *arguments, "--run", str(run)]) == 2
    text = capsys.readouterr().err
    assert text.startswith("ecgkit: ") and said in text and text.count("\n") == 1


def test_a_run_without_notebook_06_says_what_to_run(tmp_path, capsys):
    assert cli.main(["ask", "1", AFIB, "--run", str(tmp_path / "none")]) == 2
    assert "ecgkit run 04 06" in capsys.readouterr().err


# --- the widget -----------------------------------------------------------------------------------


def test_the_widget_follows_record_question_example_and_file(
    answerer, tiny_cohort, tmp_path
):
    rows = tiny_cohort.rows("test")[:4].tolist()
    widget = fewshot_widget.AskWidget(answerer, tiny_cohort, rows, [AFIB, "Is the moon full?"])
    expected = answerer.ask(tiny_cohort.record(rows[0]), AFIB)
    assert f"{expected.candidates[0][1]:.1%}" in widget.reply.value
    first = bytes(widget.image.value)
    assert first.startswith(b"\x89PNG")
    widget.menu.value = rows[1]
    assert bytes(widget.image.value) != first
    assert widget.reply.value == fewshot_widget.answer_html(
        answerer.ask(tiny_cohort.record(rows[1]), AFIB), simulated=True
    )
    widget.examples.value = "Is the moon full?"
    assert widget.question.value == "Is the moon full?"
    assert "without adapting" in widget.reply.value
    widget.question.value = "<b>?</b> " * 70  # too long: said, not raised
    assert "one question" in widget.message.value and widget.reply.value == ""
    widget.question.value = AFIB
    assert widget.message.value == "" and "Trained on simulated data" in widget.reply.value
    np.save(tmp_path / "mine.npy", tiny_cohort.record(rows[0]).signal)
    widget.file.value = str(tmp_path / "gone.npy")
    assert "does not exist" in widget.message.value
    widget.file.value = str(tmp_path / "mine.npy")
    assert "does not say its fs" in widget.message.value
    widget.fs.value, widget.leads.value = "100", ",".join(LEADS)
    widget.file.value = ""
    widget.file.value = str(tmp_path / "mine.npy")
    assert widget.message.value == "" and widget.record.ecg_id == "mine"
    assert f"{expected.candidates[0][1]:.1%}" in widget.reply.value
    widget.ask_button.click()
    assert f"{expected.candidates[0][1]:.1%}" in widget.reply.value


def test_every_control_of_the_widget_is_one_the_keyboard_reaches(answerer, tiny_cohort):
    import ipywidgets

    widget = fewshot_widget.AskWidget(answerer, tiny_cohort, [0], [AFIB])
    for control in (widget.menu, widget.question, widget.examples, widget.file, widget.units):
        assert control.description and isinstance(control, (ipywidgets.Dropdown, ipywidgets.Text))
    assert isinstance(widget.ask_button, ipywidgets.Button) and widget.ask_button.tooltip


def test_in_a_batch_run_the_widget_is_a_figure_and_needs_a_record(answerer, tiny_cohort):
    from matplotlib.figure import Figure

    assert isinstance(fewshot_widget.ask_widget(answerer, tiny_cohort), Figure)
    with pytest.raises(DataError, match="at least one"):
        fewshot_widget.ask_widget(answerer, tiny_cohort, rows=[])


# --- looking inside -------------------------------------------------------------------------------


def test_attention_and_relevance_of_an_answer(answerer, tiny_cohort):
    record = tiny_cohort.record(3)
    seen = fewshot_look.ask_attention(answerer, record, AFIB)
    assert seen.parts.count("ECG") == 4
    found = fewshot_look.ecg_time_relevance(answerer, record, AFIB)
    likeliest, share = answerer.ask(record, AFIB).candidates[0]
    assert found.answer == likeliest and found.probability == pytest.approx(share, abs=1e-5)
    assert found.drop.shape == (20,) and np.abs(found.drop).max() > 0
    flat = dataclasses.replace(record, signal=record.signal.copy())
    flat.signal[:, 500:550] = np.linspace(flat.signal[:, 499], flat.signal[:, 550], 50).T
    less = dict(answerer.ask(flat, AFIB).candidates)[likeliest]
    assert found.drop[10] == pytest.approx(share - less, abs=1e-5)
    by_lead = fewshot_look.ecg_time_relevance(
        answerer, record, AFIB, "no", seconds=2.5, by_lead=True
    )
    assert by_lead.drop.shape == (12, 4) and by_lead.answer == "no"
    for question, options, said in (
        ("How old?", {}, "known list"), (AFIB, {"answer": "maybe"}, "known list"),
        (AFIB, {"seconds": 9.0}, "does not fit"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=said):
            fewshot_look.ecg_time_relevance(answerer, record, question, **options)
