"""Figures of a run, each a Pillow image: a notebook shows it, a script saves it."""

import base64
import io
import shutil
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageDraw, ImageFont

import helper
from facegen import metrics, sampling
from facegen.directions import directions_of
from facegen.losses import undecided_losses
from facegen.run import RunFolder

COLORS = {
    'd_loss': '#0072b2',
    'g_loss': '#d55e00',
    'd_real': '#000000',
    'd_fake': '#d55e00',
    'quality': '#cc79a7',
    'even': '#56b4e9',
    'uneven': '#e69f00',
    'frame': '#d55e00',
}  # told apart by colour-blind readers too (Okabe and Ito 2008)
TRIANGLES = {'marker': '^', 'markersize': 5, 'markevery': 0.1}  # of the curve's length
MARKERS = {  # for those who see no colours
    'd_loss': {},
    'g_loss': TRIANGLES,
    'd_real': {},
    'd_fake': TRIANGLES,
}
CAPTION_HEIGHT = 22  # pixels
NOTEBOOK_WIDTH = 880  # pixels, of an image that fits into a notebook's page
MOST_ENLARGED = 3
FRAME = 2  # pixels around each image of a sheet
DESCRIPTION = 'Description'  # a keyword of PNG


def show(image, alt=None):
    """Display a Pillow image under the running notebook cell; without a notebook, do nothing.

    `alt` says what it shows to readers who do not see it; None takes what it is `described` by. It is
    shown in 128 colours, which look the same at this size, and packed tightly, which Pillow's own
    display is not: both keep the notebook small.
    """
    if helper.in_notebook():
        from IPython.display import display

        file = io.BytesIO()
        few_colors(image).save(file, 'PNG', optimize=True)
        alt = alt or image.info.get(DESCRIPTION, 'a grid of images')
        content = {'image/png': base64.b64encode(file.getvalue()).decode(), 'text/plain': alt}
        display(content, raw=True, metadata={'image/png': {'alt': alt}})


def described(image, text):
    """Return the image with a text for readers who do not see it."""
    image.info[DESCRIPTION] = text
    return image


def few_colors(image, count=128):
    """Return the image in its most useful colours, which take a third of the bytes."""
    return image.quantize(count, kmeans=5) if image.mode == 'RGB' else image


def enlarge(image, factor=3):
    """Return the image `factor` times as large, every pixel a sharp square."""
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def loss_curves(run_dir, *, window=25):
    """Draw both losses of a run over its steps and, below, what D said and how good images were.

    Dashed lines are `losses.undecided_losses`, and 1/2: a discriminator that cannot tell real from
    drawn. Thick lines are means over `window` steps, thin ones the steps themselves; the highest
    peaks of the losses are cut off. What D said is the mean probability that it gave to real and to
    generated images, 'd_real' and 'd_fake' of the log, where it has these. The Fréchet distances are
    those of the run's evaluations, on a logarithmic scale, with a ring around the best; there may be
    none.
    """
    run = RunFolder(run_dir)
    history, scores = run.history(), run.scores()
    undecided = undecided_losses(run.recipe())
    judged = [line for line in history if 'd_real' in line and 'd_fake' in line]
    draws = [partial(draw_losses, history=history, undecided=undecided, window=window)]
    if judged:
        draws.append(partial(draw_verdicts, history=judged, window=window))
    if scores:
        draws.append(partial(draw_quality, scores=scores))
    figure = Figure(figsize=(8, 1 + 2 * len(draws)), dpi=100, layout='constrained')
    panels = figure.subplots(len(draws), sharex=True, squeeze=False)[:, 0]
    for draw, axes in zip(draws, panels, strict=True):
        draw(axes)
    panels[-1].set_xlabel('step')
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    text = 'Curves over the steps: losses of discriminator and generator'
    if judged:
        text += ', what the discriminator said of real and of generated images'
    if scores:
        text += f', Fréchet distance, at best {min(s["frechet_distance"] for s in scores):.3g}'
    return described(rendered(figure), text)


def draw_losses(axes, history, undecided, window):
    """Draw the losses of `RunFolder.history`, and those of an undecided discriminator."""
    top, bottom = max(undecided), min(0, *undecided)
    for name, player, rest in zip(
        ('d_loss', 'g_loss'), ('discriminator', 'generator'), undecided, strict=True
    ):
        means = draw_trend(axes, history, name, window, label=player)
        top, bottom = max([top, *means]), min([bottom, *means])
        axes.axhline(rest, color=COLORS[name], linestyle='--', linewidth=1)
        write_beside(axes, rest)
    axes.set_ylabel('loss')
    axes.set_ylim(min(0, 1.4 * bottom), 1.4 * top)
    axes.legend(loc='upper left', ncols=2, frameon=False)


def draw_verdicts(axes, history, window):
    """Draw the mean probability, of each step, that D gave to real and to generated images."""
    draw_trend(axes, history, 'd_real', window, label='D of real images')
    draw_trend(axes, history, 'd_fake', window, label='D of generated images')
    axes.axhline(0.5, color='grey', linestyle='--', linewidth=1)
    write_beside(axes, 0.5)
    axes.set_ylabel('probability "real"')
    axes.set_ylim(0, 1.25)  # room for the legend
    axes.set_yticks([0, 0.5, 1])
    axes.legend(loc='upper left', ncols=2, frameon=False)


def draw_trend(axes, history, name, window, label):
    """Draw a number of every step as a thin line, its moving mean as a thick one; return the means."""
    steps, values = [line['step'] for line in history], [line[name] for line in history]
    axes.plot(steps, values, color=COLORS[name], alpha=0.25, linewidth=0.5)
    mean_steps, means = moving_mean(steps, values, window)
    axes.plot(mean_steps, means, color=COLORS[name], label=label, **MARKERS[name])
    return means


def write_beside(axes, value):
    """Write a value to the right of the panel, at its height."""
    axes.annotate(f'{value:.3g}', (1.01, value), xycoords=('axes fraction', 'data'), va='center')


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


def class_histogram(scores):
    """Draw how often each digit was drawn, as the 'class_histogram' of scores says, in percent.

    A generator that draws all of k classes equally often stays by chance within the grey band,
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
        look = {'color': COLORS['uneven'], 'hatch': '//'} if uneven else {'color': COLORS['even']}
        bar = axes.bar(digit, 100 * share, width=0.7, edgecolor='black', linewidth=0.8, **look)
        axes.bar_label(bar, fmt='%.1f', label_type='center', fontsize=12, bbox=label)
    axes.set_xticks(range(len(shares)))
    axes.set_xlabel(f'what the classifier sees in {count:,} generated digits')
    axes.set_ylabel('share, %')
    axes.set_ylim(0, 110 * max(shares.max(), even + spread))
    percent = ', '.join(f'{digit}: {share:.1%}' for digit, share in enumerate(shares))
    return described(rendered(figure), f'Bars of how often each digit was drawn. {percent}')


def moving_mean(steps, values, window):
    """Return the steps and means of the last up to `window` values before each, itself included."""
    if not values:
        return [], []
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
    return described(
        side_by_side([samples[0], samples[-1]], factor=2),
        'Two grids of the same latents, before the training and after it',
    )


def timeline(run_dir, *, count=6):
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

    With `mirrored`, their mirror images count as images too.
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
    return described(
        enlarge(Image.fromarray(np.vstack(rows).squeeze()), factor),
        f'{len(images)} generated images, and below each the training image nearest to it',
    )


def sheet(pictures, *, rows=(), columns=(), framed=()):
    """Put uint8 images [rows, columns, h, w, c] in a table, in few colours.

    `rows` are texts to the left, `columns` above it, `framed` the (row, column) of images that get
    a frame. It is enlarged as far as it fits into a notebook, at most three times.
    """
    pictures = in_few_colors(pictures)
    num_rows, num_columns, height, width, _ = pictures.shape
    font = ImageFont.load_default(15)
    left = 10 + int(max(map(font.getlength, rows))) if rows else 0
    top = CAPTION_HEIGHT if columns else 0
    room = (NOTEBOOK_WIDTH - left) // num_columns - 2 * FRAME
    factor = min(MOST_ENLARGED, max(1, room // width))
    cell_width, cell_height = factor * width + 2 * FRAME, factor * height + 2 * FRAME
    size = left + num_columns * cell_width, top + num_rows * cell_height
    table = Image.new('RGB', size, 'white')
    draw = ImageDraw.Draw(table)
    for i, text in enumerate(rows):
        draw.text((0, top + (i + 0.5) * cell_height), text, 'black', font, anchor='lm')
    for j, text in enumerate(columns):
        draw.text((left + (j + 0.5) * cell_width, 2), text, 'black', font, anchor='mt')
    for i, j in np.ndindex(num_rows, num_columns):
        x, y = left + j * cell_width, top + i * cell_height
        if (i, j) in framed:
            draw.rectangle([x, y, x + cell_width - 1, y + cell_height - 1], COLORS['frame'])
        table.paste(enlarge(Image.fromarray(pictures[i, j]), factor), (x + FRAME, y + FRAME))
    return table.quantize(256)  # more than there are


def in_few_colors(pictures):
    """Return uint8 images [rows, columns, h, w, c] as RGB ones, in few colours for all together."""
    rows, columns, height, width, channels = pictures.shape
    mosaic = pictures.swapaxes(1, 2).reshape(rows * height, columns * width, channels)
    image = Image.fromarray(mosaic.squeeze(-1) if channels == 1 else mosaic)
    image = few_colors(image.convert('RGB'), 14 if channels == 1 else 64).convert('RGB')
    mosaic = np.asarray(image).reshape(rows, height, columns, width, 3)
    return mosaic.swapaxes(1, 2)


def walk(draw, z, *, frames=9, kept=0):
    """Show a walk through latents z [n, z_dim] and back to the first; `draw` makes images of them.

    Row i goes in `frames` images from z[i], framed, towards z[i + 1], on the arc of
    `sampling.slerp`. The first `kept` numbers of a latent stay those of z[i] through the row: where
    they choose a category, the image would jump on the way.
    """
    on_the_way = sampling.walk(z[:, kept:], frames)
    latents = np.hstack([z[:, :kept].repeat(frames, axis=0), on_the_way])
    pictures = draw(latents)
    table = sheet(
        pictures.reshape(len(z), frames, *pictures.shape[1:]),
        framed=[(i, 0) for i in range(len(z))],
    )
    return described(table, f'{len(z)} rows of {frames} images, each turning into the next row')


def corners(draw, z, *, side=5, kept=0):
    """Show what lies between the four latents z [4, z_dim], which are in the corners, framed.

    Row by row the latent is slerp(slerp(z0, z1, s), slerp(z2, z3, s), t), s and t from 0 to 1. The
    first `kept` numbers are those of z[0] everywhere, since a category jumps.
    """
    share = np.linspace(0, 1, side)
    upper, lower = (sampling.slerp(z[i, kept:], z[i + 1, kept:], share) for i in (0, 2))
    between = sampling.slerp(upper, lower, share[:, None]).reshape(side**2, -1)
    pictures = draw(np.hstack([z[:1, :kept].repeat(side**2, axis=0), between]))
    table = sheet(
        pictures.reshape(side, side, *pictures.shape[1:]),
        framed=[(i, j) for i in (0, side - 1) for j in (0, side - 1)],
    )
    return described(table, f'{side}x{side} images that turn into each other from corner to corner')


def truncation(draw, z, *, factors=(1.5, 1, 0.7, 0.4)):
    """Show latents z [n, z_dim] pulled towards the centre: psi z for each psi of `factors`, in rows.

    It is the truncation trick, w' = c + psi (w - c) with c the centre (Karras et al. 2019,
    arXiv:1812.04948, appendix B), for latents uniform in [-1, 1], whose centre is 0. Below 1 the
    images are more usual and less varied, above 1 the other way. A psi above 0 keeps the place of
    the largest number, and so the category.
    """
    table = sheet(
        np.stack([draw(np.float32(psi) * z) for psi in factors]),
        rows=[f'{psi:g} z' for psi in factors],
        framed=[(i, j) for i, psi in enumerate(factors) if psi == 1 for j in range(len(z))],
    )
    return described(
        table, f'Rows of the same {len(z)} latents, times {", ".join(map(str, factors))}'
    )


def directions(draw, z, vectors, *, reach=3, count=7):
    """Show the latent z [z_dim] moved along unit vectors [z_dim, k]: z + a v, a row for each v.

    a goes from -reach to reach in `count` steps, an odd number; z itself is in the framed middle.
    """
    lengths = np.linspace(-reach, reach, count).astype(np.float32)
    moved = z + lengths[:, None] * vectors.T[:, None]
    pictures = draw(moved.reshape(-1, len(z)).astype(np.float32))
    table = sheet(
        pictures.reshape(vectors.shape[1], count, *pictures.shape[1:]),
        rows=[f'direction {i}' for i in range(1, vectors.shape[1] + 1)],
        columns=[f'{length:+g}' if length else '0' for length in lengths],
        framed=[(i, count // 2) for i in range(vectors.shape[1])],
    )
    return described(table, f'One latent moved along {vectors.shape[1]} directions, a row for each')


def latent_figures(run_dir):
    """Return {name: figure} of what the generator of a run makes of latents of the run's seed.

    They are 'walk', 'corners', 'truncation' and 'directions'. Raises like `sampling.restored` and
    `directions_of`.
    """
    run = RunFolder(run_dir)
    with sampling.restored(run) as trained:
        z = sampling.latents(run.config()['seed'], 8, trained.z_dim)
        kept = kept_numbers(run.recipe(), trained.z_dim)
        return {
            'walk': walk(trained, z[:4], kept=kept),
            'corners': corners(trained, z[:4], kept=kept),
            'truncation': truncation(trained, z),
            'directions': directions(trained, z[0], directions_of(trained, 4, kept=kept)),
        }


def kept_numbers(recipe, z_dim):
    """Return how many first numbers of a latent choose its category, and so are kept on a walk.

    Where all of them do, none is kept: nothing else could change.
    """
    return recipe.z_categories if recipe.z_categories < z_dim else 0


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
    """Save all grids of a run, in order, as one animated GIF that stays on the last for longer."""
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
