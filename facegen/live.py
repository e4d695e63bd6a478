"""What one sees of a training run while it runs: text in a terminal, one area in a notebook.

The area is two outputs of the cell that change in place, by Jupyter's display updates: text, and an
image of the latest grid beside the curves. JupyterLab, Notebook 7, VS Code and nbclient know these
updates, need nothing installed for them, and save the last state.
"""

import functools
import sys

from PIL import Image

from facegen.curves import Curves
from facegen.evaluation import are_alike, collapsed_since, is_settled, signs_of
from facegen.images import NOTEBOOK_WIDTH, enlarge, few_colors, png_bytes, unenlarged
from facegen.losses import undecided_losses
from facegen.screen import Output, as_content, in_notebook, progress

GAP = 6  # pixels between grid and curves
CURVES = {'size': (5.675, 5.25), 'dpi': 80}  # 454x420 pixels: with a gap and a grid of 420, 880
LOW_RATE = 1e-4  # below which a training run is slow rather than lost


def training_bar(run, settings, steps):
    """Return, for `with`, what shows how the training of a run goes; `steps` is None if unknown.

    In a notebook that is a `LiveArea`, elsewhere a `TextBar`.
    """
    if in_notebook():
        return LiveArea(run, settings, steps)
    ipython = sys.modules.get('IPython')
    if ipython is not None and ipython.get_ipython() is not None:
        say_there_is_text_only()
    return TextBar(run, settings, steps)


@functools.cache
def say_there_is_text_only():
    """Say once why an IPython without a notebook shows no image."""
    print('no notebook shows this, so progress is text; images are in the run folder, in samples')


def losses_line(line, epoch_count):
    """Return a line of `RunFolder.history` as text."""
    return (
        f'Epoch {line["epoch"]}/{epoch_count or "?"} Step {line["step"]}... '
        f'Discriminator Loss: {line["d_loss"]:.4f}... Generator Loss: {line["g_loss"]:.4f}'
    )


def score_line(line):
    """Return a line of `RunFolder.scores` as text."""
    confident = line.get('confident_share')
    sure = f', confident about {confident:.0%} of the digits' if confident is not None else ''
    return f'Step {line["step"]}: Fréchet distance {line["frechet_distance"]:.4g}{sure}'


def warning_lines(scores, recipe):
    """Return {name: line} of what is wrong with a training run, by its `RunFolder.scores`.

    A collapse is one line, which says what to change, and leaves out its symptoms.
    """
    settled = [line['step'] for line in scores if is_settled(line['step'], recipe)]
    if not settled:
        return {}
    last, since = scores[-1], collapsed_since(scores, recipe)
    if since is None:
        signs = signs_of(last)
    else:
        signs = {'collapsed': collapse(last, since, recipe, has_worked=settled[0] < since)}
    return {name: f'Step {last["step"]}: {sentence}' for name, sentence in signs.items()}


def collapse(last, since, recipe, has_worked):
    """Return what shows a collapse in the `last` scores, and what to change."""
    rate = recipe.learning_rate
    what = 'are hardly nearer to real ones than before the training'
    if are_alike(last):
        what = (
            f'are nearly all alike (they differ {last["diversity"]:.2f} times as much as real ones)'
        )
    if rate < LOW_RATE and not has_worked:
        return (
            f'The training has hardly begun: its images {what}. Go on for longer, or start again '
            f'with a higher learning rate (it is {rate:g}; try {10 * rate:g}).'
        )
    when = '' if since == last['step'] else f' (since step {since})'
    return (
        f'The training has collapsed{when}: its images {what}. Start again with a lower learning '
        f'rate (it is {rate:g}; try {rate / 2:g}), then with another seed or recipe.'
    )


def beside(curves, grid):
    """Return an enlarged grid as large as there is room for beside the curves.

    A sharp one may be as wide as the curves are high; one that must be reduced in any case becomes
    such that both fit into a notebook.
    """
    if grid.width <= curves.height:
        return grid
    grid = unenlarged(grid)
    fits = grid.width <= curves.height
    return enlarge(grid, width=curves.height if fits else NOTEBOOK_WIDTH - GAP - curves.width)


class TextBar:
    """How a training run goes, as text: a bar on stderr, and a line now and then on stdout."""

    def __init__(self, run, settings, steps):
        """Show nothing before the first step, score or grid."""
        self.run, self.settings, self.steps = run, settings, steps
        self.bar = None

    def __enter__(self):
        """Return the bar itself."""
        return self

    def __exit__(self, *_):
        """Leave the bar as it is."""
        if self.bar is not None:
            self.bar.close()

    def begin(self, step, **options):
        """Show the bar of a training run that starts after `step`."""
        size = self.settings['batch_size']
        total = self.steps and self.steps * size
        options['desc'] = self.progress_in_steps(step)
        self.bar = progress(total=total, initial=step * size, unit=' images', **options)

    def progress_in_steps(self, step):
        """Return how far the training is, as text."""
        return f'step {step:,}/{self.steps:,}' if self.steps else f'step {step:,}'

    def move_to(self, step):
        """Move the bar to what is done after `step`, backwards where a training run went back."""
        self.bar.set_description(self.progress_in_steps(step), refresh=False)
        self.bar.update(step * self.settings['batch_size'] - self.bar.n)

    def note(self, line):
        """Show a step, by the line that is logged already."""
        if self.bar is None:
            self.begin(line['step'] - 1)
        self.bar.set_postfix(d_loss=line['d_loss'], g_loss=line['g_loss'], refresh=False)
        self.move_to(line['step'])
        if line['step'] % self.settings['print_every'] == 0:
            self.say(losses_line(line, self.settings['epoch_count']))

    def note_scores(self):
        """Show the last scores of the run, and any new warnings."""
        scores = self.run.scores()
        if self.bar is None:
            self.begin(scores[-1]['step'])
        self.say(score_line(scores[-1]))
        recipe = self.settings['recipe']
        known = warning_lines(scores[:-1], recipe)
        for name, line in warning_lines(scores, recipe).items():
            if name not in known:
                self.say(line)

    def say(self, line):
        """Print a line above the bar, if there is a stdout: a service may have none."""
        if sys.stdout is not None:
            self.bar.write(line)

    def show(self, grid):
        """Do nothing with a grid: this is text."""


class LiveArea(TextBar):
    """How a training run goes, in a notebook: a bar, the latest losses and scores, grid and curves.

    It begins with all that the run has logged, also from before it was stopped. It is a file for
    tqdm too: what is written becomes the first line.
    """

    encoding = 'utf-8'  # lets tqdm draw its smooth bar

    def __init__(self, run, settings, steps):
        """Show nothing before the first step, score or grid."""
        super().__init__(run, settings, steps)
        self.text, self.image = Output(), Output()
        self.bar_line, self.line, self.scores = '', None, []  # what the text says
        self.grid, self.curves = None, None  # what the image shows

    def __exit__(self, *_):
        """Leave the last state, its image in few bytes."""
        super().__exit__()
        if self.grid:
            self.show_image(final=True)

    def load(self):
        """Take up what the run has noted."""
        history, self.scores = self.run.history(), self.run.scores()
        self.line = history[-1] if history else None
        self.curves = Curves(undecided_losses(self.settings['recipe']), self.steps, **CURVES)
        for line in history:
            self.curves.add(line)
        if self.bar is None:
            self.begin(len(history), file=self)

    def note(self, line):
        """Show a step, by the line that is logged already."""
        if self.curves and line['step'] == self.step() + 1:
            self.line = line
            self.curves.add(line)
        else:  # the first, or the training went back
            self.load()
        self.move_to(line['step'])

    def step(self):
        """Return the latest step."""
        return self.line['step'] if self.line else 0

    def note_scores(self):
        """Show the last scores of the run."""
        if not self.curves:
            self.load()
        self.scores = self.run.scores()
        self.show_text()
        if self.grid:
            self.show_image()

    def show(self, grid):
        """Show a grid beside the curves."""
        if not self.curves:
            self.load()
        self.grid = grid
        self.show_image()

    def write(self, text):
        """Show a new state of the bar."""
        if text.strip():
            self.bar_line = text.strip()
            self.show_text()

    def flush(self):
        """Do nothing: every line is shown when it is written."""

    def show_text(self):
        """Show the bar, the losses of the latest step and the latest scores."""
        lines = [self.bar_line]
        if self.line:
            lines.append(losses_line(self.line, self.settings['epoch_count']))
        if self.scores:
            warnings = warning_lines(self.scores, self.settings['recipe'])
            lines += [score_line(self.scores[-1]), *warnings.values()]
        self.text.show({'text/plain': '\n'.join(lines)})

    def show_image(self, final=False):
        """Show the latest grid beside the curves; the final one, which is saved, in fewer bytes."""
        curves = self.curves.image(self.scores)
        grid = beside(curves, self.grid)
        width = grid.width + GAP + curves.width
        image = Image.new('RGB', (width, max(grid.height, curves.height)), 'white')
        image.paste(grid, (0, 0))
        image.paste(curves, (grid.width + GAP, 0))
        if final:
            image = few_colors(image, 256)
        png = png_bytes(image, compress_level=6 if final else 1)  # 1 takes half the time
        text = f'the latest grid beside the curves, after step {self.step():,}'
        self.image.show(*as_content(png, text))
