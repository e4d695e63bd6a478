"""Lines that begin with %: those that this kernel lacks are left out, and that is said."""

import importlib.util
import os

INLINE = (
    'inline',
    'agg',
    '-l',
    '--list',
)  # what `%matplotlib` may be followed by, where nobody looks
OF_COLAB = 'tensorflow_version'  # chooses what is here anyway


def install(shell):
    """Let an IPython shell leave out magics and extensions that it lacks, and save all figures."""
    if hasattr(shell, 'kernel') and os.environ.get('MPLBACKEND', '').lower() == 'agg':
        shell.run_line_magic('matplotlib', 'inline')  # else figures would be drawn for nobody
    run_line_magic, run_cell_magic = shell.run_line_magic, shell.run_cell_magic

    def tolerant_line_magic(name, line, _stack_depth=1):
        line = line.strip()
        if name == OF_COLAB:
            return None
        if name in ('load_ext', 'reload_ext') and not exists(line):
            print(f'%{name} {line} is left out: there is no such extension here')
            return None
        if shell.find_line_magic(name) is None:
            print(f'%{name} is left out: there is no such magic here')
            return None
        if name == 'matplotlib' and hasattr(shell, 'kernel') and line not in INLINE:
            line = 'inline'  # others need a screen, or an extension of the front end
        return run_line_magic(name, line, _stack_depth=_stack_depth + 1)

    def tolerant_cell_magic(name, line, cell):
        if shell.find_cell_magic(name) is not None:
            return run_cell_magic(name, line, cell)
        print(f'%%{name} is left out: there is no such magic here')
        shell.run_cell(cell, store_history=False).raise_error()
        return None

    shell.run_line_magic, shell.run_cell_magic = tolerant_line_magic, tolerant_cell_magic


def exists(module):
    """Tell whether there is a module of that name."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # of a package that is not there, or no name at all
        return False
