"""Run folders made by hand, for the tests of the ledger and of the page."""

import json

REAL = {"name": "ptbxl", "fingerprint": "feedfeedfeed", "simulated": False, "n_ecgs": 21_799}
MADE = {"name": "synthetic", "fingerprint": "abcdefabcdef", "simulated": True, "n_ecgs": 2400}
HEAD = ('"system","table","dataset","task","setting","method","metric","value","sd","source",'
        '"note"\n')  # fmt: skip
ROWS = (
    '"ESI","third-party probing","PTB-XL","x","zero-shot","ESI","AUC","0.1","","",""\n'
    '"ESI","Table 3","PTB-XL","x","zero-shot","ESI","AUC","0.812","0.01","",""\n'
    '"ESI","Table 8","texts","CQA","RAG","both","F1","0.83","","",""\n'
    '"ESI","text","","model size","","ConvNeXt-tiny","parameters (millions)","26.81","","",""\n'
    '"HF-dual-attention","abstract","UKB-HYP","risk","","net","C-index","0.6349","","",""\n'
)


def metric(value, low=None, high=None, n=100, headline=True):
    return {"value": value, "low": low, "high": high, "n": n, "unit": "", "note": "<note>",
            "headline": headline}  # fmt: skip


def write_notebook(folder, name, metrics, data=MADE, preset="demo", captions=None, config=None):
    home = folder / name / "figures"
    home.mkdir(parents=True, exist_ok=True)
    for figure in captions or {}:
        (home / f"{figure}.png").write_bytes(b"png")
    body = {
        "notebook": name, "preset": preset, "config_hash": "0", "data": data, "metrics": metrics,
        "checks": [{"claim": "<b>holds</b>", "holds": True, "binding": True}],
        "captions": captions or {}, "seconds": 30.0, "allowed_s": 40, "peak_memory_gb": 1.0,
        "machine": "a machine",
    }  # fmt: skip
    (folder / name / "metrics.json").write_text(json.dumps(body))
    (folder / name / "config.json").write_text(json.dumps(config or {}))


def write_numbers(folder, rows=ROWS):
    """A published table as the shared folder has it; returns that shared folder."""
    path = folder / "shared" / "references" / "published_numbers.csv"
    path.parent.mkdir(parents=True)
    path.write_text(HEAD + rows)
    return folder / "shared"


def entry(name, status="ok", cell=""):
    html = f"{name}/executed.html" if status == "ok" else ""
    return {"name": name, "status": status, "seconds": 31.0, "html": html, "cell": cell}
