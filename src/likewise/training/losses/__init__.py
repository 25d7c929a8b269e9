"""Training objectives, one a file, in the loss convention of sentence-transformers."""
