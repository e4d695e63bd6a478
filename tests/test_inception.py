"""The FID that papers report, on a small graph with the tensors of the Inception network."""

import gzip
import hashlib
import io
import json
import tarfile

import numpy as np
import pytest
from helpers import serve, untrained_run
from PIL import Image

from facegen import evaluation, inception, metrics
from facegen.cli import main
from facegen.data.download import File
from facegen.session import tf

NUM_FEATURES = 4
SIDE = 6  # to which the small network resizes
KERNEL = np.random.default_rng(0).normal(size=[3, NUM_FEATURES]).astype(np.float32)
VARIANCE, OFFSET = np.float32([1, 2, 3, 4]), np.float32([0.1, 0.2, 0.3, 0.4])
GRAPH_NAME = 'classify_image_graph_def.pb'
MEMBERS = 'cropped_panda.jpg', GRAPH_NAME, '../outside', 'LICENSE'


def small_network():
    """A frozen graph: decode, a batch of one, resize, scale, 1x1 convolution, batch norm, ReLU, pool.

    Like the published one, it is of a version of GraphDef in which batch norm was an operation.
    """
    with tf.Graph().as_default() as graph:
        jpeg = tf.constant(b'', name='DecodeJpeg/contents')
        image = tf.cast(tf.image.decode_jpeg(jpeg, channels=3, name='DecodeJpeg'), tf.float32)
        batch = tf.expand_dims(image, 0, name='ExpandDims')
        batch = tf.image.resize_bilinear(batch, [SIDE, SIDE], name='ResizeBilinear')
        x = tf.multiply(tf.subtract(batch, 128.0, name='Sub'), 1 / 128, name='Mul')
        x = tf.nn.conv2d(x, KERNEL[None, None], strides=1, padding='VALID', name='conv/Conv2D')
        for name, values in ('mean', 0 * OFFSET), ('variance', VARIANCE), ('beta', OFFSET):
            tf.constant(values, name=f'conv/{name}')
        x = tf.nn.relu(tf.identity(x, name='conv/batchnorm'))
        x = tf.nn.avg_pool2d(x, SIDE, 1, 'VALID', name='pool_3')
        tf.reshape(x, [1, NUM_FEATURES], name='pool_3/_reshape')
    network = graph.as_graph_def()
    (node,) = (node for node in network.node if node.name == 'conv/batchnorm')
    node.op = 'BatchNormWithGlobalNormalization'
    node.input.extend(f'conv/{name}' for name in ('mean', 'variance', 'beta', 'beta'))
    node.attr['variance_epsilon'].f = 1e-9
    node.attr['scale_after_normalization'].b = False
    network.versions.producer = 8
    return network.SerializeToString()


def closed_form(images):
    """Return what the small network computes of uint8 images, whose sides are SIDE."""
    pixels = np.repeat(images, 3 // images.shape[-1], axis=-1).astype(np.float64)
    normalised = (pixels - 128) / 128 @ KERNEL / np.sqrt(VARIANCE) + OFFSET
    return np.maximum(normalised, 0).mean(axis=(1, 2))


def packed(content, members=MEMBERS):
    """Return a .tgz of several members, of which one is the graph."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode='w:gz') as tar:
        for name in members:
            data = content if name.endswith(GRAPH_NAME) else b'something else'
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return file.getvalue()


def some_images(count, *, side=SIDE, channels=3, highest=256, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, highest, [count, side, side, channels], np.uint8)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != '.lock')


@pytest.fixture(scope='module')
def graph():
    return small_network()


@pytest.fixture(scope='module')
def features(graph):
    with inception.opened(graph) as features:
        yield features


@pytest.fixture
def network(graph):
    """The small network as a published file, which is nowhere."""
    checksum = f'sha256:{hashlib.sha256(graph).hexdigest()}'
    return File('inception-2015-12-05.tgz', checksum, ('http://127.0.0.1:9/i.tgz',), GRAPH_NAME)


def served(network, *urls):
    return network._replace(urls=urls)


# Features -----------------------------------------------------------------------------------------


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('count', [1, inception.BATCH_SIZE, 2 * inception.BATCH_SIZE + 3])
def test_features_are_those_of_the_graph_in_any_number(features, count, channels):
    images = some_images(count, channels=channels)
    found = features(images)
    np.testing.assert_array_equal(features(images, np.array([count - 1, 0])), found[[-1, 0]])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, closed_form(images), rtol=1e-5, atol=1e-6)


def test_the_graph_resizes_images_of_any_size(features):
    """Images of one colour stay what they are at any size."""
    colours = some_images(5, side=1)
    large = features(colours.repeat(11, axis=1).repeat(9, axis=2))
    np.testing.assert_allclose(large, features(colours), rtol=1e-5)
    assert large.std(axis=0).min() > 0.01


# Scores -------------------------------------------------------------------------------------------


def test_fid_is_the_frechet_distance_of_the_features(features):
    fake, real = some_images(60, highest=128), some_images(90, seed=1)
    scores = evaluation.inception_scores(fake, 'celeba', real, features, seed=3)
    assert json.loads(json.dumps(scores)) == scores
    expected = metrics.frechet_distance(
        *metrics.moments(closed_form(fake)), *metrics.moments(closed_form(real))
    )
    assert scores['frechet_distance'] == pytest.approx(expected, rel=1e-4)
    value, error = metrics.kernel_distance(closed_form(real), closed_form(fake))
    assert scores['kernel_distance'] == pytest.approx(value, rel=1e-4)
    assert scores['kernel_distance_standard_error'] == pytest.approx(error, rel=1e-4)
    seen = [scores[name] for name in ('features', 'dataset', 'n', 'n_reference', 'seed')]
    assert seen == ['inception', 'celeba', 60, 90, 3]
    assert [scores['real'][name] for name in ('n', 'n_reference')] == [45, 45]
    assert scores['real']['frechet_distance'] < 0.1 * expected


def test_fid_of_equal_sets_is_zero_and_of_few_real_ones_unknown(features):
    images = some_images(30)
    scores = evaluation.inception_scores(images, 'mnist', images[::-1], features)
    assert scores['frechet_distance'] == pytest.approx(0, abs=1e-6)
    assert scores['real'] == {}


def test_no_more_real_images_are_used_than_papers_use(features, monkeypatch):
    monkeypatch.setattr(evaluation, 'PAPER_REFERENCES', 70)
    scores = evaluation.inception_scores(some_images(20), 'folder', some_images(90), features)
    assert scores['n_reference'] == 70
    assert [scores['real'][name] for name in ('n', 'n_reference')] == [20, 50]


@pytest.mark.parametrize(
    ('counts', 'words'),
    [
        ((10_000, 10_000), []),
        ((9999, 50_000), ['9,999 generated', '50,000 real', 'FID grows as images get fewer']),
        ((10_000, 999), ['10,000 generated', '999 real', 'FID grows as images get fewer']),
    ],
)
def test_too_few_images_are_warned_of(counts, words):
    warnings = evaluation.few_images(*counts)
    assert len(warnings) == bool(words)
    assert all(word in warnings[0] for word in words)


# The file -----------------------------------------------------------------------------------------


@pytest.mark.parametrize('place', ['', 'inception'])
@pytest.mark.parametrize('name', [GRAPH_NAME, 'inception-2015-12-05.tgz'])
def test_a_file_placed_by_hand_is_used(graph, network, tmp_path, capsys, place, name):
    folder = tmp_path / place
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(graph if name == GRAPH_NAME else packed(graph))
    assert inception.fetched(network, tmp_path) == graph
    assert names_in(folder) == [name]
    assert capsys.readouterr().out == f'inception: {folder / name}\n'


@pytest.mark.parametrize('prefix', ['', './'])
def test_an_unpacked_archive_of_other_paths_is_used(graph, network, tmp_path, prefix):
    """Browsers may unpack what they download and keep its name."""
    archive = packed(graph, members=[prefix + GRAPH_NAME])
    (tmp_path / network.name).write_bytes(gzip.decompress(archive))
    assert inception.fetched(network, tmp_path) == graph


@pytest.mark.parametrize(
    ('name', 'content', 'words'),
    [
        (GRAPH_NAME, b'other', 'graph_def.pb is another file than the published one.*delete'),
        ('TGZ', packed(b'other'), 'the classify_image_graph_def.pb in .*tgz is another.*delete'),
        ('TGZ', packed(b'', ['LICENSE']), 'holds no classify_image_graph_def.pb; delete'),
        ('TGZ', packed(b'', [f'x/{GRAPH_NAME}']), 'holds no classify_image_graph_def.pb; delete'),
        ('TGZ', packed(bytes(range(256)) * 99)[:-99], r'is damaged or no tar \(.*\); delete'),
        ('TGZ', b'<html>', r'is damaged or no tar \(.*\); delete'),
    ],
)
def test_another_file_is_refused(network, tmp_path, name, content, words):
    name = name.replace('TGZ', network.name)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=words):
        inception.fetched(network, tmp_path)
    assert (tmp_path / name).read_bytes() == content


def test_the_network_is_downloaded_once(graph, network, server, tmp_path):
    network = served(network, server.add('/i.tgz', packed(graph)))
    assert inception.fetched(network, tmp_path / 'data') == graph
    assert inception.fetched(network, tmp_path / 'data') == graph
    assert len(server.ranges) == 1
    assert names_in(tmp_path / 'data') == [network.name]
    assert not (tmp_path / 'outside').exists()


def test_a_broken_download_is_resumed(graph, network, server, tmp_path):
    def cut(request, content):
        serve(request, content, share=0.5)

    archive = packed(graph)
    network = served(network, server.add('/i.tgz', archive, cut))
    assert inception.fetched(network, tmp_path, wait=0.01) == graph
    assert server.ranges == [None, f'bytes={len(archive) // 2}-']


def test_a_source_with_another_graph_is_passed_over(graph, network, server, tmp_path, capsys):
    wrong = [server.add('/a', packed(b'other')), server.add('/b', packed(graph)[:-99])]
    network = served(network, *wrong, server.add('/c', packed(graph)))
    assert inception.fetched(network, tmp_path, wait=0.01) == graph
    out = capsys.readouterr().out
    assert f'/a: expected {network.checksum}, got sha256:' in out
    assert '/b: expected' in out
    assert 'is damaged' in out


def test_without_any_source_it_says_where_to_place_what(network, tmp_path):
    with pytest.raises(ConnectionError) as error:
        inception.fetched(network, tmp_path, wait=0.01)
    text = str(error.value)
    assert network.urls[0] in text
    proof = f'place {network.name} (its {GRAPH_NAME}: {network.checksum}) in {tmp_path} by hand'
    assert proof in text
    assert names_in(tmp_path) == []


# The command --------------------------------------------------------------------------------------


@pytest.fixture
def data(graph, network, tmp_path, monkeypatch):
    """A data folder with the small network in it."""
    monkeypatch.setattr(inception, 'NETWORK', network)
    folder = tmp_path / 'data'
    folder.mkdir()
    (folder / GRAPH_NAME).write_bytes(graph)
    return folder


def scores_of(capfd, *arguments):
    """Return the one JSON object that `evaluate` prints."""
    assert main(['evaluate', *map(str, arguments), '--features', 'inception']) == 0
    (line,) = capfd.readouterr().out.splitlines()
    return json.loads(line)


def test_evaluate_a_file_by_inception(data, tmp_path, capfd):
    """Digits of any size are compared, with all of the reference."""
    file = tmp_path / 'a.npy'
    np.save(file, some_images(40, channels=1))
    scores = scores_of(capfd, file, '--data-dir', data, '--count', 30)
    assert (scores['source'], scores['features'], scores['n']) == (str(file), 'inception', 30)
    assert (scores['dataset'], scores['n_reference'], scores['real']['n']) == ('mnist', 5000, 30)
    assert scores['frechet_distance'] > 10 * scores['real']['frechet_distance']
    (warning,) = scores['warnings']
    assert '30 generated images were compared with 5,000 real ones' in warning


def test_evaluate_a_folder_by_inception(data, tmp_path, capfd):
    folders = tmp_path / 'generated', tmp_path / 'real'
    for seed, folder in enumerate(folders):
        folder.mkdir()
        for number, pixels in enumerate(some_images(25, seed=seed)):
            Image.fromarray(pixels).save(folder / f'{number}.png')
    scores = scores_of(capfd, folders[0], '--dataset', folders[1], '--data-dir', data)
    assert (scores['dataset'], scores['n'], scores['n_reference']) == ('folder', 25, 25)
    expected = (metrics.moments(closed_form(some_images(25, seed=seed))) for seed in (0, 1))
    fid = metrics.frechet_distance(*next(expected), *next(expected))
    assert scores['frechet_distance'] == pytest.approx(fid, rel=1e-4)


def test_evaluate_a_run_by_inception(data, tmp_path, capfd, monkeypatch):
    """By default, it draws as many images as papers take."""
    run = untrained_run(tmp_path / 'run')
    monkeypatch.setattr(evaluation, 'PAPER_IMAGES', 33)
    scores = scores_of(capfd, run.path, '--data-dir', data)
    assert (scores['n'], scores['step'], scores['image_shape']) == (33, 0, [8, 8, 1])
    assert scores['warnings'] == []


def test_a_missing_network_ends_the_command_before_images_are_drawn(
    data, tmp_path, capfd, monkeypatch
):
    from facegen import sampling

    (data / GRAPH_NAME).write_bytes(b'other')
    run = untrained_run(tmp_path / 'run')
    monkeypatch.delattr(sampling, 'generate')
    command = ['evaluate', str(run.path), '--features', 'inception', '--data-dir', str(data)]
    assert main(command) == 2
    out, err = capfd.readouterr()
    assert out == ''
    assert 'another file than the published one' in err.splitlines()[-1]
