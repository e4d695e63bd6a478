"""Images as arrays: their value ranges, grids, and what Pillow makes of them."""

import io
import math

import numpy as np
from PIL import Image

CHANNELS = {'L': 1, 'RGB': 3}  # of Pillow's modes
DESCRIPTION = 'Description'  # a keyword of PNG
DIGIT_SIDE = 28  # pixels, of MNIST
NOTEBOOK_WIDTH = 880  # pixels, of an image that fits into a notebook's page
MOST_ENLARGED = 3
PALETTE_PIXELS = 1 << 16  # that say which colours a large image needs


# Value ranges -------------------------------------------------------------------------------------


def to_unit_range(pixels):
    """Return pixels of 0 to 255 as float32 in [0, 1]."""
    images = pixels.astype(np.float32)
    images /= 255  # in place, so that no further array is made
    return images


def to_data_range(pixels):
    """Return pixels of 0 to 255 as float32 in [-0.5, 0.5], as batches are."""
    images = to_unit_range(pixels)
    images -= 0.5
    return images


def to_uint8(images):
    """Return images of the generator's range [-1, 1] as uint8, -1 as 0 and 1 as 255."""
    return np.rint((np.clip(images, -1, 1) + 1) * 127.5).astype(np.uint8)


def mirrored(images):
    """Return images [n, h, w, c] mirrored left to right."""
    return images[:, :, ::-1]


# Pillow images ------------------------------------------------------------------------------------


def are_digits(shape):
    """Tell whether images of that shape [n, h, w, c] may be digits: grey squares of 28x28 or more."""
    _, height, width, channels = shape
    return height == width >= DIGIT_SIDE and channels == 1


def mode_of(images):
    """Return Pillow's mode of images [..., c]."""
    return 'L' if images.shape[-1] == 1 else 'RGB'


def as_image(image):
    """Return the Pillow image of uint8 pixels [h, w, c]."""
    return Image.fromarray(image[..., 0] if mode_of(image) == 'L' else image)


def square_grid(images, mode, *, value_range=None):
    """Return the first k*k images, k = floor(sqrt(n)), row by row as one square Pillow image.

    Args:
        images: [n, height, width, channels]; or [n, height, width] for mode 'L'.
        mode: 'L' or 'RGB'.
        value_range: (low, high), which become 0 and 255; what lies outside is clipped. None takes
            the least and the greatest value (all grey where they are equal) and rounds down.

    Raises:
        ValueError: No images, the wrong number of channels, NaN, or low >= high.

    """
    if mode not in list(CHANNELS):  # which may be unhashable
        raise ValueError(f'unknown mode {mode!r}; choose one of {sorted(CHANNELS)}')
    images = np.asarray(images)
    images = images.astype(np.promote_types(images.dtype, np.float32), copy=False)
    if images.ndim == 3 and mode == 'L':
        images = images[..., np.newaxis]
    if images.ndim != 4 or images.shape[-1] != CHANNELS[mode] or images.size == 0:
        raise ValueError(
            f'mode {mode!r} needs one image or more, as [n, height, width, {CHANNELS[mode]}]; '
            f'found shape {images.shape}'
        )
    if not np.isfinite(images).all():
        raise ValueError('the images hold NaN or infinite values; did the training diverge?')
    pixels = to_levels(images, value_range)
    side = math.isqrt(len(pixels))
    _, height, width, channels = pixels.shape
    tiles = pixels[: side * side].reshape(side, side, height, width, channels)
    return as_image(tiles.swapaxes(1, 2).reshape(side * height, side * width, channels))


def to_levels(images, value_range):
    """Return float images as uint8; `value_range` is that of `square_grid`."""
    if value_range is None:
        low, high = images.min(), images.max()
        pixels = (images - low) * 255 / (high - low) if low < high else np.full_like(images, 128)
    else:
        if np.shape(value_range) != (2,) or not value_range[0] < value_range[1]:
            raise ValueError(f'value_range is {value_range}; choose (low, high) with low < high')
        low, high = value_range
        pixels = np.rint((np.clip(images, low, high) - low) / (high - low) * 255)
    return pixels.astype(np.uint8)


def enlarge(image, factor=MOST_ENLARGED, width=NOTEBOOK_WIDTH):
    """Return a Pillow image at most `factor` times as large and `width` pixels wide.

    The largest whole factor that fits makes every pixel a sharp square. An image that is too wide
    as it is, is reduced to `width` by Lanczos resampling.
    """
    factor = min(factor, width // image.width)
    if factor == 0:
        height = max(1, round(image.height * width / image.width))
        return image.resize((width, height), Image.Resampling.LANCZOS)
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def unenlarged(image):
    """Return the Pillow image that `enlarge` has made this one of, or the image if it has not."""
    for factor in range(MOST_ENLARGED, 1, -1):
        if image.width % factor == image.height % factor == 0:
            size = image.width // factor, image.height // factor
            small = image.resize(size, Image.Resampling.NEAREST)
            if enlarge(small, factor, image.width) == image:
                return small
    return image


def narrow(images, width):
    """Return uint8 images [..., h, w, c], each reduced as by `enlarge` if it is wider than that."""
    *counts, _, _, channels = images.shape
    small = [
        np.asarray(enlarge(as_image(image), 1, width))
        for image in images.reshape(-1, *images.shape[-3:])
    ]
    return np.stack(small).reshape(*counts, *small[0].shape[:2], channels)


def few_colors(image, count=128):
    """Return a Pillow image in its most useful colours, which take a third of the bytes.

    Those of a large image are found in an even part of its pixels, since it would take seconds otherwise.
    """
    if image.mode != 'RGB':
        return image
    share = PALETTE_PIXELS / (image.width * image.height)
    if share > 1 / 4:
        return image.quantize(count, kmeans=5)
    size = [max(1, round(side * math.sqrt(share))) for side in image.size]
    palette = image.resize(size, Image.Resampling.NEAREST).quantize(count, kmeans=5)
    return image.quantize(palette=palette, dither=Image.Dither.NONE)


def png_bytes(image, **options):
    """Return a Pillow image as the bytes of a PNG file; `options` are Pillow's."""
    file = io.BytesIO()
    image.save(file, 'PNG', **options)
    return file.getvalue()


def described(image, text):
    """Return a Pillow image with a text for readers who do not see it."""
    image.info[DESCRIPTION] = text
    return image
