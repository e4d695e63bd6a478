"""What a terminal or a notebook shows: progress, images, outputs that change in place."""

import base64
import sys

from tqdm import tqdm

from facegen.images import DESCRIPTION, few_colors, png_bytes


def in_notebook():
    """Tell whether this runs in the kernel of a notebook, which shows more than text."""
    ipython = sys.modules.get('IPython')
    return ipython is not None and hasattr(ipython.get_ipython(), 'kernel')


def say(line):
    """Print a line, also where stdout's encoding lacks some of its letters."""
    try:
        print(line)
    except UnicodeEncodeError:
        print(line.encode(sys.stdout.encoding, 'backslashreplace').decode(sys.stdout.encoding))


def progress(iterable=None, **tqdm_options):
    """Return a tqdm bar that leaves one line in a saved notebook; on stderr elsewhere."""
    options = {'mininterval': 0.5}
    if in_notebook():
        options |= {'file': DisplayedLine(), 'position': 0}
    elif sys.stderr is None:  # of a service
        options['disable'] = True
    return tqdm(iterable, **options | tqdm_options)


class Output:
    """One output of a notebook's cell, which changes in place."""

    def __init__(self):
        """Show nothing yet."""
        self.handle = None

    def show(self, content, metadata=None):
        """Show {MIME type: data}, instead of what was shown before."""
        from IPython.display import display

        if self.handle is None:
            self.handle = display(content, raw=True, metadata=metadata, display_id=True)
        else:
            self.handle.update(content, raw=True, metadata=metadata)


class DisplayedLine:
    """A file that shows the last line written to it, as one output of a notebook's cell."""

    encoding = 'utf-8'  # lets tqdm draw its smooth bar

    def __init__(self):
        """Show nothing before the first line."""
        self.output = Output()

    def write(self, text):
        """Show the text, unless it is blank, in place of the last one."""
        if text.strip():
            self.output.show({'text/plain': text.strip()})

    def flush(self):
        """Do nothing: every line is shown when it is written."""


def show(image, alt=None):
    """Display a Pillow image under the running notebook cell; without a notebook, do nothing.

    `alt` describes it to readers who cannot see it; None takes the text of `images.described`. The
    image is shown in 128 colours, which look the same at this size, and packed tightly, which
    Pillow's own display is not: both keep the notebook small.
    """
    if in_notebook():
        from IPython.display import display

        alt = alt or image.info.get(DESCRIPTION, 'a grid of images')
        content, metadata = as_content(png_bytes(few_colors(image), optimize=True), alt)
        display(content, raw=True, metadata=metadata)


def as_content(png, alt):
    """Return what Jupyter shows of a PNG file's bytes: ({MIME type: data}, its metadata)."""
    content = {'image/png': base64.b64encode(png).decode(), 'text/plain': alt}
    return content, {'image/png': {'alt': alt}}
