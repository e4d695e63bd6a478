"""Whatever a file or a command line holds ends in a result or in an error that says what is wrong.

`pytest tests/test_fuzz.py --hypothesis-profile=long` tries a hundred times as many cases.
"""

import ast
import gzip
import hashlib
import io
import json
import os
import struct
import tempfile
import warnings
import zipfile
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import helper
from conftest import ROOT
from facegen.cli import main, parser
from facegen.data.crop import get_square
from facegen.data.decode import decode_some
from facegen.data.download import File
from facegen.data.sources import DATASETS
from facegen.recipes import Recipe
from facegen.run import RunFolder

CLEAR = ValueError, OSError  # what the command line prints in one line
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=9,
)  # fmt: skip


def picture_bytes(kind):
    """Return a small image as a file of that kind."""
    pixels = np.random.default_rng(0).integers(0, 256, [24, 20, 3], np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def idx_bytes(count=3, rows=4, columns=4):
    """Return an IDX file of images."""
    return struct.pack('>4I', 0x803, count, rows, columns) + bytes(count * rows * columns)


def zip_bytes(**members):
    """Return a zip of members {name: bytes}."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as zipped:
        for name, content in members.items():
            zipped.writestr(name, content)
    return file.getvalue()


def files_of_all_formats():
    """Return an image as a file of each format that Pillow writes and reads, in each mode that it takes."""
    Image.init()
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, [24, 20, 3], np.uint8))
    files = []
    for kind in sorted(set(Image.SAVE) & set(Image.OPEN)):
        for mode in 'RGB', 'RGBA', 'P', 'L', '1':
            file = io.BytesIO()
            with suppress(OSError, ValueError, KeyError, AttributeError):
                image.convert(mode).save(file, kind)
                files.append(file.getvalue())
    for mode, compression in (
        ('RGB', 'jpeg'),
        ('RGB', 'tiff_lzw'),
        ('L', 'packbits'),
        ('1', 'group4'),
    ):
        file = io.BytesIO()
        image.convert(mode).save(file, 'TIFF', compression=compression)  # by libtiff
        files.append(file.getvalue())
    return files


PICTURES = [picture_bytes(kind) for kind in ('JPEG', 'PNG')]
ALL_FORMATS = files_of_all_formats()
ARCHIVES = [zip_bytes(**{'a/000001.jpg': PICTURES[0], 'a/000002.png': PICTURES[1], 'notes': b'1'})]
IDX_FILES = [idx_bytes(), gzip.compress(idx_bytes(), mtime=0)]


def result_of(function, *arguments, **options):
    """Return what a function returns, None after a clear error."""
    with suppress(CLEAR):
        return function(*arguments, **options)


@st.composite
def damaged(draw, originals):
    """Return one of the originals with bytes changed, cut out, put in, or cut off."""
    data = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 8))
        data[at : at + length] = draw(st.binary(max_size=8))
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


@pytest.fixture(autouse=True)
def no_warnings():
    """A warning is neither a result nor an error."""
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        yield


@given(st.binary(max_size=200) | damaged(ARCHIVES))
def test_archives(data):
    """A stranger's archive has the wrong checksum; with the right one, it is unpacked or refused."""
    for checksum in hashlib.md5(data).hexdigest(), '0' * 32:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / 'celeba.zip').write_bytes(data)
            file = File('img_align_celeba.zip', f'md5:{checksum}')
            source = DATASETS['celeba']._replace(full=(file,))
            datasets = {'celeba': source}
            path = result_of(helper.download_extract, 'celeba', folder, datasets=datasets)
            names = {file.name for file in Path(folder).iterdir()}
            assert names <= {'celeba.zip', '.lock', 'img_align_celeba'}
            assert ('img_align_celeba' in names) == (path is not None)


@given(st.lists(st.text(st.characters(codec='utf-8'), min_size=1, max_size=20), max_size=3))
def test_names_in_archives(names):
    """Nothing is written outside of the folder."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter('ignore', UserWarning)  # of zipfile: twice the same name
        inside = Path(folder) / 'data'
        inside.mkdir()
        archive = inside / 'celeba.zip'
        archive.write_bytes(zip_bytes(**{f'{name}.jpg': PICTURES[0] for name in names}))
        checksum = hashlib.md5(archive.read_bytes()).hexdigest()
        file = File('img_align_celeba.zip', f'md5:{checksum}')
        source = DATASETS['celeba']._replace(full=(file,))
        result_of(helper.download_extract, 'celeba', inside, datasets={'celeba': source})
        assert [file.name for file in Path(folder).iterdir()] == ['data']


def decode(kind, path):
    """Return the number of images at `path`."""
    return len(helper.Dataset(kind, path, width=4, height=4).pixels)


@given(
    st.binary(max_size=99)
    | damaged(IDX_FILES)
    | st.tuples(*[st.integers(0, 2**32 - 1)] * 3).map(lambda size: idx_bytes()[:4] + struct.pack('>3I', *size))
)  # fmt: skip
def test_idx_files(data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'train-images-idx3-ubyte'
        path.write_bytes(data)
        result_of(decode, 'mnist', path)


@given(
    st.binary(max_size=99) | damaged(PICTURES) | damaged(ALL_FORMATS),
    st.sampled_from(['folder', 'celeba']),
)
def test_images(data, kind):
    """One that cannot be decoded is skipped, and said; the other one is always there."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder) / 'pictures'
        folder.mkdir()
        (folder / 'good.png').write_bytes(PICTURES[1])
        (folder / 'other.jpg').write_bytes(data)
        assert decode(kind, folder) in (1, 2)


@given(
    st.binary(max_size=50)
    | JSON.map(lambda value: json.dumps(value).encode())
    | st.dictionaries(st.sampled_from(['recipe', 'seed', 'data', 'minutes']), JSON).map(
        lambda value: json.dumps(value).encode()
    )
    | st.dictionaries(st.sampled_from(list(vars(Recipe()))), JSON).map(
        lambda value: json.dumps({'recipe': value}).encode()
    )
)
def test_configurations(data):
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(folder)
        (run.path / 'config.json').write_bytes(data)
        for read in (
            run.config,
            run.recipe,
            lambda: RunFolder.open(folder, {'seed': 1}, resume=folder).release(),
        ):
            result_of(read)
        assert (run.path / 'config.json').read_bytes() == data


NUMBERS = st.integers() | st.floats() | st.sampled_from([1, 2, 3])
LINES = st.lists(
    st.binary(max_size=20)
    | st.fixed_dictionaries(
        {}, optional=dict.fromkeys(['step', 'd_loss', 'g_loss', 'frechet_distance'], NUMBERS)
    ).map(lambda values: json.dumps(values).encode()),
    max_size=5,
).map(b'\n'.join)


@given(LINES, LINES)
def test_logs(log, scores):
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(folder)
        run.make_folders()
        (run.path / 'log.jsonl').write_bytes(log)
        (run.path / 'scores.jsonl').write_bytes(scores)
        for read in run.history, run.scores:
            assert all(type(line['step']) in (int, float) for line in result_of(read) or [])
        steps = run.logged_steps()
        run.cut_back(2, 1)
        assert len(run.history()) >= min(steps, 2)
        assert all(line['step'] <= 2 for line in [*run.history(), *run.scores()])
        run.add_scores(3, {'frechet_distance': 1.0})


WORDS = st.sampled_from(
    ['train', 'generate', 'evaluate', '--dataset', '--set', '--seed', '--resume', '--count', '--out',
     '--minutes', '--run-dir', '--weights', 'best', 'z_dim=(', '-1', 'nan', '1e999', 'a.npy', '']
) | st.text(max_size=9)  # fmt: skip


@given(st.lists(WORDS, max_size=8))
def test_command_lines(words):
    try:
        parser().parse_args(words)
    except SystemExit as end:
        assert end.code in (0, 2)  # noqa: PT017


@given(st.sampled_from(['generate', 'evaluate']), st.lists(WORDS, max_size=5))
def test_commands_that_read(verb, words):
    """Even a name of a file that cannot be, such as one with a zero byte, is told in one line."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            status = main([verb, str(Path(folder) / 'none'), *words])
        except SystemExit as end:
            status = end.code
        assert status in (0, 2)
        assert not list(Path(folder).iterdir())


FORBIDDEN = {'eval', 'exec', 'pickle', 'cPickle', 'dill', 'joblib', 'shelve', 'marshal', 'system', 'popen'}  # fmt: skip
ALLOWED = {
    'facegen/notebook.py': {'exec'},  # of the notebook's own definitions
    'facegen/data/processes.py': {
        'pickle'
    },  # between a process and those that it starts, never of a file
}


@pytest.mark.parametrize(
    'file',
    [*sorted(ROOT.glob('*.py')), *sorted(ROOT.glob('facegen/**/*.py'))],
    ids=lambda f: f.name,
)
def test_no_file_can_run_code(file):
    """No unpickling, no evaluation of text, no shell."""
    tree = ast.parse(file.read_text(encoding='utf-8'))
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names |= {
        part
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
        for part in (*alias.name.split('.'), *(getattr(node, 'module', '') or '').split('.'))
    }
    relative = file.relative_to(ROOT).as_posix()
    assert names & FORBIDDEN <= ALLOWED.get(relative, set())
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert options.get('allow_pickle', 'False') == 'False'
        assert options.get('shell', 'False') == 'False'
        if ast.unparse(call.func) in ('np.load', 'numpy.load'):
            assert 'allow_pickle' in options


@given(st.lists(damaged(ALL_FORMATS), min_size=4, max_size=4))
def test_no_damage_is_heard_of(files):
    """Neither warnings of Pillow's nor what its libraries write to stderr reach the screen."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as heard:
        paths = [Path(folder, f'{number}.jpg') for number in range(len(files))]
        for path, data in zip(paths, files, strict=True):
            path.write_bytes(data)
        stderr = os.dup(2)
        os.dup2(heard.fileno(), 2)
        try:
            images, skipped, _ = decode_some(
                list(map(str, paths)), partial(get_square, width=4, height=4, mode='RGB')
            )
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
        assert len(images) + len(skipped) == len(files)
        assert all(reason and '\n' not in reason for _, reason in skipped)
        heard.seek(0)
        assert heard.read() == b''
