"""Every test of this folder is a timing: one thread, and marked so that the plain test run leaves it out."""

import os

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import pytest  # noqa: E402


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything here as a benchmark."""
    for item in items:
        if "suite" in item.path.parts:
            item.add_marker(pytest.mark.benchmark)
