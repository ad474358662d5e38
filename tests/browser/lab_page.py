"""A notebook open in JupyterLab in a browser: what a reader sees there, and does by keyboard.

Usage:
    notebook = open_notebook(page, server.address("02_preprocessing.ipynb"))
    notebook.run_all(timeout_s=60)
    assert not notebook.problems()
    knobs = notebook.widget("simulator")
    knobs.turn("Heart rate", "ArrowRight")     # fails where the picture stays as it is
"""

from __future__ import annotations

import math
import time
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

START_S, UPDATE_S = 90, 30
KEY_MS = 150  # a menu is open some time before it takes keys
CHOOSE_NEXT = "Space ArrowDown Enter"
TALLEST = 8_000  # pixels of one picture; Chromium draws none taller than 16,384
MARGIN = 4  # pixels that ipywidgets leaves between two controls
AROUND = 120  # pixels that JupyterLab itself takes above and below a notebook
# Lab writes [*] beside a cell that waits or runs, [3] beside one that has run.
PROMPTS = "[...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(p => p.textContent)"
STARTED = f"() => {PROMPTS}.some(prompt => /[*0-9]/.test(prompt))"
ENDED = f"() => {PROMPTS}.every(prompt => !prompt.includes('*'))"
# What the browser shows of every picture, whatever address its bytes came by.
PICTURES = """root => Promise.all([...root.querySelectorAll('img')]
  .filter(img => /^(data|blob):/.test(img.src)).map(async img => {
    const bytes = await (await fetch(img.src)).arrayBuffer();
    const hash = await crypto.subtle.digest('SHA-1', bytes);
    return [...new Uint8Array(hash)].join(' ');
  }))"""
IDLE = "| Idle"
OUTPUT = ".jp-OutputArea-output"
CONTROLS = "button, input, select, textarea, [role=slider]"
BROKEN = (
    ".jupyter-widgets-error-widget",
    f"{OUTPUT}:has-text('Loading widget')",
    f"{OUTPUT}:has-text('Error displaying widget')",
)


def open_notebook(page: Page, address: str) -> LabNotebook:
    """Goes to `address` and waits until its kernel has started."""
    page.goto(address)
    expect(page.locator(".jp-CodeCell").first).to_be_visible(timeout=START_S * 1000)
    # The toolbar says idle before there is a kernel; the status bar does not.
    expect(page.get_by_text(IDLE)).to_be_visible(timeout=START_S * 1000)
    return LabNotebook(page)


class LabNotebook:
    """The notebook that `page` shows."""

    def __init__(self, page: Page):
        self.page, self.root = page, page.locator(".jp-Notebook")

    def run_all(self, timeout_s: float) -> None:
        """Runs every cell by the menu and waits for the last one."""
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        self.page.wait_for_function(STARTED)
        self.page.wait_for_function(ENDED, timeout=timeout_s * 1000)

    def problems(self) -> list[str]:
        """Errors, anything on stderr, widgets that do not show, cells that have not run."""
        found = []
        for kind in ("error", "stderr"):
            css = f"{OUTPUT}[data-mime-type='application/vnd.jupyter.{kind}']"
            texts = self.root.locator(css).all_inner_texts()
            found += [f"{kind}: {text[-1500:]}" for text in texts]
        for icon in self.root.locator(f"{BROKEN[0]}.icon-error").all():
            icon.click()  # which shows what was thrown
        broken = self.root.locator(", ".join(BROKEN)).all_inner_texts()
        found += [f"a widget that is not shown: {text[-300:]!r}" for text in broken]
        idle = sum("[ ]" in prompt for prompt in self.page.evaluate(PROMPTS))
        return found + ([f"{idle} cells have not run"] if idle else [])

    def pictures(self) -> list[str]:
        """A fingerprint of each picture in an output."""
        return self.root.evaluate(PICTURES)

    def widgets(self) -> dict[str, LabWidget]:
        """The kit's widgets by name, from the top; a second of a name is `name 2`."""
        classes = "e => [...e.classList].find(c => /^ecgkit-(?!widget)/.test(c))"
        found: dict[str, LabWidget] = {}
        for root in self.root.locator(f"{OUTPUT} .ecgkit-widget").all():
            name = root.evaluate(classes).removeprefix("ecgkit-")
            again = sum(known.split()[0] == name for known in found)
            found[f"{name} {again + 1}" if again else name] = LabWidget(self.page, root)
        return found

    def screenshot(self, path: Path) -> None:
        """The whole notebook in pictures of one height, `TALLEST` at most: NAME.png, NAME_2.png."""
        before = self.page.viewport_size
        tall = self.root.locator(".jp-WindowedPanel-viewport").evaluate("e => e.scrollHeight")
        n_parts = math.ceil(tall / TALLEST)
        height = math.ceil(tall / n_parts)
        self.page.set_viewport_size(before | {"height": height + AROUND})
        scroll = "(e, top) => { e.scrollTop = top }"
        for part in range(n_parts):
            self.root.locator(".jp-WindowedPanel-outer").evaluate(scroll, part * height)
            ending = f"_{part + 1}" if part else ""
            self.root.screenshot(path=path.with_stem(path.stem + ending))
        self.page.set_viewport_size(before)


class LabWidget:
    """One of the kit's widgets on the page."""

    def __init__(self, page: Page, root: Locator):
        self.page, self.root = page, root

    def control(self, label: str) -> Locator:
        """The control that carries `label`; of a slider its handle, which takes the keys."""
        box = self.root.locator(f".jupyter-widgets:has(> .widget-label:text-is('{label}'))")
        button = self.root.get_by_role("button", name=label, exact=True)
        tick = self.root.locator(f"label:has(span:text-is('{label}'))").locator("input")
        return box.locator("[role=slider], select, input[type=text]").or_(button).or_(tick).first

    def turn(
        self, label: str, keys: str = "Enter", write: str = "", changes: str = "picture"
    ) -> None:
        """Gives words, then a key or `CHOOSE_NEXT`, to a control and waits until the picture (or
        the words of the widget) are others.
        """
        before = self._at_rest()[changes]
        control = self.control(label)
        control.focus()
        if write:
            control.fill(write)
        if keys == CHOOSE_NEXT:
            self._choose_next(control)
        else:
            self.page.keyboard.press(keys)
        patience = time.monotonic() + UPDATE_S
        while self._at_rest()[changes] == before:
            assert time.monotonic() < patience, f"{label}: {write or keys!r} changes no {changes}"

    def _choose_next(self, menu: Locator) -> None:
        """JupyterLab keeps plain arrows to itself; a menu that Space has opened gets them."""
        self.page.keyboard.press("Space")
        opened = "menu => menu.matches(':open')"
        self.page.wait_for_function(opened, arg=menu.element_handle())
        for key in ("ArrowDown", "Enter"):
            self.page.wait_for_timeout(KEY_MS)
            self.page.keyboard.press(key)

    def _at_rest(self) -> dict[str, object]:
        """Its pictures and words once the kernel is idle and they have stopped changing: a widget
        of several pictures brings them one by one.
        """
        look, last = self._look(), None
        while look != last:
            self.page.wait_for_timeout(KEY_MS)
            expect(self.page.get_by_text(IDLE)).to_be_visible(timeout=UPDATE_S * 1000)
            look, last = self._look(), look
        return look

    def _look(self) -> dict[str, object]:
        return {"picture": self.root.evaluate(PICTURES), "words": self.root.inner_text()}

    def unreached(self) -> list[str]:
        """Controls that the Tab key does not come to from the first one."""
        controls = self.root.locator(CONTROLS).locator("visible=true")
        names = [self._name(control) for control in controls.all()]
        controls.first.focus()
        reached = []
        for _ in range(2 * len(names)):  # a slider's number takes the focus too
            reached += [self._name(focus) for focus in self.root.locator(":focus").all()]
            self.page.keyboard.press("Tab")
        return [name for name in names if name not in reached]

    def _name(self, control: Locator) -> str:
        return control.evaluate("e => e.outerHTML.slice(0, 200)")

    def cut_off(self) -> list[str]:
        """Controls and pictures that end to the right of the cell that holds them."""
        edge = "e => e.getBoundingClientRect().right"
        right = self.root.locator(f"xpath=ancestor::*[contains(@class, '{OUTPUT[1:]}')][1]")
        limit = right.evaluate(edge) + MARGIN
        shown = self.root.locator(f"{CONTROLS}, img").locator("visible=true").all()
        return [self._name(one) for one in shown if one.evaluate(edge) > limit]

    def screenshot(self, path: Path) -> None:
        """The whole widget, in a window as tall as it takes."""
        before = self.page.viewport_size
        tall = round(self.root.bounding_box()["height"])
        self.page.set_viewport_size(before | {"height": max(before["height"], tall + 300)})
        self.root.screenshot(path=path)
        self.page.set_viewport_size(before)
