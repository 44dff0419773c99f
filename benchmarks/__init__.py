"""Measuring, comparing and reporting; the edge-bench command."""
