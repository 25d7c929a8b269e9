"""TEXT -> EMBEDDINGS: names of encoders, and what answers with them."""
