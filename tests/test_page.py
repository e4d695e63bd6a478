"""A page that draws: its layers, its weights, its words. What it does in browsers is in test_page_browsers.py."""

import base64
import hashlib
import html.parser
import json
import re
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from helpers import untrained_run

from facegen import page
from facegen.cli import main
from facegen.page import pack, words
from facegen.page.translate import LAYERS, Translation
from facegen.recipes import CLASSIC, Recipe, recipe_named
from facegen.sampling import latents, restored
from facegen.session import tf

TINY = Recipe(image_size=8, g_filters=(8, 4), z_dim=12)


def drawn_by(body):
    """Return a generator of 8x8 images: what `body` makes of [batch, 4, 4, 6] that are linear in z."""

    def generator(z, out_channel_dim, is_train=True, *, recipe):
        with tf.variable_scope('generator', reuse=not is_train):
            x = tf.reshape(tf.layers.dense(z, 4 * 4 * 6), [-1, 4, 4, 6])
            return body(x, z, is_train)

    return generator


def translated(path, *args, **options):
    with restored(untrained_run(path, *args, **options)) as generator:
        return Translation(generator)


def ops(translation):
    return [layer['op'] for layer in translation.layers]


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A run with three categories."""
    return untrained_run(tmp_path_factory.mktemp('runs') / 'run')


# Translation --------------------------------------------------------------------------------------


def test_batch_norm_and_biases_become_part_of_the_layer_before(tmp_path):
    translation = translated(tmp_path / 'run', TINY)
    assert ops(translation) == [
        'Latents', 'Dense', 'LeakyRelu', 'Transposed', 'LeakyRelu', 'Transposed', 'Tanh',
    ]  # fmt: skip
    dense, transposed = translation.layers[1], translation.layers[3]
    assert dense['kernelShape'] == [12, 2 * 2 * 8]
    assert transposed['kernelShape'] == [5, 5, 8, 4]
    graph = translation.generator.sess.graph
    gamma, beta, mean, variance = (
        translation.values[graph.get_operation_by_name(
            'generator_1/batch_normalization/FusedBatchNormV3'
        ).inputs[i].name]
        for i in range(1, 5)
    )  # fmt: skip
    scale, shift = (translation.arrays[dense[name]][0] for name in ('scale', 'shift'))
    assert gamma.std() > 0.1
    np.testing.assert_allclose(scale, gamma / np.sqrt(variance + 1e-3), rtol=1e-6)
    np.testing.assert_allclose(shift, beta - mean * scale, rtol=1e-5)


def test_a_category_and_residual_blocks_are_made_of_a_few_layers(tmp_path):
    recipe = replace(
        recipe_named('faces'), network='residual', image_size=16, g_filters=(8, 8), g_last_filters=4,
        z_categories=3,
    )  # fmt: skip
    names = ops(translated(tmp_path / 'run', recipe, channels=3))
    assert names[:6] == ['Latents', 'Moves', 'ArgMax', 'OneHot', 'Affine', 'Moves']
    assert set(names[6:]) == {
        'Dense', 'Convolution', 'Bilinear', 'Affine', 'LeakyRelu', 'Transposed', 'Add', 'Tanh',
    }  # fmt: skip


def test_what_two_layers_need_is_not_folded_away(tmp_path):
    """x / 2 + x: the dense layer with and without a factor."""
    generator = drawn_by(lambda x, z, _: tf.tanh(x / 2 + tf.nn.relu(x))[..., :1])
    translation = translated(tmp_path / 'run', TINY, generator)
    assert ops(translation) == ['Latents', 'Dense', 'Dense', 'Relu', 'Add', 'Tanh', 'Moves']
    scales = [translation.arrays[layer['scale']][0].tolist() for layer in translation.layers[1:3]]
    assert sorted(scales) == [[0.5], [1.0]]


def batch_norm_of_the_batch(x, z, is_train):
    return tf.layers.batch_normalization(x, training=True)


REFUSED = {
    r'Lgamma \(generator_1/Lgamma\) is not known': lambda x, z, _: tf.math.lgamma(x),
    r'FusedBatchNormV3 .* has is_training True': batch_norm_of_the_batch,
    r'RandomStandardNormal .* random': lambda x, z, _: x + tf.random.normal([4, 4, 6]),
    r'Conv2D .* has dilations': lambda x, z, _: tf.nn.conv2d(
        x, tf.ones([3, 3, 6, 1]), 1, 'SAME', dilations=2
    ),
    r'RealDiv .* depends on the latents': lambda x, z, _: 1 / x,
    r'Transpose .* mixes images': lambda x, z, _: tf.reshape(
        tf.transpose(tf.transpose(x, [1, 2, 3, 0])[::-1], [0, 3, 1, 2]), [-1, 4, 4, 6]
    ),
    r'Mul .* combines \[4, 4, 6\] and \[4, 4, 1\]': lambda x, z, _: x * x[..., :1],
    r'MatMul .* transpose_b': lambda x, z, _: tf.matmul(
        tf.reshape(x, [-1, 96]), tf.ones([6, 96]), transpose_b=True
    ),
    r'Mean .* is not known': lambda x, z, _: x - tf.reduce_mean(x, 3, keepdims=True),
}


@pytest.mark.parametrize('message', REFUSED)
def test_another_operation_is_refused_by_name(tmp_path, capsys, message):
    """By one line and status 2, and nothing half-written."""
    run = untrained_run(tmp_path / 'run', TINY, drawn_by(REFUSED[message]))
    out = tmp_path / 'out'
    out.mkdir()
    assert main(['export', str(run.path), '--out', str(out / 'a.html')]) == 2
    assert re.search(message, said := capsys.readouterr().err)
    assert said.count('\n') == 1
    assert 'export a SavedModel' in said
    assert not list(out.iterdir())


# Packing ------------------------------------------------------------------------------------------


def unpacked(content):
    """Return (layers, arrays) of packed bytes, as the format says, one number after another."""
    data = zlib.decompress(content)
    (length,) = struct.unpack('<I', data[:4])
    header, at = json.loads(data[4 : 4 + length]), 4 + length
    arrays = []
    for entry in header['arrays']:
        size = entry['length']
        if entry['kind'] == 'kernel':
            bits, end = entry['bits'], at + size
            stream = int.from_bytes(data[end : end + -(-size * bits // 8)], 'little')
            arrays.append([
                (np.int8(data[at + i : at + i + 1][0] - 256 * (data[at + i] > 127)) * 2.0**bits
                 + (stream >> (i * bits)) % 2**bits) * entry['step']
                for i in range(size)
            ])  # fmt: skip
            at = end + -(-size * bits // 8)
        else:
            kind = {'floats': '<f4', 'places': '<i4'}[entry['kind']]
            values = np.frombuffer(data[at : at + 4 * size], kind)
            arrays.append(values.cumsum() if kind == '<i4' else values)
            at += 4 * size
    assert at == len(data)
    return header['layers'], arrays


def test_packed_weights_are_the_generators_to_half_a_step(run):
    with restored(run) as generator:
        translation = Translation(generator)
        steps = pack.fitting_steps(translation)
        layers, arrays = unpacked(pack.packed(translation))
    assert layers == json.loads(json.dumps(translation.layers))
    assert len(arrays) == len(translation.arrays)
    for number, ((array, tensor), kept) in enumerate(zip(translation.arrays, arrays, strict=True)):
        error = np.abs(np.asarray(kept) - array.ravel())
        if tensor is None:
            np.testing.assert_allclose(kept, array, rtol=1e-6)
        else:
            assert 0 < error.max() <= steps[number] / 2 * (1 + 1e-6)


def test_steps_are_as_coarse_as_images_allow(run):
    """With those that are chosen no image is off by half a level; with twice as coarse ones some are."""
    with restored(run) as generator:
        translation = Translation(generator)
        steps = pack.fitting_steps(translation)
        z = latents(0, pack.COMPARED, generator.z_dim)
        exact = pack.drawn(generator, z, {})
        errors = []
        for factor in 1, 2:
            rounded = {
                tensor: pack.multiples(translation.values[tensor.name], factor * steps[number])
                * factor * steps[number]
                for number, (_, tensor) in enumerate(translation.arrays) if tensor is not None
            }  # fmt: skip
            errors.append(np.abs(pack.drawn(generator, z, rounded) - exact).max() * 127.5)
    assert errors[0] <= 0.5 < errors[1]


def test_images_that_no_number_of_bits_keeps_are_refused(tmp_path):
    run = untrained_run(tmp_path / 'run', TINY, drawn_by(lambda x, z, _: tf.sin(1e6 * x)))
    with restored(run) as generator:
        translation = Translation(generator)
        with pytest.raises(ValueError, match=r'with weights of \d+ bits its images change by'):
            pack.fitting_steps(translation)


@pytest.mark.parametrize(
    ('numbers', 'bits'), [([0], 0), ([-128, 127], 0), ([128], 1), ([-129], 1), ([4096, -1], 6)]
)
def test_bits_beside_a_byte(numbers, bits):
    assert pack.bits_beside_a_byte(np.array(numbers)) == bits


# Words --------------------------------------------------------------------------------------------


def facts_of(run):
    with restored(run) as generator:
        return dict(words.words_of(run, generator, 'last')['facts'])


def test_faces_say_that_their_licence_forbids_commercial_use(tmp_path):
    run = untrained_run(tmp_path / 'my run', TINY, channels=3, data={'crop': 108})
    run.add_scores(0, {'frechet_distance': 2.345, 'n': 1000})
    facts = facts_of(run)
    assert 'CelebA' in facts['Trained on']
    assert 'forbids commercial use' in facts['Trained on']
    assert facts['Training'] == '0 steps on 99 images of 8x8 pixels'
    assert facts['Scores'] == 'Fréchet distance 2.35, lower is better (1,000 images)'
    assert facts['Run'] == 'my run'


def test_digits_and_images_of_ones_own(run, tmp_path):
    assert 'Scores' not in facts_of(run)
    assert 'author of this page' in facts_of(run)['Trained on']
    digits = untrained_run(tmp_path / 'run', TINY, data={'sha256': 'abc'})
    scores = {'frechet_distance': 1.0, 'class_histogram': [0.1] * 10, 'confident_share': 0.954}
    digits.add_scores(0, scores)
    facts = facts_of(digits)
    assert 'MNIST' in facts['Trained on']
    assert 'confident about 95% of the digits' in facts['Scores']


def test_the_scores_are_those_of_the_weights(run, tmp_path):
    other = untrained_run(tmp_path / 'run')
    other.add_scores(0, {'frechet_distance': 1.0})
    (other.path / 'scores.jsonl').write_text('{"step": 7, "frechet_distance": 1.0}\n')
    assert 'Scores' not in facts_of(other)


def test_recipes_by_their_names():
    assert words.recipe_text(CLASSIC) == 'classic'
    assert words.recipe_text(recipe_named('faces', 64)) == 'faces'
    assert words.recipe_text(replace(recipe_named('digits'), gamma=1.0)) == 'digits, gamma 1.0'
    other = replace(TINY, z_categories=3, g_leak=0.1)
    assert words.recipe_text(other) == 'settings of its own'


def test_a_choice_of_digits_has_the_categories_that_show_them(monkeypatch, run):
    """Nearly all images of category 0 are a 7, those of 1 mostly a 7, those of 2 mostly a 3."""
    shares = {0: {7: 0.96}, 1: {7: 0.8, 1: 0.2}, 2: {3: 0.6, 7: 0.4}}
    monkeypatch.setattr(words, 'are_digits', lambda shape: True)
    monkeypatch.setattr(
        words, 'digit_shares', lambda _, k, n: [shares[k].get(i, 0) for i in range(10)]
    )
    with restored(run) as generator:
        assert words.classes_of(generator, 3, 'digits') == [
            {'name': '3', 'categories': [2]}, {'name': '7', 'categories': [0]},
        ]  # fmt: skip
        assert [kind['name'] for kind in words.classes_of(generator, 3, 'images')] == [
            '1',
            '2',
            '3',
        ]
        assert words.classes_of(generator, 0, 'digits') == []


def test_a_generator_without_directions_has_no_sliders_for_them(tmp_path, capsys):
    """Its first weights are not of a layer of latents."""
    run = untrained_run(tmp_path / 'run', TINY, first_without_weights)
    with restored(run) as generator:
        assert words.words_of(run, generator, 'last')['directions'] == []
    assert 'no sliders for directions: the first weights' in capsys.readouterr().out


def first_without_weights(z, out_channel_dim, is_train=True, *, recipe):
    with tf.variable_scope('generator', reuse=not is_train):
        x = tf.reshape(z, [-1, 2, 2, 3])
        return tf.tanh(tf.layers.conv2d_transpose(x, 1, 5, 4, 'same'))


# The file -----------------------------------------------------------------------------------------


class Elements(html.parser.HTMLParser):
    """The elements of a page: their names, attributes and texts."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.found.append([tag, dict(attributes), ''])

    def handle_endtag(self, tag):
        self.found.append(['/' + tag, {}, ''])

    def handle_data(self, data):
        if self.found:
            self.found[-1][2] += data

    def named(self, tag):
        return [(attributes, text) for name, attributes, text in self.found if name == tag]


def test_what_a_run_says_is_data():
    """Whatever it is, the page has the same elements, and the text comes back as it was."""
    hostile = {
        'title': '</script><script>alert(1)</script><!--',
        'lead': '\u2028"{{engine}}',
        'facts': [],
    }
    harmless = {'title': 'a', 'lead': 'b', 'facts': []}
    one, two = (Elements(page.assembled(said, b'1')) for said in (hostile, harmless))
    assert [tag for tag, *_ in one.found] == [tag for tag, *_ in two.found]
    (said,) = (text for attributes, text in one.named('script') if attributes.get('id') == 'words')
    assert json.loads(said) == hostile


def test_the_page_may_run_its_own_script_and_reach_nothing():
    elements = Elements(page.assembled({}, b'123'))
    (policy,) = (
        attributes['content'] for attributes, _ in elements.named('meta')
        if attributes.get('http-equiv') == 'Content-Security-Policy'
    )  # fmt: skip
    rules = dict(rule.split(' ', 1) for rule in policy.split('; '))
    (script,) = (text for attributes, text in elements.named('script') if 'type' not in attributes)
    ((_, style),) = elements.named('style')
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for text in (script, style)
    ]
    assert rules == {
        'default-src': "'none'", 'base-uri': "'none'", 'form-action': "'none'", 'img-src': 'data:',
        'worker-src': 'blob:', 'script-src': hashes[0], 'style-src': hashes[1],
    }  # fmt: skip
    addresses = re.findall(r'(?:src|href)="([^"]*)"|https?://', page.assembled({}, b'123'))
    assert addresses == ['data:,']
    generator = elements.named('script')[-1]
    assert base64.b85decode(generator[1].replace(',', '<')) == b'123'


def test_the_parts_of_a_page_end_no_element():
    for name in 'engine.js', 'latents.js', 'page.js':
        assert not re.search(r'</script|<!--|<script', page.read(name), re.IGNORECASE)


def test_every_layer_is_known_to_the_engine():
    """The names of the layers that translate.py makes are in engine.js."""
    engine = page.read('engine.js')
    made = set(
        re.findall(r"(?:add|add_linear)\(\s*'(\w+)'", (page.FILES / 'translate.py').read_text())
    )
    made |= {*page.translate.FUNCTIONS, *page.translate.PAIRS.values()}
    assert len(made) > 20
    assert not [name for name in made if not re.search(rf'^  {name}[(:]', engine, re.MULTILINE)]
    assert {'MatMul', 'Conv2D', 'Tanh'} <= set(LAYERS)


@pytest.mark.parametrize('weights', ['last', 'best'])
def test_the_command_writes_a_page(tmp_path, capsys, weights):
    run = untrained_run(tmp_path / 'run <b>')
    run.add_scores(0, {'frechet_distance': 1.0})
    file = tmp_path / 'a.html'
    file.write_text('what was there')
    command = ['export', str(run.path), '--out', str(file), '--weights', weights]
    assert main(command) == 0
    assert (
        f'{file}: a page of 0.0 MB that draws 8x8 images, after 0 steps' in capsys.readouterr().out
    )
    text = file.read_text(encoding='utf-8')
    assert 'run <b>' not in text
    assert 'run \\u003cb>' in text


def test_a_run_with_damaged_settings_leaves_what_was_there(run, tmp_path, capsys):
    other = untrained_run(tmp_path / 'run')
    config = other.config()
    del config['data_shape']
    other.write_config(config)
    file = tmp_path / 'a.html'
    file.write_text('what was there')
    assert main(['export', str(other.path), '--out', str(file)]) == 2
    assert 'damaged config.json' in capsys.readouterr().err
    assert file.read_text() == 'what was there'


@pytest.mark.slow
@pytest.mark.parametrize(('size', 'megabytes'), [(28, 3.2), (64, 8)])
def test_pages_of_faces_are_small(tmp_path, size, megabytes):
    """Also of random weights, which take a little more than trained ones; 16 bits would be 5.1 and 8.1."""
    run = untrained_run(tmp_path / 'run', recipe_named('faces', size), channels=3)
    file = tmp_path / 'a.html'
    page.save_page(file, run)
    assert 1e6 < file.stat().st_size < megabytes * 1e6
