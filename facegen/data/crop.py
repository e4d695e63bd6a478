"""One image file becomes pixels: the crop of a face, or the largest square of any image."""

import re
import warnings
from contextlib import contextmanager, nullcontext
from numbers import Integral

import numpy as np
from PIL import Image, ImageColor, ImageOps

FACE_SIZE = 108  # side of the central square that holds the face in the aligned 178x218 images
HEAD_SIZE = 140  # likewise of the one that holds the head
WIDEST_CROP = 178  # beyond it, the aligned images hold nothing
CROP_VERSION = 1  # of what get_image and get_square do; another one rebuilds the caches
LARGE_PIXELS = 16 << 20  # of an image that is decoded while no other process decodes such a one
LARGE_SIDE = 1024  # pixels that a large image keeps at least, until it is resized
AVERAGED = 'L', 'LA', 'RGB', 'RGBA', 'CMYK', 'YCbCr', 'I', 'F'  # modes whose pixels can be averaged
WHITE_OF_16_BITS = 65_535
BACKGROUND = 'white'
# Kinds of notes
TRANSPARENT, SEVERAL, DEEP, DARK, CLIPPED = 'transparent', 'several', 'deep', 'dark', 'clipped'


class Note(UserWarning):
    """What is worth saying about an image that is used: args are (kind, level)."""


def note(kind, level=0):
    """Say something about the image that is being read; `level` matters for its kind alone."""
    warnings.warn(Note(kind, level), stacklevel=3)


@contextmanager
def opened(image_path):
    """Yield an image, not decoded yet, as Pillow opens it."""
    with Image.open(image_path) as image:
        few_bits = re.search(r"'L;([24])'", str(image.tile))
        if few_bits and 'transparency' in image.info:  # Pillow scales all levels to 8 bits but this
            image.info['transparency'] *= 255 // (2 ** int(few_bits[1]) - 1)
        if image.mode == '1' and image.info.get('transparency'):  # 1 in Pillow 10
            image.info['transparency'] = 255
        yield image


def default_crop(width, height):
    """Return the side of the central square of CelebA's images that becomes `width` x `height`.

    Up to 32 pixels it is 108, as in the exercise: the face gets all of the few pixels. Above, it is
    140, as in Wasserstein auto-encoders of 64x64 (Tolstikhin et al. 2018, arXiv:1711.01558): it shows
    the hair and the chin that 108 cuts off, with little background, and 128 pixels of it are still
    a reduction. Others take 108 (DCGAN-tensorflow), 148 (VAE/GAN, Larsen et al. 2016,
    arXiv:1512.09300) or the full width, 178 (mimicry).
    """
    return FACE_SIZE if max(width, height) <= 32 else HEAD_SIZE


def check_crop(crop):
    """Raise ValueError unless `crop` is the side of a square within CelebA's images."""
    if isinstance(crop, bool) or not isinstance(crop, Integral) or not 1 <= crop <= WIDEST_CROP:
        raise ValueError(
            f'crop is {crop!r}; choose a whole number from 1 to {WIDEST_CROP}, the width of the '
            'images of celeba'
        )


def get_image(image_path, width, height, mode, *, crop=FACE_SIZE):
    """Return an image as uint8 [height, width] for mode 'L', [height, width, 3] for 'RGB'.

    An image of another size is cropped to its central `crop` x `crop` pixels and resized with
    Pillow's bilinear filter; the default 108 holds the face of an aligned CelebA image. Raises
    ValueError unless `crop` is a whole number from 1 to 178.
    """
    check_crop(crop)
    with opened(image_path) as image:
        bits, fits = bits_of(image), image.size == (width, height)
        cropped = plain(image if fits else crop_centre(image, crop), bits)
        if not fits:
            cropped = cropped.resize((width, height), Image.BILINEAR)
        return np.array(cropped.convert(mode))


def get_batch(image_files, width, height, mode):
    """Return the images as float32 [num_files, height, width, channels], 0 to 255."""
    images = np.array([get_image(file, width, height, mode) for file in image_files], np.float32)
    return images if images.ndim == 4 else images[..., np.newaxis]


def get_square(
    image_path, width, height, mode, *, background=BACKGROUND, white_level=None, alone=nullcontext
):
    """Return an image like `get_image`, of its largest central square, turned upright.

    Args:
        image_path: Any image that Pillow reads; of several in a file, the first.
        width: Of the result, in pixels.
        height: Of the result, in pixels.
        mode: 'L' or 'RGB'.
        background: Colour, as Pillow names them, that is seen through transparent pixels.
        white_level: What is white in an image of more than 8 bits; None for the greatest of 16 bits.
        alone: () -> context in which an image of more than LARGE_PIXELS is decoded.

    Raises:
        ValueError: 32 bits of grey without a `white_level`.

    """
    with opened(image_path) as image:
        is_large = image.width * image.height > LARGE_PIXELS
        bits = bits_of(image)
        with alone() if is_large else nullcontext():
            if is_large:
                image.draft(image.mode, (LARGE_SIDE, LARGE_SIDE))  # of JPEG; no other can
            image.load()  # Pillow 10 turns a TIFF upright only now
            side = min(image.size)
            square = shrunk_centre(image, side) if is_large else crop_centre(image, side)
        if image.format != 'MPO' and getattr(image, 'is_animated', False):
            note(SEVERAL)  # the others of an MPO are no pictures, but depths and the like
    square = plain(square, bits, background, white_level)
    upright = ImageOps.exif_transpose(square.convert(mode))
    return np.array(upright.resize((width, height), Image.BILINEAR))


def shrunk_centre(image, side):
    """Return the central square of a large Pillow image, its pixels averaged first, to need less memory."""
    factor = max(1, side // LARGE_SIDE)
    if image.mode.startswith('I;16') and 'transparency' not in image.info:
        image = image.convert('I')
    elif image.mode in ('1', 'P') or 'transparency' in image.info:
        image = crop_centre(image, side)
        if image.mode.startswith('I;16'):
            return image
        image = image.convert('RGBA' if image.has_transparency_data else 'RGB')
    if image.mode not in AVERAGED:
        return crop_centre(image, side)
    return image.reduce(factor, centre(image, side))


def crop_centre(image, side):
    """Return the central square of a Pillow image; what lies outside the image is black."""
    return image.crop(centre(image, side))


def centre(image, side):
    """Return the box of the central square of a Pillow image."""
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return left, top, left + side, top + side


def bits_of(image):
    """Return how many bits a level of a Pillow image has in its file, which is not decoded yet."""
    if image.mode in ('I', 'F'):
        # Pillow makes 16 bits of any PGM
        return 16 if (image.format, image.mode) == ('PPM', 'I') else 32
    return 16 if ';16' in f'{image.mode} {image.tile}' else 8


def plain(image, bits, background=BACKGROUND, white_level=None):
    """Return a Pillow image of 8 bits that is not transparent; the options are those of `get_square`."""
    return opaque(eight_bits(image, bits, white_level) if bits > 8 else image, background)


def eight_bits(image, bits, white_level):
    """Return a Pillow image of 16 or 32 bits with levels from 0 to 255, which is `white_level`."""
    if bits == 32 and white_level is None:
        raise ValueError('32 bits of grey, whose white is unknown: give it as white_level')
    white = white_level or WHITE_OF_16_BITS
    info, alpha = dict(image.info), None
    key = info.pop('transparency', None)  # the level or the colour of transparent pixels
    if image.mode[0] in 'IF':
        values = np.nan_to_num(np.asarray(image, np.float32))
        least = greatest = float(values.max())
        if key is not None:
            alpha = Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8))
    else:  # Pillow has kept the upper 8 bits
        if key:
            image.info['transparency'] = tuple(level >> 8 for level in key)
        colours = image.convert('RGBA')
        alpha = colours.getchannel('A')
        values = np.asarray(colours.convert('RGB'), np.float32)
        least = float(values.max()) * 256
        greatest = least + 255 if least else 0  # what the greatest level can be
        white = max(1, int(white) >> 8)
    note(DEEP, greatest)
    if 0 < greatest <= WHITE_OF_16_BITS / 2:
        note(DARK, greatest)
    if white_level is not None and least > white_level:
        note(CLIPPED, greatest)
    values *= 255 / white
    result = Image.fromarray(np.rint(np.clip(values, 0, 255, out=values)).astype(np.uint8))
    if alpha is not None:
        result.putalpha(alpha)
    result.info = info  # with the EXIF
    return result


def opaque(image, background):
    """Return a Pillow image with `background` where it is transparent."""
    if not image.has_transparency_data:
        return image
    image = image.convert('LA') if image.mode == 'La' else image
    colours = image.convert('RGBA')
    least_alpha, _ = colours.getchannel('A').getextrema()
    if least_alpha == 255:
        return colours
    note(TRANSPARENT)
    canvas = Image.new('RGBA', colours.size, ImageColor.getrgb(background)[:3])
    canvas.alpha_composite(colours)
    canvas.info = colours.info
    return canvas
