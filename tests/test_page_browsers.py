"""Pages as people use them: opened from disk, in headless Chromium and Firefox of the system's packages.

Playwright drives Chromium. Firefox is driven by WebDriver BiDi, a protocol of JSON messages, through the
WebSocket client that Jupyter's server brings; Playwright would need a Firefox of its own.
"""

import contextlib
import io
import json
import os
import re
import subprocess
import time
from dataclasses import replace

import numpy as np
import pytest
import websocket
from helpers import untrained_run
from PIL import Image
from playwright.sync_api import sync_playwright

from facegen import explore, page, sampling
from facegen.recipes import CLASSIC, Recipe, recipe_named
from facegen.run import RunFolder
from facegen.session import tf

pytestmark = pytest.mark.slow
DEADLINE = 120  # seconds for what takes one; the machine may be busy
PIXELS = """selector => [...document.querySelectorAll(selector)].map(
    canvas => [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data])"""
IS_DRAWN = """() => ['grid', 'image'].every(
    id => document.getElementById(id).getAttribute('aria-busy') === 'false')"""
RECIPES = {  # the layers of the default recipes, but few features
    'digits': (replace(recipe_named('digits'), g_filters=(12, 8), g_hidden=24), 1),
    'faces': (replace(recipe_named('faces'), g_filters=(12, 8), g_last_filters=6), 3),
    'classic': (replace(CLASSIC, g_filters=(12, 6)), 1),
    'residual': (
        replace(recipe_named('faces', 64), network='residual', g_filters=(8, 8, 8, 4), g_last_filters=4), 3,
    ),
}  # fmt: skip


def grid_of(values, shape):
    """Return the images of canvases' pixels, uint8 [n, h, w, c]; `shape` is [h, w, c]."""
    height, width, channels = shape
    pixels = np.array(values, np.uint8).reshape(-1, height, width, 4)
    assert (pixels[..., 3] == 255).all()
    if channels == 1:
        assert (pixels[..., :1] == pixels[..., :3]).all()
    return pixels[..., :channels]


def assert_same(images, expected):
    """At most one level apart, and not all alike."""
    assert images.shape == expected.shape
    assert np.abs(images.astype(int) - expected).max() <= 1
    assert len(np.unique(expected)) > 30


def until(condition, explain=str):
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, explain()
        time.sleep(0.02)


class Open:
    """A page in Chromium: what it draws, and what it complains of."""

    def __init__(self, tab, file):
        self.tab, self.errors, self.requests = tab, [], []
        tab.set_default_timeout(1000 * DEADLINE)
        tab.on('pageerror', lambda error: self.errors.append(str(error)))
        tab.on('console', lambda message: self.errors.extend(errors_of(message)))
        tab.on('request', lambda request: self.requests.append(request.url))
        tab.goto(file.as_uri())

    def text(self, selector):
        return self.tab.text_content(selector)

    def wait(self):
        """Wait until all is drawn."""
        until(lambda: self.tab.evaluate(IS_DRAWN), lambda: f'{self.errors} {self.text("#state")}')
        return self

    def images(self, selector='#grid canvas'):
        shape = json.loads(self.tab.text_content('#words'))['shape']
        return grid_of(self.wait().tab.evaluate(PIXELS, selector), shape)

    def set(self, selector, value):
        """Move a slider, or fill in a field."""
        self.tab.locator(selector).evaluate(
            """(element, value) => {
                element.value = value;
                for (const type of ['input', 'change']) element.dispatchEvent(new Event(type, {bubbles: true}));
            }""",
            str(value),
        )
        return self


def errors_of(message):
    return [message.text] if message.type in ('error', 'warning') else []


@pytest.fixture(scope='module')
def browser(chromium):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        yield browser
        browser.close()


@pytest.fixture(scope='module')
def pages(tmp_path_factory):
    """Return the (run, file) of a kind, which is made when it is first asked for."""
    folder, made = tmp_path_factory.mktemp('pages'), {}

    def get(kind):
        if kind not in made:
            recipe, channels = RECIPES[kind]
            data = {'crop': 108} if channels == 3 else {}
            run = untrained_run(folder / kind, recipe, channels=channels, data=data)
            if kind == 'digits':
                run.add_scores(0, {'frechet_distance': 1.0, 'class_histogram': [0.1] * 10})
            made[kind] = run, folder / f'{kind}.html'
            page.save_page(made[kind][1], run)
        return made[kind]

    return get


@pytest.fixture
def opened(browser, pages):
    """A function that opens the page of a kind; in the end none has complained or reached for anything."""
    with contextlib.ExitStack() as stack:
        shown = []

        def open_page(kind, **options):
            tab = browser.new_page(**options)
            stack.callback(tab.close)
            shown.append(Open(tab, pages(kind)[1]))
            return shown[-1]

        yield open_page
        for one in shown:
            assert not one.errors
            file, *others = one.requests
            assert file.startswith('file:///')
            assert all(address.startswith('blob:') for address in others)


# Images -------------------------------------------------------------------------------------------


@pytest.mark.parametrize('kind', RECIPES)
def test_the_images_are_those_of_generate(opened, pages, kind):
    run, _ = pages(kind)
    shown = opened(kind)
    images = shown.images()
    assert_same(images, sampling.generate(run, 9 if kind == 'residual' else 25, 0))
    assert_same(shown.images('#image'), images[:1])
    shown.set('#seed', 2**70 + 3)
    assert_same(shown.images(), sampling.generate(run, len(images), 2**70 + 3))
    shown.set('#count', 4)
    assert_same(shown.images(), sampling.generate(run, 4, 2**70 + 3))
    assert f'4 images of seed {2**70 + 3}' in shown.text('#state')


def test_the_random_numbers_are_those_of_numpy(opened):
    """For seeds of one to many 32-bit words, and many counts and lengths."""
    shown = opened('classic')
    seeds = [*range(20), 2**31, 2**32 - 1, 2**32, 2**64 + 5, 2**96, 2**128 - 1, 2**160 + 7, 10**60]
    for number, seed in enumerate(seeds):
        count, size = 1 + number % 7, 1 + 13 * number % 130
        drawn = shown.tab.evaluate(
            '([seed, count, size]) => latentsOf(BigInt(seed), count, size).map(z => [...z])',
            [str(seed), count, size],
        )
        np.testing.assert_array_equal(np.float32(drawn), sampling.latents(seed, count, size))


def test_ways_between_latents_are_those_of_python(opened):
    shown = opened('classic')
    a, b = sampling.latents(0, 2, 10)
    for share, kept in ((0, 0), (0.3, 0), (0.7, 4), (1, 0)):
        way = shown.tab.evaluate(
            '([a, b, t, kept]) => [...slerp(Float32Array.from(a), Float32Array.from(b), t, kept)]',
            [a.tolist(), b.tolist(), share, kept],
        )
        expected = [*a[:kept], *sampling.slerp(a[kept:], b[kept:], share)]
        np.testing.assert_allclose(way, expected, atol=1e-6)


def two_branches(z, out_channel_dim, is_train=True, *, recipe):
    """A generator of what the recipes lack: the 2017 leaky ReLU, upsampling, odd sizes, constants, a skip."""
    with tf.variable_scope('generator', reuse=not is_train):
        x = tf.reshape(tf.layers.dense(z, 3 * 3 * 8), [-1, 3, 3, 8])
        x = tf.maximum(0.1 * x, x) - tf.constant(
            np.linspace(-1, 1, 72).reshape(3, 3, 8), tf.float32
        )
        x = tf.layers.conv2d_transpose(x, 6, 5, 3, 'valid', activation=tf.nn.selu)  # 11x11
        skip = tf.image.resize_bilinear(x, [8, 13], align_corners=True)
        x = tf.nn.elu(tf.layers.conv2d(x, 12, [3, 2], [1, 2], 'same')[:, 1:9])  # 8x6
        x = tf.image.resize_nearest_neighbor(tf.concat([x, tf.sin(x)], 3), [8, 13])
        x = tf.layers.conv2d(1 - x, 6, 3, padding='same', activation=tf.nn.softplus)
        gate = tf.sigmoid(tf.layers.dense(tf.minimum(z, 0.5), 6))
        x = tf.reshape(gate, [-1, 1, 1, 6]) * (x + skip) / 3
        x = tf.pad(
            tf.layers.conv2d(x, out_channel_dim * 4, [1, 6]), [[0, 0], [2, 2], [2, 2], [0, 0]]
        )
        x = tf.depth_to_space(x[:, ::-1, 2:10][:, 1:-1], 2)[:, 2:-2, :16]
        return tf.tanh(tf.transpose(x, [0, 2, 1, 3])[:, ::2, ::2][:, :8, :8] - 0.5)


def test_a_generator_of_ones_own(browser, tmp_path):
    """Its operations are computed as TensorFlow computes them."""
    run = untrained_run(tmp_path / 'own', Recipe(image_size=8, z_dim=12), two_branches, channels=3)
    page.save_page(tmp_path / 'a.html', run)
    with contextlib.closing(browser.new_page()) as tab:
        images = Open(tab, tmp_path / 'a.html').images()
    assert_same(images, sampling.generate(run, 25, 0))


# Controls -----------------------------------------------------------------------------------------


def drawn(run, z):
    with sampling.restored(run) as generator:
        return generator(z)


def test_sliders_move_all_latents_as_those_of_the_notebook(opened, pages):
    run, _ = pages('faces')
    shown = opened('faces').set('#truncation', 0.4)
    z = sampling.latents(0, 25, 100)
    assert_same(shown.images(), drawn(run, np.float32(0.4) * z))
    assert shown.tab.locator('#truncation + .value').inner_text() == '0.40'
    shown.set('#directions label:nth-child(2) input', -2)
    with sampling.restored(run) as generator:
        vectors = explore.directions_of(generator, 4)
        choice = explore.Choice(0, 1, (0, -2, 0, 0), truncation=0.4)
        expected = generator(explore.latents_of(choice, 25, vectors))
    assert_same(shown.images(), expected)
    assert_same(shown.images('#image'), expected[:1])
    shown.tab.get_by_text('Back to the start').click()
    until(lambda: shown.tab.locator('#truncation + .value').inner_text() == '1.00')
    assert_same(shown.images(), drawn(run, z))


def test_a_digit_chooses_the_categories_that_show_it(opened, pages):
    run, _ = pages('digits')
    shown = opened('digits')
    names = shown.tab.locator('#digit option').all_inner_texts()
    (choices,) = [json.loads(shown.text('#words'))['classes']]
    assert names == ['any', *(choice['name'] for choice in choices)]
    shown.tab.select_option('#digit', index=1)
    z = sampling.latents(0, 25, 100)
    categories = np.resize(choices[0]['categories'], 25)
    rows, largest = np.arange(25), z[:, :20].argmax(1)
    z[rows, largest], z[rows, categories] = z[rows, categories], z[rows, largest]
    assert (z[:, :20].argmax(1) == categories).all()
    assert_same(shown.images(), drawn(run, z))


def test_the_held_image_stays_when_others_are_drawn(opened, pages):
    run, _ = pages('digits')
    shown = opened('digits')
    shown.wait().tab.locator('.image').nth(7).click()
    expected = sampling.generate(run, 25, 0)
    assert_same(shown.images('#image'), expected[7:8])
    assert shown.text('#state') == 'Image 8 of seed 0 is held'
    assert [i for i, one in enumerate(shown.tab.locator('.image').all())
            if one.get_attribute('aria-pressed') == 'true'] == [7]  # fmt: skip
    shown.tab.get_by_role('button', name='Draw again').click()
    assert_same(shown.images(), sampling.generate(run, 25, 1))
    assert_same(shown.images('#image'), expected[7:8])
    assert shown.tab.locator('.image[aria-pressed=true]').count() == 0
    assert shown.tab.input_value('#seed') == '1'


def test_a_walk_plays_and_pauses(opened, pages):
    """It leads to the next image of the grid along the arc; paused, it stays where it is."""
    run, _ = pages('classic')
    shown = opened('classic')
    start = shown.images('#image')
    play = shown.tab.get_by_role('button', name='Play walk')
    play.click()
    assert 'image 1 of seed 0 to image 2' in shown.text('#held-name')
    until(lambda: np.abs(shown.images('#image') - start.astype(int)).max() > 3)
    until(lambda: 'to image 3' in shown.text('#held-name'))
    shown.tab.get_by_role('button', name='Pause walk').click()
    assert play.is_visible()
    (between,) = paused = shown.images('#image')
    a, b = sampling.latents(0, 3, 100)[1:]
    way = drawn(run, np.stack([sampling.slerp(a, b, t) for t in np.linspace(0, 1, 501)]))
    assert np.abs(way.astype(int) - between).max(axis=(1, 2, 3)).min() <= 3
    time.sleep(0.3)
    np.testing.assert_array_equal(shown.images('#image'), paused)


def test_a_walk_without_motion_shows_the_images_of_the_grid(opened):
    """For those who have asked their system for less motion."""
    shown = opened('classic', reduced_motion='reduce')
    grid = shown.images()
    shown.tab.get_by_role('button', name='Play walk').click()
    seen = []
    while len(seen) < 2:
        (image,) = shown.images('#image')
        matches = [i for i in range(25) if np.array_equal(grid[i], image)]
        assert matches
        seen += [i for i in matches if i not in seen]
    assert seen == [0, 1]


def test_the_keyboard_alone(opened, pages):
    """Tab goes from control to control, the grid is one of them; arrows move in it, Enter holds."""
    shown = opened('faces')
    shown.wait()
    keyboard, seen = shown.tab.keyboard, []
    focused = "() => document.activeElement.id || document.activeElement.getAttribute('aria-label')"
    for _ in range(13):
        keyboard.press('Tab')
        seen.append(shown.tab.evaluate(focused))
    assert seen[:9] == [
        'seed', 'count', 'again', 'save-grid', 'Image 1', 'walk', 'save-image', 'truncation', 'direction-1',
    ]  # fmt: skip
    shown.tab.locator('.image').first.focus()
    for key in (
        'ArrowRight',
        'ArrowDown',
        'ArrowLeft',
        'ArrowUp',
        'ArrowUp',
        'End',
        'Home',
        'ArrowDown',
    ):
        keyboard.press(key)
    assert shown.tab.evaluate(focused) == 'Image 6'
    keyboard.press('Enter')
    assert shown.text('#held-name') == 'Image 6 of seed 0'
    assert_same(shown.images('#image'), shown.images()[5:6])
    outline = '() => getComputedStyle(document.activeElement).outlineStyle'
    assert shown.tab.evaluate(outline) == 'solid'
    shown.tab.focus('#truncation')
    keyboard.press('ArrowLeft')
    assert shown.tab.input_value('#truncation') == '0.99'
    shown.tab.focus('#seed')
    keyboard.type('12')
    keyboard.press('Enter')
    shown.wait()
    assert re.search(r'images of seed (012|12|120)$', shown.text('#state'))


def test_what_a_screen_reader_says(opened):
    """Each control has a name, the images too, and what changes is announced."""
    shown = opened('digits')
    shown.wait()
    names = [
        ('textbox', 'Seed'), ('combobox', 'Images'), ('button', 'Draw again'), ('button', 'Image 25'),
        ('img', 'Image 1 of seed 0'), ('slider', 'Truncation'), ('slider', 'Direction 4'),
        ('combobox', 'Digit'), ('heading', 'Generated digits'),
    ]  # fmt: skip
    for role, name in names:
        assert shown.tab.get_by_role(role, name=name, exact=True).count() == 1, name
    assert shown.tab.get_by_role('status').inner_text() == '25 images of seed 0'
    unnamed = [
        one.evaluate('element => element.outerHTML')
        for one in shown.tab.locator('button, input, select').all()
        if one.is_visible() and not one.evaluate(
            "element => element.ariaLabel || element.labels?.length || element.textContent.trim()"
        )
    ]  # fmt: skip
    assert not unnamed


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_nothing_overflows_from_narrow_to_wide(opened, scheme, tmp_path):
    """tmp_path gets screenshots."""
    shown = opened('digits', color_scheme=scheme)
    shown.wait()
    for width in 360, 800, 1600:
        shown.tab.set_viewport_size({'width': width, 'height': 800})
        shown.tab.screenshot(path=tmp_path / f'{width}.png', full_page=True)
        too_wide = shown.tab.evaluate("""() => [...document.querySelectorAll('body, body *')].filter(
            element => element.getBoundingClientRect().right > innerWidth + 0.5
                || element.scrollWidth > element.clientWidth + 1 && element.clientWidth
        ).map(element => [element.tagName, element.id])""")
        assert [one for one in too_wide if one[0] not in ('OPTION', 'SELECT', 'INPUT')] == []
        assert shown.tab.evaluate('document.documentElement.scrollWidth') == width
    ink, paper = (
        [int(part) for part in re.findall(r'\d+', shown.tab.evaluate(
            f"getComputedStyle(document.body).{name}"))[:3]]
        for name in ('color', 'backgroundColor')
    )  # fmt: skip
    assert (sum(ink) < sum(paper)) is (scheme == 'light')
    assert contrast(ink, paper) > 7


def contrast(one, other):
    """Return the contrast of two colours as WCAG 2 defines it."""

    def luminance(color):
        linear = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
            for c in np.divide(color, 255)
        ]
        return np.dot(linear, [0.2126, 0.7152, 0.0722]) + 0.05

    low, high = sorted([luminance(one), luminance(other)])
    return high / low


def test_saved_images_are_png_files(opened, tmp_path):
    shown = opened('faces')
    shown.set('#count', 4)
    images = shown.images()
    with shown.tab.expect_download() as download:
        shown.tab.get_by_role('button', name='Save grid').click()
    assert download.value.suggested_filename == 'seed-0.png'
    with Image.open(io.BytesIO(download.value.path().read_bytes())) as grid:
        assert grid.format == 'PNG'
        assert grid.size == (1008, 1008)  # 2x2 images, 18 times as large
        small = np.asarray(grid.convert('RGB'))[9::18, 9::18]
    np.testing.assert_array_equal(small[28:, :28], images[2])
    with shown.tab.expect_download() as download:
        shown.tab.get_by_role('button', name='Save image').click()
    assert download.value.suggested_filename == 'image-1-of-seed-0.png'
    with Image.open(io.BytesIO(download.value.path().read_bytes())) as image:
        np.testing.assert_array_equal(np.asarray(image.convert('RGB'))[9::18, 9::18], images[0])


# What goes wrong ----------------------------------------------------------------------------------


TAG = '<script type="text/plain" id="generator">'
DAMAGE = {  # how a file is damaged, and what it says then
    'cut': lambda text, start, middle: text[:middle],
    'without its generator': lambda text, start, middle: text[:start],
    'changed': lambda text, start, middle: (
        text[:middle] + 'AB'[text[middle] == 'A'] + text[middle + 1 :]
    ),
    'no text': lambda text, start, middle: text[:middle] + '!' + text[middle + 1 :],
    'other words': lambda text, start, middle: text.replace('"zDim"', 'zDim'),
    'without its script': lambda text, start, middle: text[: start - 1000],
}


@pytest.mark.parametrize('way', DAMAGE)
def test_a_damaged_file_says_so(browser, pages, tmp_path, way):
    text = pages('classic')[1].read_text(encoding='utf-8')
    start = text.index(TAG)
    file = tmp_path / 'a.html'
    file.write_text(DAMAGE[way](text, start, (start + len(text)) // 2), encoding='utf-8')
    expected = 'the file is incomplete' if way == 'without its script' else 'This file is damaged'
    with contextlib.closing(browser.new_page()) as tab:
        shown = Open(tab, file)
        alert = tab.get_by_role('alert')
        until(lambda: alert.count() and alert.is_visible() and expected in alert.inner_text())
        assert not tab.locator('#main').is_visible()
        assert not shown.errors


def test_without_scripts_it_says_what_it_needs(browser, pages):
    with contextlib.closing(browser.new_page(java_script_enabled=False)) as tab:
        tab.goto(pages('classic')[1].as_uri())
        assert 'scripts are switched off' in tab.locator('noscript').inner_text()
        assert not tab.locator('#main').is_visible()


def test_an_old_browser_is_told_which_would_do(browser, pages):
    with contextlib.closing(browser.new_page()) as tab:
        tab.add_init_script('delete window.DecompressionStream')
        Open(tab, pages('classic')[1])
        assert 'too old' in tab.get_by_role('alert').inner_text()
        assert 'Firefox 113' in tab.get_by_role('alert').inner_text()


def test_the_page_can_reach_nothing(opened):
    shown = opened('classic')
    shown.wait()
    blocked = shown.tab.evaluate("""() => new Promise(resolve => {
        const seen = [];
        addEventListener('securitypolicyviolation', event => {
            seen.push(event.effectiveDirective);
            if (seen.length === 3) resolve(seen.sort());
        });
        fetch('http://127.0.0.1:9/').catch(() => {});
        document.body.append(Object.assign(new Image(), {src: 'http://127.0.0.1:9/a.png'}));
        document.body.append(Object.assign(document.createElement('script'), {textContent: 'stolen = 1'}));
    })""")
    assert blocked == ['connect-src', 'img-src', 'script-src-elem']
    assert shown.tab.evaluate('typeof stolen') == 'undefined'
    shown.errors.clear()  # of these three
    shown.requests[1:] = [one for one in shown.requests[1:] if '127.0.0.1:9' not in one]


def test_names_of_a_run_are_only_text(browser, pages, tmp_path):
    name = '<img src=x onerror=alert(1)>'
    run = RunFolder(pages('classic')[0].path.rename(tmp_path / name))
    try:
        page.save_page(tmp_path / 'a.html', run)
    finally:
        run.path.rename(pages('classic')[0].path)
    text = (tmp_path / 'a.html').read_text(encoding='utf-8')
    hostile = '</script><script>document.title = 1</script>'
    said = json.dumps(hostile).replace('<', '\\u003c')
    text = text.replace('"Generated images"', said)
    (tmp_path / 'a.html').write_text(text, encoding='utf-8')
    with contextlib.closing(browser.new_page()) as tab:
        shown = Open(tab, tmp_path / 'a.html').wait()
        assert tab.title() == shown.text('h1') == hostile
        assert name in tab.locator('#facts').inner_text()
        assert tab.locator('img').count() == 0
        assert not shown.errors


# Firefox ------------------------------------------------------------------------------------------


class Firefox:
    """A tab of Firefox, by WebDriver BiDi (https://w3c.github.io/webdriver-bidi/)."""

    def __init__(self, socket):
        self.socket, self.count, self.events = socket, 0, []
        self.send('session.new', capabilities={})
        self.send('session.subscribe', events=['log.entryAdded', 'network.beforeRequestSent'])
        self.tab = self.send('browsingContext.getTree')['contexts'][0]['context']

    def send(self, method, **parameters):
        """Send a command; return its result, and keep the events that come before it."""
        self.count += 1
        self.socket.send(json.dumps({'id': self.count, 'method': method, 'params': parameters}))
        while True:
            answer = json.loads(self.socket.recv())
            if answer.get('id') == self.count:
                assert answer['type'] == 'success', answer
                return answer['result']
            self.events.append(answer)

    def evaluate(self, expression):
        """Return the value of a JavaScript expression."""
        target = {'context': self.tab}
        answer = self.send(
            'script.evaluate',
            expression=f'JSON.stringify({expression} ?? null)',
            target=target,
            awaitPromise=True,
        )
        assert answer['type'] == 'success', answer
        return json.loads(answer['result']['value'])


@pytest.fixture
def in_firefox(firefox, tmp_path):
    """A tab of a Firefox that keeps nothing."""
    command = [
        firefox,
        '--headless',
        '--no-remote',
        '--profile',
        tmp_path / 'profile',
        '--remote-debugging-port',
        '0',
    ]
    (tmp_path / 'profile').mkdir()
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env=os.environ | {'HOME': str(tmp_path)},
    ) as process:  # fmt: skip
        try:
            listening = (
                re.search(r'WebDriver BiDi listening on (ws://\S+)', line)
                for line in process.stderr
            )
            address = next(filter(None, listening))[1]
            with contextlib.closing(
                websocket.create_connection(f'{address}/session', DEADLINE, suppress_origin=True)
            ) as socket:
                yield Firefox(socket)
        finally:
            process.terminate()


def test_firefox_draws_the_same_images(in_firefox, pages):
    """And plays a walk, without a complaint or a request."""
    run, file = pages('digits')
    in_firefox.send(
        'browsingContext.navigate', context=in_firefox.tab, url=file.as_uri(), wait='complete'
    )
    until(lambda: in_firefox.evaluate(f'({IS_DRAWN})()'))
    expected = sampling.generate(run, 25, 0)
    images = grid_of(in_firefox.evaluate(f"({PIXELS})('#grid canvas')"), expected.shape[1:])
    assert_same(images, expected)
    pixels = f"({PIXELS})('#image')"
    before = in_firefox.evaluate(pixels)
    in_firefox.evaluate("document.querySelector('#walk').click()")
    until(lambda: in_firefox.evaluate(pixels) != before)
    addresses = [
        event['params']['request']['url'] for event in in_firefox.events
        if event['method'] == 'network.beforeRequestSent'
    ]  # fmt: skip
    assert all(address.startswith(('file:', 'blob:', 'data:')) for address in addresses)
    assert not [event for event in in_firefox.events if event['method'] == 'log.entryAdded']
