"""The stop button: signals to this process, and a real kernel that is interrupted."""

import signal
import threading
import time

import pytest
from jupyter_client.manager import start_new_kernel

from conftest import ROOT
from facegen import stopping
from facegen.run import RunFolder

DEADLINE = 300  # seconds for what takes few; the machine may be busy


@pytest.mark.parametrize('number', stopping.SIGNALS)
def test_the_first_signal_is_a_request(number):
    before = [signal.getsignal(each) for each in stopping.SIGNALS]
    with stopping.stop_signals() as stop:
        assert not stop.requested
        signal.raise_signal(number)
        signal.raise_signal(number)  # at once: the same one, sent to process and group
        assert stop.requested
    assert [signal.getsignal(each) for each in stopping.SIGNALS] == before


def interrupt_twice():
    with stopping.stop_signals() as stop:
        signal.raise_signal(signal.SIGTERM)
        stop.at -= 1  # second
        signal.raise_signal(signal.SIGINT)


def test_the_second_does_what_it_did_before():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        interrupt_twice()
    assert signal.getsignal(signal.SIGTERM) is before


def test_other_threads_are_not_asked():
    requested = []

    def use():
        with stopping.stop_signals() as stop:
            requested.append(stop.requested)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert requested == [False]


@pytest.fixture
def kernel():
    """A kernel with the notebook's functions, as a client."""
    manager, client = start_new_kernel(startup_timeout=DEADLINE)
    code = (
        f'import sys; sys.path[:0] = {[str(ROOT), str(ROOT / "tests")]}\n'
        'import trainer; from facegen import notebook; functions = notebook.definitions()'
    )
    assert client.execute_interactive(code, timeout=DEADLINE)['content']['status'] == 'ok'
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def test_the_stop_button_of_a_notebook(kernel, tiny_pictures, tmp_path):
    """The cell ends without an error, with the latest grid and the curves; run again, it goes on."""
    manager, client = kernel
    folder, outputs = tmp_path / 'run', []

    def cell(max_steps):
        return (
            f'trainer.train(functions, {str(tiny_pictures)!r}, run_dir={str(folder)!r}, epochs=None, '
            f'max_steps={max_steps}, recipe=trainer.tiny_recipe(rate_decay=False), show_every=10**6)'
        )

    def interrupt():
        log, end = folder / 'log.jsonl', time.monotonic() + DEADLINE
        while time.monotonic() < end and not (log.exists() and len(log.read_bytes()) > 500):
            time.sleep(0.01)
        manager.interrupt_kernel()

    thread = threading.Thread(target=interrupt)
    thread.start()
    reply = client.execute_interactive(cell(10**6), output_hook=outputs.append, timeout=DEADLINE)
    thread.join()
    assert reply['content']['status'] == 'ok'
    step = RunFolder(folder).saved_step()
    text = ''.join(message['content'].get('text', '') for message in outputs)
    assert f'stopped after step {step:,}' in text
    first, *later = [m['msg_type'] for m in outputs if 'image/png' in m['content'].get('data', {})]
    assert first == 'display_data'
    # Its score, the last grid, and that in fewer colours; a stopped training is not scored.
    assert later == ['update_display_data'] * 3
    reply = client.execute_interactive(cell(step + 2), output_hook=outputs.append, timeout=DEADLINE)
    assert reply['content']['status'] == 'ok'
    assert RunFolder(folder).saved_step() == step + 2
    assert [line['step'] for line in RunFolder(folder).history()] == [*range(1, step + 3)]
