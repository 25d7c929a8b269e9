"""The examples: the ledger, which is the truth, and the index, which is derived from it."""
