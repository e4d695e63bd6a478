"""`import tensorflow` as TensorFlow 1 in graph mode, for code that is not ours.

One module object serves every import and may be patched: the classic checks replace
`tf.variable_scope` and `tf.trainable_variables` on it. Nothing of TensorFlow or of ours looks a
name up there, so that what such a replacement records is the notebook's own calls.
"""

import sys
from types import ModuleType

from facegen import session  # isort: skip  # facegen goes before TensorFlow
import tensorflow as tf2  # isort: skip
import tensorflow.compat.v1 as tf1  # isort: skip
from tensorflow.python.framework import ops  # isort: skip


def copy_of(module, **changes):
    """Return a module with the names of `module` and some of its own; `module` stays as it is."""
    copy = ModuleType(module.__name__, module.__doc__)
    names = {name: getattr(module, name) for name in dir(module)}
    copy.__dict__.update(names, **changes)
    return copy


def install(limit):
    """Make `import tensorflow` give TensorFlow 1, whose sessions obey `limit`; return the module."""
    from facegen.legacy import contrib, flags

    session.use_tf1()
    # As in 2017: some notebooks feed variables, which a resource variable would ignore.
    tf1.disable_resource_variables()
    tf1.layers.dense  # noqa: B018  # tf-keras loads here, while `tensorflow` is still its own
    test = copy_of(tf1.test, gpu_device_name=lambda: '/device:GPU:0' if session.GPUS else '')
    app, app_flags = flags.app(copy_of)
    module = copy_of(
        tf1,
        app=app,
        flags=app_flags,
        **{name: getattr(tf2, name) for name in ('__name__', '__path__', '__spec__', '__file__')},
        contrib=contrib.module,
        python=sys.modules['tensorflow.python'],
        reset_default_graph=ops._default_graph_stack.reset,
        test=test,
        **sessions(limit),
    )
    module.compat = copy_of(sys.modules['tensorflow.compat'], v1=module)
    sys.modules['tensorflow'] = module
    sys.modules['tensorflow.compat'] = module.compat
    sys.modules['tensorflow.compat.v1'] = module
    sys.modules.update(contrib.modules())
    return module


def sessions(limit):
    """Return {'Session': …, 'InteractiveSession': …}: with our configuration, and bound to `limit`."""

    class Limited:
        """What both kinds of sessions do besides running a graph."""

        def __init__(self, target='', graph=None, config=None):
            ours = session.config()
            if config is not None:
                ours.MergeFrom(config)
            super().__init__(target, graph, ours)
            limit.begin()

        def run(self, fetches, *arguments, **options):
            if limit.max_steps is not None:
                limit.optimize(optimizers_among(fetches, self.graph))
            return super().run(fetches, *arguments, **options)

    class Session(Limited, tf1.Session):
        def __exit__(self, error_type, error, traceback):
            contained = limit.contains(error_type)
            limit.end()
            return super().__exit__(error_type, error, traceback) or contained

    class InteractiveSession(Limited, tf1.InteractiveSession):
        pass

    return {'Session': Session, 'InteractiveSession': InteractiveSession}


def optimizers_among(fetches, graph):
    """Return the optimizers' operations that running `fetches` runs, those in a `tf.group` too."""
    fetched = [item for item in tf1.nest.flatten(fetches) if isinstance(item, tf1.Operation)]
    grouped = [operation for item in fetched for operation in item.control_inputs]
    return {*fetched, *grouped}.intersection(graph.get_collection_ref(tf1.GraphKeys.TRAIN_OP))
