"""The Python side of light_check.sh: `rows` prints examples, `answer MODEL` uses a model, `read FILE` a JSON answer."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

HEAVY = (
    "torch",
    "transformers",
    "sentence_transformers",
    "datasets",
    "accelerate",
    "onnx",
    "sklearn",
    "scipy",
    "pandas",
)

ROWS = {
    "delivery": [
        "my parcel has not arrived yet",
        "where is the package you sent last week",
        "tracking says delivered but nothing is here",
        "the courier left my order at the wrong house",
        "how long does shipping take to Norway",
        "delivery was promised for Monday",
        "can you tell me when my order arrives",
        "the driver never rang the bell",
        "still waiting for the box, it is ten days late",
        "please send the parcel to my office instead",
    ],
    "refund": [
        "i want my money back",
        "when will you refund my card",
        "the refund has not reached my account",
        "you charged me twice, please return one payment",
        "how do I get reimbursed for the broken mug",
        "I sent it back and still have not been repaid",
        "please cancel and give me a full refund",
        "is a partial refund possible",
        "money for the returned shoes is missing",
        "my bank shows no repayment from you",
    ],
    "login": [
        "I forgot my password",
        "the site will not let me sign in",
        "my account is locked after three attempts",
        "the reset link in your mail is expired",
        "cannot log in on my phone any more",
        "two factor code never comes",
        "how do I change the e-mail of my account",
        "it says user unknown when I sign in",
        "password reset does nothing",
        "logged out every five minutes",
    ],
}


def rows() -> None:
    """Print the examples as JSON Lines."""
    for label, texts in ROWS.items():
        for text in texts:
            print(json.dumps({"text": text, "label": label}))


def answer(folder: Path) -> None:
    """Classify, cite and teach with the model in `folder`, where nothing heavy can be imported."""
    present = [name for name in HEAVY if importlib.util.find_spec(name) is not None]
    assert not present, f"this environment is not light: it has {', '.join(present)}"
    from likewise import Model

    model = Model.open(folder)
    texts = ["my package is lost", "give me my money back please", "I can't sign in"]
    before = model.classify(texts)
    assert [prediction.label for prediction in before] == ["delivery", "refund", "login"], before
    for prediction in before:
        assert prediction.neighbours, f"no example is cited for {prediction.text!r}"
        shares = [neighbour.weight for neighbour in prediction.neighbours]  # of all k votes, so the cited have a part
        assert shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 1 + 1e-6, shares
        first = prediction.neighbours[0]
        score = f"{prediction.label} ({prediction.score:.2f})"
        print(f"light: {prediction.text!r} is {score}, as {first.text!r} (#{first.id})")

    taught = ["do you have this lamp in green", "is the blue sofa in stock", "when are the chairs available again"]
    change = model.teach(taught, ["stock"] * len(taught))
    (after,) = model.classify(["is the green lamp in stock"])
    assert change.revision > before[0].revision and after.revision == change.revision
    assert after.label == "stock", after
    assert {neighbour.id for neighbour in after.neighbours} & set(change.ids)
    print(f"light: taught a new label at revision {change.revision}; {after.text!r} is now {after.label}")


def read(file: Path) -> None:
    """Check the one line of JSON that the command printed."""
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found["label"] == "delivery" and found["neighbours"], found
    print(f"light: the command answers too: {found['label']}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["rows"]:
            rows()
        case ["answer", folder]:
            answer(Path(folder))
        case ["read", file]:
            read(Path(file))
        case _:
            sys.exit(__doc__)
