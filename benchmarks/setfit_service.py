"""The peer of benchmarks/load.py: a minimal FastAPI service around SetFit, as one would write it in an afternoon.

    python -m benchmarks.setfit_service ENCODER ROWS PORT

The encoder stays as it is, with SetFit's logistic regression on the embeddings of the train rows of a file that
`measuring.write_rows` wrote: what is measured is serving, and the encoder costs the same however it was trained. It
runs in the peers' environment, where Likewise is not.
"""

from __future__ import annotations

import sys

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from setfit import SetFitModel

from benchmarks.contestants.answering import rows_of


class Question(BaseModel):
    texts: list[str]


def make_app(encoder: str, rows: str) -> FastAPI:
    texts, labels = rows_of(rows, "train")
    model = SetFitModel.from_pretrained(encoder, labels=sorted(set(labels)))
    model.model_head.fit(model.model_body.encode(texts, show_progress_bar=False), labels)
    app = FastAPI()

    @app.get("/ready")
    def ready() -> dict[str, str]:
        return {"status": "ready"}

    @app.post("/v1/classify")
    def classify(question: Question) -> list[dict[str, object]]:
        scores = model.predict_proba(question.texts, show_progress_bar=False).tolist()
        names = [str(name) for name in model.model_head.classes_]
        return [{"label": names[row.index(max(row))], "scores": dict(zip(names, row, strict=True))} for row in scores]

    return app


if __name__ == "__main__":
    uvicorn.run(
        make_app(*sys.argv[1:3]), host="127.0.0.1", port=int(sys.argv[3]), log_level="warning", access_log=False
    )
