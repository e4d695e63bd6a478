"""How cost grows: linearly with pixels and images, and not at all with previews or epochs.

Every measurement runs in a process of its own, `--repeats` times:

    training step   of `classic`, simultaneous updates, batch 64, over the pixels of an image
    first pass      decoding the sample faces, linked again and again, over their number
    later epoch     all batches of these from the cache
    step, memory    of a tiny network, with a preview, a checkpoint and an evaluation after each
                    epoch of 50 steps, all in its time, over the epochs until then (memory.py)

Prints one JSON line for each size, and one with the straight line through each growth: its fixed part,
what 1,000 pixels, images or epochs cost, and by which share of it a cost lies beside the line at
most. All are medians with their spread. `--figure` draws them.

    python benchmarks/linear.py [--figure benchmarks/linear.png] [--repeats 3] [--data-dir data]
"""

import argparse
import json
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from measuring import ROOT, in_process, summary

sys.path.insert(0, str(ROOT))

import helper
from data import linked
from facegen.figures import rendered
from facegen.recipes import Recipe

UNITS = {  # of each curve: that of its size, that of its cost
    'training step': ('pixels', 'seconds'),
    'first pass': ('images', 'seconds'),
    'later epoch': ('images', 'seconds'),
    'step': ('epochs', 'milliseconds'),
    'memory': ('epochs', 'megabytes'),
}
PANELS = [['training step'], ['first pass', 'later epoch'], ['step'], ['memory']]
COLORS = ['#0072b2', '#d55e00']  # told apart by colour-blind readers too
WARM_UP = 5  # steps that are not timed


def seconds_of_step(side, steps):
    """Return the seconds of a step of the classic network on images of that side."""
    import step

    recipe = Recipe(updates='simultaneous', image_size=side)
    return recipe.batch_size / step.ours(1, steps, recipe, warm_up=WARM_UP)


def a_round(options):
    """Measure everything once; return {curve: {size: cost}}."""
    curves = {name: {} for name in UNITS}
    for side in options.sides:
        arguments = '--side', side, '--steps', options.steps
        curves['training step'][side**2] = in_process(__file__, *arguments)
    for count in options.counts:
        with tempfile.TemporaryDirectory() as folder:
            faces = Path(folder, 'faces')
            linked(options.data_dir / 'celeba_sample', count, faces)
            for name, measure in ('first pass', 'first_pass'), ('later epoch', 'later_epochs'):
                result = in_process(
                    Path(__file__).with_name('data.py'), '--measure', measure, faces
                )
                curves[name][count] = count / result['images_per_second']
    line = in_process(Path(__file__).with_name('memory.py'), '--epochs', options.epochs)
    tenths = np.linspace(0, options.epochs, 11).astype(int).tolist()[1:]
    curves['step'] = dict(zip(tenths, line['milliseconds_per_step'], strict=True))
    curves['memory'] = dict(zip(tenths, line['megabytes'][1:], strict=True))
    return curves


def straight_line(curve):
    """Return (fixed, each, off) of the line fixed + each * size nearest to a curve {size: cost}.

    That is by the squares of the distances as shares of the costs; `off` is the largest share.
    """
    sizes, costs = np.array(list(curve)), np.array(list(curve.values()))
    each, fixed = np.polyfit(sizes, costs, 1, w=1 / costs)
    off = np.abs(fixed + each * sizes - costs) / costs
    return float(fixed), float(each), float(off.max())


def report(rounds):
    """Print the lines of all curves."""
    for name, (size_unit, unit) in UNITS.items():
        curves = [curves[name] for curves in rounds]
        line = {'benchmark': 'linear', 'measure': name}
        for size in curves[0]:
            costs = summary(unit, [curve[size] for curve in curves], 4)
            print(json.dumps(line | {size_unit: size} | costs), flush=True)
        fixed, each, off = zip(*map(straight_line, curves), strict=True)
        growth = {
            **summary(f'fixed_{unit}', fixed, 4),
            **summary(f'{unit}_per_1000', [1000 * value for value in each], 4),
            **summary('off', off, 3),
        }
        print(json.dumps(line | {'over': size_unit} | growth), flush=True)


def drawn(rounds):
    """Return a Pillow image of all curves: medians with their spread, and their straight lines.

    On logarithmic scales these bend where the fixed part ends; what is left without it is dotted.
    """
    figure = Figure(figsize=(8, 6), dpi=100, layout='constrained')
    for axes, names in zip(figure.subplots(2, 2).flat, PANELS, strict=True):
        size_unit, unit = UNITS[names[0]]
        for name, color, marker in zip(names, COLORS, 'os', strict=False):
            sizes = list(rounds[0][name])
            costs = np.array([list(curves[name].values()) for curves in rounds])
            middle = np.median(costs, axis=0)
            bars = middle - costs.min(axis=0), costs.max(axis=0) - middle
            axes.errorbar(sizes, middle, bars, fmt=marker, color=color, capsize=3, label=name)
            fixed, each, _ = straight_line(dict(zip(sizes, middle, strict=True)))
            between = np.geomspace(sizes[0], sizes[-1])
            axes.plot(between, fixed + each * between, color=color, linewidth=1)
            if size_unit != 'epochs':
                axes.plot(between, each * between, ':', color='grey', zorder=0)  # slope 1
                axes.set(xscale='log', yscale='log')
        if size_unit == 'epochs':
            axes.set_ylim(0, 1.5 * middle.max())
        axes.set(xlabel=size_unit, ylabel=unit)
        axes.legend(frameon=False, loc='upper left')
    return rendered(figure)


def main():
    """Measure everything, or one step as a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--sides', type=int, nargs='+', default=[16, 32, 64, 128], help='pixels')
    parser.add_argument('--steps', type=int, default=20, help='that are timed for each side')
    parser.add_argument('--counts', type=int, nargs='+', default=[1000, 4000, 16_000, 64_000])
    parser.add_argument('--epochs', type=int, default=100, help='of memory.py, at least 10')
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--data-dir', type=Path, default=ROOT / 'data')
    parser.add_argument('--figure', type=Path, metavar='FILE')
    parser.add_argument('--side', type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(seconds_of_step(options.side, options.steps)))
        return
    with redirect_stdout(sys.stderr):
        helper.download_extract('celeba', options.data_dir, data='sample')
    rounds = [a_round(options) for _ in range(options.repeats)]
    report(rounds)
    if options.figure:
        drawn(rounds).save(options.figure, optimize=True)


if __name__ == '__main__':
    main()
