"""Secrets stay where they are, text stays text, and a file from elsewhere runs nothing.

A canary stands in every secret the kit may meet; whatever a test writes or prints is searched for
it. Markup stands in every text that a record, a question, a model or a server may bring.
"""

import html
import json
import os
import pickle
import re
import subprocess
import sys
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pandas as pd
import pytest
import torch
from chat_server import ChatServer, Reply
from llm_qa_parts import Peaks, client_of, without_keys

from ecgkit import cli, runtime
from ecgkit.config import EsiConfig
from ecgkit.config.cqa import CqaSettings
from ecgkit.config.llm_qa import LlmQaSettings
from ecgkit.data import download as downloading
from ecgkit.data.fetch import check_zip
from ecgkit.data.place import open_place
from ecgkit.data.qa_vocabulary import STATEMENTS
from ecgkit.models import hub, saving
from ecgkit.models.model_card import model_card
from ecgkit.models.torch_files import read_torch_file
from ecgkit.reports import caption_page, page, paper, record_page, style, sweep_page, tables
from ecgkit.tasks import llm_qa
from ecgkit.tasks.engine import TrainSettings, fit
from ecgkit.text import cqa
from ecgkit.text.chat_client import ChatClient
from ecgkit.text.endpoints import EndpointError
from ecgkit.types import ConfigError, DataError, ECGRecord, KitError, ModelError

CANARY = "sk-canary/0123456789/abcdef"  # with a slash, which JSON may write as \/
PASSWORD = "canary-0123456789-password"
EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>"
LATEX = r"costs $\undefined{x}$ or $5, \href{javascript:alert(3)}{x} _a_ **b** [c](javascript:d)"


@pytest.fixture
def secrets(monkeypatch):
    """Every secret that the kit or its libraries read, set to a canary."""
    without_keys(monkeypatch)
    for name in ("OPENAI_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.setenv(name, CANARY)
    monkeypatch.setenv("HF_ENDPOINT", f"http://user:{PASSWORD}@127.0.0.1:9")


def holding_secrets(*places: Path, printed: str = "") -> list[str]:
    """Files below `places`, or "printed", that hold a canary, in whatever spelling."""
    spellings = {s for secret in (CANARY, PASSWORD) for s in (
        secret, secret.replace("/", "\\/"), html.escape(secret), secret.replace("/", "%2F"))}
    found = ["printed"] if any(s in printed for s in spellings) else []
    for path in (p for place in places for p in place.rglob("*") if p.is_file()):
        content = path.read_bytes()
        found += [str(path)] if any(s.encode() in content for s in spellings) else []
    return found


def test_the_search_sees_a_canary(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"key": CANARY}).replace("/", "\\/"))
    assert holding_secrets(tmp_path) and holding_secrets(printed=f"x {PASSWORD}")


# --- keys -----------------------------------------------------------------------------------------


def echoes() -> list[Reply]:
    """What servers that repeat the key send: in errors, answers, headers, with slashes escaped."""
    said = f"Incorrect API key provided: {CANARY}"
    escaped = json.dumps({"error": {"message": said}}).replace("/", "\\/")
    answer = json.dumps({"choices": [{"message": {"content": f"the key is {CANARY}"}}]})
    return [
        Reply(500, {"error": {"message": said}}), Reply(500, escaped), Reply(500, f"<p>{said}"),
        Reply(200, escaped), Reply(200, answer.replace("/", "\\/")), Reply(200, answer),
        Reply(200, {"choices": CANARY}), Reply(302, "", {"Location": f"/{CANARY}"}),
    ]  # fmt: skip


def test_a_server_that_repeats_the_key_gets_it_into_no_error_answer_or_log(secrets, tmp_path):
    said = []
    for reply in echoes():
        with ChatServer([reply] * 3) as server:
            client = ChatClient(server.url, "m", retries=1, sleep=lambda s: None,
                                log=tmp_path / "chat.jsonl")  # fmt: skip
            try:
                said.append(client.chat("Hello"))
            except EndpointError as error:
                said.append(f"{error}{error.__cause__}")
            assert server.asked[0].headers["Authorization"] == f"Bearer {CANARY}"
    assert len(said) == len(echoes()) and "***" in "".join(said)
    assert not holding_secrets(tmp_path, printed="".join(said))


def test_the_caption_writer_leaves_no_key_behind(secrets, tmp_path, cache, capsys):
    finding = [("atrial flutter", "AFLT"), ("left bundle branch block", "CLBBB")]
    with ChatServer(reply=lambda text: f"Waves. Your key: {CANARY}") as server:
        settings = CqaSettings.from_params({
            "preset": "tiny", "writer": "chat", "llm_url": server.url, "llm_model": "m"})
        answers = cqa.open_assistant(settings, tmp_path).answers(finding)
    assert all("Your key" in answer.text for answer in answers.values())
    with ChatServer([Reply(401, {"error": {"message": f"no {CANARY}"}})] * 9) as server:
        settings = CqaSettings.from_params({
            "preset": "tiny", "writer": "chat", "llm_url": server.url, "llm_model": "n"})
        with pytest.raises(KitError) as caught:
            cqa.open_assistant(settings, tmp_path).answers([("qwertz wave", "AFIB")])
    printed = "".join(capsys.readouterr()) + str(caught.value) + repr(settings)
    assert (tmp_path / "chat.jsonl").stat().st_size and (tmp_path / "answers.jsonl").exists()
    assert not holding_secrets(tmp_path, cache, printed=printed)


def test_llm_modelling_leaves_no_key_behind(secrets, tmp_path, cache, tiny_config, tiny_cohort,
                                            capsys):  # fmt: skip
    from ecgkit.data.ecgqa import open_questions

    questions = open_questions(tiny_config, tiny_cohort, quiet=True)
    with ChatServer(echoes(), reply=lambda text: f"yes, {CANARY}") as server:
        settings, client = client_of(server, llm_share=0.03)
        results = llm_qa.run_llm_qa(settings, tiny_cohort, questions,
                                    (Peaks(len(STATEMENTS)), STATEMENTS), tmp_path, client)
    printed = results.summary() + "".join(capsys.readouterr())
    assert (tmp_path / "answers.jsonl").stat().st_size
    assert not holding_secrets(tmp_path, cache, printed=printed)


@pytest.mark.parametrize("address", [
    f"https://user:{PASSWORD}@api.example.com/v1", f"https://api.example.com/v1?key={PASSWORD}",
    f"https://api.example.com/v1#{PASSWORD}"])  # fmt: skip
@pytest.mark.parametrize("settings", [CqaSettings, LlmQaSettings, EsiConfig])
def test_a_setting_that_holds_a_password_is_refused_before_it_is_saved(settings, address):
    with pytest.raises(ConfigError, match="LLM_URL holds a user name, a . or a #") as caught:
        settings.from_params({"preset": "tiny", "llm_url": address, "llm_model": "m"})
    assert PASSWORD not in str(caught.value)


def test_a_run_writes_nothing_where_a_setting_holds_a_password(secrets, tmp_path, capsys):
    out = tmp_path / "run"
    url = f"LLM_URL=https://me:{PASSWORD}@example.com/v1"
    assert cli.main(["run", "06", "--preset", "tiny", "--out", str(out), "--set", url,
                     "--set", "LLM_MODEL=m"]) == 2  # fmt: skip
    assert not holding_secrets(tmp_path, printed="".join(capsys.readouterr()))


def test_a_sweep_writes_nothing_where_a_setting_holds_a_password(secrets, tmp_path, capsys):
    sweep = tmp_path / "sweep.yaml"
    url = f"https://me:{PASSWORD}@example.com/v1"
    sweep.write_text(f"base: {{PRESET: tiny, LLM_MODEL: m}}\ngrid: {{LLM_URL: ['{url}']}}\n")
    out = tmp_path / "out"
    assert cli.main(["run", "06", "--sweep", str(sweep), "--out", str(out)]) == 2
    sweep.unlink()
    printed = "".join(capsys.readouterr())
    assert "LLM_URL holds a user name" in printed
    assert not holding_secrets(tmp_path, printed=printed)


def test_mirrors_with_a_password_are_refused(tmp_path, capsys):
    mirror = f"https://me:{PASSWORD}@example.com"
    assert cli.main(["data", "fetch", "ptbxl", "--mirror", mirror, "--out", str(tmp_path)]) == 2
    assert not holding_secrets(tmp_path, printed="".join(capsys.readouterr()))


def test_the_hub_librarys_errors_lose_token_and_password(secrets):
    with pytest.raises(ModelError) as caught:
        with hub._sentences("me/model", "log in"):
            raise RuntimeError(f"401 for http://user:{PASSWORD}@hub.example/x, token {CANARY}")
    assert "401 for http://***@hub.example" in str(caught.value)
    assert not holding_secrets(printed=f"{caught.value}{caught.value.__cause__}")
    assert runtime.without_secrets("nothing secret: a@b.c, HF_HOME") == (
        "nothing secret: a@b.c, HF_HOME")  # fmt: skip


SESSION = """
from ecgkit import cli, runtime
cli.main(["doctor"])
cli.main(["model", "show", "me/model"])
cli.main(["model", "pull", "me/model", "--out", "pulled"])
print(runtime.git_state(), runtime.versions())
"""


def test_doctor_and_the_models_commands_print_no_secret(secrets, tmp_path):
    """A process of its own: huggingface_hub reads its settings when it is imported."""
    env = os.environ | {"HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "hf"), "NO_PROXY": "*",
                        "HTTPS_PROXY": f"http://user:{PASSWORD}@127.0.0.1:9"}  # fmt: skip
    done = subprocess.run([sys.executable, "-c", SESSION], env=env, cwd=tmp_path, text=True,
                          capture_output=True, timeout=240)  # fmt: skip
    assert "torch" in done.stdout and "me/model" in done.stderr, done.stderr[-1000:]
    assert not holding_secrets(tmp_path, printed=done.stdout + done.stderr)


@pytest.mark.slow
def test_a_run_leaves_no_secret_in_any_file(secrets, tmp_path, monkeypatch, capsys):
    """Executed notebook, pages, run.json, figures, caches and what is printed."""
    monkeypatch.setenv("ECGKIT_CACHE", str(tmp_path / "cache"))
    assert cli.main(["run", "00", "--preset", "tiny", "--out", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "00_start_here" / "executed.ipynb").exists()
    assert not holding_secrets(tmp_path, printed="".join(capsys.readouterr()))


# --- text stays text ------------------------------------------------------------------------------


def assert_no_markup(shown: str) -> None:
    """No tag of EVIL's is one, though its words stand there."""
    assert "alert(1)" in shown and "&lt;script&gt;" in shown
    assert "<script>alert" not in shown and "<img src=x" not in shown


def test_tables_escape_cells_heads_and_captions():
    table = pd.DataFrame({EVIL: [EVIL], "report": [f"{EVIL} {LATEX}"]})
    shown = tables.styled(table, EVIL).to_html()
    assert_no_markup(shown)
    # MathJax would set what stands between dollars, links with scripts in them included.
    assert re.search(r"<table[^>]*class=\"[^\"]*tex2jax_ignore", shown)
    style.use_style()  # as each notebook's set-up does; any table shown after it
    assert "tex2jax_ignore" in pd.DataFrame({"report": [LATEX]})._repr_html_()
    assert_no_markup(tables.answers_table([EVIL], [EVIL], [[EVIL]], ecg_ids=[EVIL]).to_html())


def test_the_captions_page_escapes_and_marks_words_only():
    found = pd.DataFrame({
        "finding": [EVIL], "said": ["mark a &amp; b."], "note": [EVIL], "file": [EVIL],
        "score": [0.5], "text": [f"mark a &amp; b. {EVIL} {LATEX}"],
    })  # fmt: skip
    found = pd.concat([found, found.assign(said=EVIL), found.assign(said="amp")])
    shown = caption_page.caption_page(f"mark a &amp; b. {EVIL}", found, EVIL).data
    assert_no_markup(shown)
    assert "<mark>mark a &amp;amp; b</mark>" in shown and "tex2jax_ignore" in shown
    # Tags are those of the page alone: marks are never opened within one another.
    assert re.findall(r"<mark>[^<]*<mark>", shown) == []


def evil_run(folder: Path) -> list[dict]:
    """A run folder whose every text is EVIL, and its entries."""
    notebook = folder / "03_baselines"
    (notebook / "figures").mkdir(parents=True)
    (notebook / "figures" / "f.png").write_bytes(b"")
    metric = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 3, "unit": EVIL, "note": EVIL,
              "headline": True}  # fmt: skip
    body = {
        "notebook": "03_baselines", "preset": EVIL, "config_hash": EVIL, "metrics": {EVIL: metric},
        "data": {"name": EVIL, "fingerprint": EVIL, "simulated": False, "n_ecgs": 3},
        "checks": [{"claim": EVIL, "holds": True, "binding": True}], "captions": {"f": EVIL},
        "seconds": 1.0, "allowed_s": None, "peak_memory_gb": 1.0, "machine": EVIL,
    }  # fmt: skip
    (notebook / "metrics.json").write_text(json.dumps(body))
    (notebook / "config.json").write_text("{}")
    entries = [{"name": "03_baselines", "status": f"failed {EVIL}", "seconds": 1.0, "cell": EVIL,
                "html": f"03/{EVIL}"}]  # fmt: skip
    record = {"run": EVIL, "preset": EVIL, "data": EVIL, "ecgqa": EVIL, "machine": EVIL,
              "started": EVIL, "seconds": 1.0, "git": {"commit": EVIL}, "seeds": {EVIL: 1},
              "versions": {EVIL: EVIL}, "params": {EVIL: EVIL}, "notebooks": entries}  # fmt: skip
    (folder / "run.json").write_text(json.dumps(record))
    return entries


def test_the_runs_page_escapes_whatever_its_files_hold(tmp_path):
    entries = evil_run(tmp_path)
    assert_no_markup(page.build_index(tmp_path, entries).read_text())


def test_the_sweeps_page_escapes_whatever_its_files_hold(tmp_path):
    evil_run(tmp_path / "a")
    point = {"name": "a", "own": {EVIL: EVIL}, "status": "failed", "error": EVIL, "seconds": 1}
    (tmp_path / "sweep.json").write_text(json.dumps({
        "sweep": EVIL, "notebooks": [EVIL], "machine": EVIL, "started": EVIL, "points": [point]}))
    ordering = pd.DataFrame({EVIL: [EVIL]})
    assert_no_markup(sweep_page.build_page(tmp_path, {"f": EVIL}, ordering).read_text())


def test_a_models_card_escapes_what_it_is_told():
    torch.manual_seed(0)
    body = {"class": "X", "version": "1", "n_parameters": 1, "settings": {}, "n_labels": 1,
            "classes": [EVIL], "task": EVIL, "protocol": EVIL, "input": EVIL, "licence": EVIL,
            "notes": EVIL, "data": {"name": EVIL, "fingerprint": EVIL, "simulated": True,
                                    "n_ecgs": 3},
            "metrics": {EVIL: {"value": 1.0, "note": EVIL}}}  # fmt: skip
    shown = model_card(body).split("---")[2]  # without its YAML header, which nobody shows as HTML
    assert "alert(1)" in shown and "<script>" not in shown and "<img" not in shown


def test_figures_take_any_text_for_text(tiny_cohort):
    """Between dollars matplotlib reads mathematics, and an unknown command ended the figure."""
    import io

    signal = np.zeros((12, 1000), np.float32)
    record = ECGRecord(signal, 100, tuple(tiny_cohort.store.leads), ecg_id=LATEX)
    figure = paper.plot_ecg(record, title=LATEX)
    figure.savefig(io.BytesIO(), format="png")
    assert any(LATEX[:20] in text.get_text() for text in figure.findobj(match=_is_text))

    class Evil:
        """The cohort, with codes of such names."""

        store, statements, record = tiny_cohort.store, tiny_cohort.statements, tiny_cohort.record
        table = tiny_cohort.table.assign(scp_codes=[{LATEX: 100.0}] * len(tiny_cohort.table))

    figure = record_page.plot_record_with_questions(Evil, None, 0)
    figure.savefig(io.BytesIO(), format="png")


def _is_text(artist) -> bool:
    return hasattr(artist, "get_text")


# --- downloads ------------------------------------------------------------------------------------


class Redirecting(ThreadingHTTPServer):
    """Sends every request on to `target`; `seen` are the headers it was sent."""

    def __init__(self, target: str):
        seen = self.seen = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                seen.append(dict(self.headers))
                self.send_response(302)
                self.send_header("Location", target)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_port}/file"


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_a_redirect_to_anything_but_http_is_not_followed(target, tmp_path, secrets):
    with Redirecting(target) as server:
        with pytest.raises(DataError, match="cannot be fetched"):
            downloading.download(server.url, tmp_path / "file")
        server.shutdown()
    assert not list(tmp_path.iterdir()) and "Authorization" not in server.seen[0]


def test_a_redirect_never_leads_away_from_encryption():
    request = downloading._request("https://example.com/a")
    follow = downloading._Redirects().redirect_request
    assert follow(request, None, 302, "", {}, "https://elsewhere.example/a").full_url
    with pytest.raises(OSError, match="leads to http://, which is not followed"):
        follow(request, None, 302, "", {}, "http://elsewhere.example/a")


def test_a_zip_with_links_or_ways_out_gives_nothing_from_outside(tmp_path):
    secret = tmp_path / "secret.csv"
    secret.write_text("secret")
    path = tmp_path / "evil.zip"
    link = zipfile.ZipInfo("data/link.csv")
    link.create_system, link.external_attr = 3, 0o120777 << 16  # a symbolic link, as Unix zips it
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(link, str(secret))
        for name in ("../secret.csv", str(secret), "data/../../secret.csv", "..\\secret.csv"):
            archive.writestr(name, "x")
        archive.writestr("data/ptbxl_database.csv", "a,b\n")
    before = sorted(tmp_path.rglob("*"))
    place = open_place(path, "ptbxl_database.csv")
    assert place.read("link.csv") == str(secret).encode()  # the link's own words, not its target
    for name in ("../secret.csv", str(secret), "../../secret.csv", "..\\secret.csv"):
        with pytest.raises(FileNotFoundError):
            place.read(name)
    assert len(place.refused) == 3  # two of them are one name, once backslashes are read
    with pytest.raises(DataError, match="outside its folder"):
        check_zip(path, None, "evil")
    assert sorted(tmp_path.rglob("*")) == before


# --- checkpoints ----------------------------------------------------------------------------------


class Runs:
    """Unpickling it makes a file, wherever something runs what a pickle says."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_the_pickle_of_this_test_would_run(tmp_path):
    pickle.loads(pickle.dumps(Runs(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


def train(folder: Path, steps: int, stop_at: int = 10**9):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout(0.5))

    def loss(model, batch):
        if next(counter) == stop_at:
            raise KeyboardInterrupt
        return {"loss": model(batch["x"]).square().mean()}

    counter = iter(range(10**9))
    settings = TrainSettings(n_steps=steps, batch_size=4, lr=0.1, checkpoint_every=2, device="cpu")
    make = lambda rows, rng: {"x": torch.ones(len(rows), 2)}  # noqa: E731
    return fit(model, 8, make, loss, settings, folder)


@pytest.mark.parametrize("name", [
    "optimizer.bin", "random_states_0.pkl", "schedule.pt", "model.safetensors", "progress.json"])
def test_a_training_resumes_from_no_file_that_runs_code_or_is_damaged(tmp_path, name):
    for number, content in enumerate((None, b"", b"garbage")):
        folder = tmp_path / str(number)
        with pytest.raises(KeyboardInterrupt):
            train(folder, 8, stop_at=5)
        if content is None:
            torch.save({"x": Runs(tmp_path / "ran")}, folder / "state" / name)
        else:
            (folder / "state" / name).write_bytes(content)
        with pytest.raises(ModelError, match="cannot be read .*delete .* and run again"):
            train(folder, 8)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "done.json", "log.csv"])
def test_a_finished_training_that_was_damaged_is_a_sentence(tmp_path, name):
    train(tmp_path, 4)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:7] if name != "log.csv" else b"")
    with pytest.raises(ModelError, match=f"{name} of the training .* cannot be read.*run again"):
        train(tmp_path, 4)


def test_a_table_that_another_user_keeps_in_a_shared_cache_is_not_unpickled(tmp_path, monkeypatch):
    from ecgkit.data.layouts import write_layout
    from ecgkit.data.sources import mimic

    monkeypatch.setenv("ECGKIT_CACHE", str(tmp_path / "cache"))
    place = open_place(write_layout(tmp_path / "data", "mimic-iv-ecg", 20, seed=0))
    table, _ = mimic.read_table(place, 500)
    [kept] = (tmp_path / "cache").glob("mimic-table-*/table.pickle")
    kept.write_bytes(pickle.dumps(Runs(tmp_path / "ran")))
    monkeypatch.setattr(os, "getuid", lambda: kept.stat().st_uid + 1)
    again, _ = mimic.read_table(place, 500)
    assert again["ecg_id"].equals(table["ecg_id"]) and not (tmp_path / "ran").exists()
    monkeypatch.undo()
    monkeypatch.setenv("ECGKIT_CACHE", str(tmp_path / "cache"))
    kept.write_bytes(b"garbage")
    with pytest.raises(DataError, match="table.pickle .* cannot be read .*; delete it"):
        mimic.read_table(place, 500)


def test_a_model_folder_with_other_peoples_files_loads_and_runs_nothing(tmp_path):
    from ecgkit.models.se_wrn import SEWideResNet

    torch.manual_seed(0)
    folder = saving.save_pretrained(SEWideResNet(3), tmp_path / "model")
    for name in ("pytorch_model.bin", "optimizer.pt", "extra.pkl", "state.bin"):
        torch.save({"x": Runs(tmp_path / "ran")}, folder / name)
    (folder / "conftest.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert saving.load_pretrained(folder).about["class"] == "SEWideResNet"
    with pytest.raises(ModelError):
        read_torch_file(folder / "optimizer.pt")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="missing or cut short"):
        saving.load_pretrained(folder)
    assert not (tmp_path / "ran").exists()
