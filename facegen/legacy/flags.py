"""`tf.app` in a kernel: flags may be defined twice, and what the kernel was started with is none."""

import sys

import tensorflow.compat.v1 as tf1


def app(copy_of):
    """Return `tf.app` and `tf.flags` of 2017; `copy_of` is that of `tf1`."""
    flags = tf1.app.flags
    flags.FLAGS(sys.argv[:1])  # else its first use would read `-f kernel.json`
    definitions = {
        name: defined_anew(getattr(flags, name), flags.FLAGS)
        for name in dir(flags)
        if name.startswith('DEFINE_')
    }
    changed = copy_of(flags, **definitions)
    return copy_of(tf1.app, flags=changed, run=run_main), changed


def defined_anew(define, values):
    """Return a function like `define`, which takes the place of a flag that is there already."""

    def define_again(flag_name=None, *arguments, **options):
        if flag_name is None:
            flag_name = options.pop('name')
        if flag_name in values:
            delattr(values, flag_name)
        return define(flag_name, *arguments, **options)

    return define_again


def run_main(main=None, argv=None):
    """Call `main` of the notebook, as `tf.app.run` does, without ending the kernel after it."""
    main = main or sys.modules['__main__'].main
    status = main(argv or sys.argv[:1])
    if status:
        sys.exit(status)
