"""The ledger's tables.

Append-only: a change writes one row into `revisions` and one row into `versions` for every example it touches. The
examples as they stood at revision r are, for each example, its version with the greatest revision <= r, minus those
whose labels are NULL there (forgotten). Nothing here is particular to one database but the hints that say so.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, LargeBinary, MetaData, String, Table, Text

SCHEMA_VERSION = 2
"""Written into `meta` under "schema"; a ledger with a greater one is refused."""

STORAGE = "storage"
"""The key in `meta` of how embeddings are stored: "float32" or "float16"."""
MOVED = "moved"
"""The key in `meta` of the place that a datastore was moved to; the file that stays behind holds no example."""
ERASING = "erasing"
"""The key in `meta` of the revision whose erasure has not left every file yet."""

_Number = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by itself only where the type is INTEGER

metadata = MetaData()

meta = Table(
    "meta",
    metadata,
    Column("key", String(64), primary_key=True),  # "schema", "task", and those above
    Column("value", Text, nullable=False),
)

revisions = Table(
    "revisions",
    metadata,
    Column("revision", _Number, primary_key=True, autoincrement=False),  # 1, 2, 3, ... without a gap
    Column("at", String(32), nullable=False),  # UTC, ISO 8601, always with microseconds: sorts as it reads
    Column("action", String(32), nullable=False),
    Column("by", Text),
    Column("note", Text),
    Column("examples", _Number, nullable=False),  # how many examples the change touched
)

# One row an exact text, whichever examples and versions use it.
texts = Table(
    "texts",
    metadata,
    Column("id", _Number, primary_key=True),
    Column("text", Text, nullable=False),
    Column("digest", String(64), nullable=False, unique=True),  # SHA-256 of the UTF-8 text, hexadecimal
    sqlite_autoincrement=True,
)

# A text's embedding by each encoder that was ever asked for it; little-endian, as `meta` says under STORAGE.
embeddings = Table(
    "embeddings",
    metadata,
    Column("text_id", _Number, ForeignKey("texts.id"), primary_key=True, autoincrement=False),
    Column("fingerprint", String(64), primary_key=True),  # of the generation's encoder
    Column("dimension", Integer, nullable=False),
    Column("vector", LargeBinary, nullable=False),
)

examples = Table(
    "examples",
    metadata,
    Column("id", _Number, primary_key=True),
    Column("created_revision", _Number, ForeignKey("revisions.revision"), nullable=False),
    sqlite_autoincrement=True,  # ids are never reused
)

versions = Table(
    "versions",
    metadata,
    Column("example_id", _Number, ForeignKey("examples.id"), primary_key=True, autoincrement=False),
    Column("revision", _Number, ForeignKey("revisions.revision"), primary_key=True, autoincrement=False),
    Column("text_id", _Number, ForeignKey("texts.id")),  # NULL: the example was erased; so are the columns below
    Column("labels", Text),  # JSON array, sorted, without repeats; NULL: forgotten
    Column("ref", Text),
    Column("source", Text),
    Index("versions_revision", "revision"),
    Index("versions_ref", "ref", postgresql_using="hash"),  # the longest references are too long for a B-tree
    Index("versions_text", "text_id"),
    sqlite_with_rowid=False,
)
