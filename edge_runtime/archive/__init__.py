"""Segments of many recordings: what is given, the work on one, and who does it (we, a pool, a Ray cluster)."""
