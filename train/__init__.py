"""Corpora, features on disk, models, training and evaluation."""
