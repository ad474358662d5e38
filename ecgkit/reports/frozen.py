"""A figure of which most stands still: that is drawn once, and only the rest at each change.

Usage:

    frozen = Frozen(figure, [line, mesh, caption])
    line.set_data(x, y); frozen.png()
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


class Frozen:
    """`moving` artists are drawn in this order over everything else of the figure."""

    def __init__(self, figure: Figure, moving: Sequence[Artist], dpi: float = 80):
        self.figure, self.moving = figure, list(moving)
        figure.set_dpi(dpi)
        for artist in self.moving:
            artist.set_animated(True)
        self._canvas = FigureCanvasAgg(figure)
        self._canvas.draw()
        self._still = self._canvas.copy_from_bbox(figure.bbox)

    def png(self) -> bytes:
        """The figure as it is now, hardly compressed: packing takes longer than drawing."""
        from PIL import Image

        self._canvas.restore_region(self._still)
        for artist in self.moving:
            (artist.axes or self.figure).draw_artist(artist)
        buffer, rows = io.BytesIO(), np.asarray(self._canvas.buffer_rgba())
        size = rows.shape[1::-1]
        image = Image.frombuffer("RGBA", size, rows, "raw", "RGBA", 0, 1).convert("RGB")
        image.save(buffer, format="png", compress_level=1)
        return buffer.getvalue()
