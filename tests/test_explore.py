"""Exploring: what sliders do to latents, real widgets, and a real kernel with and without a person."""

import base64
import io

import numpy as np
import pytest
from helpers import enlarged, untrained_run
from jupyter_client.manager import start_new_kernel
from PIL import Image

from conftest import ROOT
from facegen import explore
from facegen.explore import Choice, Explorer, latents_of
from facegen.latent_figures import CAPTION_HEIGHT
from facegen.sampling import latents, restored, slerp

WIDGET = 'application/vnd.jupyter.widget-view+json'


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    return untrained_run(tmp_path_factory.mktemp('runs') / 'run')


def test_latents_of_untouched_sliders_are_those_of_the_seed():
    z = latents_of(Choice(3, 4, (0.0,) * 4), 5, np.eye(8)[:, :4])
    np.testing.assert_allclose(z, latents(3, 5, 8), rtol=1e-6)
    assert z.dtype == np.float32


def test_latents_of_moved_sliders():
    a, b = latents(3, 5, 8), latents(4, 5, 8)
    vectors = np.eye(8)[:, 4:]
    z = latents_of(Choice(3, 4, (1.0, 0.0, -2.0, 0.0), way=0.25, truncation=0.5), 5, vectors)
    expected = 0.5 * slerp(a, b, 0.25) + [0, 0, 0, 0, 1, 0, -2, 0]
    np.testing.assert_allclose(z, expected, rtol=1e-5)


def test_numbers_that_choose_a_category_do_not_go_on_the_way():
    z = latents_of(Choice(3, 4, (0.0,) * 4, way=1.0), 5, np.zeros([8, 4]), kept=2)
    np.testing.assert_allclose(z[:, :2], latents(3, 5, 8)[:, :2], rtol=1e-6)
    np.testing.assert_allclose(z[:, 2:], latents(4, 5, 8)[:, 2:], rtol=1e-6)


def grid_of(explorer):
    return np.asarray(Image.open(io.BytesIO(explorer.grid.value)))


def test_every_slider_redraws_and_the_button_goes_back(run):
    with restored(run) as trained:
        explorer = Explorer(trained, seed=5, kept=3)
        start = grid_of(explorer)
        assert start.shape == (512, 512)  # 4x4 images of 8x8 pixels, 16 times as large
        np.testing.assert_array_equal(
            start[8:128:16, 8:128:16], trained(latents(5, 1, 12))[0, ..., 0]
        )
        seed, other_seed, way, truncation, *directions = explorer.sliders
        way.value = 0.5
        for slider, value in (seed, 6), (other_seed, 9), (truncation, 0.5), (directions[3], 2.0):
            before = grid_of(explorer)
            slider.value = value
            assert (grid_of(explorer) != before).any(), slider.description
        button = explorer.widget.children[0].children[-1]
        button.click()
        assert explorer.choice() == Choice(5, 6, (0.0,) * 4)
        np.testing.assert_array_equal(grid_of(explorer), start)


class Noise:
    """A generator of a size, which draws noise whatever the latents are."""

    def __init__(self, size):
        self.z_dim, self.size = 4, size

    def __call__(self, z):
        return np.random.default_rng(0).integers(0, 256, [len(z), *self.size], np.uint8)


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize(
    ('size', 'width'), [(28, 448), (32, 512), (64, 512), (128, 512), (160, 512)]
)
def test_the_grid_leaves_room_for_the_sliders(monkeypatch, size, width, channels):
    """It is shown as it is drawn, sharp up to 128 pixels: a browser that scaled it would blur it."""
    monkeypatch.setattr(explore, 'directions_of', lambda *_, **__: np.eye(4))
    noise = Noise([size, size, channels])
    explorer = Explorer(noise)
    grid = grid_of(explorer)
    assert grid.shape[:2] == (width, width)
    assert explorer.grid.layout.width == f'{width}px'
    if size <= 128:
        factor = width // (4 * size)
        first = grid[: factor * size, : factor * size].reshape(factor * size, -1, channels)
        np.testing.assert_array_equal(first, enlarged(noise([0] * 16)[0], factor))


def test_without_a_notebook_there_is_a_figure(run):
    figure = explore.explore(run.path)
    columns, rows = 7, 4
    assert figure.height == CAPTION_HEIGHT + rows * (3 * 8 + 4)
    assert figure.width > columns * (3 * 8 + 4)


class Kernel:
    """A real kernel, and what its cells show."""

    def __init__(self):
        self.manager, self.client = start_new_kernel(cwd=str(ROOT))

    def messages(self, parent):
        """Return the messages of a request, until the kernel is idle again."""
        messages = []
        while True:
            message = self.client.get_iopub_msg(timeout=120)
            if message['parent_header'].get('msg_id') == parent:
                messages.append(message)
                if message['content'].get('execution_state') == 'idle':
                    return messages

    def run(self, code, *, allow_stdin):
        messages = self.messages(self.client.execute(code, allow_stdin=allow_stdin))
        errors = [m['content']['evalue'] for m in messages if m['msg_type'] == 'error']
        assert errors == []
        return messages

    def move(self, comm, value):
        """Do what a browser does when a slider is moved."""
        content = {'comm_id': comm, 'data': {'method': 'update', 'state': {'value': value}}}
        message = self.client.session.msg('comm_msg', content)
        self.client.shell_channel.send(message)
        return self.messages(message['header']['msg_id'])

    def stop(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture(scope='module')
def kernel(run):
    kernel = Kernel()
    kernel.run(f'from facegen import explore, session\nrun = {str(run.path)!r}', allow_stdin=True)
    kernel.run('session.use_tf1()', allow_stdin=True)
    yield kernel
    kernel.stop()


def shown(messages):
    """Return the data of what a cell has displayed."""
    return [m['content']['data'] for m in messages if m['msg_type'] == 'display_data']


def text(messages):
    return ''.join(m['content']['text'] for m in messages if m['msg_type'] == 'stream')


def test_with_nobody_before_the_notebook_there_is_a_figure(kernel, run):
    messages = kernel.run('explore.explore(run)', allow_stdin=False)
    (data,) = shown(messages)
    assert set(data) == {'image/png', 'text/plain'}
    figure = Image.open(io.BytesIO(base64.b64decode(data['image/png'])))
    assert figure.size == explore.explore(run.path).size
    assert text(messages) == ''


def test_a_slider_that_is_moved_changes_the_image(kernel):
    messages = kernel.run('explore.explore(run)', allow_stdin=True)
    assert [set(data) >= {WIDGET} for data in shown(messages)] == [True]
    opened = {
        m['content']['comm_id']: m['content']['data']['state']
        for m in messages
        if m['msg_type'] == 'comm_open'
    }
    named = {state.get('description'): comm for comm, state in opened.items()}
    (grid,) = (c for c, state in opened.items() if state['_model_name'] == 'ImageModel')
    for name, value in ('direction 1', 2.0), ('seed', 7), ('truncation', 0.5):
        messages = kernel.move(named[name], value)
        drawn = [
            m for m in messages if m['msg_type'] == 'comm_msg' and m['content']['comm_id'] == grid
        ]
        assert len(drawn) == 1, name
        assert bytes(drawn[0]['buffers'][0]).startswith(b'\x89PNG'), name


def test_exploring_again_closes_what_was_open_and_leaves_no_default_graph(kernel):
    messages = kernel.run('explore.explore(run); explore.explore(run)', allow_stdin=True)
    assert any(m['msg_type'] == 'comm_close' for m in messages)
    code = 'print(len(explore.OPEN), session.tf.get_default_session())'
    assert text(kernel.run(code, allow_stdin=True)) == '1 None\n'


def test_without_ipywidgets_there_is_a_figure_and_one_line(kernel):
    forget = 'explore.has_widgets.cache_clear()'
    kernel.run(f'import sys; sys.modules["ipywidgets"] = None; {forget}', allow_stdin=True)
    messages = kernel.run('explore.explore(run); explore.explore(run)', allow_stdin=True)
    kernel.run(f'del sys.modules["ipywidgets"]; {forget}', allow_stdin=True)
    assert [set(data) for data in shown(messages)] == 2 * [{'image/png', 'text/plain'}]
    assert text(messages).count('pip install ipywidgets') == 1
