"""One image file becomes pixels: orientation, transparency, depth and size."""

import io
import json
import struct
import subprocess
import sys
import warnings
import zlib
from functools import partial

import numpy as np
import pytest
from PIL import Image, ImageOps

import helper
from facegen import files
from facegen.data import crop, decode

WHITE, RED = (255, 255, 255), (255, 0, 0)
Image.init()
AVIF = [name for name in Image.SAVE if name == 'AVIF']  # since Pillow 11.3
get_square = partial(crop.get_square, width=8, height=8, mode='RGB')


def png(values, *, bits=16, transparent=None):
    """Return a PNG, [h, w, c] with c of 1 to 4, of 16 bits or of grey with fewer, as Pillow writes none."""

    def chunk(name, data):
        checksum = zlib.crc32(name + data)
        return struct.pack('>I', len(data)) + name + data + struct.pack('>I', checksum)

    height, width, channels = values.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = [row.astype('>u2').tobytes() for row in values]
    if bits < 8:
        places = np.arange(bits)[::-1]
        rows = [np.packbits(row >> places & 1).tobytes() for row in values]
    rows = b''.join(b'\0' + row for row in rows)
    key = b'' if transparent is None else chunk(b'tRNS', struct.pack(f'>{channels}H', *transparent))
    header = chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, bits, kind, 0, 0, 0))
    parts = [
        b'\x89PNG\r\n\x1a\n',
        header,
        key,
        chunk(b'IDAT', zlib.compress(rows)),
        chunk(b'IEND', b''),
    ]
    return b''.join(parts)


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'TIFF', 'WEBP'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_images_are_turned_upright(tmp_path, kind, orientation):
    pixels = (
        np.random.default_rng(0).integers(0, 256, [6, 10, 3], np.uint8).repeat(8, 0).repeat(8, 1)
    )
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / 'image', kind, exif=exif)
    with Image.open(tmp_path / 'image') as image:
        upright = ImageOps.exif_transpose(image).convert('RGB')
        assert orientation == 1 or not np.array_equal(upright, pixels)
    square = crop.crop_centre(upright, min(upright.size))
    expected = np.array(square.resize((8, 8), Image.BILINEAR))
    np.testing.assert_array_equal(get_square(tmp_path / 'image'), expected)


def transparent_images():
    """Yield (name, Pillow image) with every kind of transparency: the left half can be seen through."""
    colours = Image.new('RGBA', (16, 16), (*RED, 255))
    colours.paste((255, 0, 255, 0), (0, 0, 8, 16))  # magenta, which nobody should see
    grey = Image.new('L', (16, 16), 76)
    grey.paste(9, (0, 0, 8, 16))
    yield 'RGBA', colours
    yield 'RGBa', colours.convert('RGBa')
    yield 'LA', Image.merge('LA', (grey, colours.getchannel('A')))
    yield 'La', Image.merge('LA', (grey, colours.getchannel('A'))).convert('La')
    yield 'PA', colours.convert('P').convert('PA')
    for name, mode, key in (('RGB key', 'RGB', (255, 0, 255)), ('L key', 'L', 9)):
        image = colours.convert('RGB') if mode == 'RGB' else grey.copy()
        image.info['transparency'] = key
        yield name, image
    for name, key in (('P key', 1), ('P bytes', b'\xff\0')):
        image = Image.new('P', (16, 16), 0)
        image.putpalette([*RED, 255, 0, 255])
        image.paste(1, (0, 0, 8, 16))
        image.info['transparency'] = key
        yield name, image
    image = Image.new('1', (16, 16), 1)
    image.paste(0, (0, 0, 8, 16))
    image.info['transparency'] = 0
    yield '1 key', image


TRANSPARENT = dict(transparent_images())
TRANSPARENT['PA'].putalpha(TRANSPARENT['RGBA'].getchannel('A'))


@pytest.mark.parametrize('name', TRANSPARENT)
@pytest.mark.parametrize(('background', 'seen'), [('white', WHITE), ('#00f', (0, 0, 255))])
def test_background_is_seen_through_every_kind_of_transparency(name, background, seen):
    with pytest.warns(crop.Note):
        pixels = np.array(crop.opaque(TRANSPARENT[name], background).convert('RGB'))
    assert (pixels[:, :8] == seen).all()
    assert (pixels[:, 8:] != 9).all()
    assert len(np.unique(pixels[:, 8:].reshape(-1, 3), axis=0)) == 1


@pytest.mark.parametrize('kind', ['PNG', 'WEBP', 'TIFF', 'GIF', 'TGA', 'ICO', 'JPEG2000', *AVIF])
def test_transparent_files(tmp_path, capsys, kind):
    (tmp_path / 'mine').mkdir()
    options = {'lossless': True} if kind == 'WEBP' else {}
    TRANSPARENT['RGBA'].save(tmp_path / 'mine' / '1', kind, **options)
    Image.new('RGBA', (16, 16), RED).save(tmp_path / 'mine' / '2.png')  # opaque
    line = '1 of the images are transparent in part, on {} (background)\n'
    pixels = helper.Dataset('folder', tmp_path / 'mine', width=8, height=8).pixels
    assert capsys.readouterr().out == line.format('white')
    assert np.abs(pixels[0, :, :3] - np.array(WHITE)).max() < 4
    assert np.abs(pixels[0, :, 5:] - np.array(RED)).max() < 4
    for _ in range(2):  # decoded, then from the cache
        other = helper.Dataset('folder', tmp_path / 'mine', width=8, height=8, background='blue')
        assert capsys.readouterr().out == line.format('blue')
        assert np.abs(other.pixels[0, :, :3] - np.array([0, 0, 255])).max() < 4


def test_half_transparent_pixels_are_mixed(tmp_path):
    Image.new('RGBA', (8, 8), (0, 0, 0, 51)).save(tmp_path / 'grey.png')
    with pytest.warns(crop.Note):
        assert (get_square(tmp_path / 'grey.png') == 204).all()


def deep_files(largest):
    """Return {name: bytes} of files with 16 bits whose levels rise from 0 to `largest`."""
    grey = np.linspace(0, largest, 64).round().astype(np.uint16).reshape(8, 8)
    files = {f'{channels}.png': png(np.stack([grey] * channels, -1)) for channels in (1, 3)}
    alpha = np.full_like(grey, 65_535)
    files |= {'2.png': png(np.stack([grey, alpha], -1))}
    files |= {'4.png': png(np.stack([grey, grey, grey, alpha], -1))}
    files |= {'1.pgm': b'P5 8 8 65535\n' + grey.astype('>u2').tobytes()}
    for compression in (None, 'tiff_lzw'):
        file = io.BytesIO()
        Image.fromarray(grey).save(file, 'TIFF', compression=compression)
        files[f'{compression}.tif'] = file.getvalue()
    return grey, files


@pytest.mark.parametrize('name', deep_files(1)[1])
def test_full_range_of_sixteen_bits(tmp_path, capsys, name):
    grey, files = deep_files(65_535)
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / name).write_bytes(files[name])
    pixels = helper.Dataset('folder', tmp_path / 'mine', width=8, height=8).pixels
    assert np.abs(pixels[0, ..., 0] - grey / 257).max() <= 1
    assert not capsys.readouterr().out


@pytest.mark.parametrize('name', deep_files(1)[1])
@pytest.mark.parametrize(('largest', 'white'), [(4095, 4095), (1000, 1023)])
def test_sixteen_bits_that_hold_fewer_are_said_and_can_be_scaled(
    tmp_path, capsys, name, largest, white
):
    grey, files = deep_files(largest)
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / name).write_bytes(files[name])
    open_images = partial(helper.Dataset, 'folder', tmp_path / 'mine', width=8, height=8)
    assert open_images().pixels.max() <= 16
    line = capsys.readouterr().out
    is_colour = name[0] in '234'  # of which Pillow keeps the upper 8 bits
    exact = largest | 255 if is_colour else largest
    assert line == (
        f'1 of 1 images of 16 bits use levels up to {exact:,} of 65,535, so they are dark; '
        f'if {white:,} is white, say so by white_level\n'
    )
    pixels = open_images(white_level=white).pixels
    assert np.abs(pixels[0, ..., 0] - grey * (255 / white)).max() <= (65 if is_colour else 0.5)
    assert pixels.max() == 255 or largest < white
    assert not capsys.readouterr().out


def test_dark_images_among_others(tmp_path, capsys):
    """One that uses all 16 bits hides the others no more; nor is it made white silently."""
    (tmp_path / 'mine').mkdir()
    for number, level in enumerate([0, 900, 4095, 65_535]):
        Image.fromarray(np.full([8, 8], level, np.uint16)).save(tmp_path / 'mine' / f'{number}.png')
    helper.Dataset('folder', tmp_path / 'mine')
    assert capsys.readouterr().out == (
        '2 of 4 images of 16 bits use levels up to 4,095 of 65,535, so they are dark; if 4,095 is '
        'white, say so by white_level\n'
    )
    pixels = helper.Dataset('folder', tmp_path / 'mine', white_level=4095).pixels
    assert pixels[:, 5, 5, 0].tolist() == [0, 56, 255, 255]
    line = '1 of the images use levels up to 65,535: all above 4095 is white\n'
    assert capsys.readouterr().out == line


def test_files_of_published_kinds_are_read_likewise(tmp_path):
    """Deep and transparent ones, which get_image did not know in 2017."""
    deep, clear = tmp_path / '1.png', tmp_path / '2.png'
    Image.fromarray(np.full([108, 108], 30_000, np.uint16)).save(deep)
    Image.new('RGBA', (108, 108)).save(clear)
    with pytest.warns(crop.Note):
        assert (helper.get_image(deep, 28, 28, 'RGB') == 117).all()
    with pytest.warns(crop.Note):
        assert (helper.get_image(clear, 28, 28, 'RGB') == 255).all()


@pytest.mark.parametrize('bits', [1, 2, 4])
def test_transparent_level_of_few_bits(tmp_path, bits):
    values = np.zeros([8, 8, 1], int)
    values[:, :4] = 2**bits - 1
    (tmp_path / '1.png').write_bytes(png(values, bits=bits, transparent=[2**bits - 1]))
    with pytest.warns(crop.Note):
        pixels = get_square(tmp_path / '1.png', background='red')
    assert (pixels[:, :4] == RED).all()
    assert (pixels[:, 4:] == 0).all()


@pytest.mark.parametrize('channels', [1, 3])
def test_transparent_level_of_sixteen_bits(tmp_path, channels):
    values = np.full([8, 8, channels], 40_000)
    values[:, :4] = 999
    (tmp_path / '1.png').write_bytes(png(values, transparent=[999] * channels))
    with pytest.warns(crop.Note):
        pixels = get_square(tmp_path / '1.png')
    assert (pixels[:, :4] == 255).all()
    assert (pixels[:, 4:] == 156).all()


@pytest.mark.parametrize(('dtype', 'white'), [(np.int32, 1_000_000), (np.float32, 1.0)])
def test_thirty_two_bits_need_a_white(tmp_path, dtype, white):
    levels = np.array([0, 0.25, 0.5, 2]).repeat(4).reshape(4, 4)
    Image.fromarray((levels * white).astype(dtype)).save(tmp_path / '1.tif')
    with pytest.raises(ValueError, match='32 bits of grey, whose white is unknown: give it as'):
        get_square(tmp_path / '1.tif')
    with pytest.warns(crop.Note):
        pixels = crop.get_square(tmp_path / '1.tif', 4, 4, 'L', white_level=white)
    assert np.abs(pixels[:, 0] - np.array([0, 63.75, 127.5, 255])).max() < 1


def test_first_of_several_images_is_used(tmp_path, capsys):
    (tmp_path / 'mine').mkdir()
    frames = [Image.new('RGB', (8, 8), (level, 0, 0)) for level in (50, 90)]
    for kind in ('GIF', 'WEBP', 'TIFF', 'PNG'):
        path = tmp_path / 'mine' / kind
        frames[0].save(path, kind, save_all=True, append_images=frames[1:])
    pixels = helper.Dataset('folder', tmp_path / 'mine').pixels
    assert np.abs(pixels[:, 9, 9, 0].astype(int) - 50).max() < 4
    line = '4 of the files hold several images, of which the first is used\n'
    assert capsys.readouterr().out == line


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        ({'background': 'whitish'}, "unknown color specifier: 'whitish'"),
        ({'white_level': 0}, 'white_level is 0; choose a number above 0'),
        ({'white_level': float('nan')}, 'white_level is nan; choose'),
        ({'white_level': float('inf')}, 'white_level is inf; choose'),
        ({'white_level': '4095'}, "white_level is '4095'; choose"),
        ({'background': (0, 0, 0)}, 'unknown color specifier'),
    ],
)
def test_bad_options(tmp_path, options, text):
    Image.new('RGB', (8, 8)).save(tmp_path / '1.png')
    with pytest.raises(ValueError, match=text):
        helper.Dataset('folder', tmp_path, **options)


@pytest.mark.parametrize(
    ('crop', 'box'), [(1, (88, 108, 89, 109)), (140, (19, 39, 159, 179)), (178, (0, 20, 178, 198))]
)
def test_crop_of_a_face(faces, crop, box):
    with Image.open(faces / '000003.jpg') as image:
        expected = np.array(image.crop(box).resize((28, 28), Image.BILINEAR))
        whole = np.array(image)
    pixels = helper.get_image(faces / '000003.jpg', 28, 28, 'RGB', crop=crop)
    np.testing.assert_array_equal(pixels, expected)
    pixels = helper.get_image(faces / '000003.jpg', 178, 218, 'RGB', crop=crop)
    np.testing.assert_array_equal(pixels, whole)


@pytest.mark.parametrize('crop', [0, -1, 179, 1.5, True, None])
def test_bad_crop(faces, crop):
    with pytest.raises(ValueError, match=f'crop is {crop!r}; choose a whole number from 1 to 178'):
        helper.get_image(faces / '000003.jpg', 28, 28, 'RGB', crop=crop)


@pytest.mark.parametrize('options', [{'background': 'black'}, {'white_level': 9}])
def test_options_of_own_images_alone(faces, options):
    with pytest.raises(ValueError, match='background and white_level are for a folder of images'):
        helper.Dataset('celeba', faces, **options)


def test_panorama_is_refused_in_plain_words(tmp_path):
    (tmp_path / 'mine').mkdir()
    Image.new('1', (20_000, 10_000)).save(tmp_path / 'mine' / 'panorama.png')
    Image.new('RGB', (8, 8)).save(tmp_path / 'mine' / 'small.png')
    ((path, reason),) = helper.Dataset('folder', tmp_path / 'mine').skipped
    assert path.endswith('panorama.png')
    assert reason == 'more than 178 megapixels, the most that is decoded: make it smaller'


MEMORY = """
import json, resource, sys
from facegen.data import crop

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10

crop.get_square(sys.argv[1], 28, 28, 'RGB')
before = peak()
colour = crop.get_square(sys.argv[2], 28, 28, 'RGB').mean((0, 1)).tolist()
print(json.dumps([colour, peak() - before]))
"""


@pytest.mark.parametrize(('name', 'megabytes'), [('1.jpg', 60), ('1.png', 460)])
def test_memory_of_large_images(tmp_path, name, megabytes):
    """100 megapixels are 400 MB in Pillow: a JPEG is never decoded in full, others once."""
    Image.new('RGB', (8, 8), (200, 90, 10)).save(tmp_path / f'small-{name}')
    Image.new('RGB', (12_500, 8000), (200, 90, 10)).save(tmp_path / name)
    command = [sys.executable, '-c', MEMORY, tmp_path / f'small-{name}', tmp_path / name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    colour, used = json.loads(done.stdout)
    assert np.abs(np.array(colour) - [200, 90, 10]).max() <= 2
    assert used < megabytes


@pytest.mark.parametrize('mode', ['RGB', 'RGBA', 'L', 'P', '1', 'I;16'])
def test_large_images_look_alike(tmp_path, monkeypatch, mode):
    """But for the rounding of averages; transparent pixels have no weight in them."""
    noise = np.random.default_rng(0).integers(0, 256, [8, 9, 4], np.uint8)
    image = Image.fromarray(noise).resize((450, 400), Image.BICUBIC)
    if mode == 'I;16':
        image = Image.fromarray(np.asarray(image.convert('L')).astype(np.uint16) * 257)
    image.convert(mode).save(tmp_path / '1.png')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', crop.Note)
        expected = get_square(tmp_path / '1.png').astype(int)
        monkeypatch.setattr(crop, 'LARGE_PIXELS', 100)
        monkeypatch.setattr(crop, 'LARGE_SIDE', 100)
        large = get_square(tmp_path / '1.png')
    assert np.abs(large - expected).max() <= 2


def test_one_process_at_a_time_decodes_a_large_image(tmp_path, monkeypatch):
    entered = []

    class Alone:
        def __enter__(self):
            entered.append('in')

        def __exit__(self, *error):
            entered.append('out')

    Image.new('RGB', (64, 64)).save(tmp_path / '1.png')
    get_square(tmp_path / '1.png', alone=Alone)
    assert not entered
    monkeypatch.setattr(crop, 'LARGE_PIXELS', 64 * 64 - 1)
    get_square(tmp_path / '1.png', alone=Alone)
    assert entered == ['in', 'out']


def test_processes_share_the_lock(faces, monkeypatch):
    """It reaches them with what they are to do."""
    monkeypatch.setattr(decode, 'MANY_BYTES', 1)
    monkeypatch.setattr(decode, 'cpu_count', lambda: 2)
    images = sorted(map(str, faces.iterdir()))
    read = partial(with_lock, width=8, height=8)
    parts = list(decode.decode_files(images, str, read, alone='alone'))
    locks = {tuple(image.tolist()) for part in parts for image in part.images}
    assert len(locks) == 1


def with_lock(path, width, height, alone):
    """Return a number that tells locks apart."""
    (folder,) = alone.args
    with alone():
        assert files.acquired(folder) is None
    return np.array([zlib.crc32(str(folder).encode()) % 256], np.uint8)
