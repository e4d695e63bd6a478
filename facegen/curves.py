"""Loss and quality curves of a training that is still going on: bounded, drawn in milliseconds."""

import math

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from PIL import Image

from facegen import plot

MOST_PIECES = 512  # of a curve, which is some 400 pixels wide
WINDOW = 25  # steps that a thick line averages, as in `plot.loss_curves`
PLAYERS = {'d_loss': 'discriminator', 'g_loss': 'generator'}


class Thinned:
    """The least, mean and greatest of every `size` values of a series that may grow forever.

    There are at most `most` such pieces: before one more begins, each two neighbours become one.
    """

    def __init__(self, most=MOST_PIECES):
        """Begin without values; `most` is even."""
        self.size, self.count = 1, 0
        self.low, self.total, self.high = np.zeros([3, most])

    def add(self, value):
        """Add the next value."""
        if self.count == self.size * len(self.low):
            self.halve()
        piece, others = divmod(self.count, self.size)
        self.low[piece] = min(value, self.low[piece]) if others else value
        self.high[piece] = max(value, self.high[piece]) if others else value
        self.total[piece] = value + (self.total[piece] if others else 0)
        self.count += 1

    def halve(self):
        """Make one piece of each two."""
        for pieces, join in (self.low, np.minimum), (self.total, np.add), (self.high, np.maximum):
            pieces[: len(pieces) // 2] = join(pieces[::2], pieces[1::2])
        self.size *= 2

    def pieces(self):
        """Return four arrays: each piece's middle, counted from 1, and its low, mean and high."""
        starts = np.arange(0, self.count, self.size)
        sizes = np.minimum(self.size, self.count - starts)
        low, total, high = (each[: len(starts)] for each in (self.low, self.total, self.high))
        return starts + (sizes + 1) / 2, low, total / sizes, high


class Curves:
    """The figure of `plot.loss_curves`, smaller, for a training that is going on.

    Axes with their numbers take most of the time of drawing, so their pixels are kept for as long as
    the limits stay the same, and only the curves are drawn anew.
    """

    def __init__(self, undecided, steps):
        """Begin at step 0 of `steps`, None if unknown; `undecided` is of `undecided_losses`."""
        self.undecided, self.steps = undecided, steps
        self.losses = {name: Thinned() for name in PLAYERS}
        self.panels, self.curves, self.limits = [], {}, None

    def add(self, line):
        """Add the next step, a line of `RunFolder.history`."""
        for name, series in self.losses.items():
            series.add(line[name])

    def image(self, scores):
        """Return the losses and, below, the lines `scores` of `RunFolder.scores`, if any: 480x420."""
        if len(self.panels) != 1 + bool(scores):
            self.make_panels(1 + bool(scores))
        limits = [self.loss_limits(*(self.set_losses(name) for name in PLAYERS))]
        if scores:
            limits.append(self.set_scores(scores))
        if (self.last_step(), *limits) != self.limits:
            self.draw_axes(self.last_step(), *limits)
        self.canvas.restore_region(self.axes_pixels)
        for curve in self.curves.values():
            curve.axes.draw_artist(curve)
        return Image.fromarray(np.asarray(self.canvas.buffer_rgba())).convert('RGB')

    def make_panels(self, count):
        """Make a figure of one panel, or two, whose curves are empty."""
        figure = Figure(figsize=(4.8, 4.2), dpi=100)
        self.canvas, self.limits, self.curves = FigureCanvasAgg(figure), None, {}
        self.panels = figure.subplots(count, sharex=True, squeeze=False)[:, 0]
        figure.subplots_adjust(left=0.13, right=0.96, bottom=0.11, top=0.98, hspace=0.1)
        losses, *quality = self.panels
        for (name, player), rest in zip(PLAYERS.items(), self.undecided, strict=True):
            color = plot.COLORS[name]
            self.add_curve(losses, name, color=color, alpha=0.25, linewidth=0.5)
            self.add_curve(losses, player, color=color, label=player, **plot.MARKERS[name])
            losses.axhline(rest, color=color, linestyle='--', linewidth=1)
        losses.set_ylabel('loss')
        losses.legend(loc='upper left', ncols=2, frameon=False)
        losses.yaxis.set_major_locator(MaxNLocator(4))
        losses.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        for panel in quality:
            look = {'color': plot.COLORS['quality'], 'marker': 'o'}
            self.add_curve(panel, 'distances', markersize=4, **look)
            self.add_curve(panel, 'best', markersize=11, mfc='none', **look)
            panel.set_yscale('log')
            panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.yaxis.set_minor_locator(NullLocator())
            panel.yaxis.set_major_formatter('{x:g}')
            panel.set_ylabel('Fréchet distance')
        self.panels[-1].set_xlabel('step')

    def add_curve(self, panel, name, **look):
        """Add an empty curve, which is not drawn with the axes."""
        (self.curves[name],) = panel.plot([], [], animated=True, **look)

    def set_losses(self, name):
        """Give a player's curves their points; return the means, which are never cut off."""
        series = self.losses[name]
        steps, low, mean, high = series.pieces()
        self.curves[name].set_data(steps.repeat(2), np.column_stack([low, high]).ravel())
        window = max(1, round(WINDOW / series.size))
        means = plot.moving_mean(steps, mean.tolist(), window)
        self.curves[PLAYERS[name]].set_data(*means)
        return means[1]

    def loss_limits(self, *means):
        """Return the (low, high) end of the axis of losses."""
        values = [*self.undecided, *(value for each in means for value in each)]
        return min(0, 1.4 * min(values)), 1.4 * max(values)

    def set_scores(self, scores):
        """Give the lower panel its points; return the ends of its axis, powers of 2 around them."""
        points = [(line['step'], line['frechet_distance']) for line in scores]
        best = min(points, key=lambda point: point[1])
        self.curves['distances'].set_data(*zip(*points, strict=True))
        self.curves['best'].set_data(*([value] for value in best))
        shown = [math.log2(distance) for _, distance in points if 0 < distance < math.inf] or [0]
        return 2 ** math.floor(min(shown) - 0.5), 2 ** math.ceil(max(shown) + 0.5)

    def last_step(self):
        """Return where the axis of steps ends: at a power of 2, so that it seldom changes."""
        step = max(series.count for series in self.losses.values())
        return min(self.steps or math.inf, 2 ** math.ceil(math.log2(max(step, 2))))

    def draw_axes(self, last_step, *limits):
        """Draw all but the curves, and keep the pixels."""
        margin = 0.02 * last_step
        self.panels[0].set_xlim(-margin, last_step + margin)
        for panel, ends in zip(self.panels, limits, strict=True):
            panel.set_ylim(*ends)
        self.canvas.draw()
        self.axes_pixels = self.canvas.copy_from_bbox(self.canvas.figure.bbox)
        self.limits = last_step, *limits
