"""A ledger's embeddings: how they are stored, read and written, on a connection that is given."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, delete, insert, select

from likewise.datastore.ledger_reading import chunks, texts_by_id
from likewise.datastore.schema import embeddings
from likewise.errors import ModelDamaged
from likewise.types import Storage

STORED: Mapping[Storage, np.dtype[np.float32] | np.dtype[np.float16]] = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
}
"""How an embedding is stored, little-endian."""

_CHUNK = 2000  # texts asked for at once
_ROWS = 1000  # rows handed to the database at once


class NotEmbedded(ModelDamaged):
    """A text has no embedding by the encoder that is asked for: one that came with a refit may not have met it yet."""


def embedded(connection: Connection, of_texts: Iterable[int], fingerprint: str) -> set[int]:
    """Those of these texts that have an embedding by this encoder."""
    found: set[int] = set()
    statement = select(embeddings.c.text_id).where(embeddings.c.fingerprint == fingerprint)
    for chunk in chunks(sorted(set(of_texts))):
        found.update(connection.execute(statement.where(embeddings.c.text_id.in_(chunk))).scalars())
    return found


def vectors(
    connection: Connection, wanted: Sequence[int], fingerprint: str, storage: Storage
) -> npt.NDArray[np.float32]:
    """The embeddings by this encoder of one text or more, float32 (n, d), in the order of `wanted`.

    Raises NotEmbedded, naming the text, where one is missing, ModelDamaged where one is of another length.
    """
    places: dict[int, list[int]] = {}
    for place, text_id in enumerate(wanted):
        places.setdefault(text_id, []).append(place)
    out: npt.NDArray[np.float32] | None = None
    kind = STORED[storage]
    statement = select(embeddings.c.text_id, embeddings.c.vector).where(embeddings.c.fingerprint == fingerprint)
    for chunk in chunks(sorted(places), _CHUNK):
        dense = chunk[-1] - chunk[0] < 2 * len(chunk)  # a range is read several times faster than a list
        part = embeddings.c.text_id.between(chunk[0], chunk[-1]) if dense else embeddings.c.text_id.in_(chunk)
        found: dict[int, bytes] = {number: stored for number, stored in connection.execute(statement.where(part))}
        for text_id in chunk:
            stored = found.get(text_id)
            if stored is None:
                raise NotEmbedded(
                    f"text {text_id} has no embedding of generation {fingerprint}; run `likewise check`, or refit"
                )
            if out is None:
                out = np.empty((len(wanted), len(stored) // kind.itemsize), dtype=np.float32)
            if len(stored) != out.shape[1] * kind.itemsize:
                raise ModelDamaged(
                    f"the embedding of text {text_id}, generation {fingerprint}, has {len(stored)} bytes, "
                    f"expected {out.shape[1] * kind.itemsize}; restore the datastore from a backup"
                )
            out[places[text_id]] = np.frombuffer(stored, dtype=kind)
    assert out is not None
    return out


def not_embedded(connection: Connection, wanted: Iterable[int], fingerprint: str) -> dict[int, str]:
    """Those of these texts that have no embedding by this encoder, by id."""
    listed = set(wanted)
    return texts_by_id(connection, listed - embedded(connection, listed, fingerprint))


def write_vectors(connection: Connection, vectors: Mapping[int, bytes], fingerprint: str, storage: Storage) -> None:
    """Write texts' embeddings, as stored, by the encoder with this fingerprint; those that are there stay."""
    size = STORED[storage].itemsize
    there = embedded(connection, vectors, fingerprint)
    for chunk in chunks(((text_id, vector) for text_id, vector in vectors.items() if text_id not in there), _ROWS):
        rows = [
            {"text_id": text_id, "fingerprint": fingerprint, "dimension": len(vector) // size, "vector": vector}
            for text_id, vector in chunk
        ]  # fmt: skip
        connection.execute(insert(embeddings), rows)


def drop_vectors(connection: Connection, keep: Collection[str]) -> None:
    """Delete the embeddings by all encoders but those with these fingerprints."""
    connection.execute(delete(embeddings).where(embeddings.c.fingerprint.not_in(keep)))
