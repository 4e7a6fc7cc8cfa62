"""Results as one page: a self-contained file, or the same page from a local server."""
