"""The machinery under helper.py: how images are found, fetched, decoded and cached; no TensorFlow."""
