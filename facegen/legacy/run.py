"""Run an old notebook from top to bottom in a kernel of its own."""

import asyncio
import contextlib
import re
import time
from itertools import count
from pathlib import Path

from jupyter_core.utils import ensure_event_loop

from facegen.files import expanded
from facegen.legacy import ROOT
from facegen.legacy.book import read, require_packages, save
from facegen.legacy.data import FOLDERS, ClassicData
from facegen.stopping import handled_by

SET_UP = """
import sys
sys.dont_write_bytecode = True
if {root!r} not in sys.path:
    sys.path.insert(0, {root!r})
from facegen import legacy
legacy.enable({data_dir!r}, {data!r}, {max_steps!r})
sys.path.insert(0, {folder!r})
"""


class CellFailedError(Exception):
    """A cell of the notebook failed; the text says which one and why."""


def execute(path, out, *, data_dir, data='auto', max_steps=None):
    """Run every code cell of the notebook `path` and save it as `out`; print a line for each cell.

    The kernel works in a new folder `OUT_files` beside `out`, so that what the notebook writes lies
    there; it is removed if there is nothing.

    Args:
        path: The notebook, which is not changed.
        out: Where it is saved with its outputs, after every cell.
        data_dir: Folder of the data sets.
        data: 'auto', 'sample' or 'full'.
        max_steps: Ends each training loop after this many steps; None: never.

    Raises:
        ValueError, OSError, ModuleNotFoundError: Bad input, before anything ran.
        CellFailedError: A cell failed; `out` has it, and everything before it.
        KeyboardInterrupt: Ctrl-C or another of `stopping.SIGNALS`; `out` has what has run.

    """
    path, out = Path(path), Path(out)
    book = read(path)
    if out.exists() and out.samefile(path):
        raise ValueError(f'--out {out} is the notebook itself; choose another name')
    if out.is_dir():
        raise ValueError(f'--out {out} is a folder; name a file, such as {out / "again.ipynb"}')
    if not out.parent.is_dir():
        raise ValueError(f'--out {out}: there is no folder {out.parent}')
    require_packages(book, path.parent)
    prepare(book, data_dir, data)
    folder = new_folder(out)
    set_up = SET_UP.format(
        root=str(ROOT),
        folder=str(path.parent.absolute()),
        data_dir=str(expanded(data_dir).absolute()),
        data=data,
        max_steps=max_steps,
    )
    try:
        with signals_interrupt(), kernel(book, set_up, folder) as run_cell:
            run_cells(book, run_cell, out)
    except KeyboardInterrupt:
        print(f'\nstopped; {out} has all that has run')
        raise
    finally:
        save(book, out)
        with contextlib.suppress(OSError):
            folder.rmdir()
        if folder.exists():
            print(f'what the notebook has written: {folder}')


@contextlib.contextmanager
def signals_interrupt():
    """Inside, the first signal that asks to stop is a KeyboardInterrupt, after which the kernel is ended."""
    received = []

    def interrupt(number, frame):
        received.append(number)
        if len(received) == 1:
            raise KeyboardInterrupt

    with handled_by(interrupt):
        yield


def prepare(book, data_dir, data):
    """Fetch the data sets that the notebook names, so that a missing one is reported at once."""
    source = '\n'.join(cell.source for cell in book.cells)
    classic = ClassicData()
    classic.use(data_dir, data)
    for name in FOLDERS:
        if re.search(rf'["\']{name}["\']', source):
            classic.folder(name)


def new_folder(out):
    """Return a new folder beside `out` for what the notebook writes; a number is added if need be."""
    for number in count(1):
        folder = out.with_name(f'{out.stem}_files' + (f'-{number}' if number > 1 else ''))
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder.absolute()
    return None


@contextlib.contextmanager
def kernel(book, set_up, folder):
    """Start a kernel of this Python in `folder`, run `set_up`, and give a function that runs a cell."""
    import nbformat
    from ipykernel.kernelspec import make_ipkernel_cmd
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    # Without its warning that this machine talks to itself over TCP
    command = make_ipkernel_cmd(extra_arguments=['--log-level=ERROR'])

    class ThisPython(KernelSpecManager):
        """Whatever kernel the notebook names, and whatever is installed under that name."""

        def get_kernel_spec(self, kernel_name):
            return KernelSpec(argv=command, display_name='Python', language='python')

    manager = AsyncKernelManager(kernel_spec_manager=ThisPython(), kernel_name='python3')
    first = nbformat.v4.new_code_cell(set_up)
    cells = [first, *book.cells]
    client = NotebookClient(
        nbformat.NotebookNode({**book, 'cells': cells}),
        manager,
        record_timing=False,
        allow_error_names=['TrainingEnded'],
    )

    def run_cell(cell):
        client.execute_cell(cell, cells.index(cell))

    ensure_event_loop().set_exception_handler(report_unless_interrupted)
    with client.setup_kernel(cwd=str(folder), cleanup_kc=True):
        try:
            client.execute_cell(first, 0, store_history=False)
        except CellExecutionError as error:
            reason = f'{error.ename}: {error.evalue}'
            raise CellFailedError(f'nothing ran, the kernel is not ready: {reason}') from error
        try:
            yield run_cell
        except KeyboardInterrupt:
            end_tasks()
            raise


def report_unless_interrupted(loop, context):
    """Report what went wrong in `loop` as usual, but not that a signal has ended one of its tasks.

    The KeyboardInterrupt is raised in whatever runs. If that is a task of nbclient that nobody waits for,
    asyncio would complain of it, although `execute` has received it.
    """
    if not isinstance(context.get('exception'), KeyboardInterrupt):
        loop.default_exception_handler(context)


def end_tasks():
    """End what nbclient is waiting for, which would complain later that nobody has asked how it ended."""
    loop = ensure_event_loop()
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))


def run_cells(book, run_cell, out):
    """Run the code cells in order, say how long each took, and save after each.

    Raises CellFailedError for the first that fails.
    """
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    total, executed = len(book.cells), 0
    for number, cell in enumerate(book.cells, 1):
        if cell.cell_type != 'code' or not cell.source.strip():
            continue
        executed += 1
        print(f'cell {number:2d} of {total}  {title(cell.source):50}', end=' ', flush=True)
        began = time.monotonic()
        try:
            run_cell(cell)
        except CellExecutionError as error:
            reason = error.evalue.strip().partition('\n')[0]
            failed = f'cell {number} (In [{executed}]) failed: {error.ename}: {reason}'
        except DeadKernelError:
            failed = f'cell {number} (In [{executed}]) failed: its kernel died; out of memory?'
        else:
            failed = None
        print(f'{time.monotonic() - began:7.1f} s', flush=True)
        save(book, out)
        if failed:
            raise CellFailedError(f'{failed}; {out} has all up to there')


def title(source):
    """Return the line of a cell that says most about it, at most 50 characters."""
    lines = [line.strip() for line in source.splitlines()]
    says = [line for line in lines if line.startswith(('def ', 'class ', 'train(', 'tests.'))]
    says += [line for line in lines if line and not line.startswith(('#', '"""', "'''", '%'))]
    return (says or lines)[0][:50]
