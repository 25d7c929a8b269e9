"""Networks that start from nothing, as modules of sentence-transformers."""
