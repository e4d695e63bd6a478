"""Differentiable augmentation: what the discriminator sees is changed at random, real or generated.

With few images, a discriminator learns them by heart. If it never sees one twice in the same way, that is
harder. If generated images are changed in the same way, the generator has no reason to draw the changes, as
long as D can still tell how many images had them (see `flip`). And if the changes are differentiable,
D's gradient reaches G through them (DiffAugment: Zhao et al. 2020, arXiv:2006.10738).
"""

from facegen import replicas
from facegen.layers import seed_of_step
from facegen.session import tf

FLIP = 1 / 4  # probability that an image is mirrored
TRANSLATION = 1 / 8  # of the side, by which an image moves at most
CUTOUT = 1 / 2  # of the side, that a cut-out square has


def augmented(images, recipe):
    """Return `images` [batch, h, w, c] in [-1, 1], each changed by all `recipe.augmentations` in turn.

    How an image is changed depends on the graph's seed, on the call and on the step only
    (`layers.seed_of_step`), so a continued training sees what an uninterrupted one would have seen.
    Without augmentations, the images come back as they are.
    """
    for name in recipe.augmentations:
        images = BY_NAME[name](images)
    return images


def flip(images):
    """Mirror images left to right, with probability 1/4 each.

    With 1/2, D would see equally many images that face each way, whatever G draws, and G could draw those
    that face one way only. With less, D can tell how many faced each way (Karras et al. 2020,
    arXiv:2006.06676, section 2.2).
    """
    return tf.where_v2(uniform(images) < FLIP, images[:, :, ::-1], images)


def colour(images):
    """Add -0.5 to 0.5 to the brightness, then multiply saturation by 0 to 2 and contrast by 0.5 to 1.5.

    The saturation of an image of one channel stays as it is.
    """
    images = images + uniform(images, -0.5, 0.5)
    grey = tf.reduce_mean(images, axis=3, keepdims=True)
    images = grey + uniform(images, 0, 2) * (images - grey)
    mean = tf.reduce_mean(images, axis=[1, 2, 3], keepdims=True)
    return mean + uniform(images, 0.5, 1.5) * (images - mean)


def translation(images):
    """Move images by up to an eighth of their sides, rounded to whole pixels; uncovered ones are grey (0)."""
    for axis, product in (1, 'nij,njwc->niwc'), (2, 'nij,nhjc->nhic'):
        side = images.shape.as_list()[axis]
        most = int(TRANSLATION * side + 0.5)
        shift = whole_numbers(images, -most, most)[:, :, 0, 0]
        chosen = tf.one_hot(tf.range(side) + shift, side)  # the old row of each new one, or none
        images = tf.einsum(product, chosen, images)
    return images


def cutout(images):
    """Make a square of half the sides grey (0), whose middle may be anywhere in the image."""
    inside = 1.0
    for axis in 1, 2:
        side = images.shape.as_list()[axis]
        length = int(CUTOUT * side + 0.5)
        first = whole_numbers(images, -(length // 2), side - (length + 1) // 2)
        place = tf.reshape(tf.range(side), [-1, 1, 1] if axis == 1 else [-1, 1])
        inside *= tf.cast((first <= place) & (place < first + length), images.dtype)
    return images * (1 - inside)


def random(images, low, high, kind):
    """Return a random number for each image, [batch, 1, 1, 1]; each call draws others.

    A replica takes those of its part of the whole batch.
    """

    def draw(count):
        return tf.random.stateless_uniform([count, 1, 1, 1], seed_of_step(), low, high, kind)

    return replicas.own_rows(draw, tf.shape(images)[0])


def uniform(images, low=0.0, high=1.0):
    """Return a number from `low` to `high` for each image."""
    return random(images, low, high, images.dtype)


def whole_numbers(images, low, high):
    """Return a whole number from `low` to `high`, both included, for each image."""
    return random(images, low, high + 1, tf.int32)


BY_NAME = {'flip': flip, 'colour': colour, 'translation': translation, 'cutout': cutout}
