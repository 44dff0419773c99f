"""A trained Keras model to a verified bundle."""
