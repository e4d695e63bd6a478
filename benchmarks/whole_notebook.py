"""Time and memory of the notebook, run from kernel start to its last cell on the samples.

Prints one JSON line: wall seconds of the whole, peak resident megabytes of the kernel, and what it
ran on. Works on a copy, so that the project's notebook and pictures stay as they are; the samples
are fetched before the clock starts.

    python benchmarks/whole_notebook.py
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import helper  # noqa: E402
from facegen import notebook  # noqa: E402


def main():
    """Run the notebook once in a process of its own and print the measurement."""
    data = ROOT / 'data'
    with redirect_stdout(sys.stderr):
        for name in 'mnist', 'celeba':
            helper.download_extract(name, data, data='sample')
    with tempfile.TemporaryDirectory() as folder:
        overrides = {
            'data_dir': str(data),
            'images_dir': f'{folder}/images',
            'runs_dir': f'{folder}/runs',
        }
        code = (
            'from facegen import notebook; '
            f'notebook.execute(out={f"{folder}/out.ipynb"!r}, **{overrides!r})'
        )
        started = time.perf_counter()
        subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=True)
        seconds = time.perf_counter() - started
    # The kernel is a grandchild; it is reaped by the child, so its peak counts here. Linux: kB.
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    knobs = notebook.parameters()

    from facegen import session

    print(
        json.dumps(
            {
                'benchmark': 'whole_notebook',
                'seconds': round(seconds, 1),
                'peak_mb': round(peak),
                'epochs': [knobs['mnist_epochs'], knobs['celeba_epochs']],
                **session.versions(),
            }
        )
    )


if __name__ == '__main__':
    main()
