"""The progress bar, and images in a notebook."""

import sys

from PIL import Image

from facegen import screen


def test_progress_is_one_line_on_stderr(capsys):
    with screen.progress(total=3, unit='image', desc='training') as bar:
        for _ in range(3):
            bar.set_postfix(loss=0.5)
            bar.update(1)
    output, errors = capsys.readouterr()
    assert not output
    assert errors.count('\n') == 1
    assert '3/3' in errors
    assert list(screen.progress(range(3))) == [0, 1, 2]


def test_progress_in_a_kernel_updates_one_output(monkeypatch):
    """A stand-in for IPython counts outputs; a real kernel runs in the notebook's test."""
    shown = []

    class Handle:
        def __init__(self, number):
            self.number = number

        def update(self, content, raw, metadata):
            shown[self.number] = content['text/plain']

    def display(content, raw, metadata, display_id):
        shown.append(content['text/plain'])
        return Handle(len(shown) - 1)

    kernel = type(sys)('IPython')
    kernel.display = type(sys)('IPython.display')
    kernel.display.display = display
    kernel.get_ipython = lambda: type('Shell', (), {'kernel': None})()
    monkeypatch.setitem(sys.modules, 'IPython', kernel)
    monkeypatch.setitem(sys.modules, 'IPython.display', kernel.display)
    with screen.progress(total=3, mininterval=0) as outer:
        for _ in range(3):
            for _ in screen.progress(range(2), mininterval=0):
                pass
            outer.update(1)
    assert [line.split()[1] for line in shown] == ['3/3', '2/2', '2/2', '2/2']
    assert all('\n' not in line and '\x1b' not in line for line in shown)


def test_an_image_without_a_notebook_is_not_shown(capsys):
    screen.show(Image.new('L', (2, 2)))
    assert capsys.readouterr().out == ''
