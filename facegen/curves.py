"""The curves of a training run, live or finished: bounded in memory, and drawn anew in milliseconds."""

import math

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from PIL import Image

MOST_PIECES = 512  # of a curve, which is some 400 or 700 pixels wide
WINDOW = 25  # steps that a line averages, or about as many
NAMES = ('step', 'd_loss', 'g_loss', 'd_real', 'd_fake')  # of a logged line
LABELS = {
    'd_loss': 'discriminator',
    'g_loss': 'generator',
    'd_real': 'D of real images',
    'd_fake': 'D of generated images',
}
COLORS = {
    'd_loss': '#0072b2',
    'g_loss': '#d55e00',
    'd_real': '#000000',
    'd_fake': '#d55e00',
    'quality': '#cc79a7',
}  # told apart by colour-blind readers too (Okabe and Ito 2008)
TRIANGLES = {'marker': '^', 'markersize': 5, 'markevery': 0.1}  # of the curve's length
MARKERS = {'g_loss': TRIANGLES, 'd_fake': TRIANGLES}  # for those who see no colours
LEFT, RIGHT, TOP, BOTTOM = 0.66, 0.5, 0.08, 0.48  # inches beside the panels
LABELS_AT = 0.02, 0.42  # of the panel's width
ROUND_STEPS = [1, 2, 4, 5, 10]  # of axes


class Thinned:
    """The least, mean and greatest of every `size` rows of a table that may grow forever.

    There are at most `most` such pieces: before another begins, every two neighbours are merged.
    Where a number in a piece is NaN, so are its least, mean and greatest.
    """

    def __init__(self, columns, most=MOST_PIECES):
        """Begin without rows; `most` is even."""
        self.size, self.count = 1, 0
        self.low, self.total, self.high = np.zeros([3, most, columns])

    def add(self, row):
        """Add the next row, one number for each column."""
        if self.count == self.size * len(self.low):
            self.halve()
        piece, others = divmod(self.count, self.size)
        row = np.asarray(row, float)
        for pieces, join in self.joined():
            pieces[piece] = join(pieces[piece], row) if others else row
        self.count += 1

    def halve(self):
        """Make one piece of each two."""
        for pieces, join in self.joined():
            pieces[: len(pieces) // 2] = join(pieces[::2], pieces[1::2])
        self.size *= 2

    def joined(self):
        """Return the three arrays, each with the function that merges two of its numbers."""
        return (self.low, np.minimum), (self.total, np.add), (self.high, np.maximum)

    def pieces(self):
        """Return the low, mean and high of each piece, [pieces, columns]."""
        starts = np.arange(0, self.count, self.size)
        sizes = np.minimum(self.size, self.count - starts)
        low, total, high = (each[: len(starts)] for each in (self.low, self.total, self.high))
        return low, total / sizes[:, None], high


class Curves:
    """Both losses of a training run over its steps and, below, what D said and how good images were.

    Dashed lines are `losses.undecided_losses`, and 1/2: a discriminator that cannot tell real from
    generated. Lines are means over WINDOW steps, the bands around them reach from the least to the
    greatest of a few steps; the highest peaks of the losses are cut off. What D said is the mean
    probability that it gave to real and to generated images, 'd_real' and 'd_fake' of the log, where
    it has these. The Fréchet distances, if there are any, are on a logarithmic scale, with a ring
    around the best.

    Axes with their numbers take most of the time of drawing, so their pixels are kept for as long as
    the limits stay the same, and only the curves are drawn anew.
    """

    def __init__(self, undecided, steps, *, size=None, dpi=100):
        """Begin at step 0 of `steps`, None if unknown; `undecided` comes from `undecided_losses`.

        `size` is (width, height) in inches; None grows with the panels.
        """
        self.undecided, self.steps, self.size, self.dpi = undecided, steps, size, dpi
        self.step, self.judged = 0, False
        self.series = Thinned(len(NAMES))
        self.panels, self.curves, self.limits = {}, {}, None

    def add(self, line):
        """Add the next step, a line of `RunFolder.history`."""
        self.step = line['step']
        self.judged = self.judged or 'd_real' in line
        self.series.add([line.get(name, math.nan) for name in NAMES])

    def image(self, scores):
        """Return the figure, with the lines `scores` of `RunFolder.scores`, as a Pillow image."""
        shown = ['losses', *['verdicts'] * self.judged, *['quality'] * bool(scores)]
        if shown != list(self.panels):
            self.make_panels(shown)
        limits = {'losses': self.set_trends()}
        if scores:
            limits['quality'] = self.set_scores(scores)
        if (self.last_step(), limits) != self.limits:
            self.draw_axes(self.last_step(), limits)
        self.canvas.restore_region(self.axes_pixels)
        for curve in self.curves.values():
            curve.axes.draw_artist(curve)
        return Image.fromarray(np.asarray(self.canvas.buffer_rgba())).convert('RGB')

    # Panels, whose curves are empty yet -----------------------------------------------------------

    def make_panels(self, names):
        """Make a figure of those panels, some or all of 'losses', 'verdicts' and 'quality'."""
        width, height = self.size or (8, 1 + 2 * len(names))
        figure = Figure(figsize=(width, height), dpi=self.dpi)
        self.canvas, self.limits, self.curves = FigureCanvasAgg(figure), None, {}
        panels = figure.subplots(len(names), sharex=True, squeeze=False)[:, 0]
        self.panels = dict(zip(names, panels, strict=True))
        ends = {'left': LEFT / width, 'right': 1 - RIGHT / width}
        figure.subplots_adjust(bottom=BOTTOM / height, top=1 - TOP / height, hspace=0.1, **ends)
        make = {
            'losses': self.make_losses,
            'verdicts': self.make_verdicts,
            'quality': self.make_quality,
        }
        for name, panel in self.panels.items():
            make[name](panel)
            panel.yaxis.set_major_formatter('{x:.4g}')
            panel.yaxis.set_label_coords((0.2 - LEFT) / (width - LEFT - RIGHT), 0.5)
        panels[-1].set_xlabel('step')
        panels[-1].xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=ROUND_STEPS))

    def make_losses(self, panel):
        """Make the panel of both losses, and of those of an undecided discriminator."""
        for name, at, rest in zip(('d_loss', 'g_loss'), LABELS_AT, self.undecided, strict=True):
            self.add_trend(panel, name, at)
            panel.axhline(rest, color=COLORS[name], linestyle='--', linewidth=1)
        sides = {min(self.undecided): 'top', max(self.undecided): 'baseline'}  # without overlap
        for rest, side in sides.items():
            write_beside(panel, rest, side)
        panel.set_ylabel('loss')
        panel.yaxis.set_major_locator(MaxNLocator(4, steps=ROUND_STEPS))

    def make_verdicts(self, panel):
        """Make the panel of the mean probability that D gave to real and to generated images."""
        for name, at in zip(('d_real', 'd_fake'), LABELS_AT, strict=True):
            self.add_trend(panel, name, at)
        panel.axhline(0.5, color='grey', linestyle='--', linewidth=1)
        write_beside(panel, 0.5)
        panel.set_ylabel('probability "real"')
        panel.set_ylim(0, 1.3)  # room for the labels
        panel.set_yticks([0, 0.5, 1])

    def make_quality(self, panel):
        """Make the panel of Fréchet distances."""
        look = {'color': COLORS['quality'], 'marker': 'o', 'animated': True}
        (self.curves['distances'],) = panel.plot([], [], markersize=4, **look)
        (self.curves['best'],) = panel.plot([], [], markersize=11, mfc='none', **look)
        self.curves['best distance'] = panel.annotate(
            '', (0, 1), xytext=(0, 10), textcoords='offset points', ha='center', animated=True
        )
        panel.set_yscale('log')
        panel.yaxis.set_minor_locator(NullLocator())
        panel.set_ylabel('Fréchet distance')

    def add_trend(self, panel, name, at):
        """Add the band of a logged number, and a line of its means, labelled at the top.

        `at` is the share of the width at which the label begins. A legend of matplotlib's would
        take as long to draw as the rest.
        """
        color, marker = COLORS[name], MARKERS.get(name, {})
        self.curves[name] = panel.add_patch(
            Polygon([(0, 0)], color=color, alpha=0.25, linewidth=0.5, animated=True)
        )
        (self.curves[f'mean {name}'],) = panel.plot([], [], color=color, animated=True, **marker)
        inside = {'transform': panel.transAxes}
        example = [at, at + 0.03, at + 0.06], 3 * [0.88]
        panel.plot(*example, color=color, **marker | {'markevery': [1]}, **inside)
        panel.text(at + 0.08, 0.88, LABELS[name], va='center_baseline', **inside)

    # Points, and limits that seldom change --------------------------------------------------------

    def set_trends(self):
        """Give bands and lines their points; return the ends of the axis of losses."""
        low, mean, high = self.series.pieces()
        shown = list(self.undecided)
        for column, name in enumerate(NAMES):
            if name in self.curves:
                known = np.isfinite(mean[:, column])
                trend = (each[known, column] for each in (low, mean, high))
                means = self.set_trend(name, mean[known, 0], *trend)
                shown += means.tolist() if name in ('d_loss', 'g_loss') else []
        return min(0, rounded_up(1.3 * min(shown))), rounded_up(1.3 * max(shown))

    def set_trend(self, name, steps, low, mean, high):
        """Give a band and a line their points, those of the pieces; return the line's."""
        ends = np.column_stack([steps, low]), np.column_stack([steps, high])[::-1]
        self.curves[name].set_xy(np.vstack(ends))
        self.curves[name].set_linewidth(0.5 if self.series.size == 1 else 0)  # else no area
        means = moving_mean(mean, max(1, round(WINDOW / self.series.size)))
        self.curves[f'mean {name}'].set_data(steps[len(steps) - len(means) :], means)
        return means

    def set_scores(self, scores):
        """Give the lowest panel its points; return the ends of its axis, powers of 2 around them."""
        points = [(line['step'], line['frechet_distance']) for line in scores]
        best = min(points, key=lambda point: point[1])
        self.curves['distances'].set_data(*zip(*points, strict=True))
        self.curves['best'].set_data(*([value] for value in best))
        self.curves['best distance'].xy = best
        self.curves['best distance'].set_text(f'{best[1]:.3g}')
        shown = [math.log2(distance) for _, distance in points if 0 < distance < math.inf] or [0]
        return 2 ** math.floor(min(shown) - 0.5), 2 ** math.ceil(max(shown) + 0.5)

    def last_step(self):
        """Return where the axis of steps ends: at a power of 2, so that it seldom changes."""
        return min(self.steps or math.inf, 2 ** math.ceil(math.log2(max(self.step, 2))))

    def draw_axes(self, last_step, limits):
        """Draw all but the curves, and keep the pixels."""
        margin = 0.04 * last_step
        self.panels['losses'].set_xlim(-margin, last_step + margin)
        for name, ends in limits.items():
            self.panels[name].set_ylim(*ends)
        if 'quality' in limits:
            low, high = limits['quality']
            digits = (1, 2, 5) if high / low < 100 else (1,)
            self.panels['quality'].yaxis.set_major_locator(LogLocator(subs=digits))
        self.canvas.draw()
        self.axes_pixels = self.canvas.copy_from_bbox(self.canvas.figure.bbox)
        self.limits = last_step, limits


def moving_mean(values, window):
    """Return the means of `window` neighbours, or of all where they are fewer: [n - window + 1]."""
    window = min(window, len(values))
    return np.convolve(values, np.ones(window) / window, 'valid') if window else values


def rounded_up(value):
    """Return a value rounded away from 0, to one of eight numbers between two powers of 2."""
    mantissa, exponent = math.frexp(value)
    nearest = math.ceil if value > 0 else math.floor
    return math.ldexp(nearest(16 * mantissa) / 16, exponent)


def write_beside(axes, value, side='center'):
    """Write a value to the right of the panel, at its height, which is the text's `side`."""
    axes.annotate(f'{value:.3g}', (1.01, value), xycoords=('axes fraction', 'data'), va=side)
