"""WFDB records: our reader against `wfdb`, in a folder and inside a .zip, and what it refuses."""

import zipfile

import numpy as np
import pytest
import wfdb

from ecgkit.data.place import Folder, Zip, open_place
from ecgkit.data.records import RecordError, read_raw
from ecgkit.data.wfdb_header import parse_header
from ecgkit.signal import resample
from ecgkit.types import LEADS, DataError

HEADER = "r 12 100 1000\n"


def write(folder, fmt="16", gain=1000.0, baseline=0, leads=LEADS, n=1001, units="mV", seed=0):
    """A random record by wfdb's own writer; returns the digital samples (T, C)."""
    rng = np.random.default_rng(seed)
    digital = rng.integers(-2000, 2000, (n, len(leads)))
    if fmt == "80":
        digital = digital // 20
    wfdb.wrsamp(
        "r",
        fs=100,
        units=[units] * len(leads),
        sig_name=list(leads),
        d_signal=digital,
        fmt=[fmt] * len(leads),
        adc_gain=[gain] * len(leads),
        baseline=[baseline] * len(leads),
        write_dir=str(folder),
    )
    return digital


@pytest.mark.parametrize("fmt", ["16", "212", "80", "24", "32"])
def test_equal_to_wfdb_bit_by_bit(tmp_path, fmt):
    write(tmp_path, fmt, gain=204.8, baseline=7)
    ours = read_raw(Folder(tmp_path), "r").millivolts()
    theirs = wfdb.rdrecord(str(tmp_path / "r")).p_signal.T.astype(np.float32)
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("fmt,least", [("16", -32768), ("212", -2048)])
def test_missing_samples_are_nan_as_in_wfdb(tmp_path, fmt, least):
    digital = write(tmp_path, fmt)
    digital[5:9, 2] = least
    wfdb.wrsamp(
        "r",
        fs=100,
        units=["mV"] * 12,
        sig_name=list(LEADS),
        d_signal=digital,
        fmt=[fmt] * 12,
        adc_gain=[1000.0] * 12,
        baseline=[0] * 12,
        write_dir=str(tmp_path),
    )
    ours = read_raw(Folder(tmp_path), "r").millivolts()
    theirs = wfdb.rdrecord(str(tmp_path / "r")).p_signal.T.astype(np.float32)
    assert np.isnan(ours[2, 5:9]).all() and np.isnan(ours).sum() == 4
    assert np.array_equal(ours, theirs, equal_nan=True)


def test_microvolts_become_millivolts(tmp_path):
    digital = write(tmp_path, gain=1.0, units="uV")
    ours = read_raw(Folder(tmp_path), "r").millivolts()
    assert np.allclose(ours, digital.T / 1000)


def test_leads_are_matched_by_name(tmp_path):
    order = [name.upper() for name in reversed(LEADS)]
    digital = write(tmp_path, leads=order)
    raw = read_raw(Folder(tmp_path), "r")
    assert raw.leads == tuple(reversed(LEADS))
    assert np.array_equal(raw.select(LEADS).digital, digital.T[::-1])


def test_zip_and_folder_with_spaces_and_umlauts_agree(tmp_path):
    folder = tmp_path / "Meine EKGs ü 心电图" / "deep er"
    folder.mkdir(parents=True)
    write(folder)
    with zipfile.ZipFile(tmp_path / "a b ß.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in folder.iterdir():
            archive.write(file, f"wurzel ä/deep er/{file.name}")
    inside = open_place(tmp_path / "a b ß.zip", "r.hea")
    assert isinstance(inside, Zip)
    a, b = read_raw(inside, "r"), read_raw(Folder(folder.parent), "deep er/r")
    assert np.array_equal(a.digital, b.digital)
    assert {name: size for name, (size, _) in inside.listing().items()} == {
        "r.hea": (folder / "r.hea").stat().st_size,
        "r.dat": (folder / "r.dat").stat().st_size,
    }


def test_challenge_mat_of_chapman(shared, tmp_path):
    place = open_place(shared / "data" / "chapman-subset-10.zip", "JS20000.hea", "Chapman")
    names = sorted(name[:-4] for name in place.listing() if name.endswith(".hea"))
    assert len(names) == 10
    for name in names:
        for suffix in (".hea", ".mat"):
            (tmp_path / f"{name}{suffix}").write_bytes(place.read(name + suffix))
        theirs = wfdb.rdrecord(str(tmp_path / name)).p_signal.T.astype(np.float32)
        raw = read_raw(place, name)
        assert np.array_equal(raw.millivolts(), theirs) and raw.leads == LEADS
        assert any(line.startswith("Age") for line in raw.comments)


def spoil(folder, what):
    """Damages the record in `folder` in one way; returns the reason expected."""
    header = (folder / "r.hea").read_text()
    if what == "truncated":
        (folder / "r.dat").write_bytes((folder / "r.dat").read_bytes()[:-100])
    elif what == "no header":
        (folder / "r.hea").unlink()
    elif what == "no samples":
        (folder / "r.dat").unlink()
    elif what == "zero gain":
        (folder / "r.hea").write_text(header.replace("1000.0", "0"))
    elif what == "no gain":
        (folder / "r.hea").write_text("r 12 100 1001\n" + "r.dat 16\n" * 12)
    elif what == "too few lines":
        (folder / "r.hea").write_text("\n".join(header.splitlines()[:8]))
    elif what == "not a header":
        (folder / "r.hea").write_bytes(b"\x00\xff\x13 garbage")
    elif what == "unknown lead":
        (folder / "r.hea").write_text(header.replace(" V6", " EEG"))
    elif what == "twice":
        (folder / "r.hea").write_text(header.replace(" V6", " V5"))
    elif what == "mmHg":
        (folder / "r.hea").write_text(header.replace("/mV", "/mmHg"))


@pytest.mark.parametrize(
    "what,reason",
    [
        ("truncated", "truncated"),
        ("no header", "missing_file"),
        ("no samples", "missing_file"),
        ("zero gain", "zero_gain"),
        ("no gain", "zero_gain"),
        ("too few lines", "header"),
        ("not a header", "header"),
        ("unknown lead", "lead_names"),
        ("twice", "lead_names"),
        ("mmHg", "units"),
    ],
)
def test_a_bad_record_says_why(tmp_path, what, reason):
    write(tmp_path)
    spoil(tmp_path, what)
    with pytest.raises(RecordError) as caught:
        read_raw(Folder(tmp_path), "r")
    assert caught.value.reason == reason and len(str(caught.value)) > 15


def test_missing_leads_are_named(tmp_path):
    write(tmp_path, leads=LEADS[:8])
    with pytest.raises(RecordError, match="V3, V4, V5, V6") as caught:
        read_raw(Folder(tmp_path), "r").select(LEADS)
    assert caught.value.reason == "missing_leads"


@pytest.mark.parametrize("text", ["", "r", "r x 100 1000", "r/2 12 100 1000\n", HEADER])
def test_headers_that_are_none(text):
    with pytest.raises(RecordError):
        parse_header(text)


def test_a_damaged_zip_is_one_sentence(tmp_path):
    path = tmp_path / "cut.zip"
    path.write_bytes(b"PK\x03\x04 not really a zip")
    with pytest.raises(DataError, match="neither a folder nor a readable .zip"):
        open_place(path, "r.hea")
    with pytest.raises(DataError, match="does not exist"):
        open_place(tmp_path / "absent", "r.hea")


def test_a_zip_member_that_is_damaged_goes_to_quarantine(tmp_path):
    write(tmp_path)
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.write(tmp_path / "r.hea", "r.hea")
        archive.write(tmp_path / "r.dat", "r.dat")
    data = bytearray((tmp_path / "z.zip").read_bytes())
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "z.zip").write_bytes(bytes(data))
    with pytest.raises(RecordError) as caught:
        read_raw(open_place(tmp_path / "z.zip", "r.hea"), "r")
    assert caught.value.reason == "damaged"


@pytest.mark.parametrize("fs_out", [100, 250, 400])
def test_resampling_keeps_a_sine_and_its_length(fs_out):
    t_in, t_out = np.arange(5000) / 500, np.arange(10 * fs_out) / fs_out
    x = np.stack([np.sin(2 * np.pi * 7 * t_in), 3 + t_in])
    y = resample(x, 500, fs_out)
    assert y.shape == (2, 10 * fs_out)
    middle = slice(fs_out, 9 * fs_out)
    assert np.abs(y[0] - np.sin(2 * np.pi * 7 * t_out))[middle].max() < 5e-3
    assert np.abs(y[1] - (3 + t_out)).max() < 1e-2
    with pytest.raises(DataError):
        resample(x, 0, 100)
