"""The notebook: loading, its cells, and one execution from top to bottom in a real kernel."""

import ast
import base64
import builtins
import dis
import io
import json
import re
from types import CodeType, FunctionType

import nbformat
import pytest
from PIL import Image

from facegen import notebook

BOOK = nbformat.read(notebook.NOTEBOOK, as_version=4)
CODE = [cell for cell in BOOK.cells if cell.cell_type == 'code']
FUNCTIONS = ['model_inputs', 'discriminator', 'generator', 'model_loss', 'model_opt']
EXPECTED_PARAMETERS = {
    'data_dir', 'images_dir', 'runs_dir', 'data', 'image_size', 'show_n_images',
    'mnist_recipe', 'mnist_changes', 'mnist_epochs',
    'celeba_recipe', 'celeba_changes', 'celeba_epochs',
    'print_every', 'show_every', 'seed', 'resume',
}  # fmt: skip


def cell(identifier):
    return next(cell for cell in BOOK.cells if cell.id == identifier)


def write(path, *sources):
    """Write a notebook of code cells."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in sources])
    nbformat.write(book, path)
    return path


def test_format_is_valid_and_ids_are_names():
    nbformat.validate(BOOK)
    assert all(re.fullmatch('[a-z][a-z-]+', cell.id) for cell in BOOK.cells)


def test_parameters_are_literals_and_explained():
    assert set(notebook.parameters()) == EXPECTED_PARAMETERS
    assert cell('parameters').metadata.tags == ['parameters']
    assert all('  # ' in line for line in cell('parameters').source.splitlines()[1:])


@pytest.mark.parametrize('name', FUNCTIONS)
def test_each_function_is_checked_by_the_next_cell(name):
    """Explanation, function, check: in this order, the check alone in its cell."""
    at = next(
        i
        for i, cell in enumerate(BOOK.cells)
        if cell.cell_type == 'code' and f'\ndef {name}(' in '\n' + cell.source
    )
    assert BOOK.cells[at - 1].cell_type == 'markdown'
    check = ast.parse(BOOK.cells[at + 1].source).body
    assert len(check) == 1
    assert f'tests.test_{name}({name}' in BOOK.cells[at + 1].source


def test_cells_are_short():
    """The first imports in 12 lines at most, each function in 40 with its docstring."""
    assert len(cell('imports').source.splitlines()) <= 12
    for code in CODE:
        for node in ast.parse(code.source).body:
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 40, node.name


def test_the_step_of_each_player_stands_in_train():
    """Who looks for where D and G are trained, and what they are fed with, finds it there."""
    calls = [
        node
        for node in ast.walk(ast.parse(cell('train').source))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == 'sess.run'
    ]
    runs = [ast.unparse(call) for call in calls]
    assert all('feed' in run for run in runs)
    assert [('d_step' in run, 'g_step' in run) for run in runs] == [(1, 1), (1, 0), (0, 1)]


def global_names(code):
    """Return the global names that a function reads, those of the functions inside it included."""
    names = {i.argval for i in dis.get_instructions(code) if i.opname == 'LOAD_GLOBAL'}
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return names.union(*map(global_names, inner))


def test_functions_use_only_their_arguments_and_imports():
    """No function reads a variable of the notebook, so all work through `definitions` too."""
    module = notebook.definitions()
    functions = [value for value in vars(module).values() if isinstance(value, FunctionType)]
    own = [function for function in functions if 'ipynb' in function.__code__.co_filename]
    assert {*FUNCTIONS, 'train', 'show_generator_output'} <= {function.__name__ for function in own}
    for function in own:
        unknown = global_names(function.__code__) - set(dir(module)) - set(dir(builtins))
        assert not unknown, function.__name__


def test_headings_are_in_order():
    levels = [
        len(line) - len(line.lstrip('#'))
        for cell in BOOK.cells
        if cell.cell_type == 'markdown'
        for line in cell.source.splitlines()
        if line.startswith('#')
    ]
    assert levels[0] == 1
    assert set(levels[1:]) == {2}


def test_outputs_are_of_one_clean_run_or_absent():
    counts = [cell.execution_count for cell in CODE]
    if any(counts) or any(cell.outputs for cell in CODE):
        assert counts == list(range(1, len(CODE) + 1))
        assert_clean(BOOK)
    assert notebook.NOTEBOOK.stat().st_size < 1_000_000


def assert_clean(book):
    """Fail on an error, anything on stderr, a progress bar of more than one line, a blank image."""
    pictures = 0
    for cell in book.cells:
        bars = 0
        for output in cell.get('outputs', []):
            assert output.output_type != 'error', cell.id
            assert output.get('name') != 'stderr', output.text
            text = output.get('text', '') + output.get('data', {}).get('text/plain', '')
            assert 'Warning' not in text, text
            bars += '100%|' in text
            if png := output.get('data', {}).get('image/png'):
                image = Image.open(io.BytesIO(base64.b64decode(png))).convert('L')
                assert image.width > 50
                pictures += 1
        assert bars <= 1, cell.id
    assert pictures >= 12


def test_definitions_run_nothing_else(tmp_path):
    path = write(
        tmp_path / 'a.ipynb',
        '%matplotlib inline\nimport math\nraise ValueError\n',
        'x = 1\ndef half():\n    return other() / 2\n',
        '!ls\nclass A: pass\n\ndef other():\n    return 4',
    )
    module = notebook.definitions(path)
    assert module.half() == 2
    assert module.math.pi > 3
    assert not hasattr(module, 'x')
    module.other = lambda: 6
    assert module.half() == 3


def test_traceback_names_the_cell(tmp_path):
    module = notebook.definitions(write(tmp_path / 'a.ipynb', 'import math', 'def f():\n    1 / 0'))
    assert module.f.__code__.co_filename == 'a.ipynb:cell 2'


@pytest.mark.parametrize('text', ['', '[]', '{"cells": 1}', '{}', 'import this'])
def test_not_a_notebook(tmp_path, text):
    (tmp_path / 'a.ipynb').write_text(text)
    with pytest.raises(ValueError, match='is not a notebook'):
        notebook.definitions(tmp_path / 'a.ipynb')
    with pytest.raises(FileNotFoundError, match='is no notebook'):
        notebook.definitions(tmp_path / 'b.ipynb')


@pytest.mark.parametrize(
    ('source', 'message'),
    [
        ('n = 1', 'has no parameter cell'),
        ('# parameters\nn: int = 3', 'line 2 of the parameter cell is not .*: n: int = 3'),
        ('# parameters\nn = 10 * 10', 'is not .*: n = 10'),
        ('# parameters\na = b = 1', 'is not .*: a = b = 1'),
        ('# parameters\nprint(1)', 'is not .*: print'),
    ],
)
def test_parameter_cells_of_other_notebooks(tmp_path, source, message):
    with pytest.raises(ValueError, match=message):
        notebook.parameters(write(tmp_path / 'a.ipynb', source))


def test_unknown_parameter():
    with pytest.raises(
        ValueError, match=r"no parameter \['epochs'\]; the notebook has .*mnist_epochs"
    ):
        notebook.execute(epochs=3)


def test_a_failing_cell_keeps_what_ran_before_it(tmp_path):
    from nbclient.exceptions import CellExecutionError

    path = write(tmp_path / 'a.ipynb', '# parameters\nn = 1', 'print(n + 1)', '1 / 0', 'print(3)')
    with pytest.raises(CellExecutionError, match='ZeroDivisionError'):
        notebook.execute(path, tmp_path / 'out.ipynb', n=4)
    book = json.loads((tmp_path / 'out.ipynb').read_text())
    assert [cell['execution_count'] for cell in book['cells']] == [1, 2, 3, 4, None]
    assert book['cells'][2]['outputs'][0]['text'] == ['5\n']
    assert json.loads(path.read_text())['cells'][1]['outputs'] == []


def test_times_of_an_earlier_run_are_not_kept(tmp_path):
    book = nbformat.read(write(tmp_path / 'a.ipynb', '# parameters\nn = 1'), as_version=4)
    book.cells[0].metadata['execution'] = {'iopub.execute_input': '2026-01-01T00:00:00Z'}
    nbformat.write(book, tmp_path / 'a.ipynb')
    assert notebook.execute(tmp_path / 'a.ipynb').cells[0].metadata == {}


def table_row(code, identifier, name):
    """Return [generated, real] of a line of the table of scores that a cell has printed."""
    table = next(cell for cell in code if cell.id == identifier).outputs[0].text
    (line,) = re.findall(rf'^{name} +([\d.e+-]+) +([\d.e+-]+)$', table, re.MULTILINE)
    return [float(number) for number in line]


@pytest.mark.slow
def test_whole_notebook(sample_data, tmp_path):
    """The deliverable itself, with small parameters injected after its parameter cell."""
    book = notebook.execute(
        out=tmp_path / 'out.ipynb',
        data_dir=str(sample_data),
        data='sample',
        images_dir=str(tmp_path / 'images'),
        runs_dir=str(tmp_path / 'runs'),
        mnist_epochs=4,
        celeba_epochs=2,
        print_every=10,
        show_every=156,
    )
    assert_clean(book)
    assert 'language_info' not in book.metadata
    assert not any('execution' in cell.metadata for cell in book.cells)
    code = [cell for cell in book.cells if cell.cell_type == 'code']
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    text = ''.join(output.get('text', '') for output in outputs)
    assert text.count('Tests Passed') == 5
    assert 'INFO:' not in text
    for name, last in ('mnist', 'Epoch 4/4 Step 624'), ('celeba', 'Epoch 2/2 Step 30'):
        run = next(cell for cell in code if cell.id == f'{name}-run')
        said, progress, picture = run.outputs  # however many steps and grids there were
        assert said['text'].startswith('run folder: ')
        assert 'image/png' in picture['data']
        bar, losses, score, *_ = progress['data']['text/plain'].splitlines()
        assert '100%|' in bar
        assert losses.startswith(f'{last}... Discriminator Loss: ')
        assert re.match(r'Step \d+: Fréchet distance ', score)
    drawn, real = table_row(code, 'quality', 'frechet distance')
    assert real < 1 < drawn < 25  # of untrained ones, and of a lost training, it is 57
    drawn, real = table_row(code, 'quality', 'confident share')
    assert 0.5 < drawn < real
    assert table_row(code, 'celeba-quality', 'frechet distance')
    assert 'has collapsed' not in json.dumps(outputs)
    assert sorted(file.name for file in (tmp_path / 'images').iterdir()) == [
        f'{name}_{kind}'
        for name in ('celeba', 'mnist')
        for kind in ('losses.png', 'samples.png', 'training.gif', 'walk.png')
    ]
    for name, steps in ('mnist', 624), ('celeba', 30):
        log = (tmp_path / 'runs' / name / 'log.jsonl').read_text().splitlines()
        assert len(log) == steps
    before, after = (
        Image.open(tmp_path / 'runs' / 'mnist' / 'samples' / f'step_{step:06d}.png')
        for step in (0, 624)
    )
    assert len(after.getcolors()) > len(before.getcolors())


@pytest.mark.slow
def test_larger_images_by_one_parameter(sample_data, tmp_path):
    """At 64 pixels, with large batches so that an epoch is short; nothing is wider than a notebook."""
    book = notebook.execute(
        out=tmp_path / 'out.ipynb',
        data_dir=str(sample_data),
        images_dir=str(tmp_path / 'images'),
        runs_dir=str(tmp_path / 'runs'),
        image_size=64,
        mnist_epochs=1,
        mnist_changes={'batch_size': 500},
        celeba_epochs=1,
        celeba_changes={'batch_size': 200},
    )
    code = [cell for cell in book.cells if cell.cell_type == 'code']
    outputs = [output for cell in code for output in cell.outputs]
    assert sum('Tests Passed' in output.get('text', '') for output in outputs) == 5
    assert not [output for output in outputs if output.get('name') == 'stderr']
    images = [
        output.data['image/png'] for output in outputs if 'image/png' in output.get('data', {})
    ]
    assert len(images) > 15
    for png in images:
        assert Image.open(io.BytesIO(base64.b64decode(png))).width <= 880
    drawn, real = table_row(code, 'quality', 'frechet distance')
    assert real < 5 < drawn
    for name, steps in ('mnist', 10), ('celeba', 4):
        *_, last = (tmp_path / 'runs' / name / 'samples').glob('*.png')
        assert Image.open(last).size == (5 * 64, 5 * 64)
        assert len((tmp_path / 'runs' / name / 'log.jsonl').read_text().splitlines()) == steps
