"""Downloads against a real server on this machine that cuts, lies, changes and refuses."""

import hashlib
import io
import shutil
import threading
import zipfile
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from ecgkit import cli
from ecgkit.data import download as downloading
from ecgkit.data import fetch as fetching
from ecgkit.data.download import download
from ecgkit.data.fetch import DOWNLOADS, fetch
from ecgkit.types import ConfigError, DataError

BLOB = np.random.default_rng(0).bytes(3_000_000)


class Server(ThreadingHTTPServer):
    """`files` by path; how it misbehaves is set by the test. `seen`: (path, Range) per request."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.etags, self.seen = {}, {}, []
        self.cut_after = {}  # path -> bytes sent before each drop
        self.knows_range = self.knows_if_range = self.sends_etag = True
        self.sends_length, self.busy = True, 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        server, asked = self.server, self.headers.get("Range")
        server.seen.append((self.path, asked))
        if server.busy:
            server.busy -= 1
            return self.send_error(503)
        body = server.files.get(self.path)
        if body is None:
            return self.send_error(404)
        etag = server.etags.get(self.path, '"1"')
        start = self._start(asked, etag)
        if start is not None and start >= len(body):
            return self.send_error(416)
        self.send_response(200 if start is None else 206)
        if server.sends_etag:
            self.send_header("ETag", etag)
        if server.sends_length:
            self.send_header("Content-Length", str(len(body) - (start or 0)))
        if start is not None:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.end_headers()
        rest = body[start or 0 :]
        cuts = server.cut_after.get(self.path, [])
        self.wfile.write(rest[: cuts.pop(0)] if cuts else rest)
        self.close_connection = True

    def _start(self, asked, etag) -> int | None:
        if not asked or not self.server.knows_range:
            return None
        if self.server.knows_if_range and self.headers.get("If-Range") not in (None, etag):
            return None
        return int(asked.removeprefix("bytes=").removesuffix("-"))


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(downloading, "PAUSE_S", 0.001)
    server = Server()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def serve(server, path: str, body: bytes) -> str:
    server.files[path] = body
    return server.address + path


def ranges(server) -> list:
    return [asked for _, asked in server.seen]


# --- one file -------------------------------------------------------------------------------------


def test_whole_file(server, tmp_path):
    path = download(serve(server, "/a", BLOB), tmp_path / "deep" / "a")
    assert path.read_bytes() == BLOB
    assert [p.name for p in path.parent.iterdir()] == ["a"]  # no .part, no stamp left


def test_cut_connections_are_resumed_where_they_stood(server, tmp_path):
    url = serve(server, "/a", BLOB)
    server.cut_after["/a"] = [1_200_000, 0, 500_000]
    assert download(url, tmp_path / "a").read_bytes() == BLOB
    assert ranges(server) == [None, "bytes=1200000-", "bytes=1200000-", "bytes=1700000-"]


def test_a_second_call_goes_on_from_the_part(server, tmp_path, monkeypatch):
    url = serve(server, "/a", BLOB)
    monkeypatch.setattr(downloading, "TRIES", 1)
    server.cut_after["/a"] = [1_000_000, 0]
    with pytest.raises(DataError, match="goes on where it stood"):
        download(url, tmp_path / "a")
    assert not (tmp_path / "a").exists() and (tmp_path / "a.part").stat().st_size == 1_000_000
    assert download(url, tmp_path / "a").read_bytes() == BLOB
    assert ranges(server)[-1] == "bytes=1000000-"


def test_a_server_that_ignores_range_sends_all_anew(server, tmp_path):
    url = serve(server, "/a", BLOB)
    server.knows_range = False
    server.cut_after["/a"] = [2_000_000]
    assert download(url, tmp_path / "a").read_bytes() == BLOB


@pytest.mark.parametrize("knows_if_range", [True, False])
@pytest.mark.parametrize("size", [3_000_000, 2_500_000])
def test_a_file_that_changed_between_attempts_is_never_spliced(
    server, tmp_path, monkeypatch, knows_if_range, size
):
    url, new = serve(server, "/a", BLOB), np.random.default_rng(1).bytes(size)
    server.knows_if_range = knows_if_range
    server.cut_after["/a"] = [1_000_000, 0]
    monkeypatch.setattr(downloading, "TRIES", 1)
    with pytest.raises(DataError):
        download(url, tmp_path / "a")
    monkeypatch.setattr(downloading, "TRIES", 4)
    server.files["/a"], server.etags["/a"] = new, '"2"'
    assert download(url, tmp_path / "a").read_bytes() == new


def test_without_etag_or_date_nothing_is_resumed(server, tmp_path):
    url = serve(server, "/a", BLOB)
    server.sends_etag = False
    server.cut_after["/a"] = [1_000_000]
    assert download(url, tmp_path / "a").read_bytes() == BLOB
    assert ranges(server) == [None, None]


def test_a_part_that_was_whole_already_is_taken(server, tmp_path, monkeypatch):
    """Killed after the last byte and before the new name: the server answers 416."""
    url = serve(server, "/a", BLOB)
    monkeypatch.setattr(
        downloading.os, "replace", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        download(url, tmp_path / "a")
    monkeypatch.undo()
    assert download(url, tmp_path / "a").read_bytes() == BLOB
    assert ranges(server) == [None, "bytes=3000000-"]


def test_busy_server_is_asked_again(server, tmp_path):
    server.busy = 3
    assert download(serve(server, "/a", BLOB), tmp_path / "a").read_bytes() == BLOB


def test_always_cut_ends_in_a_sentence(server, tmp_path):
    url = serve(server, "/a", BLOB)
    server.cut_after["/a"] = [0] * 100
    with pytest.raises(DataError, match="could not be fetched whole.*run the same command again"):
        download(url, tmp_path / "a")
    assert len(server.seen) == downloading.TRIES


def test_not_found_is_told_at_once(server, tmp_path):
    with pytest.raises(DataError, match="404.*Check the address"):
        download(server.address + "/nothing", tmp_path / "a")
    assert len(server.seen) == 1 and not (tmp_path / "a").exists()


def test_nobody_listening_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(downloading, "PAUSE_S", 0.001)
    with pytest.raises(DataError, match="check the network"):
        download("http://127.0.0.1:9/a", tmp_path / "a")


def test_full_disk_is_seen_before_the_download(server, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(1, 1, 1_000_000))
    with pytest.raises(DataError, match="The rest of a takes about 0.0 GB.*make room"):
        download(serve(server, "/a", BLOB), tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_disk_that_fills_up_keeps_the_part(server, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(downloading.runtime, "progress", full)
    with pytest.raises(DataError, match="No space left.*goes on from here"):
        download(serve(server, "/a", BLOB), tmp_path / "a", label="a")


def test_wrong_checksum_is_set_aside(server, tmp_path):
    def check(file):
        if hashlib.sha256(file.read_bytes()).digest() != hashlib.sha256(BLOB).digest():
            raise DataError("a is wrong.")

    url = serve(server, "/a", BLOB[:-1] + b"?")
    with pytest.raises(DataError, match="set aside as .*a.bad"):
        download(url, tmp_path / "a", check)
    assert (tmp_path / "a.bad").exists() and not (tmp_path / "a").exists()
    server.files["/a"] = BLOB
    assert download(url, tmp_path / "a", check).read_bytes() == BLOB


def test_a_mirror_keeps_the_path_and_must_be_http():
    assert downloading.with_mirror("https://a.org/b/c", "http://m:80/x/") == "http://m:80/x/b/c"
    with pytest.raises(ConfigError, match="http"):
        downloading.with_mirror("https://a.org/b", "/some/folder")


# --- zips -----------------------------------------------------------------------------------------


def sums(files: dict[str, bytes]) -> bytes:
    lines = [f"{hashlib.sha256(body).hexdigest()} {name}\n" for name, body in files.items()]
    return "".join(lines).encode()


def pack(files: dict[str, bytes], top: str = "ptb-xl-1.0.3/") -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in files.items():
            archive.writestr(top + name, body)
    return packed.getvalue()


MEMBERS = {"ptbxl_database.csv": b"ecg_id\n1\n", "records100/00000/00001_lr.dat": BLOB[:24_000]}


def serve_source(server, name: str, body: bytes, listed: bytes | None) -> None:
    what = DOWNLOADS[name]
    server.files[what.url.removeprefix(fetching.PHYSIONET)] = body
    if listed is not None:
        server.files[what.sums.removeprefix(fetching.PHYSIONET)] = listed


def test_zip_is_checked_against_the_published_list(server, tmp_path, capsys):
    serve_source(server, "ptbxl", pack(MEMBERS), sums(MEMBERS))
    path = fetch("ptbxl", tmp_path, server.address)
    assert path == tmp_path / "ptb-xl-1.0.3.zip" and zipfile.is_zipfile(path)
    n = len(server.seen)
    assert fetch("ptbxl", tmp_path, server.address) == path
    assert len(server.seen) == n + 1  # only the list is asked for again


@pytest.mark.parametrize(
    "members, fault",
    [
        (
            MEMBERS | {"ptbxl_database.csv": b"ecg_id\n2\n"},
            r"first ptbxl_database.csv \(checksum\)",
        ),
        ({"ptbxl_database.csv": b"ecg_id\n1\n"}, r"first records100.*\(missing\)"),
    ],
)
def test_zip_with_a_wrong_member_is_set_aside(server, tmp_path, members, fault):
    serve_source(server, "ptbxl", pack(members), sums(MEMBERS))
    with pytest.raises(DataError, match=f"1 files inside the ptbxl download are wrong, {fault}"):
        fetch("ptbxl", tmp_path, server.address)
    assert [p.name for p in tmp_path.iterdir()] == [
        "ptb-xl-1.0.3.zip.bad",
        "ptb-xl-1.0.3.zip.part.json",
    ]


def test_the_list_inside_counts_where_none_is_published(server, tmp_path):
    inside = MEMBERS | {"SHA256SUMS.txt": sums(MEMBERS | {"ptbxl_database.csv": b"other"})}
    serve_source(server, "ptbxl", pack(inside), None)
    with pytest.raises(DataError, match="ptbxl_database.csv"):
        fetch("ptbxl", tmp_path, server.address)


def test_github_zip_has_its_own_crc_and_no_length(server, tmp_path):
    body = bytearray(pack(MEMBERS, "ecg-qa-master/"))
    server.sends_length = False
    address = "/Jwoo5/ecg-qa/archive/refs/heads/master.zip"
    server.files[address] = bytes(body)
    assert fetch("ecg-qa", tmp_path / "good", server.address).name == "ecg-qa.zip"
    body[body.index(BLOB[:16]) if BLOB[:16] in body else 200] ^= 1
    server.files[address] = bytes(body)
    with pytest.raises(DataError, match="set aside"):
        fetch("ecg-qa", tmp_path / "bad", server.address)
    server.files[address] = bytes(body[:-40])  # cut, and nobody said how long it is
    with pytest.raises(DataError, match="damaged .zip"):
        fetch("ecg-qa", tmp_path / "cut", server.address)


@pytest.mark.parametrize("name", ["../outside.csv", "/etc/outside", "a/../../b", "..\\b", "C:/b"])
def test_names_outside_the_folder_are_refused(server, tmp_path, name):
    serve_source(server, "ptbxl", pack({name: b"x"}, ""), sums({"a": b"x"}))
    with pytest.raises(DataError, match="outside its folder"):
        fetch("ptbxl", tmp_path, server.address)
    with pytest.raises(DataError, match="outside its folder"):
        fetching.parse_sums(sums({name: b"x"}), "the list")


# --- a folder of files ----------------------------------------------------------------------------


CPSC = {
    f"training/cpsc_2018/g1/A{i:04d}.{e}": BLOB[i : i + 5000]
    for i in range(6)
    for e in ("hea", "mat")
}


@pytest.fixture
def cpsc(server):
    root = DOWNLOADS["cpsc-2018"].url.removeprefix(fetching.PHYSIONET)
    for name, body in CPSC.items():
        server.files[root + name] = body
    server.files[root + "SHA256SUMS.txt"] = sums(
        CPSC | {"training/georgia/g1/E00001.hea": b"not ours"}
    )
    return root


def test_folder_gets_its_name_when_the_last_file_is_in(server, cpsc, tmp_path):
    gone = server.files.pop(cpsc + "training/cpsc_2018/g1/A0005.mat")
    with pytest.raises(DataError, match="404"):
        fetch("cpsc-2018", tmp_path, server.address)
    assert not (tmp_path / "cpsc_2018").exists() and (tmp_path / "cpsc_2018.part").is_dir()
    server.files[cpsc + "training/cpsc_2018/g1/A0005.mat"] = gone
    folder = fetch("cpsc-2018", tmp_path, server.address)
    found = {
        f"training/cpsc_2018/{p.relative_to(folder)}": p.read_bytes() for p in folder.rglob("*.*")
    }
    assert found == CPSC


def test_a_file_that_went_bad_later_takes_the_name_away(server, cpsc, tmp_path):
    folder = fetch("cpsc-2018", tmp_path, server.address)
    (folder / "g1" / "A0003.hea").write_bytes(b"edited")
    with pytest.raises(DataError, match="A0003.hea does not have the published SHA-256"):
        fetch("cpsc-2018", tmp_path, server.address)
    assert not folder.exists()
    server.seen.clear()
    fetch("cpsc-2018", tmp_path, server.address)
    assert [path for path, _ in server.seen][1:] == [cpsc + "training/cpsc_2018/g1/A0003.hea"]


def test_folder_needs_a_list(server, tmp_path):
    with pytest.raises(DataError, match="SHA256SUMS.txt is not there"):
        fetch("cpsc-2018", tmp_path, server.address)
    server.files["/files/challenge-2021/1.0.3/SHA256SUMS.txt"] = b"<html>busy</html>"
    with pytest.raises(DataError, match="not a list of SHA-256"):
        fetch("cpsc-2018", tmp_path, server.address)


# --- what cannot be fetched -----------------------------------------------------------------------


def test_credentialed_sources_say_what_to_do():
    with pytest.raises(DataError) as refusal:
        fetch("mimic-iv")
    for word in (
        "account",
        "CITI",
        "data use agreement",
        "wget",
        "patients.csv",
        "record_list.csv",
    ):
        assert word in str(refusal.value)


def test_out_that_is_a_file_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="give another folder as --out"):
        fetch("ptbxl", tmp_path / "file")


def test_unknown_source_names_those_there_are():
    with pytest.raises(DataError, match="ptbxl.*mimic-iv.*synthesize"):
        fetch("ptb")


# --- the command ----------------------------------------------------------------------------------


def test_fetched_zip_is_opened_by_check(server, shared, tmp_path, capsys):
    """The real subset in place of PTB-XL's .zip, over a line that is cut once."""
    body = (shared / "data" / "ptbxl-subset-400.zip").read_bytes()
    serve_source(server, "ptbxl", body, None)
    server.cut_after[DOWNLOADS["ptbxl"].url.removeprefix(fetching.PHYSIONET)] = [20_000_000]
    where = ["--out", str(tmp_path), "--mirror", server.address]
    assert cli.main(["data", "fetch", "ptbxl", *where]) == 0
    path = tmp_path / "ptb-xl-1.0.3.zip"
    assert f"{path} is complete and checked" in capsys.readouterr().out
    assert path.read_bytes() == body and server.seen[-1][1] == "bytes=20000000-"
    assert cli.main(["data", "check", "--data", str(path), "--fs", "100"]) == 0
    assert "400 = 400 + 0" in capsys.readouterr().out
