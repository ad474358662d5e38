"""Files on the Hugging Face hub: what an id means, fetching, sending.

The access token comes from the environment (`HF_TOKEN`, or `hf auth login`); the kit neither reads
nor prints it. `HF_ENDPOINT` points elsewhere, `HF_HUB_OFFLINE=1` uses the local cache alone.

Usage:

    fetch("wanglab/ecg-fm/mimic_iv_ecg_physionet_pretrained.pt")      # -> a path in the local cache
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ecgkit import runtime
from ecgkit.text.encoders import hub_reachable
from ecgkit.types import KitError, ModelError

_ID = re.compile(r"(?:hf://)?([\w.-]+/[\w.-]+)(?:/(.+))?")


def split_id(place: str) -> tuple[str, str] | None:
    """("owner/name", "file" or ""), or None where `place` can only be meant as a path.

    A path is what exists here, is absolute, begins with . or ~, or whose first folder exists here.
    """
    text = str(place)
    if text.startswith("hf://"):
        found = _ID.fullmatch(text)
        if not found:
            raise ModelError(f"{text} is no hub id; write hf://owner/name or hf://owner/name/file.")
        return found.group(1), found.group(2) or ""
    local = Path(text).expanduser()
    found = _ID.fullmatch(text)
    is_path = local.exists() or text.startswith((".", "/", "~")) or Path(local.parts[0]).is_dir()
    names_file = found and not found.group(2) and text.endswith((".pt", ".safetensors"))
    return None if is_path or names_file or not found else (found.group(1), found.group(2) or "")


def fetch(place: str, default_file: str = "") -> Path:
    """The local path of one file: `owner/name/file`, or `owner/name` and `default_file`.

    Raises ModelError, with the next step, where it is not to be had.
    """
    from huggingface_hub import hf_hub_download

    repo_id, name = split_id(place) or ("", "")
    name = name or default_file
    if not repo_id or not name:
        raise ModelError(f"{place} names no file; write owner/name/file, as the hub lists them.")
    with _sentences(f"{repo_id}/{name}", "download it elsewhere and give its path"):
        return Path(hf_hub_download(repo_id, name, local_files_only=_offline()))


def fetch_folder(repo_id: str, files: tuple[str, ...], into: str | Path | None = None) -> Path:
    """The local folder of a hub model's `files`: `into`, else one in the local cache."""
    from huggingface_hub import snapshot_download

    if into and _offline():  # the library would take what lies in `into` for the answer
        raise ModelError(
            f"{repo_id} cannot be fetched: the hub cannot be reached from here, or HF_HUB_OFFLINE "
            "is set; run the same command on a machine with access."
        )
    target = {"local_dir": str(into)} if into else {}
    with _sentences(repo_id, "download it elsewhere and give its folder"):
        return Path(snapshot_download(
            repo_id, allow_patterns=list(files), local_files_only=_offline(), **target))


def send_folder(folder: Path, repo_id: str, files: tuple[str, ...], private: bool) -> str:
    """Uploads `files` to the model repository `repo_id`, made where it is missing; returns its URL.

    Raises ModelError where the hub refuses, cannot be reached, or the repository is public though a
    private one was asked for.
    """
    from huggingface_hub import HfApi

    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo_id):
        raise ModelError(f"{repo_id!r} is no hub id; write owner/name.")
    if _offline():
        raise ModelError(
            f"{repo_id} cannot be sent: the hub cannot be reached from here, or HF_HUB_OFFLINE is "
            f"set; send {folder} from a machine with access."
        )
    api = HfApi()
    with _sentences(repo_id, "log in with `hf auth login`, or set HF_TOKEN to one that may write"):
        url = api.create_repo(repo_id, private=private, exist_ok=True)
        if private and not api.model_info(repo_id).private:
            raise ModelError(
                f"{repo_id} exists already and is public; choose another id, or say that the model "
                "may be public (private=False, --public)."
            )
        api.upload_folder(repo_id=repo_id, folder_path=str(folder), allow_patterns=list(files),
                          commit_message="Model saved by ecgkit")
    return str(url)


def _offline() -> bool:
    switched_off = os.environ.get("HF_HUB_OFFLINE", "").upper() not in ("", "0", "FALSE", "NO")
    return switched_off or not hub_reachable()


@contextmanager
def _sentences(what: str, next_step: str) -> Iterator[None]:
    """Turns the hub library's errors into one sentence; the token is in none of them."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        yield
        return
    except KitError:
        raise
    except LocalEntryNotFoundError:
        reason = "is not in the local cache and the hub cannot be reached, or is switched off"
    except GatedRepoError:
        reason = "is gated: accept its terms on its page, then log in with `hf auth login`"
    except RepositoryNotFoundError:
        reason = "is not on the hub under this name, or is private and you are not logged in"
    except EntryNotFoundError:
        reason = "is not among the files of that hub model"
    except Exception as error:  # noqa: BLE001 - the hub's answer or any error of its HTTP client
        said = f"{type(error).__name__}: {runtime.first_line(error, 160)}"
        reason = f"was refused, or the connection failed ({said})"
    raise ModelError(f"{what} {reason}; {next_step}.") from None
