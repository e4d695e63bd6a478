"""Recipes: everything that varies between two training runs of the same notebook functions."""

import math
from dataclasses import asdict, dataclass, fields, replace
from numbers import Integral, Real
from typing import Literal, NamedTuple

CHOICES = {  # what a textual setting may be
    'network': ('plain', 'residual'),
    'initializer': ('xavier', 'normal'),
    'loss': ('non-saturating', 'least-squares', 'hinge', 'relativistic'),
    'updates': ('alternating', 'simultaneous'),
    'precision': ('auto', 'float32', 'float16'),
}
AUGMENTATIONS = ('flip', 'colour', 'translation', 'cutout')  # of augment.py
LARGEST_IMAGE = 1024  # pixels


# What recipes and settings were called in earlier versions, whose runs still hold these names
RENAMED = {
    'mirrored': 'classic',
    'r1_weight': 'gamma',
    'together': 'simultaneous',
    'in-turn': 'alternating',
}


def renamed(word):
    """Return what a recipe, a setting or its value is called now."""
    return RENAMED.get(word, word) if isinstance(word, str) else word


@dataclass(frozen=True)
class Recipe:
    """The settings of one way to train the GAN; the defaults are the textbook's."""

    # The networks; d_ is the discriminator, g_ the generator.
    network: Literal['plain', 'residual'] = 'plain'  # the notebook's, or those of networks.py
    image_size: int = 28  # side of a square image, pixels, a multiple of 4
    kernel_size: int = 5  # side of the kernels that halve or double an image, pixels
    d_filters: tuple[int, ...] = (64, 128, 256)  # of its convolutions, each halves the image
    g_filters: tuple[int, ...] = (256, 128)  # of its layers but the last, each twice the size
    g_last_filters: int = 0  # of a layer at full size, after which a 3x3 convolution draws; 0: none
    d_hidden: int = 0  # units of a dense layer after its convolutions; 0: none
    g_hidden: int = 0  # units of a dense layer between the latent and its first image; 0: none
    d_leak: float = 0.2  # slope of the leaky ReLU for negative inputs; 0: plain ReLU
    g_leak: float = 0.2
    dropout: float = 0.0  # share of D's features, after all its convolutions but the first
    initializer: Literal['xavier', 'normal'] = 'xavier'  # normal: N(0, 0.02)
    z_dim: int = 100  # length of a latent
    z_categories: int = 0  # kinds of latents: which of as many first numbers is largest; 0: none
    # The losses
    loss: Literal['non-saturating', 'least-squares', 'hinge', 'relativistic'] = 'non-saturating'
    smoothing: float = 0.1  # the label of real images is 1 - smoothing, that of fakes stays 0
    gamma: float = 0.0  # of the penalty on D's slope at real images (losses.r1_penalty)
    # The training
    # D and then G, or both from one forward pass
    updates: Literal['alternating', 'simultaneous'] = 'alternating'
    # auto: bfloat16 where the CPU multiplies it; float16: on a GPU, with scaled losses
    precision: Literal['auto', 'float32', 'float16'] = 'auto'
    xla: bool = False  # compile the graph; for GPUs, a CPU is slower with it
    batch_size: int = 64  # images
    learning_rate: float = 3e-4  # Adam's step size, at its highest
    rate_warmup: int = 0  # images over which the rate rises (batches.scheduled_rate); 0: none
    rate_decay: bool = False  # whether the learning rate falls linearly to 0 over the run
    beta1: float = 0.45  # Adam's decay of the mean gradient
    ema_half_life: int = 0  # images in which a weight's share in its average halves; 0: none
    random_flip: bool = False  # mirror half of the real images; right for faces, wrong for digits
    augmentations: tuple[str, ...] = ()  # of what D sees, in this order (augment.py)
    mnist_epochs: int = 2  # over the full set, 60,000 digits
    celeba_epochs: int = 1  # over the full set, 202,599 faces

    def __post_init__(self):
        """Refuse settings that make no sense, and say what would be right."""
        for name in 'd_filters', 'g_filters', 'augmentations':
            if isinstance(getattr(self, name), list):  # JSON has no tuples
                object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in 'd_filters', 'g_filters':
            filters = getattr(self, name)
            counts = isinstance(filters, tuple) and all(type(n) is int and n > 0 for n in filters)
            if not (counts and filters):
                raise ValueError(
                    f'{name} is {filters!r}; expected (64, 128) or the like, from 1 on'
                )
        chosen = self.augmentations
        is_tuple = isinstance(chosen, tuple)
        if not is_tuple or len(chosen) > sum(name in chosen for name in AUGMENTATIONS):
            raise ValueError(
                f'augmentations is {chosen!r}; expected some of {AUGMENTATIONS}, each once, such as '
                "('colour', 'cutout') or ('flip',)"
            )
        for field in fields(self):
            kind, value = type(field.default), getattr(self, field.name)
            accepted = {int: Integral, float: Real}.get(kind, kind)  # numpy's numbers too
            if isinstance(value, bool) is not (kind is bool) or not isinstance(value, accepted):
                raise ValueError(f'{field.name} is {value!r}; expected {kind.__name__}')
        some = 'kernel_size', 'z_dim', 'batch_size', 'mnist_epochs', 'celeba_epochs'
        none_too = (
            'ema_half_life', 'd_hidden', 'g_hidden', 'g_last_filters', 'z_categories', 'rate_warmup',
            'gamma',
        )  # fmt: skip
        for name, lowest in (dict.fromkeys(some, 1) | dict.fromkeys(none_too, 0)).items():
            if not lowest <= getattr(self, name) < math.inf:
                raise ValueError(f'{name} is {getattr(self, name)}; expected at least {lowest}')
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f'{name} is {getattr(self, name)!r}; expected one of {choices}')
        if self.network == 'residual':
            if not self.g_last_filters:
                raise ValueError('g_last_filters is 0; expected 1 or more for residual networks')
            for name in 'd_hidden', 'g_hidden':
                if getattr(self, name):
                    raise ValueError(
                        f'{name} is {getattr(self, name)}; expected 0: residual networks have none'
                    )
        below = {'d_leak': 1, 'g_leak': 1, 'smoothing': 0.5, 'dropout': 1, 'beta1': 1}
        for name, limit in below.items():
            if not 0 <= getattr(self, name) < limit:
                raise ValueError(
                    f'{name} is {getattr(self, name)}; expected 0 or more, and below {limit}'
                )
        if not 4 <= self.image_size <= LARGEST_IMAGE or self.image_size % 4:
            raise ValueError(
                f'image_size is {self.image_size}; expected a multiple of 4 pixels, up to '
                f'{LARGEST_IMAGE}'
            )
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f'learning_rate is {self.learning_rate}; expected more than 0')
        if self.smoothing and self.loss in ('hinge', 'relativistic'):
            raise ValueError(
                f'smoothing is {self.smoothing}; expected 0: {self.loss} has no labels'
            )


CLASSIC = Recipe()
DIGITS = Recipe(
    kernel_size=4,
    d_filters=(64, 128),
    g_filters=(128, 64),
    d_hidden=512,
    g_hidden=512,
    z_categories=20,
    gamma=2.0,
    updates='simultaneous',
    batch_size=32,
    learning_rate=3.2e-3,
    rate_warmup=3200,
    rate_decay=True,
    beta1=0.5,
    ema_half_life=10_000,
)
FACES = Recipe(
    kernel_size=4,
    g_last_filters=64,
    gamma=0.03,
    updates='simultaneous',
    learning_rate=8e-4,
    beta1=0.5,
    ema_half_life=20_000,
    random_flip=True,
)


class Published(NamedTuple):
    """A recipe that somebody has described, and how far the description goes."""

    recipe: Recipe
    stated: str  # settings that the description states; the others are chosen by us
    note: str


OURS = {'learning_rate': 2e-4, 'beta1': 0.5}  # the DCGAN's, where a description states neither
DCGAN = Recipe(g_filters=(256, 128, 64), g_leak=0.0, initializer='normal', batch_size=128, **OURS)
DCGAN_STATED = 'd_leak g_leak initializer z_dim loss batch_size learning_rate beta1'
PUBLISHED = {
    'classic': Published(
        CLASSIC,
        ' '.join(f.name for f in fields(Recipe) if f.name not in ('precision', 'xla')),
        'The textbook network, with the settings that most public notebooks of the exercise share.',
    ),
    'xavier-dropout': Published(
        Recipe(d_leak=0.01, g_leak=0.01, dropout=0.5, **OURS),
        'd_filters kernel_size d_leak g_leak mnist_epochs celeba_epochs',
        'Stated too, but not how much: dropout and smoothing. Xavier is stated for the first layer '
        'of D; it is what `tf.layers` gives all others.',
    ),
    'relu': Published(
        Recipe(d_leak=0.0, g_leak=0.0, updates='simultaneous', **OURS),
        'd_leak g_leak updates',
        'Stated too: batch norm in both networks, tanh, images in [-1, 1], smoothing (not how much).',
    ),
    'dcgan': Published(
        DCGAN,
        DCGAN_STATED,
        'Radford et al. 2016, arXiv:1511.06434, section 4. Smoothing (not how much) and 32x32 pixels '
        'with four (transposed) convolutions are of a description of the exercise. At 28x28 there '
        'are three. From 32 pixels on, D has 64, 128, 256 and 512 features, and G 1024, 512, 256 and 128: '
        'at 64 that is the network of the paper.',
    ),
    'dcgan-least-squares': Published(
        replace(DCGAN, loss='least-squares'),
        DCGAN_STATED,
        "The same with its other loss: Mao et al. 2017, arXiv:1611.04076, on D's logits.",
    ),
    'latent-128': Published(
        Recipe(z_dim=128, **OURS),
        'z_dim g_filters kernel_size',
        'Stated too: leaky ReLU (not how leaky), three convolutions in D (not how wide). The text '
        'gives G a sigmoid and D a tanh; here they are the usual way round.',
    ),
}
RECIPES = {
    'digits': DIGITS,
    'faces': FACES,
    **{name: published.recipe for name, published in PUBLISHED.items()},
}


ALL_THE_SAME = 'network', 'augmentations'  # settings that no description is about


def published_table():
    """Return a Markdown table: which settings of a published recipe are stated, which are ours.

    Of ours, those that are off (0 or False) are left out.
    """
    lines = ['| recipe | stated there | chosen by us | |', '|---|---|---|---|']
    for name, (recipe, stated, note) in PUBLISHED.items():
        settings = {k: v for k, v in asdict(recipe).items() if k not in ALL_THE_SAME}
        texts = {
            is_stated: ', '.join(
                f'`{setting}` {value}'
                for setting, value in settings.items()
                if (setting in stated.split()) is is_stated and (is_stated or value)
            )
            for is_stated in (True, False)
        }
        lines.append(f'| `{name}` | {texts[True]} | {texts[False]} | {note} |')
    return '\n'.join(lines)


def recipe_named(name, image_size=28):
    """Return the recipe of that name for images of that size, in pixels.

    Some recipes have other settings for larger images (`BY_SIZE`). For images of more than 32 pixels, gamma
    grows with the number of pixels: in an image of twice the side, D's slope is spread over four times as
    many pixels, each of which has a quarter of it, so the squares of the penalty add up to a quarter.

    Raises ValueError if there is no such recipe, with all names, or for an invalid size.
    """
    name = renamed(name)
    if name not in RECIPES:
        raise ValueError(f'there is no recipe {name!r}; choose one of {sorted(RECIPES)}')
    recipe = replace(RECIPES[name], image_size=image_size)
    settings = BY_SIZE[name](image_size) if name in BY_SIZE else {}
    return replace(recipe, gamma=recipe.gamma * max(1.0, image_size / 32) ** 2, **settings)


def digits_by_size(image_size):
    """Return the layers of `digits`: for images of more than 32 pixels one more for each doubling."""
    more = max(0, math.ceil(math.log2(image_size / 32)))
    filters = tuple(DIGITS.g_filters[0] >> level for level in range(len(DIGITS.g_filters) + more))
    return {'d_filters': filters[::-1], 'g_filters': filters}


def faces_by_size(image_size):
    """Return what differs in `faces` above 32 pixels: more layers, a lower rate, smaller batches.

    G begins with 4x4 to 8x8 pixels, and has half the features at twice the size from 8 pixels on, so that
    each layer costs about as much; D is the reverse. The rate falls in proportion to the side. Batches are
    half as large: a little fewer images fit an hour, but their steps are twice as many, and what was drawn was
    better (benchmarks/LOG.md).
    """
    if image_size <= 32:
        return {}
    blocks = int(math.log2(image_size / 4))
    filters = (256, *(256 >> level for level in range(blocks)))
    return {
        'd_filters': filters[-2::-1],
        'g_filters': filters[:-1],
        'g_last_filters': filters[-1],
        'learning_rate': FACES.learning_rate * 32 / image_size,
        'batch_size': FACES.batch_size // 2,
    }


def dcgan_by_size(image_size):
    """Return the four layers of each network in the DCGAN paper, for images of 32 pixels or more.

    In the paper, images have 64 pixels and G begins with 4x4; at 32 it begins with 2x2, at 128 with 8x8.
    """
    if image_size < 32:
        return {}
    return {'d_filters': (64, 128, 256, 512), 'g_filters': (1024, 512, 256, 128)}


BY_SIZE = {  # name of a recipe: the settings that depend on the size of the images
    'digits': digits_by_size,
    'faces': faces_by_size,
    'dcgan': dcgan_by_size,
    'dcgan-least-squares': dcgan_by_size,
}
