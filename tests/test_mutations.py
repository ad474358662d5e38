"""Real PTB-XL recordings, damaged at random: each class of damage names its outcome beforehand.

300 and more in all, every one through `build_store`: stored equal to the original, or quarantined
with one of the reasons named here; in = stored + quarantined. Nothing crashes.
"""

import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecgkit.data.place import Folder, open_place
from ecgkit.data.store import build_store
from ecgkit.types import LEADS

EXAMPLES = 8
FILE, FORMAT, GAIN, ZERO, CHECKSUM, NAME = 0, 1, 2, 4, 6, 8  # words of a channel line


class Case:
    """A real record: `first` line, channel `lines` as words, `values` (T, C)."""

    def __init__(self, place, source: str, name: str, rng):
        self.name, self.rng = name, rng
        lines = place.read(f"{source}.hea").decode().splitlines()
        self.first = [name, *lines[0].split()[1:]]
        self.lines = [[f"{name}.dat", *line.split()[1:]] for line in lines[1:13]]
        self.values = np.frombuffer(place.read(f"{source}.dat"), "<i2").reshape(-1, 12).copy()
        self.expected = self.values.T.copy()  # (C, T) as it is to be read
        self.before, self.after, self.extra_lines = b"", b"", []
        self.header, self.samples, self.end = True, True, "\n"

    def sign(self) -> None:
        for line, total in zip(self.lines, self.values.sum(axis=0, dtype=np.int64)):
            line[CHECKSUM] = str(total % 65536)

    def put(self, word: int, text: str, channels=range(12)) -> None:
        for channel in channels:
            self.lines[channel][word] = text

    def one_of(self, *choices):
        return choices[self.rng.integers(len(choices))]

    def files(self) -> dict[str, bytes]:
        lines = [" ".join(words) for words in [self.first, *self.lines]] + self.extra_lines
        samples = self.before + np.ascontiguousarray(self.values, "<i2").tobytes() + self.after
        found = {}
        if self.header:
            found[f"{self.name}.hea"] = (self.end.join(lines) + self.end).encode()
        if self.samples:
            found[f"{self.name}.dat"] = samples
        return found


# --- harmless: stored equal to the original -------------------------------------------------------


def untouched(case):
    pass


def leads_permuted(case):
    order = case.rng.permutation(12)
    case.lines, case.values = [case.lines[i] for i in order], case.values[:, order]


def leads_spelt_otherwise(case):
    spell = case.one_of(str.upper, str.lower, "Lead {}".format, "MDC_ECG_LEAD_{}".format)
    for line in case.lines:
        line[NAME] = spell(line[NAME])


def bytes_behind_the_end(case):
    case.after = case.rng.bytes(int(case.rng.integers(1, 5000)))


def bytes_before_the_start(case):
    case.before = case.rng.bytes(24)
    case.put(FORMAT, "16+24")


def a_breathing_channel_more(case):
    at = int(case.rng.integers(13))
    words = [f"{case.name}.dat", "16", case.one_of("0/l/min", "100/NU", "1/mmHg"), *"16000"]
    case.lines.insert(at, [*words[:3], "16", "0", "0", "0", "0", "Resp"])
    breath = case.rng.integers(-99, 99, (len(case.values), 1), dtype=np.int16)
    case.values = np.hstack([case.values[:, :at], breath, case.values[:, at:]])
    case.first[1] = "13"
    case.sign()


def in_microvolts(case):
    case.put(GAIN, "1(0)/uV")


def comments_and_windows_lines(case):
    case.extra_lines = ["# Age: 84", "#", "", "# Dx: 426783006 ä"]
    case.end = "\r\n"


def length_not_said(case):
    case.first = case.first[:3]


def checksums_wrong(case):
    case.put(CHECKSUM, "1")


def a_tenth_of_a_lead_missing(case):
    n, lead = len(case.values), int(case.rng.integers(12))
    case.values[n // 2 : n // 2 + n // 10, lead] = -32768
    case.expected = case.values.T.copy()


def chest_names_swapped(case):
    """Nothing binds the chest leads to each other, so the header is believed."""
    a, b = case.rng.choice(np.arange(6, 12), 2, replace=False)
    case.lines[a][NAME], case.lines[b][NAME] = case.lines[b][NAME], case.lines[a][NAME]
    case.expected[[a, b]] = case.expected[[b, a]]


# --- harmful: quarantined -------------------------------------------------------------------------


def cut_short(case):
    data = np.ascontiguousarray(case.values, "<i2").tobytes()
    case.values, case.before = case.values[:0], data[: int(case.rng.integers(len(data)))]


def too_long(case):
    case.after, case.lines[3][CHECKSUM] = bytes(int(case.rng.integers(1, 5000))), "x"


def header_of_a_shorter_one(case):
    case.first[3] = str(int(case.rng.integers(1, len(case.values))))


def header_of_a_longer_one(case):
    case.first[3] = str(len(case.values) + int(case.rng.integers(1, 1000)))


def header_of_fewer_channels(case):
    case.first[1] = "8"
    case.lines = case.lines[:8]


def absurd_length(case):
    case.first[3] = case.one_of("1000000000000", "9" * 30)


def absurd_channels(case):
    case.first[1] = case.one_of("100000", "0", "-3", "x", "1" + "0" * 20)


def header_is_none(case):
    case.first, case.lines = case.one_of([], ["\0\x1f\x8b"], ["12"], [case.name, "zwölf"]), []


def header_cut(case):
    case.lines = case.lines[: int(case.rng.integers(12))]


def header_gone(case):
    case.header = False


def samples_gone(case):
    case.samples = False


def samples_elsewhere(case):
    case.put(FILE, case.one_of("other.dat", "r.mat"))


def zip_slip(case):
    case.put(FILE, case.one_of("../x.dat", "/etc/passwd", "..", "a/b.dat", "..\\x.dat", "C:x.dat"))


def absurd_gain(case):
    gain = case.one_of("0", "0.0(0)/mV", "nan/mV", "inf", "-1000(0)/mV", "1.2.3", "1e999", "gain")
    case.put(GAIN, gain, [int(case.rng.integers(12))])


def gain_of_another_world(case):
    case.put(GAIN, case.one_of("1/mV", "1e-30/mV", "1e-320/mV", "1e30/mV", "1000/uV", "5e6/mV"))


def no_voltage(case):
    case.put(GAIN, case.one_of("1000/mmHg", "1000/bpm"), [int(case.rng.integers(12))])


def absurd_zero(case):
    case.put(GAIN, case.one_of("1000(9000000)/mV", "1000(-2000000000)/mV"))


def endless_zero(case):
    case.put(GAIN, f"1000({'9' * 40})/mV")


def wrong_rate(case):
    case.first[2] = case.one_of("360", "50", "0", "nan", "-500", "1e9", "inf")


def lead_missing(case):
    case.values[:, int(case.rng.integers(12))] = -32768
    case.sign()


def all_missing(case):
    case.values[:] = -32768


def lead_constant(case):
    case.values[:, int(case.rng.integers(12))] = case.one_of(0, 1, 32767, -3000)
    case.sign()


def all_constant(case):
    case.values[:] = case.rng.integers(-99, 99, 12)


def one_sample(case):
    case.values, case.first[3] = case.values[:1], "1"


def lead_clipped(case):
    lead, share = int(case.rng.integers(12)), case.rng.uniform(5, 12)
    low, high = np.percentile(case.values[:, lead], [share, 100 - share]).astype(int)
    case.values[:, lead] = case.values[:, lead].clip(low, high)


def lead_saturated(case):
    n, lead = len(case.values), int(case.rng.integers(12))
    case.values[: int(n * case.rng.uniform(0.1, 0.9)), lead] = case.one_of(32767, -32767)


def leads_gone(case):
    n = int(case.rng.integers(1, 12))
    case.lines, case.values, case.first[1] = case.lines[:n], case.values[:, :n], str(n)


def one_lead_only(case):
    lead = int(case.rng.integers(12))
    case.lines, case.values = [case.lines[lead]], case.values[:, [lead]]
    case.first[1] = "1"


def name_twice(case):
    a, b = case.rng.choice(12, 2, replace=False)
    case.lines[a][NAME] = case.lines[b][NAME]


def name_unknown(case):
    case.lines[int(case.rng.integers(12))][NAME] = case.one_of("EEG", "V7", "ECG", "?", "")


def samples_twice(case):
    a, b = case.rng.choice(np.arange(6, 12), 2, replace=False)
    case.values[:, a] = case.values[:, b]
    case.sign()


def limb_names_swapped(case):
    a, b = case.rng.choice(6, 2, replace=False)
    case.lines[a][NAME], case.lines[b][NAME] = case.lines[b][NAME], case.lines[a][NAME]


def unknown_format(case):
    case.put(FORMAT, case.one_of("999", "0", "16x0"))


EQUAL = "stored, equal to the original"
OUTCOMES = {
    untouched: EQUAL,
    leads_permuted: EQUAL,
    leads_spelt_otherwise: EQUAL,
    bytes_behind_the_end: EQUAL,
    bytes_before_the_start: EQUAL,
    a_breathing_channel_more: EQUAL,
    in_microvolts: EQUAL,
    comments_and_windows_lines: EQUAL,
    length_not_said: EQUAL,
    checksums_wrong: EQUAL,
    a_tenth_of_a_lead_missing: EQUAL,
    chest_names_swapped: EQUAL,
    cut_short: "truncated",
    too_long: "too_long",
    header_of_a_shorter_one: "too_long",
    header_of_a_longer_one: "truncated",
    header_of_fewer_channels: "too_long",
    absurd_length: "truncated",
    absurd_channels: "header",
    header_is_none: "header",
    header_cut: "header",
    header_gone: "missing_file",
    samples_gone: "missing_file",
    samples_elsewhere: "missing_file",
    zip_slip: "header",
    absurd_gain: "zero_gain",
    gain_of_another_world: "amplitude",
    no_voltage: "units",
    absurd_zero: "amplitude",
    endless_zero: "header",
    wrong_rate: "wrong_rate",
    lead_missing: "missing_lead",
    all_missing: "no_signal",
    lead_constant: "flat_lead",
    all_constant: "no_signal",
    one_sample: "no_signal",
    lead_clipped: "clipped",
    lead_saturated: "clipped",
    leads_gone: "missing_leads",
    one_lead_only: "missing_leads",
    name_twice: "lead_names",
    name_unknown: "lead_names",
    samples_twice: "repeated_lead",
    limb_names_swapped: "lead_identity",
    unknown_format: "damaged",
}


# --- what lies around the records -----------------------------------------------------------------


def flip(archive: bytearray, info) -> None:
    """One bit inside the compressed samples."""
    archive[info.header_offset + 80 + info.compress_size // 2] ^= 0x10


def lock(archive: bytearray, info) -> None:
    """Marks a member as encrypted, in the directory and at the member."""
    archive[info.header_offset + 6] |= 1
    archive[directory_entry(archive, info) + 8] |= 1


def pack_unknown(archive: bytearray, info) -> None:
    """Says that a member is packed by a method that is not there."""
    archive[info.header_offset + 8] = archive[directory_entry(archive, info) + 10] = 99


def directory_entry(archive: bytearray, info) -> int:
    at = archive.rindex(info.filename.encode())
    return archive.rindex(b"PK\x01\x02", 0, at)


IN_ZIP = {"damaged by a bit": flip, "locked": lock, "packed by an unknown method": pack_unknown}
FOLDERS = st.text(st.sampled_from("aZ0 ._-äßñ心電図éЖ'()&;"), min_size=1, max_size=12).map(
    lambda text: f"x{text}y"
)


@pytest.fixture(scope="module")
def ptbxl(shared):
    return open_place(shared / "data" / "ptbxl-subset-400.zip", "ptbxl_database.csv", "PTB-XL")


def source_name(number: int, rate: int) -> str:
    return f"records{rate}/00000/{number:05d}_{'lr' if rate == 100 else 'hr'}"


def store_all(place, cases: dict, rate: int):
    """Builds the store of {label: case} and checks the sum; returns it and what became of each."""
    with tempfile.TemporaryDirectory() as folder:
        jobs = [(label, case.name) for label, case in cases.items()]
        store = build_store(Path(folder), jobs, place, key="k", fs=rate, rates=(rate,))
        assert len(store) + len(store.quarantine) == store.n_in == len(cases)
        for line in store.quarantine.itertuples():
            assert len(line.sentence) > 30 and line.source == cases[line.ecg_id].name
        reasons = dict(zip(store.quarantine["ecg_id"], store.quarantine["reason"]))
        signals = {
            label: store.read([row], fill=False)[0]
            for row, label in enumerate(store.index["ecg_id"])
        }
        return reasons, signals, store.index.set_index("ecg_id")


def assert_equal_to_original(case, signal, label):
    values = np.where(np.isnan(signal), -32768, np.rint(np.nan_to_num(signal) * 1000))
    assert np.array_equal(values, case.expected), f"{label} is not as it was"


@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(
    seeds=st.fixed_dictionaries({do.__name__: st.integers(0, 2**32 - 1) for do in OUTCOMES}),
    rate=st.sampled_from([100, 100, 500]),
    below=FOLDERS,
    zipped=st.booleans(),
)
def test_each_damage_ends_as_named(ptbxl, seeds, rate, below, zipped):
    cases, files = {}, {}
    for number, do in enumerate(OUTCOMES):
        rng = np.random.default_rng(seeds[do.__name__])
        name = f"{below}/{number:02d}"
        case = Case(ptbxl, source_name(int(rng.integers(1, 401)), rate), f"{number:02d}", rng)
        do(case)
        files |= {f"{below}/{file}": data for file, data in case.files().items()}
        case.name, cases[do.__name__] = name, case
    with tempfile.TemporaryDirectory() as folder:
        place = write_place(Path(folder), files, zipped)
        reasons, signals, index = store_all(place, cases, rate)
    for do, outcome in OUTCOMES.items():
        label = do.__name__
        if outcome is EQUAL:
            assert label in signals, f"{label} was refused: {reasons.get(label)}"
            assert_equal_to_original(cases[label], signals[label], label)
        else:
            assert reasons.get(label) == outcome, f"{label}: {reasons.get(label)}, not {outcome}"
    assert index["checksum_ok"]["untouched"] == 1 and index["checksum_ok"]["checksums_wrong"] == 0


def write_place(folder: Path, files: dict[str, bytes], zipped: bool):
    if zipped:
        with zipfile.ZipFile(folder / "all of it.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return open_place(folder / "all of it.zip")
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return Folder(folder)


def test_there_are_300():
    assert EXAMPLES * len(OUTCOMES) >= 300


@settings(max_examples=6, derandomize=True, deadline=None, database=None)
@given(numbers=st.lists(st.integers(1, 400), min_size=4, max_size=4, unique=True))
def test_members_of_a_zip(ptbxl, numbers):
    """Each way to spoil a member spoils that record alone."""
    labels = ["untouched", *IN_ZIP]
    cases = {
        label: Case(ptbxl, source_name(number, 100), f"r{number}", np.random.default_rng(0))
        for label, number in zip(labels, numbers)
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "z.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for case in cases.values():
                for name, data in case.files().items():
                    archive.writestr(name, data)
        raw = bytearray(path.read_bytes())
        with zipfile.ZipFile(path) as archive:
            for label, spoil in IN_ZIP.items():
                spoil(raw, archive.getinfo(f"{cases[label].name}.dat"))
        path.write_bytes(raw)
        reasons, signals, _ = store_all(open_place(path), cases, 100)
    assert reasons == {label: "damaged" for label in IN_ZIP}
    assert_equal_to_original(cases["untouched"], signals["untouched"], "untouched")


@settings(max_examples=10, derandomize=True, deadline=None, database=None)
@given(stem=FOLDERS, number=st.integers(1, 400))
def test_names_of_any_kind(ptbxl, stem, number):
    """Blanks and letters of any alphabet in the record's own name, in the header as on disk."""
    case = Case(ptbxl, source_name(number, 100), stem, np.random.default_rng(0))
    with tempfile.TemporaryDirectory() as folder:
        place = write_place(Path(folder), case.files(), zipped=number % 2 == 0)
        reasons, signals, index = store_all(place, {"it": case}, 100)
    assert_equal_to_original(case, signals["it"], stem)
    assert tuple(index["lead_order"].fillna("")) == ("",) and len(LEADS) == 12
