"""Figures of a run, each a Pillow image: a notebook shows it, a script saves it."""

import io
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageDraw, ImageFont

import helper
from facegen import metrics
from facegen.losses import undecided_losses
from facegen.run import RunFolder

COLORS = {
    'd_loss': '#0072b2',
    'g_loss': '#d55e00',
    'quality': '#cc79a7',
}  # told apart by colour-blind readers too
CAPTION_HEIGHT = 22  # pixels


def show(image):
    """Display a Pillow image under the running notebook cell; without a notebook, do nothing.

    It is shown in 128 colours, which look the same at this size and keep the notebook small.
    """
    if helper.in_notebook():
        from IPython.display import display

        display(few_colors(image), include=['image/png', 'text/plain'])  # no JPEG beside it


def few_colors(image, count=128):
    """Return the picture in its most useful colours, which take a third of the bytes."""
    return image.quantize(count, kmeans=5) if image.mode == 'RGB' else image


def enlarge(image, factor=3):
    """Return the picture `factor` times as large, every pixel a sharp square."""
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def loss_curves(run_dir, *, window=25):
    """Draw both losses of a run over its steps and, below, how good its pictures were.

    Dashed lines are `losses.undecided_losses`: a discriminator that cannot tell real from drawn.
    Thick lines are means over `window` steps, thin ones the steps themselves; the highest peaks of
    these are cut off. The Fréchet distances are those of the run's evaluations, on a logarithmic
    scale, with a ring around the best; there may be none.
    """
    run = RunFolder(run_dir)
    scores = run.scores()
    figure = Figure(figsize=(8, 5 if scores else 3), dpi=100, layout='constrained')
    panels = figure.subplots(2 if scores else 1, sharex=True, squeeze=False)[:, 0]
    draw_losses(panels[0], run.history(), undecided_losses(run.recipe()), window)
    if scores:
        draw_quality(panels[1], scores)
    panels[-1].set_xlabel('step')
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    return rendered(figure)


def draw_losses(axes, history, undecided, window):
    """Draw the losses of `RunFolder.history`, and those of an undecided discriminator."""
    steps = [line['step'] for line in history]
    top, bottom = max(undecided), min(0, *undecided)
    for name, player, rest in zip(
        ('d_loss', 'g_loss'), ('discriminator', 'generator'), undecided, strict=True
    ):
        values = [line[name] for line in history]
        color = COLORS[name]
        axes.plot(steps, values, color=color, alpha=0.25, linewidth=0.5)
        mean_steps, means = moving_mean(steps, values, window)
        axes.plot(mean_steps, means, color=color, label=player)
        top, bottom = max([top, *means]), min([bottom, *means])
        axes.axhline(rest, color=color, linestyle='--', linewidth=1)
        axes.annotate(f'{rest:.3g}', (1.01, rest), xycoords=('axes fraction', 'data'), va='center')
    axes.set_ylabel('loss')
    axes.set_ylim(min(0, 1.4 * bottom), 1.4 * top)
    axes.legend(loc='upper left', ncols=2, frameon=False)


def draw_quality(axes, scores):
    """Draw the Fréchet distances of `RunFolder.scores`."""
    best = min(scores, key=lambda line: line['frechet_distance'])
    distances = [line['frechet_distance'] for line in scores]
    color = COLORS['quality']
    axes.plot([line['step'] for line in scores], distances, 'o-', color=color, markersize=4)
    axes.plot(best['step'], best['frechet_distance'], 'o', markersize=11, mfc='none', color=color)
    axes.annotate(
        f'{best["frechet_distance"]:.3g}',
        (best['step'], best['frechet_distance']),
        xytext=(0, 10),
        textcoords='offset points',
        ha='center',
    )
    axes.set_yscale('log')
    axes.set_ylabel('Fréchet distance')


def moving_mean(steps, values, window):
    """Return the steps and means of the last up to `window` values before each, itself included."""
    window = min(window, len(values))
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    means = [(sums[i] - sums[i - window]) / window for i in range(window, len(sums))]
    return steps[window - 1 :], means


def rendered(figure):
    """Return a matplotlib figure as a Pillow image."""
    file = io.BytesIO()
    figure.savefig(file, format='png')
    return few_colors(Image.open(file).convert('RGB'), 32)


def before_after(run_dir):
    """Put the first and the last grid of a run side by side: the same latents, before and after."""
    samples = by_step(run_dir)
    return side_by_side([samples[0], samples[-1]], factor=2)


def timeline(run_dir, *, count=6):
    """Put up to `count` grids of a run, evenly spread over its steps, in one row."""
    samples = by_step(run_dir)
    count = min(count, len(samples))
    last = len(samples) - 1
    picked = sorted({round(i * last / max(count - 1, 1)) for i in range(count)})
    return side_by_side([samples[i] for i in picked], factor=1)


def by_step(run_dir):
    """Return [(caption, file)] of the grids of a run, oldest first."""
    return [(f'step {step:,}', file) for step, file in RunFolder(run_dir).samples()]


def last_grids(runs):
    """Put the last grids of several runs, {caption: run folder}, in one row."""
    return side_by_side(
        [(caption, RunFolder(run_dir).samples()[-1][1]) for caption, run_dir in runs.items()],
        factor=1,
    )


def side_by_side(samples, *, factor, gap=6):
    """Put grids of one size, [(caption, file)], in one row, each under its caption."""
    grids = [(caption, enlarge(Image.open(file), factor)) for caption, file in samples]
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


def nearest_pictures(images, pictures, *, mirrored=False, factor=2, gap=2):
    """Put uint8 `images` [n, h, w, c] in one row, and below each the nearest of `pictures` (pixels).

    With `mirrored`, their mirror images count as pictures too.
    """
    search = metrics.nearest_or_mirrored if mirrored else metrics.nearest
    _, indices = search(images, pictures)
    nearest = [
        pictures[i] if i < len(pictures) else pictures[i - len(pictures), :, ::-1] for i in indices
    ]
    frame = [(0, 0), (0, gap), (0, gap), (0, 0)]
    rows = [
        np.hstack(np.pad(row, frame, constant_values=255)) for row in (images, np.stack(nearest))
    ]
    return enlarge(Image.fromarray(np.vstack(rows).squeeze()), factor)


def save_film(run_dir, file, *, milliseconds=400):
    """Save all grids of a run, in order, as one animated GIF that stays on the last for longer."""
    frames = [enlarge(Image.open(path), 2) for _, path in RunFolder(run_dir).samples()]
    durations = [milliseconds] * (len(frames) - 1) + [4 * milliseconds]
    frames[0].save(file, save_all=True, append_images=frames[1:], duration=durations, loop=0)


def save_figures(run_dir, folder, name):
    """Save the last grid, loss curves and film of a run as `folder/name_samples.png` and so on."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _, last = RunFolder(run_dir).samples()[-1]
    enlarge(Image.open(last)).save(folder / f'{name}_samples.png')
    loss_curves(run_dir).save(folder / f'{name}_losses.png')
    save_film(run_dir, folder / f'{name}_training.gif')
