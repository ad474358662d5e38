"""What every widget of the kit is made of: standard controls, a picture that follows them, the same
in words, and a place where a problem is said.

A widget computes once and draws at each change; no model is trained and no cell is run again. In a
batch run each is a static figure instead, which `keep` saves.

Usage:

    class Counter(Bench):
        def __init__(self):
            super().__init__("counter")                 # CSS classes ecgkit-widget ecgkit-counter
            self.n = w.IntSlider(description="Number", continuous_update=False)
            self.follow(self.n)
            self.lay_out(self.n, self.said, self.image)

        def show(self):
            self.draw(png(plot(self.n.value)), f"The number is {self.n.value}.")

    keep(run, meet_simulator("SR"), "simulator", "One simulated person")   # a notebook's last line
"""

from __future__ import annotations

import contextlib
import gc
import io
import logging
from collections.abc import Callable, Sequence
from html import escape

from matplotlib.figure import Figure

from ecgkit.types import NOT_FOR_DIAGNOSIS, KitError

DPI = 80  # of a picture that follows a control
LABEL = {"description_width": "130px"}
# In JupyterLab a plain arrow key on a closed menu moves to another cell.
KEYS = "Keyboard: Tab to a control; Space opens a menu or ticks, arrows and Enter choose."


def keep(run, item, name: str, caption: str):
    """A batch run's static figure is saved under `figures/`; a live widget is left as it is. Both
    are returned, for the cell to show.
    """
    return run.figure(item, name, caption) if isinstance(item, Figure) else item


def png(figure: Figure, dpi: float = DPI) -> bytes:
    """The figure as a PNG, hardly compressed: packing tightly takes longer than drawing."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, pil_kwargs={"compress_level": 1})
    return buffer.getvalue()


def picture():
    """An image that a style sheet or a test finds as `ecgkit-figure`."""
    import ipywidgets as w

    layout = {"max_width": "100%", "height": "auto", "align_self": "flex-start"}
    image = w.Image(format="png", layout=layout)
    image.add_class("ecgkit-figure")
    return image


def labelled(kind, description: str, width: str = "420px", **traits):
    """A standard control with its name beside it, changing once a choice is made."""
    if "continuous_update" in kind.class_trait_names():
        traits.setdefault("continuous_update", False)
    layout = {"width": width, "max_width": "100%"}
    return kind(description=description, style=LABEL, layout=layout, **traits)


def beside(*parts):
    """Controls beside each other, or under each other where the window is narrow."""
    import ipywidgets as w

    return w.HBox(parts, layout={"flex_flow": "row wrap", "max_width": "100%"})


def lead_boxes(leads: Sequence[str], chosen: Sequence[str], what: str) -> dict:
    """A box to tick for each lead; `what` follows its name in the tooltip."""
    import ipywidgets as w

    layout = {"width": "72px"}
    return {lead: w.Checkbox(value=lead in chosen, description=lead, tooltip=f"{what} {lead}",
                             indent=False, layout=layout) for lead in leads}  # fmt: skip


@contextlib.contextmanager
def collector_paused():
    """No garbage is collected while a figure is drawn: one full collection beside PyTorch takes
    0.2 s, and what a drawing leaves behind goes at once in the small one that follows.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class Bench:
    """Base of the widgets. `view` is the whole, `image` the picture, `said` the picture in words,
    `message` a problem or nothing.

    A subclass makes its controls, calls `follow` on them and `lay_out`, and says in `show` what is
    drawn.
    """

    def __init__(self, name: str):
        import ipywidgets as w

        self.name, self.view, self._held = name, w.VBox(), False
        self.message, self.said, self.image = w.HTML(), w.HTML(), picture()
        for css in ("ecgkit-widget", f"ecgkit-{name}"):
            self.view.add_class(css)

    def show(self) -> None:
        """Draws what the controls say."""
        raise NotImplementedError

    def draw(self, image: bytes, words: str) -> None:
        """Puts a picture up, and above it what it shows in words, for a screen reader as well: an
        Image of ipywidgets has no alternative text.
        """
        self.image.value = image
        self.said.value = f"<p role='status' style='line-height: 1.3'>{escape(words)}</p>"

    def follow(self, *controls, do: Callable | None = None) -> None:
        """Draws anew when one of these changes, or calls `do` with its new value."""
        for control in controls:
            control.observe(
                lambda change: self.attempt(*((do, change["new"]) if do else (self.show,))),
                names="value",
            )

    def press(self, button, do: Callable) -> None:
        """Calls `do` when the button is pressed."""
        button.on_click(lambda _: self.attempt(do))

    def lay_out(self, *rows, notice: str = "") -> None:
        """Stacks controls and pictures from the top, the warning last, and draws for the first
        time.
        """
        import ipywidgets as w

        if NOT_FOR_DIAGNOSIS not in notice:
            notice = f"{notice} {NOT_FOR_DIAGNOSIS}".strip()
        last = w.HTML(f"{escape(KEYS)}<br><em>{escape(notice)}</em>")
        self.view.children = (*rows, last)
        self.attempt(self.show)

    def attempt(self, action: Callable, *values) -> None:
        """Runs an action of the user's; what goes wrong is said in the widget, never lost."""
        if self._held:
            return
        self.message.value = ""
        with collector_paused():
            try:
                action(*values)
            except KitError as error:
                self.complain(str(error))
            except Exception as error:
                logging.getLogger(__name__).exception("in the widget %s", self.name)
                self.complain(
                    f"That did not work: {type(error).__name__}: {error}. What is shown is the "
                    "last that did; please report this with the output of `ecgkit doctor`."
                )

    def complain(self, words: str) -> None:
        """Says a problem in the widget."""
        self.message.value = f"<p role='alert'><b>{escape(words)}</b></p>"

    @contextlib.contextmanager
    def held(self):
        """Within it several controls change and nothing is drawn."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
