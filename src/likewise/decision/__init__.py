"""Embeddings to probabilities: whitening, head, vote, blend, and the search for their settings. NumPy only."""
