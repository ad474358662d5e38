"""WFDB records: our reader against `wfdb`, in a folder and inside a .zip, and what it refuses."""

import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest
import wfdb
from hypothesis import given, settings
from hypothesis import strategies as st

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


# --- every real record, and layouts that are rarer ------------------------------------------------


def same_as_wfdb(place, name, folder):
    """Whether ours equals wfdb's reading of a copy, bit by bit."""
    stem = name.rsplit("/", 1)[-1]
    for suffix in (".hea", ".dat"):
        (folder / f"{stem}{suffix}").write_bytes(place.read(name + suffix))
    theirs = wfdb.rdrecord(str(folder / stem), physical=False)
    raw = read_raw(place, name)
    names = tuple(lead.replace("AV", "aV") for lead in theirs.sig_name)
    return np.array_equal(raw.digital, theirs.d_signal.T) and raw.leads == names


@pytest.mark.parametrize("step", [20, pytest.param(1, marks=pytest.mark.slow)])
def test_real_ptbxl_equal_to_wfdb(shared, tmp_path, step):
    place = open_place(shared / "data" / "ptbxl-subset-400.zip", "ptbxl_database.csv", "PTB-XL")
    names = [name.removesuffix(".hea") for name in place.names(".hea")]
    assert len(names) == 800
    assert all(same_as_wfdb(place, name, tmp_path) for name in names[::step])


def edit(folder, old, new, count=-1):
    path = folder / "r.hea"
    path.write_text(path.read_text().replace(old, new, count))


def wfdb_mv(folder):
    return wfdb.rdrecord(str(folder / "r")).p_signal.T.astype(np.float32)


def test_bytes_before_the_samples(tmp_path):
    digital = write(tmp_path)
    (tmp_path / "r.dat").write_bytes(b"x" * 24 + (tmp_path / "r.dat").read_bytes())
    edit(tmp_path, " 16 ", " 16x1+24 ")
    ours = read_raw(Folder(tmp_path), "r")
    assert np.array_equal(ours.digital, digital.T)
    assert np.array_equal(ours.millivolts(), wfdb_mv(tmp_path))


@pytest.mark.parametrize("said", [True, False])
def test_matlab_header_of_a_challenge_file(tmp_path, said):
    """24 bytes: type, rows, columns, imaginary, length of the name, and "val" with its NUL."""
    digital = write(tmp_path)
    start = np.array([30, 12, len(digital), 0, 4], "<i4").tobytes() + b"val\0"
    (tmp_path / "r.mat").write_bytes(start + (tmp_path / "r.dat").read_bytes())
    edit(tmp_path, "r.dat 16", "r.mat 16+24" if said else "r.mat 16")
    assert np.array_equal(read_raw(Folder(tmp_path), "r").digital, digital.T)


@pytest.mark.parametrize("fmt", ["16", "212", "80"])
def test_several_files_per_record(tmp_path, fmt):
    write(tmp_path, fmt)
    split_in_two(tmp_path, wfdb.rdrecord(str(tmp_path / "r"), physical=False).d_signal)
    raw = read_raw(Folder(tmp_path), "r")
    assert np.array_equal(raw.millivolts(), wfdb_mv(tmp_path)) and raw.leads == LEADS


def split_in_two(folder, digital):
    """Chest leads stay in r.dat; the limb leads come from r2.dat, in format 16."""
    (folder / "r2.dat").write_bytes(digital[:, :6].astype("<i2").tobytes())
    text = (folder / "r.hea").read_text().splitlines()
    fmt = text[1].split()[1]
    wfdb.wrsamp(
        "r",
        fs=100,
        units=["mV"] * 6,
        sig_name=list(LEADS[6:]),
        d_signal=digital[:, 6:],
        fmt=[fmt] * 6,
        adc_gain=[1000.0] * 6,
        baseline=[0] * 6,
        write_dir=str(folder),
    )
    text[1:7] = [line.replace(f"r.dat {fmt}", "r2.dat 16") for line in text[1:7]]
    (folder / "r.hea").write_text("\n".join(text) + "\n")


@pytest.mark.parametrize("order", [(*LEADS, "Resp", "vx", "vy"), ("Resp", *LEADS[::-1])])
def test_channels_beside_the_twelve_are_left_out(tmp_path, order):
    digital = write(tmp_path, leads=order)
    raw = read_raw(Folder(tmp_path), "r").select(LEADS)
    assert np.array_equal(raw.digital, digital.T[[order.index(lead) for lead in LEADS]])
    assert raw.written == " ".join(order)


def test_a_breathing_channel_need_have_no_gain(tmp_path):
    write(tmp_path, leads=(*LEADS, "Resp"))
    header = (tmp_path / "r.hea").read_text().splitlines()
    header[13] = header[13].replace("1000.0(0)/mV", "0/l/min")
    (tmp_path / "r.hea").write_text("\n".join(header))
    assert read_raw(Folder(tmp_path), "r").leads == LEADS


@pytest.mark.parametrize("fmt", ["16", "212"])
def test_longer_than_its_header_says(tmp_path, fmt):
    """Right checksums show that the promised samples are the recording; without them, nothing."""
    digital = write(tmp_path, fmt)
    with open(tmp_path / "r.dat", "ab") as file:
        file.write(b"more than that")
    assert np.array_equal(read_raw(Folder(tmp_path), "r").digital, digital.T)
    lines = [line.split() for line in (tmp_path / "r.hea").read_text().splitlines()]
    lines[5][6] = str(int(lines[5][6]) + 1)
    (tmp_path / "r.hea").write_text("\n".join(" ".join(words) for words in lines))
    with pytest.raises(RecordError) as caught:
        read_raw(Folder(tmp_path), "r")
    assert caught.value.reason == "too_long"


def test_a_length_that_is_not_said(tmp_path):
    digital = write(tmp_path)
    edit(tmp_path, "r 12 100 1001", "r 12 100")
    assert np.array_equal(read_raw(Folder(tmp_path), "r").digital, digital.T)


# --- what is refused ------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    "old,new,reason",
    [
        ("r 12 100 1001", "r 12 100 1000000000000", "truncated"),
        ("r 12 100 1001", "r 100000 100 1001", "header"),
        ("r 12 100 1001", "r 12 100 -5", "header"),
        ("r 12 100 1001", "r/3 12 100 1001", "header"),
        ("r 12 100 1001", "r 12 nan 1001", "wrong_rate"),
        ("r 12 100 1001", "r 12 0 1001", "wrong_rate"),
        ("r 12 100 1001", "r 12 1e9 1001", "wrong_rate"),
        ("1000.0(0)/mV", "nan/mV", "zero_gain"),
        ("1000.0(0)/mV", "inf/mV", "zero_gain"),
        ("1000.0(0)/mV", "-1000/mV", "zero_gain"),
        ("1000.0(0)/mV", "1.2.3/mV", "zero_gain"),
        ("1000.0(0)/mV", f"1000({'7' * 30})/mV", "header"),
        ("r.dat 16", "../r.dat 16", "header"),
        ("r.dat 16", "/etc/hostname 16", "header"),
        ("r.dat 16", "..\\r.dat 16", "header"),
        ("r.dat 16", "r.dat 16+99999999999999", "truncated"),
        ("r.dat 16", "r.dat 32", "truncated"),
        ("r.dat 16", "r.dat 999", "damaged"),
        ("r.dat 16", "r.dat 508", "damaged"),
    ],
)
def test_absurd_headers_cost_nothing(tmp_path, old, new, reason):
    write(tmp_path)
    edit(tmp_path, old, new)
    tracemalloc.start()
    with pytest.raises(RecordError) as caught:
        read_raw(Folder(tmp_path), "r")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.reason == reason and peak < 50e6


def test_an_absurd_length_in_a_compressed_format(tmp_path):
    write(tmp_path)
    edit(tmp_path, "r 12 100 1001", "r 12 100 900000000000")
    edit(tmp_path, "r.dat 16", "r.dat 516")
    with pytest.raises(RecordError, match="900000000000 samples"):
        read_raw(Folder(tmp_path), "r")


@settings(max_examples=150, derandomize=True, deadline=None, database=None)
@given(
    at=st.integers(0, 400),
    cut=st.integers(0, 40),
    put=st.one_of(
        st.binary(max_size=6),
        st.sampled_from(
            [b" nan ", b" 0 ", b" -1 ", b"9" * 40, b"\n", b"16x9:9+9 ", b"\xff\xfe", b"#"]
        ),
    ),
)
def test_a_header_with_anything_in_it_reads_or_says_why(at, cut, put):
    class Memory:
        def read(self, name):
            return files[name] if name in files else Folder("/").read(name)

    text = HEADER + "".join(f"r.dat 16 1000(0)/mV 16 0 0 0 0 {lead}\n" for lead in LEADS)
    header = text.encode()
    files = {"r.hea": header[:at] + put + header[at + cut :], "r.dat": bytes(24000)}
    try:
        assert read_raw(Memory(), "r").digital.size
    except RecordError as error:
        assert error.reason and len(str(error)) > 10


def test_an_error_survives_the_way_between_processes():
    error = pickle.loads(pickle.dumps(RecordError("header", "why")))
    assert (error.reason, str(error)) == ("header", "why")


@pytest.mark.parametrize("stem", ["my rec", "r 2 d", "心電図 1", "a.b", "Ü ß (1)"])
def test_record_names_with_blanks(tmp_path, stem):
    digital = write(tmp_path)
    (tmp_path / "r.dat").rename(tmp_path / f"{stem}.dat")
    text = (tmp_path / "r.hea").read_text().replace("r.dat", f"{stem}.dat")
    (tmp_path / f"{stem}.hea").write_text(text.replace("r 12", f"{stem} 12"), encoding="utf-8")
    assert np.array_equal(read_raw(Folder(tmp_path), stem).digital, digital.T)


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
