"""Recipes: everything that varies between two trainings of the same notebook functions."""

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True)
class Recipe:
    """The settings of one way to train the GAN; the defaults are the textbook's."""

    image_size: int = 28  # side of a square picture, pixels, a multiple of 4
    kernel_size: int = 5  # side of every (transposed) convolution kernel, pixels
    leak: float = 0.2  # slope of the leaky ReLU for negative inputs
    smoothing: float = 0.1  # the label of real pictures is 1 - smoothing, that of fakes stays 0
    updates: Literal['in-turn', 'together'] = 'in-turn'  # D then G, or both from one forward pass
    ema_half_life: int = (
        0  # pictures after which a weight's share in its average halves; 0: no average
    )
    random_flip: bool = False  # mirror half of the pictures; right for faces, wrong for digits

    def __post_init__(self):
        """Refuse settings that no training can mean, with the range that it can."""
        if self.image_size < 4 or self.image_size % 4:
            raise ValueError(f'image_size is {self.image_size}; expected a multiple of 4 pixels')
        if self.kernel_size < 1:
            raise ValueError(f'kernel_size is {self.kernel_size}; expected at least 1 pixel')
        if not 0 <= self.leak < 1:
            raise ValueError(f'leak is {self.leak}; expected 0 (ReLU) or more, and below 1')
        if not 0 <= self.smoothing < 0.5:
            raise ValueError(f'smoothing is {self.smoothing}; expected 0 or more, and below 0.5')
        if self.updates not in ('in-turn', 'together'):
            raise ValueError(f"updates is {self.updates!r}; expected 'in-turn' or 'together'")
        if self.ema_half_life < 0:
            raise ValueError(f'ema_half_life is {self.ema_half_life}; expected 0 or more pictures')


CLASSIC = Recipe()
DIGITS = Recipe(kernel_size=4, updates='together', ema_half_life=10_000)
FACES = replace(DIGITS, random_flip=True)

RECIPES = {'classic': CLASSIC, 'digits': DIGITS, 'faces': FACES}


def recipe_named(name):
    """Return the recipe of that name; raise ValueError, with all names, if there is none."""
    if name not in RECIPES:
        raise ValueError(f'there is no recipe {name!r}; choose one of {sorted(RECIPES)}')
    return RECIPES[name]
