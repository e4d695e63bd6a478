"""`google.colab`, which only Colab has, elsewhere: what need not fail does nothing, and says so once."""

import functools
import importlib
import sys
from types import ModuleType

DISPENSABLE = {  # whatever a notebook does without them, it can do here
    'auth': ('authenticate_user',),
    'drive': ('mount', 'flush_and_unmount'),
    'files': ('download',),
    'output': ('clear', 'enable_custom_widget_manager', 'disable_custom_widget_manager'),
}
ADVICE = {
    'drive': 'nothing is mounted: what the notebook reads there, put beside it, and change its path',
    'files': 'files are where the notebook has written them; those it wants, put beside it',
}


class OfColab(ModuleType):
    """A part of `google.colab`, such as `drive`, with any function that one asks for."""

    def __getattr__(self, name):
        """Return a function that does nothing or, where that is no use, raises RuntimeError."""
        if name.startswith('__'):
            raise AttributeError(name)
        part = self.__name__.rpartition('.')[2]
        text = (
            f"{self.__name__}.{name} is Colab's own; {ADVICE.get(part, 'there is none of it here')}"
        )

        def function(*arguments, **options):
            if name not in DISPENSABLE.get(part, ()):
                raise RuntimeError(text)
            say(text)

        return function


@functools.cache
def say(text):
    """Print a line, once."""
    print(text)


def install():
    """Provide `google.colab`, unless this is Colab."""
    try:
        importlib.import_module('google.colab')
    except ImportError:
        package = ModuleType('google.colab', __doc__)
        package.__path__ = []
        modules = {f'google.colab.{name}': OfColab(f'google.colab.{name}') for name in PARTS}
        for name, module in modules.items():
            setattr(package, name.rpartition('.')[2], module)
        sys.modules.update(modules | {'google.colab': package})
        google = sys.modules.setdefault('google', ModuleType('google'))
        google.colab = package


PARTS = *DISPENSABLE, 'userdata', 'patches', 'widgets', 'data_table'
