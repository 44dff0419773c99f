"""Bundles that come with the package; see `edge_runtime.bundle.resolve`."""
