"""Where the simulator's healthy hearts come from: waves fitted to real normal beats.

The median beats of PTB-XL's normal ECGs (folds 1-4 only, 500 Hz) are turned into heart vectors: a
mean lead field, then one of each person's own (ridge regression of the eight leads on the vector
that the mean field gives). Ten Gaussian waves are fitted to each vector beat by separable least
squares, sizes in closed form, times and widths by iteration, both held near a mean heart. Across
people, all these numbers are then described by mean, slopes on age and sex, and principal
components, and only that goes into the simulator: no person's beat does.

Usage: python benchmarks/fit_anatomy.py PTBXL    # rewrites ecgkit/data/synthetic/anatomy.csv
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from ecgkit.data.synthetic.anatomy import FIELD, TABLE
from ecgkit.data.synthetic.hearts import DOWER, EDGE, LEADS8
from ecgkit.features.rhythm import find_beats, heart_rate, median_beats

sys.path.insert(0, str(Path(__file__).resolve().parent))

FS, BEFORE, AFTER = 500, 0.32, 0.60
N_COMPONENTS = 30
FREE = [0, 1, 6, 7, 8, 9, 10, 11]
SYMMETRIC = [0, 1, 2, 3, 4, 5, 6, 9]  # waves of one width; J and T have two
# Starting heart: dipole mV, centre ms, sd ms before and after it; then how far (sd) a person's
# centre (ms), log widths and sizes (mV) may lie from it.
START = {
    "P1": ((0.03, 0.05, -0.025), -158, 18, 18, 9, 0.10, 0.03),
    "P2": ((0.055, 0.08, 0.006), -126, 19, 19, 9, 0.10, 0.04),
    "Q": ((-0.10, -0.10, -0.44), -18, 9, 9, 2.5, 0.12, 0.20),
    "R1": ((0.85, 0.45, 0.35), -6, 8.5, 8.5, 2, 0.12, 0.28),
    "R2": ((0.70, 0.20, 0.30), 5, 7.5, 7.5, 2, 0.12, 0.28),
    "S": ((-0.24, 0.10, 0.46), 16, 7.5, 7.5, 2.5, 0.15, 0.25),
    "L": ((-0.06, -0.03, 0.12), 32, 9.5, 9.5, 4, 0.15, 0.10),
    "J": ((0.022, 0.006, -0.10), 88, 24, 110, 5, 0.06, 0.06),
    "T": ((0.30, 0.17, -0.20), 258, 50, 33, 30, 0.20, 0.20),
    "U": ((0.028, 0.03, -0.02), 412, 62, 62, 20, 0.12, 0.03),
}
WAVES = tuple(START)
QRS, T, J, U = [2, 3, 4, 5, 6], 8, 7, 9
NOISE_MV, LOCAL_SD = 0.008, 0.04


def lead_fields(beats: np.ndarray, t: np.ndarray, rate: np.ndarray) -> np.ndarray:
    """(N, 8, T) mV -> each person's field (N, 8, 3): regression of the leads on the heart vector
    that the mean field gives, the mean renewed three times."""
    mean = DOWER
    for _ in range(3):
        own = np.stack([_own_field(b, t, r, mean) for b, r in zip(beats, rate)])
        mean = own.mean(axis=0)
    return np.stack([_own_field(b, t, r, mean) for b, r in zip(beats, rate)])


def _own_field(beat, t, rate: float, mean: np.ndarray) -> np.ndarray:
    inside = (t > -0.25) & (t < min(0.5, 60 / rate - 0.3))
    beat = beat[:, inside]
    x = np.linalg.pinv(mean) @ beat
    gram = x @ x.T
    ridge = 0.03 * np.trace(gram) / 3
    return mean + (beat - mean @ x) @ x.T @ np.linalg.inv(gram + ridge * np.eye(3))


def fit_waves(x: np.ndarray, t: np.ndarray, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Heart vector (3, T) mV -> sizes (3, K) mV, and times (K, 3): centre s, log sd before, after.

    Before the QRS a line from the TP level to the PR level (atrial repolarisation) is taken out.
    """
    from scipy.optimize import least_squares

    start, sd, sizes, size_sd = _start(rate)
    x = _without_atrial_slope(x, t)
    near = np.abs(t - 0.01) < 0.08
    keep = (near | (np.arange(len(t)) % 4 == 0)) & (t > -0.25) & (t < min(0.52, 60 / rate - 0.27))
    x, t, weight = x[:, keep], t[keep], np.where(near[keep], 1.0, 1.2)

    def solve(times):
        shape = _shapes(times, t)
        g = shape * weight
        normal = g @ g.T / NOISE_MV**2 + np.diag(1 / size_sd**2)
        right = g @ (x * weight).T / NOISE_MV**2 + (sizes / size_sd**2).T
        return np.linalg.solve(normal, right).T, shape

    def residual(p):
        a, shape = solve(_times(p))
        off = (p.reshape(-1, 3) - start) / sd
        parts = ((x - a @ shape) * weight / NOISE_MV, (a - sizes) / size_sd, off)
        return np.concatenate([part.ravel() for part in parts])

    bounds = ((start - 3 * sd).ravel(), (start + 3 * sd).ravel())
    found = least_squares(residual, start.ravel(), bounds=bounds, max_nfev=20)
    times = _times(found.x)
    return solve(times)[0], times


def _start(rate: float) -> tuple:
    rows = list(START.values())
    start = np.array([[r[1] / 1000, np.log(r[2] / 1000), np.log(r[3] / 1000)] for r in rows])
    stretch = np.clip((60 / rate) ** 0.45, 0.6, 1.2)
    start[[T, U], 0] *= stretch
    start[T, 1:] += np.log(stretch)
    sd = np.array([[r[4] / 1000, r[5], r[5]] for r in rows])
    return start, sd, np.array([r[0] for r in rows]).T, np.array([r[6] for r in rows])


def _times(p: np.ndarray) -> np.ndarray:
    times = p.reshape(-1, 3).copy()
    times[SYMMETRIC, 2] = times[SYMMETRIC, 1]
    return times


def _shapes(times: np.ndarray, t: np.ndarray) -> np.ndarray:
    d = t - times[:, :1]
    return np.exp(-0.5 * (d / np.exp(np.where(d < 0, times[:, 1:2], times[:, 2:3]))) ** 2)


def beyond_dipole(beat: np.ndarray, t: np.ndarray, rate: float, own, sizes, times) -> np.ndarray:
    """What a person's leads (8, T) hold beside the dipole: (8, K) mV of each wave, held near 0."""
    beat = _without_atrial_slope(beat, t)
    keep = (t > -0.25) & (t < min(0.52, 60 / rate - 0.27))
    shape = _shapes(times, t[keep])
    rest = beat[:, keep] - own @ sizes @ shape
    normal = shape @ shape.T / NOISE_MV**2 + np.eye(len(shape)) / LOCAL_SD**2
    return np.linalg.solve(normal, shape @ rest.T / NOISE_MV**2).T


def _without_atrial_slope(x: np.ndarray, t: np.ndarray) -> np.ndarray:
    """(.., T): the line from the TP level to the PR level (atrial repolarisation) taken out."""
    x, pre = x.copy(), t < -0.075
    tp = np.median(x[:, (t > -0.27) & (t < -0.235)], axis=1)[:, None]
    x[:, pre] -= tp * np.clip((-0.075 - t[pre]) / 0.175, 0, 1)
    return x


def describe(sizes, times, own, local, rate) -> pd.DataFrame:
    """(N, 3, K), (N, K, 3), own fields, what they leave over -> (N, P) numbers for `anatomy`."""
    stretch = np.clip((60 / rate) ** 0.45, 0.55, 1.15)
    qrs_size = np.sqrt((sizes[:, :, QRS] ** 2).sum(axis=(1, 2)))
    t_size = np.sqrt((sizes[:, :, T] ** 2).sum(axis=1))
    table = {"log_qrs": np.log(qrs_size), "log_t": np.log(t_size)}
    for k, name in enumerate(WAVES):
        scale = qrs_size if k in QRS else t_size if k == T else 1
        table |= {f"{name}_{axis}": sizes[:, i, k] / scale for i, axis in enumerate("xyz")}
    for k, name in enumerate(WAVES):
        if k not in (T, U):
            table[f"{name}_centre"] = 1000 * times[:, k, 0]
        table[f"{name}_rise"] = times[:, k, 1] - (np.log(stretch) if k in (T, U) else 0)
    table["J_fall"] = times[:, J, 2]
    table["T_fall"] = times[:, T, 2] - np.log(stretch)
    start, _ = _qrs_edges(sizes, times, own)
    t_end = times[:, T, 0] + EDGE * np.exp(times[:, T, 2])
    table["qtc"] = 1000 * (t_end - start) / (60 / rate) ** 0.45
    table["U_gap"] = 1000 * (times[:, U, 0] - t_end)
    for c, lead in enumerate(LEADS8):
        table |= {f"{FIELD}{lead}_{axis}": own[:, c, i] for i, axis in enumerate("xyz")}
    for k in (0, 1, J, T):
        for c, lead in enumerate(LEADS8):
            table[f"{WAVES[k]}_{lead}"] = local[:, c, k]
    return pd.DataFrame(table)


def _qrs_edges(sizes, times, own):
    """As hearts.qrs_edges: edges of the waves above 0.08 mV in some lead."""
    seen = np.abs(np.einsum("ncx,nxk->nck", own, sizes[:, :, QRS])).max(axis=1) > 0.08
    sd = np.exp(times[:, QRS, 1])
    first = np.where(seen, times[:, QRS, 0] - EDGE * sd, np.inf).min(axis=1)
    return first, np.where(seen, times[:, QRS, 0] + EDGE * sd, -np.inf).max(axis=1)


def population_table(numbers: pd.DataFrame, age: np.ndarray, sex: np.ndarray) -> pd.DataFrame:
    """(N, P) -> P rows: mean at 50 years (male), slope per 20 years, difference of women, spread
    not explained, and loadings of the principal components of what age and sex leave over."""
    x = np.column_stack([np.ones(len(age)), (age - 50) / 20, sex])
    ridge = np.diag([0.0, 4.0, 4.0])  # slopes of few people are drawn towards none
    y = numbers.to_numpy()
    coefficients = np.linalg.solve(x.T @ x + ridge, x.T @ y)  # (3, P)
    rest = y - x @ coefficients
    sd = rest.std(axis=0, ddof=3)
    # Winsorised: one mis-fitted person must not become a component.
    z = np.clip(rest / sd, -3, 3)
    z -= z.mean(axis=0)
    _, s, v = np.linalg.svd(z / np.sqrt(len(z) - 3), full_matrices=False)
    loadings = (v[:N_COMPONENTS] * s[:N_COMPONENTS, None]).T * sd[:, None]  # (P, K)
    left = np.sqrt(np.clip(sd**2 - (loadings**2).sum(axis=1), 0, None))
    table = pd.DataFrame(coefficients.T, columns=["mean", "per_20_years", "female"])
    table.insert(0, "name", numbers.columns)
    table["rest"] = left
    for k in range(N_COMPONENTS):
        table[f"c{k + 1}"] = loadings[:, k]
    print(f"{N_COMPONENTS} components hold {(s[:N_COMPONENTS] ** 2).sum() / (s**2).sum():.0%}")
    return table


def main() -> None:
    from realism import real_records

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("ptbxl", help="folder or .zip that holds PTB-XL")
    args = parser.parse_args()
    table, signal = real_records(args.ptbxl, clean=False, column="filename_hr")
    normal = table["scp_codes"].map(lambda codes: "NORM" in codes).to_numpy()
    table, signal = table[normal], signal[normal]
    beats = find_beats(signal, FS)
    rate, beat = heart_rate(beats), median_beats(signal, beats, BEFORE, AFTER)[:, FREE]
    t = np.arange(beat.shape[-1]) / FS - BEFORE
    level = (t > -0.085) & (t < -0.05)
    beat = beat - np.median(beat[..., level], axis=-1, keepdims=True)
    own = lead_fields(beat, t, rate)
    vectors = np.stack([np.linalg.pinv(f) @ b for f, b in zip(own, beat)])
    fitted = [fit_waves(x, t, r) for x, r in zip(vectors, rate)]
    sizes, times = (np.stack(part) for part in zip(*fitted))
    people = zip(beat, rate, own, sizes, times)
    local = np.stack([beyond_dipole(b, t, r, f, a, w) for b, r, f, a, w in people])
    drawn = np.stack([a @ _shapes(w, t) for a, w in zip(sizes, times)])
    error = np.sqrt(((drawn - vectors)[..., (t > -0.25) & (t < 0.4)] ** 2).mean(axis=(1, 2)))
    print(f"{len(table)} normal ECGs; error of the fit {1000 * np.median(error):.0f} uV (median)")
    numbers = describe(sizes, times, own, local, rate)
    population = population_table(
        numbers, table["age"].fillna(50).clip(17, 90).to_numpy(), table["sex"].to_numpy()
    )
    with open(TABLE, "w", newline="") as file:
        file.write(
            "# PTB-XL 1.0.3 (Wagner et al. 2020, CC BY 4.0), normal ECGs of folds 1-4, described\n"
        )
        file.write("# by benchmarks/fit_anatomy.py\n")
        population.round(4).to_csv(file, index=False)
    print(f"wrote {TABLE}")


if __name__ == "__main__":
    main()
