"""An ECG that follows four knobs: heart rate, QRS width, ST level, axis. In a batch run the page of
the starting values alone.

Usage, as a cell's last expression:
    meet_simulator("SR", heart_rate=75)
"""

from __future__ import annotations

import io
from html import escape

import numpy as np

from ecgkit import runtime
from ecgkit.data.synthetic import known_codes, simulate
from ecgkit.reports import paper
from ecgkit.types import NOT_FOR_DIAGNOSIS, ECGRecord

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


class SimulatorBench:
    """The widgets of `meet_simulator` (`view`): `code`, one slider per knob, `image`."""

    def __init__(self, code: str, seed: int, start: dict):
        import ipywidgets as w

        self.seed = seed
        self.code = w.Dropdown(options=known_codes(), value=code, description="Statement")
        self.sliders = {name: _slider(name, start[name]) for name in KNOBS}
        self.image = w.Image(format="png")
        for control in (self.code, *self.sliders.values()):
            control.observe(lambda _: self.show(), names="value")
        notice = w.HTML(f"<em>{escape(NOT_FOR_DIAGNOSIS)}</em>")
        knobs = w.VBox([self.code, *self.sliders.values()])
        self.view = w.VBox([knobs, self.image, notice])
        self.show()

    def show(self) -> None:
        """Simulates and draws the present setting."""
        knobs = {name: slider.value for name, slider in self.sliders.items()}
        record = simulated(self.code.value, self.seed, knobs)
        buffer = io.BytesIO()
        figure = paper.draw_page(record, title(record))[0]
        figure.savefig(buffer, format="png", dpi=80, pil_kwargs={"compress_level": 1})
        self.image.value = buffer.getvalue()


def _slider(name: str, value: float):
    import ipywidgets as w

    label, low, high, step, unit = KNOBS[name]
    kind = w.FloatSlider if isinstance(step, float) else w.IntSlider
    return kind(value=value, min=low, max=high, step=step, description=label, readout=True,
                continuous_update=False, tooltip=unit, style={"description_width": "90px"},
                layout={"width": "420px"})  # fmt: skip
