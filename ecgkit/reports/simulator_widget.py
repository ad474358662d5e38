"""An ECG that follows four knobs: heart rate, QRS width, ST level, axis. In a batch run the page of
the starting values alone.

Usage, as a cell's last expression:

    keep(run, meet_simulator("SR", heart_rate=75), "simulator", "One simulated person")
"""

from __future__ import annotations

import numpy as np

from ecgkit import runtime
from ecgkit.data.synthetic import known_codes, simulate
from ecgkit.reports import paper
from ecgkit.reports.live_page import page_png
from ecgkit.reports.widget_base import Bench, labelled
from ecgkit.types import ECGRecord

# knob: (label, lowest, highest, step, unit); the keyword of `simulate` is the knob's name.
KNOBS = {
    "heart_rate": ("Heart rate", 35, 170, 5, "/min"),
    "qrs_ms": ("QRS width", 70, 180, 2, "ms"),
    "axis_deg": ("Axis", -90, 150, 5, "degrees"),
    "st_mv": ("ST level", -0.3, 0.4, 0.02, "mV"),
}
START = {"heart_rate": 75, "qrs_ms": 90, "axis_deg": 45, "st_mv": 0.0}


def meet_simulator(code: str = "SR", seed: int = 1, **start):
    """Sliders above an ECG page that is simulated anew at each move; the page alone in a batch run.

    `start` sets knobs (`KNOBS`, units there) at the beginning. The same person (`seed`) throughout,
    so that only the turned knob changes. Raises ConfigError for an unknown code.
    """
    if runtime.is_batch():
        record = simulated(code, seed, START | start)
        return paper.plot_ecg(record, title=title(record))
    return SimulatorBench(code, seed, START | start).view


def simulated(code: str, seed: int, knobs: dict) -> ECGRecord:
    """The ECG of these knobs, 10 s at 250 Hz: fine enough for paper, quick enough for a slider."""
    return simulate(code, fs=250, seed=seed, **knobs)


def title(record: ECGRecord) -> str:
    """What the truth says of a simulated ECG, in one line."""
    t = record.meta["truth"]
    pr = "no P wave" if np.isnan(t["pr_ms"]) else f"PR {t['pr_ms']:.0f}"
    return (
        f"Simulated, as drawn: {t['heart_rate']:.0f}/min · {pr} · QRS {t['qrs_ms']:.0f} · "
        f"QT {t['qt_ms']:.0f} ms · axis {t['axis_deg']:.0f} degrees · ST V5 {t['st_V5']:+.2f} mV"
    )


class SimulatorBench(Bench):
    """The widgets of `meet_simulator`: `code`, one of `sliders` per knob, `reset`."""

    def __init__(self, code: str, seed: int, start: dict):
        import ipywidgets as w

        super().__init__("simulator")
        self.seed, self.start = seed, start
        self.code = labelled(w.Dropdown, "Statement", options=known_codes(), value=code)
        self.sliders = {name: _slider(name, start[name]) for name in KNOBS}
        self.reset = w.Button(description="As it began", tooltip="Every knob back to its start")
        self.follow(self.code, *self.sliders.values())
        self.press(self.reset, self._reset)
        knobs = w.VBox([self.code, *self.sliders.values(), self.reset])
        self.lay_out(knobs, self.message, self.said, self.image)

    def show(self) -> None:
        """Simulates and draws the present setting."""
        knobs = {name: slider.value for name, slider in self.sliders.items()}
        record = simulated(self.code.value, self.seed, knobs)
        words = title(record)
        image, caption = page_png(record, words)
        self.draw(image, f"{self.code.value}. {words} · {caption}")

    def _reset(self) -> None:
        with self.held():
            for name, slider in self.sliders.items():
                slider.value = self.start[name]
        self.show()


def _slider(name: str, value: float):
    import ipywidgets as w

    label, low, high, step, unit = KNOBS[name]
    kind = w.FloatSlider if isinstance(step, float) else w.IntSlider
    return labelled(kind, f"{label} ({unit})", value=value, min=low, max=high, step=step)
