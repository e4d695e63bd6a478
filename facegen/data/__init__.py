"""The machinery behind helper.py: images are found, fetched, decoded and cached; no TensorFlow."""
