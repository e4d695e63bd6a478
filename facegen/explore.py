"""Explore a trained generator: sliders in a live notebook, a figure everywhere else."""

import contextlib
import functools
import math
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np

from facegen.directions import directions_of
from facegen.images import enlarge, mode_of, png_bytes, square_grid
from facegen.latent_figures import directions, kept_numbers
from facegen.run import RunFolder
from facegen.sampling import latents, restored, slerp
from facegen.screen import in_notebook, show

IMAGES = 16  # in the grid under the sliders, a square number
DIRECTIONS = 4
REACH = 3  # of a direction: its slider moves latents by up to this much, either way
GRID_WIDTH = 512  # pixels at most; the sliders beside it are some 300 wide
OPEN = {}  # path of a run -> what to close when it is explored again


class Choice(NamedTuple):
    """Where the sliders stand."""

    seed: int  # of the latents
    other_seed: int  # of the latents that the images are on the way to
    steps: tuple[float, ...]  # along each direction
    way: float = 0.0  # share of that way, in [0, 1]
    truncation: float = 1.0


def latents_of(choice, count, vectors, *, kept=0):
    """Return latents z [count, z_dim] = psi slerp(a, b, t) + V s.

    a and b are the latents of the two seeds, t the way, psi the truncation, V `vectors` [z_dim, k], and
    s the steps. The first `kept` numbers do not go on the way from a to b: they choose a category.
    """
    a, b = (latents(seed, count, len(vectors)) for seed in (choice.seed, choice.other_seed))
    on_the_way = slerp(a[:, kept:], b[:, kept:], choice.way)
    moved = choice.truncation * np.hstack([a[:, :kept], on_the_way]) + vectors @ choice.steps
    return moved.astype(np.float32)


class Explorer:
    """Sliders, and the grid that a generator draws wherever they stand."""

    def __init__(self, trained, *, seed=0, kept=0):
        """Make the widgets; `trained` is a `sampling.Sampler`, which must stay open."""
        import ipywidgets

        self.trained, self.kept = trained, kept
        self.vectors = directions_of(trained, DIRECTIONS, kept=kept)
        self.start = Choice(seed, seed + 1, (0.0,) * self.vectors.shape[1])
        whole = functools.partial(ipywidgets.IntSlider, min=0, max=max(100, seed + 1))
        real = functools.partial(ipywidgets.FloatSlider, readout_format='.2f')
        self.sliders = [
            whole(self.start.seed, description='seed'),
            whole(self.start.other_seed, description='other seed'),
            real(self.start.way, min=0, max=1, step=0.02, description='way to it'),
            real(self.start.truncation, min=0.1, max=1.5, step=0.02, description='truncation'),
            *(
                real(step, min=-REACH, max=REACH, step=0.1, description=f'direction {number}')
                for number, step in enumerate(self.start.steps, 1)
            ),
        ]
        back = ipywidgets.Button(description='back to the start')
        back.on_click(lambda _: self.go_to(self.start))
        grid = self.draw()
        self.grid = ipywidgets.Image(
            value=as_png(grid), format='png', layout=ipywidgets.Layout(width=f'{grid.width}px')
        )
        for slider in self.sliders:
            slider.observe(self.redraw, 'value')
        self.widget = ipywidgets.HBox([ipywidgets.VBox([*self.sliders, back]), self.grid])

    def choice(self):
        """Return where the sliders stand."""
        seed, other_seed, way, truncation, *steps = (slider.value for slider in self.sliders)
        return Choice(seed, other_seed, tuple(steps), way, truncation)

    def go_to(self, choice):
        """Move the sliders there."""
        values = [choice.seed, choice.other_seed, choice.way, choice.truncation, *choice.steps]
        for slider, value in zip(self.sliders, values, strict=True):
            slider.value = value

    def draw(self):
        """Return the grid of the latents that the sliders choose."""
        z = latents_of(self.choice(), IMAGES, self.vectors, kept=self.kept)
        images = self.trained(z)
        grid = square_grid(images, mode_of(images), value_range=(0, 255))
        return enlarge(grid, math.inf, GRID_WIDTH)

    def redraw(self, _):
        """Replace the grid by that of the latents that the sliders choose."""
        self.grid.value = as_png(self.draw())

    def close(self):
        """Take the widgets off the page."""
        for widget in *self.sliders, self.grid, self.widget:
            widget.close()


def as_png(grid):
    """Return a Pillow image as the bytes of a PNG file, which is made quickly rather than small."""
    return png_bytes(grid, compress_level=1)


def explore(run_dir):
    """Show sliders that change what the generator of a run draws, or a figure in their place.

    The sliders change the latents of a grid, at first those of the run's seed: they move them along
    the `principal_directions` of the generator's first layer and on the way to the latents of
    another seed, and truncate them: see `latents_of`. The figure, `latent_figures.directions` of
    one latent, takes their place where nobody can move one: without ipywidgets, or with nobody at
    the notebook. It is returned where there is no notebook to show it in.

    The generator stays open until the same run is explored again. Raises like `sampling.restored` and
    `directions_of`.
    """
    run = RunFolder(run_dir)
    if is_live() and has_widgets():
        return show_sliders(run)
    with restored(run) as trained:
        kept = kept_numbers(run.recipe(), trained.z_dim)
        (z,) = latents(run.config()['seed'], 1, trained.z_dim)
        figure = directions(trained, z, directions_of(trained, DIRECTIONS, kept=kept))
    return show(figure) if in_notebook() else figure


def show_sliders(run):
    """Show an `Explorer` of a run in the place of the one before."""
    from IPython.display import display

    OPEN.pop(run.path, contextlib.ExitStack()).close()
    with contextlib.ExitStack() as stack:
        trained = stack.enter_context(restored(run))
        kept = kept_numbers(run.recipe(), trained.z_dim)
        explorer = Explorer(trained, seed=run.config()['seed'], kept=kept)
        stack.callback(explorer.close)
        display(explorer.widget)
        OPEN[run.path] = stack.pop_all()


def is_live():
    """Tell whether somebody is at the running notebook, who could also answer a question.

    A client that runs a notebook unattended, as `jupyter execute` does, must not be asked for
    input, and says so in its request to run the cell ('allow_stdin' of Jupyter's message protocol).
    """
    if not in_notebook():
        return False
    from IPython import get_ipython

    return get_ipython().kernel.get_parent()['content']['allow_stdin']


@functools.cache
def has_widgets():
    """Tell whether ipywidgets is installed; if not, say once what is shown in its place."""
    if find_spec('ipywidgets'):
        return True
    print('A figure takes the place of the sliders; for these: pip install ipywidgets')
    return False
