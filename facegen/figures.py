"""Figures of what a run has left, each a Pillow image: a notebook shows it, a script saves it."""

import io
import shutil
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from facegen import metrics
from facegen.curves import Curves, write_beside
from facegen.images import NOTEBOOK_WIDTH, as_image, described, enlarge, few_colors
from facegen.images import mirrored as mirror_images
from facegen.latent_figures import CAPTION_HEIGHT, latent_figures
from facegen.losses import undecided_losses
from facegen.run import RunFolder

EVEN, UNEVEN = '#56b4e9', '#e69f00'  # told apart by colour-blind readers too (Okabe and Ito 2008)
GRIDS = 6  # in a row that fits into a notebook


def loss_curves(run_dir):
    """Draw the losses of a run and, below, what D said and how good images were: its `Curves`."""
    run = RunFolder(run_dir)
    history, scores = run.history(), run.scores()
    curves = Curves(undecided_losses(run.recipe()), history[-1]['step'] if history else 0)
    for line in history:
        curves.add(line)
    text = 'Curves over the steps: losses of discriminator and generator'
    if curves.judged:
        text += ', what the discriminator said of real and of generated images'
    if scores:
        text += f', Fréchet distance, at best {min(s["frechet_distance"] for s in scores):.3g}'
    return described(few_colors(curves.image(scores), 64), text)


def class_histogram(scores):
    """Plot how often each digit was generated, in percent: the 'class_histogram' of scores.

    A generator that draws all k classes equally often stays within the grey band,
    1/k +- 3 sqrt((1/k)(1 - 1/k) / n) for n images (the normal approximation), 997 times out of 1,000
    in each class. Bars that end outside are hatched.
    """
    shares, count = np.asarray(scores['class_histogram']), scores['n']
    even = 1 / len(shares)
    spread = 3 * np.sqrt(even * (1 - even) / count)
    figure = Figure(figsize=(8, 3), dpi=100, layout='constrained')
    axes = figure.subplots()
    axes.axhspan(100 * (even - spread), 100 * (even + spread), color='0.88', zorder=0)
    axes.axhline(100 * even, color='grey', linestyle='--', linewidth=1, zorder=1)
    write_beside(axes, 100 * even)
    label = {'boxstyle': 'round', 'facecolor': 'white', 'edgecolor': 'none'}  # legible on hatching
    for digit, share in enumerate(shares):
        uneven = abs(share - even) > spread
        look = {'color': UNEVEN, 'hatch': '//'} if uneven else {'color': EVEN}
        bar = axes.bar(digit, 100 * share, width=0.7, edgecolor='black', linewidth=0.8, **look)
        axes.bar_label(bar, fmt='%.1f', label_type='center', fontsize=12, bbox=label)
    axes.set_xticks(range(len(shares)))
    axes.set_xlabel(f'what the classifier sees in {count:,} generated digits')
    axes.set_ylabel('share, %')
    axes.set_ylim(0, 110 * max(shares.max(), even + spread))
    percent = ', '.join(f'{digit}: {share:.1%}' for digit, share in enumerate(shares))
    return described(rendered(figure), f'Bars of how often each digit was drawn. {percent}')


def rendered(figure):
    """Return a matplotlib figure as a Pillow image."""
    file = io.BytesIO()
    figure.savefig(file, format='png')
    return few_colors(Image.open(file).convert('RGB'), 32)


def before_after(run_dir):
    """Put the first and the last grid of a run side by side: the same latents, before and after."""
    samples = by_step(run_dir)
    return described(
        side_by_side([samples[0], samples[-1]], factor=2),
        'Two grids of the same latents, before the training and after it',
    )


def timeline(run_dir, *, count=GRIDS):
    """Put up to `count` grids of a run, evenly spread over its steps, in one row."""
    samples = by_step(run_dir)
    count = min(count, len(samples))
    last = len(samples) - 1
    picked = sorted({round(i * last / max(count - 1, 1)) for i in range(count)})
    return described(
        side_by_side([samples[i] for i in picked], factor=1),
        f'{len(picked)} grids of the same latents, from {samples[0][0]} to {samples[-1][0]}',
    )


def by_step(run_dir):
    """Return [(caption, file)] of the grids of a run, oldest first."""
    return [(f'step {step:,}', file) for step, file in RunFolder(run_dir).samples()]


def last_grids(runs):
    """Put the last grids of several runs, {caption: run folder}, in one row.

    Beyond GRIDS, grids shrink no further, and the row is wider than a notebook.
    """
    return side_by_side(
        [(caption, RunFolder(run_dir).samples()[-1][1]) for caption, run_dir in runs.items()],
        factor=1,
    )


def side_by_side(samples, *, factor, gap=6):
    """Put grids of one size, [(caption, file)], in one row, each under its caption.

    They are enlarged up to `factor` times, or reduced, such that GRIDS or fewer fit into a notebook.
    """
    room = (NOTEBOOK_WIDTH + gap) // min(len(samples), GRIDS) - gap
    grids = [(caption, enlarge(Image.open(file), factor, room)) for caption, file in samples]
    width, height = grids[0][1].size
    row = Image.new(
        grids[0][1].mode,
        (len(grids) * (width + gap) - gap, height + CAPTION_HEIGHT),
        'white',
    )
    draw = ImageDraw.Draw(row)
    font = ImageFont.load_default(14)
    for i, (caption, grid) in enumerate(grids):
        left = i * (width + gap)
        draw.text((left, 2), caption, fill='black', font=font)
        row.paste(grid, (left, CAPTION_HEIGHT))
    return row


def nearest_images(samples, images, *, mirrored=False, factor=2, gap=2):
    """Put uint8 `samples` [n, h, w, c] in one row, and below each the nearest of `images` (pixels).

    With `mirrored`, mirror images count too. They are enlarged up to `factor` times, or reduced, such
    that they fit into a notebook.
    """
    search = metrics.nearest_or_mirrored if mirrored else metrics.nearest
    _, indices = search(samples, images)
    nearest = images[indices % len(images)]
    flipped = indices >= len(images)
    nearest[flipped] = mirror_images(nearest[flipped])
    frame = [(0, 0), (0, gap), (0, gap), (0, 0)]
    rows = [np.hstack(np.pad(row, frame, constant_values=255)) for row in (samples, nearest)]
    return described(
        enlarge(as_image(np.vstack(rows)), factor),
        f'{len(samples)} generated images, and below each the training image nearest to it',
    )


def run_figures(run_dir):
    """Return {name: figure} of what a run has left: its curves and grids, for digits their classes."""
    scores = RunFolder(run_dir).scores()
    figures = {
        'losses': loss_curves(run_dir),
        'timeline': few_colors(timeline(run_dir)),
        'before_after': few_colors(before_after(run_dir)),
    }
    if scores and 'class_histogram' in scores[-1]:
        figures['class_histogram'] = class_histogram(scores[-1])
    return figures


def save_film(run_dir, file, *, milliseconds=400):
    """Save all grids of a run, in order, as one animated GIF that shows the last one longer."""
    frames = [enlarge(Image.open(path), 2) for _, path in RunFolder(run_dir).samples()]
    durations = [milliseconds] * (len(frames) - 1) + [4 * milliseconds]
    frames[0].save(file, save_all=True, append_images=frames[1:], duration=durations, loop=0)


def save_figures(run_dir, folder, name):
    """Save the last grid, curves, walk and film of a run as `folder/name_samples.png` and so on.

    All its figures go to the folder `figures` of the run. Raises like `latent_figures`.
    """
    run = RunFolder(run_dir)
    figures = {**run_figures(run_dir), **latent_figures(run_dir)}
    images, of_run = Path(folder), run.path / 'figures'
    for path in images, of_run:
        path.mkdir(parents=True, exist_ok=True)
    for kind, figure in figures.items():
        figure.save(of_run / f'{kind}.png', optimize=True)
    _, last = run.samples()[-1]
    enlarge(Image.open(last)).save(images / f'{name}_samples.png')
    save_film(run_dir, of_run / 'training.gif')
    for file in 'losses.png', 'walk.png', 'training.gif':
        shutil.copyfile(of_run / file, images / f'{name}_{file}')
