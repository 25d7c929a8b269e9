"""Labelled texts that the tiny encoder tells apart, for tests that need a model and not its quality."""

ROWS = [
    (f"{what} {which}", topic)
    for topic, subjects in (("delivery", ("parcel ship", "street")), ("invoice", ("bank money", "bill")))
    for what in subjects
    for which in ("late", "lost", "again", "today", "old", "new", "first", "last", "good", "bad")
]
