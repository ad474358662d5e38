"""Places: folders and .zip files alike; what would lead out of them, is locked, slow or damaged."""

import io
import os
import pickle
import struct
import zipfile
from pathlib import Path

import pytest

from ecgkit.data import local_copy
from ecgkit.data.place import Folder, Zip, open_place
from ecgkit.data.records import RecordError, read_raw
from ecgkit.types import DataError

FILES = {
    "top.csv": b"a,b\n1,2\n",
    "records/Größe 心/r 1.dat": bytes(range(256)) * 40,
    "records/empty.hea": b"",
    "records/r2.hea": b"r2 1 500 10\n",
}
HOWS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]


def write_zip(path, files=FILES, how=zipfile.ZIP_DEFLATED, root=""):
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, data in files.items():
            archive.writestr(root + name, data)
    return path


def write_folder(root, files=FILES):
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def lock(path):
    """Marks every member as encrypted, in its own header and in the directory."""
    raw = bytearray(path.read_bytes())
    for sign, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = raw.find(sign)
        while at >= 0:
            raw[at + offset] |= 1
            at = raw.find(sign, at + 4)
    path.write_bytes(raw)


# --- the same through a folder and through a .zip -------------------------------------------------


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_both_kinds_of_place(tmp_path, kind):
    base = tmp_path / "with blanks ß"
    base.mkdir()
    path = write_folder(base) if kind == "folder" else write_zip(base / "x y.zip")
    place = open_place(path)
    for again in (place, pickle.loads(pickle.dumps(place))):
        assert {name: again.read(name) for name in FILES} == FILES
    assert {n: s for n, (s, _) in place.listing().items()} == {n: len(d) for n, d in FILES.items()}
    assert place.stamps(["top.csv", "absent"]) == {"top.csv": place.listing()["top.csv"]}
    assert place.names(".hea") == ["records/empty.hea", "records/r2.hea"]
    assert place.exists("top.csv") and not place.exists("absent")
    below = open_place(path, "r2.hea")
    assert below.read("r2.hea") == FILES["records/r2.hea"] and below.find("top.csv") is None
    assert place.find("r2.hea") == "records/" and place.find("top.csv") == ""
    for name in ("absent", "../x y.zip", "/etc/hostname", "records/../top.csv", "C:/x"):
        with pytest.raises(FileNotFoundError):
            place.read(name)


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("form", ["plain", "prefix", "64 bit", "comment"])
def test_the_directory_is_what_zipfile_says(tmp_path, how, form):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", how) as archive:
        archive.mkdir("records")
        for name, data in FILES.items():
            with archive.open(name, "w", force_zip64=form == "64 bit") as member:
                member.write(data)
        archive.comment = b"PK and more" * 900 if form == "comment" else b""
    prefix = b"#!/bin/sh\n" * 99 if form == "prefix" else b""
    (tmp_path / "z.zip").write_bytes(prefix + buffer.getvalue())
    place = Zip(tmp_path / "z.zip")
    with zipfile.ZipFile(tmp_path / "z.zip") as theirs:
        infos = {i.filename: (i.file_size, i.CRC) for i in theirs.infolist() if not i.is_dir()}
    assert place.listing() == infos
    assert {name: place.read(name) for name in FILES} == FILES


def test_a_directory_beyond_four_gigabytes(tmp_path):
    """Positions and sizes that need 64 bits, written as a 34 GB archive has them."""
    path = write_zip(tmp_path / "z.zip", {"a": b"one", "b": b"two"}, zipfile.ZIP_STORED)
    raw = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        start, infos = archive.start_dir, archive.infolist()
    directory = b""
    for info in infos:
        extra = struct.pack("<HHQ", 1, 8, info.header_offset)
        head = struct.pack("<4s6H3I5H2I", b"PK\x01\x02", 45, 45, 0, 0, 0, 0, info.CRC, 3, 3, 1,
                           len(extra), 0, 0, 0, 0, 0xFFFFFFFF)  # fmt: skip
        directory += head + info.filename.encode() + extra
    end = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 2, 2, len(directory), start)
    end += struct.pack("<4sIQI", b"PK\x06\x07", 0, start + len(directory), 1)
    end += struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 2, 2, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    path.write_bytes(raw[:start] + directory + end)
    with zipfile.ZipFile(path) as theirs:
        assert theirs.read("b") == b"two"
    place = Zip(path)
    assert (place.read("a"), place.read("b")) == (b"one", b"two")


def test_the_nearest_of_several_roots_and_no_mac_shadows(tmp_path):
    files = {"__MACOSX/t.csv": b"shadow", "deep/er/t.csv": b"far", "near/t.csv": b"near"}
    for path in (write_folder(tmp_path / "f", files), write_zip(tmp_path / "z.zip", files)):
        assert open_place(path, "t.csv").read("t.csv") == b"near"


def test_a_link_round_in_circles_ends(tmp_path):
    write_folder(tmp_path / "f")
    os.symlink(tmp_path / "f", tmp_path / "f" / "records" / "again")
    (tmp_path / "aside").mkdir()
    (tmp_path / "aside" / "x.hea").write_text("x")
    os.symlink(tmp_path / "aside", tmp_path / "f" / "link")
    os.symlink("itself", tmp_path / "f" / "itself")
    os.symlink("nothing", tmp_path / "f" / "gone")
    assert set(Folder(tmp_path / "f").listing()) == {*FILES, "link/x.hea"}


# --- what is wrong with a .zip --------------------------------------------------------------------


def test_names_that_leave_the_zip_are_refused_and_the_rest_is_read(tmp_path):
    bad = {"../evil.hea": b"x", "/abs.hea": b"x", "a/../../b.hea": b"x", "C:\\w.hea": b"x"}
    place = open_place(write_zip(tmp_path / "z.zip", {**bad, "ok..hea": b"fine"}))
    assert list(place.listing()) == ["ok..hea"] and len(place.refused) == 4
    assert all("outside itself" in sentence for sentence in place.refused)
    assert place.read("ok..hea") == b"fine"


def test_a_locked_zip(tmp_path):
    path = write_zip(tmp_path / "z.zip")
    lock(path)
    place = open_place(path)
    with pytest.raises(OSError, match="locked with a password"):
        place.read("top.csv")
    with pytest.raises(RecordError, match="locked with a password") as error:
        read_raw(place, "records/r2")
    assert error.value.reason == "damaged"


@pytest.mark.parametrize("how", HOWS)
def test_a_damaged_member_is_an_oserror(tmp_path, how):
    path = write_zip(tmp_path / "z.zip", {"a": bytes(range(256)) * 40, "b": b"fine"}, how)
    raw = bytearray(path.read_bytes())
    raw[31:60] = bytes(29)
    path.write_bytes(raw)
    place = open_place(path)
    assert place.read("b") == b"fine"
    with pytest.raises(OSError):
        place.read("a")


@pytest.mark.parametrize("at", [20, 42])  # how long it is in the archive, where it begins
def test_a_member_said_to_lie_beyond_the_archive(tmp_path, at):
    path = write_zip(tmp_path / "z.zip", {"a": b"one"})
    raw = bytearray(path.read_bytes())
    head = raw.rfind(b"PK\x01\x02")
    raw[head + at : head + at + 4] = struct.pack("<I", 0xFFFFFFF0)
    path.write_bytes(raw)
    with pytest.raises(OSError, match="end behind the archive"):
        open_place(path).read("a")


@pytest.mark.parametrize("damage", ["cut", "directory", "offset", "length"])
def test_a_broken_directory_is_one_sentence(tmp_path, damage):
    path = write_zip(tmp_path / "z.zip")
    raw = bytearray(path.read_bytes())
    at = raw.rfind(b"PK\x05\x06")
    if damage == "cut":
        raw = raw[: at - 5] + raw[at:]
    elif damage == "directory":
        raw[raw.find(b"PK\x01\x02") + 28] ^= 0x55
    elif damage == "offset":
        raw[at + 16 : at + 20] = struct.pack("<I", 1 << 30)
    elif damage == "length":
        raw[at + 12 : at + 16] = struct.pack("<I", 1 << 30)
    path.write_bytes(raw)
    with pytest.raises(DataError, match="z.zip is a damaged .zip .*fetch it again"):
        open_place(path)


def test_no_place_at_all(tmp_path):
    write_zip(tmp_path / "inside.zip")
    (tmp_path / "text.zip").write_text("not a zip")
    with pytest.raises(DataError, match="inside.zip: give the path of that .zip"):
        open_place(tmp_path, "absent.csv", "PTB-XL")
    with pytest.raises(DataError, match="neither a folder nor a readable .zip"):
        open_place(tmp_path / "text.zip")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="neither a folder nor a readable .zip"):
        open_place(tmp_path / "pipe")
    with pytest.raises(DataError, match="does not exist"):
        open_place(tmp_path / "nowhere")


# --- slow mounts ----------------------------------------------------------------------------------


@pytest.fixture
def slow(monkeypatch, tmp_path):
    monkeypatch.setenv("ECGKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(local_copy, "on_slow_mount", lambda path: True)
    return write_zip(tmp_path / "drive.zip")


def copies(tmp_path) -> list[Path]:
    return sorted((tmp_path / "cache" / "local").glob("*"))


def test_a_slow_zip_is_copied_once_and_again_when_it_changed(slow, tmp_path, capsys):
    place = open_place(slow, "top.csv")
    assert place.label == "drive.zip" and place.origin == slow and place.path != slow
    assert place.read("top.csv") == FILES["top.csv"]
    assert "slow mount" in capsys.readouterr().out
    first = copies(tmp_path)
    assert open_place(slow).path == first[0] and not capsys.readouterr().out
    write_zip(slow, {**FILES, "top.csv": b"changed"})
    assert open_place(slow).read("top.csv") == b"changed"


def test_half_a_copy_is_never_used(slow, tmp_path, monkeypatch):
    def dies(source, target, chunk):
        target.write(source.read(50))
        raise OSError("transport endpoint is not connected")

    monkeypatch.setattr(local_copy.shutil, "copyfileobj", dies)
    with pytest.raises(DataError, match="could not be copied .*check the mount"):
        open_place(slow)
    assert copies(tmp_path) == []
    stale = tmp_path / "cache" / "local" / "drive-0.zip.1.part"
    stale.write_bytes(b"half")
    os.utime(stale, (0, 0))
    monkeypatch.undo()
    monkeypatch.setenv("ECGKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(local_copy, "on_slow_mount", lambda path: True)
    assert open_place(slow).read("top.csv") == FILES["top.csv"]
    assert [p.suffix for p in copies(tmp_path)] == [".zip"]


def test_no_room_for_the_copy(slow, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(local_copy.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DataError, match="make room, or set ECGKIT_CACHE"):
        open_place(slow)


def test_which_mounts_are_slow(tmp_path, monkeypatch):
    mounts = {
        "/content/drive": ("/content/drive", "fuse"),
        "/data": ("/", "ext4"),
        "/net": ("/net", "nfs4"),
    }
    monkeypatch.setattr(
        local_copy, "_mount_of", lambda path: mounts.get("/" + path.parts[1], ("/", "ext4"))
    )
    monkeypatch.setitem(mounts, "/content", mounts["/content/drive"])
    assert local_copy.on_slow_mount(Path("/content/drive/x.zip"))
    assert local_copy.on_slow_mount(Path("/net/x.zip"))
    assert not local_copy.on_slow_mount(Path("/data/x.zip"))
    monkeypatch.undo()
    assert not local_copy.on_slow_mount(tmp_path)
