"""The notebook as a person uses it: JupyterLab in a headless browser, Run All, stop, go on.

The browser is Chromium from the system's packages (`apt-get install chromium`); Playwright drives it
and downloads none of its own.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress

import nbformat
import pytest
import requests
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError
from playwright.sync_api import sync_playwright

from conftest import ROOT
from facegen import notebook
from facegen.run import RunFolder

pytestmark = pytest.mark.slow
SIZES = {'desktop': (1440, 900), 'tablet': (1024, 768), 'telephone': (420, 800)}
ONLY_THIS_MACHINE = '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1'
DEADLINE = 600  # seconds for what takes one minute; the machine may be busy
SMALL = {'data': 'sample', 'mnist_epochs': 1, 'celeba_epochs': 1, 'show_every': 50}
LONG_TRAINING = """
long_run = train_on(
    'mnist', mnist_dataset, None, replace(mnist_settings, rate_decay=False), './long-runs',
    max_steps=10**6, **options | {'resume': True},
)
"""
SETTINGS = {  # of JupyterLab: all cells are in the page, and only the test saves
    '@jupyterlab/notebook-extension/tracker': {'windowingMode': 'none'},
    '@jupyterlab/docmanager-extension/plugin': {'autosave': False},
    '@jupyterlab/apputils-extension/notification': {
        'fetchNews': 'false', 'checkForUpdates': False, 'doNotDisturbMode': True,
    },
}  # fmt: skip

CELLS = """() => [...document.querySelectorAll('.jp-Notebook .jp-CodeCell')].map(cell => ({
    prompt: cell.querySelector('.jp-InputPrompt').textContent,
    error: cell.querySelector('[data-mime-type*=error], [data-mime-type*=stderr]')?.textContent,
}))"""
LAST_NUMBER = """pattern => {
    const cell = [...document.querySelectorAll('.jp-Notebook .jp-CodeCell')].at(-1);
    const found = RegExp(pattern).exec(cell.querySelector('.jp-Cell-outputArea').textContent);
    return found ? Number(found[1].replaceAll(',', '')) : -1;
}"""
PICTURES = """() => [...document.querySelectorAll('.jp-Notebook img')].map(image => ({
    size: [image.naturalWidth, image.naturalHeight],
    excess: image.getBoundingClientRect().right - image.closest(
        '.jp-RenderedMarkdown, .jp-OutputArea-output').getBoundingClientRect().right,
}))"""
TOO_WIDE = """() => [...document.querySelectorAll(
    'html, .jp-Notebook, .jp-RenderedMarkdown, .jp-OutputArea-output'
)].filter(element => element.scrollWidth > element.clientWidth).map(element => [
    element.className, element.scrollWidth, element.clientWidth, element.textContent.slice(0, 80),
])"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory, sample_data):
    """A folder with the notebook: small parameters, and one more training run that would never end."""
    folder = tmp_path_factory.mktemp('notebook')
    shutil.copytree(ROOT / 'images', folder / 'images')
    book = nbformat.read(notebook.NOTEBOOK, as_version=4)
    cells = {cell.id: cell for cell in book.cells}
    changes = SMALL | {'data_dir': str(sample_data), 'images_dir': 'new-images'}
    cells['parameters'].source += ''.join(f'\n{name} = {changes[name]!r}' for name in changes)
    book.cells.append(nbformat.v4.new_code_cell(LONG_TRAINING.strip(), id='long-run'))
    for cell in book.cells:
        if cell.cell_type == 'code':
            cell.outputs, cell.execution_count = [], None
    nbformat.write(book, folder / 'study.ipynb')
    return folder


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


@pytest.fixture(scope='module')
def lab(folder, tmp_path_factory):
    """The address of the notebook in a JupyterLab that keeps nothing in the home folder."""
    home, port = tmp_path_factory.mktemp('jupyter'), free_port()
    for name, values in SETTINGS.items():
        file = home / 'settings' / f'{name}.jupyterlab-settings'
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    environment = os.environ | {
        'JUPYTER_CONFIG_DIR': str(home / 'config'),
        'JUPYTER_DATA_DIR': str(home / 'data'),
        'JUPYTER_RUNTIME_DIR': str(home / 'runtime'),
        'JUPYTERLAB_SETTINGS_DIR': str(home / 'settings'),
        'JUPYTERLAB_WORKSPACES_DIR': str(home / 'workspaces'),
        'IPYTHONDIR': str(home / 'ipython'),
        'PYTHONPATH': str(ROOT),
    }
    command = [
        sys.executable, '-m', 'jupyterlab', '--no-browser', '--allow-root', f'--ServerApp.port={port}',
        '--ServerApp.port_retries=0', '--IdentityProvider.token=test',
        f'--ServerApp.root_dir={folder}',
    ]  # fmt: skip
    with open(home / 'log', 'w') as log:
        server = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)
    address = f'http://127.0.0.1:{port}'
    try:
        wait_for(lambda: answers(address, server), lambda: (home / 'log').read_text())
        yield f'{address}/lab/tree/study.ipynb?token=test'
    finally:
        server.terminate()  # it ends its kernels
        server.wait(DEADLINE)


def answers(address, server):
    assert server.poll() is None, 'the server has ended'
    try:
        return requests.get(f'{address}/api/status?token=test', timeout=10).ok
    except requests.ConnectionError:
        return False


def wait_for(condition, explain=str):
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, explain()
        time.sleep(0.2)


@pytest.fixture(scope='module')
def page(chromium, lab, folder):
    """The notebook in a browser that reaches nothing but this machine; `errors` is its console's."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=[ONLY_THIS_MACHINE])
        page = browser.new_page()
        page.set_default_timeout(1000 * DEADLINE)
        page.errors = []
        page.on('pageerror', lambda error: page.errors.append(str(error)))
        page.on('console', lambda message: page.errors.extend(errors_of(message)))
        page.goto(lab)
        count = len(code_cells(folder))
        page.wait_for_function(f'() => ({CELLS})().length == {count}')
        wait_until_idle(page)
        page.keyboard.press('Control+b')  # no list of files
        page.locator('#jp-left-stack').wait_for(state='hidden')
        yield page
        browser.close()


def errors_of(message):
    return [message.text] if message.type == 'error' else []


def code_cells(folder):
    cells = nbformat.read(folder / 'study.ipynb', as_version=4).cells
    return [cell for cell in cells if cell.cell_type == 'code']


def wait_until_idle(page):
    page.locator('#jp-main-statusbar').get_by_text('Python 3 (ipykernel) | Idle').wait_for()


def choose(page, menu, item):
    page.locator('.lm-MenuBar-item').get_by_text(menu, exact=True).click()
    page.locator('.lm-Menu-item').get_by_text(item, exact=True).click()


def wait_for_last_output(page, pattern, above=-1):
    """Wait until the last cell's outputs match, with a number above that as group 1; return it."""
    arguments = {'pattern': pattern, 'above': above}
    page.wait_for_function(
        f'({{pattern, above}}) => ({LAST_NUMBER})(pattern) > above', arg=arguments
    )
    return page.evaluate(LAST_NUMBER, pattern)


def show_in(page, size):
    width, height = SIZES[size]
    page.set_viewport_size({'width': width, 'height': height})
    page.wait_for_function(
        "document.querySelector('.jp-Notebook').getBoundingClientRect().right <= innerWidth"
    )


def stop_behind(page, step):
    """Press the stop button when the last cell's training is past a step; return its last step."""
    wait_for_last_output(page, r'Step (\d+)\.\.\. Discriminator Loss', above=step)
    page.locator('jp-button[data-command="notebook:interrupt-kernel"]').click()
    last = wait_for_last_output(page, r'stopped after step ([\d,]+)')
    wait_until_idle(page)
    return last


@pytest.fixture(scope='module')
def stopped(page):
    """After Run All, and the stop button in the last cell: the step after which that stopped."""
    choose(page, 'Run', 'Run All Cells')
    return stop_behind(page, 0)


def test_every_cell_finishes(page, stopped):
    cells = page.evaluate(CELLS)
    assert all(re.fullmatch(r'\[\d+\]:', cell['prompt']) for cell in cells)
    assert not [cell['error'] for cell in cells if cell.get('error')]


@pytest.mark.parametrize('size', SIZES)
def test_nothing_overflows(page, stopped, size, tmp_path):
    """Every image is there, and nothing is wider than its place; tmp_path gets screenshots."""
    show_in(page, size)
    with suppress(PlaywrightTimeoutError):  # it takes a moment to arrange itself
        page.wait_for_function(f'() => ({TOO_WIDE})().length == 0', timeout=30_000)
    for number, picture in enumerate(page.locator('.jp-Notebook img').all()):
        picture.evaluate("image => image.scrollIntoView({block: 'end'})")
        page.screenshot(path=tmp_path / f'{number:02}.png')
    pictures = page.evaluate(PICTURES)
    assert len(pictures) > 12
    assert all(min(picture['size']) > 0 and picture['excess'] < 1 for picture in pictures)
    assert page.evaluate(TOO_WIDE) == []


def test_the_last_cell_goes_on_where_it_stopped(page, stopped, folder):
    run = RunFolder(folder / 'long-runs' / 'mnist')
    assert run.saved_step() == stopped
    show_in(page, 'desktop')
    page.locator('.jp-Notebook .jp-CodeCell .cm-content').last.click()
    page.keyboard.press('Control+Enter')
    assert wait_for_last_output(page, r'continued from step ([\d,]+)') == stopped
    step = stop_behind(page, stopped)
    assert step > stopped
    assert run.saved_step() == step
    assert [line['step'] for line in run.history()] == [*range(1, step + 1)]


def test_the_saved_notebook_keeps_one_state_of_each_training(page, stopped, folder):
    with page.expect_response(
        lambda answer: answer.request.method == 'PUT' and 'study' in answer.url
    ):
        choose(page, 'File', 'Save Notebook')
    assert all(cell.execution_count for cell in code_cells(folder))
    trainings = [cell for cell in code_cells(folder) if cell.id.endswith('-run')]
    assert len(trainings) == 3
    for cell in trainings:
        displays = [each.data for each in cell.outputs if each.output_type == 'display_data']
        text, picture = displays
        assert text['text/plain'].count('Discriminator Loss') == 1
        assert len(picture['image/png']) > 1000


def test_the_console_stays_silent(page, stopped):
    assert page.errors == []
