"""What tests of several parts share: a tiny random encoder that is built in a second, and its export."""

from __future__ import annotations

import os

# Before anything imports the libraries that read them.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import string
from collections.abc import Iterator
from pathlib import Path

import pytest

from postgres import Server, binaries
from rows import ROWS, saved
from tiny import BERT

_WORDS = """\
a about account after again all also always am an and angry another answer any app are arrived as ask at back bad bank
battery be because been before best better bill bird black blue book box broken bus but buy call came can cancel car
card cat change charge cheap child city close code cold come could customer damaged day delivery did different do does
dog door down drink early eat email error ever every evening expensive family far fast feel find fire first food for
forgot form found friend from game gave get girl give go good got great green had happy hard has have he hello help her
here him his home hot house how i if in invoice is it item just keep know last late laugh learn leave left letter life
light like little long look lost love made mail make man many may me message minute missing money month more morning
most mother much music must my name need never new next nice night no not nothing now number of off office often old on
once one only open or order other our out over own page paid parcel park password pay people phone place plane play
please poor price problem question quick rain ready really red refund return right river road run sad said same school
screen sea see send service ship shop short should show sick slow small so some soon sorry start stay still stop store
street sun support sure take team tell text thank that the their them then there they thing think this time to today
told tomorrow too took town train tree try turn two under until up us use very wait walk want warm was watch water way
we week well went were what when where which white who why will wind window winter with word work world worse would
write wrong year yellow yes yesterday you your
"""


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A PostgreSQL server of this worker's own."""
    programs = binaries()
    if programs is None:
        pytest.skip("PostgreSQL is not installed here (Debian: apt-get install postgresql); its tests are left out")
    started = Server(programs)
    yield started
    started.remove()


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers folder: random BERT, 32 wide, 2 layers, 64 positions, mean pooling, no Normalize.

    The vocabulary holds some hundred common words and every printable ASCII character; padding is id 1, not 0.
    Embeddings depend strongly on the words, so that texts about different things are told apart.
    """
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizer

    from likewise.training.loading import quiet

    characters = [c for c in string.printable if not c.isspace() and not c.isupper()]
    pieces = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]", *characters, *(f"##{c}" for c in characters)]
    pieces += [word for word in _WORDS.split() if len(word) > 1]
    folder = tmp_path_factory.mktemp("tiny") / "encoder"
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(20240607)
        config = BertConfig(vocab_size=len(pieces), **{**BERT, "max_position_embeddings": 64, "initializer_range": 0.1})
        plain = folder.parent / "plain"
        network = BertModel(config)
        with torch.no_grad():
            network.embeddings.word_embeddings.weight[5:] *= 10  # words, against positions and [CLS], [SEP]
        network.save_pretrained(plain)
        vocabulary = {piece: i for i, piece in enumerate(pieces)}
        BertTokenizer(vocab=vocabulary, model_max_length=64).save_pretrained(plain)
        model = SentenceTransformer(modules=[Transformer(str(plain)), Pooling(32, "mean")], device="cpu")
        model.save(str(folder), create_model_card=False)
    return folder


@pytest.fixture(scope="session")
def fitted(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model of ROWS."""
    return saved(ROWS, tiny_encoder, tmp_path_factory.mktemp("fitted") / "model")


@pytest.fixture(scope="session")
def tiny_onnx(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny encoder's ONNX folder: unit length, texts cut at 64 tokens."""
    from likewise.training.export import export_onnx
    from likewise.training.loading import load

    folder = tmp_path_factory.mktemp("tiny") / "onnx"
    export_onnx(load(tiny_encoder), folder, normalise=True, max_tokens=64)
    return folder


@pytest.fixture(scope="session")
def tiny_classifier(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transformers folder: a random BERT classifier of "delivery" and "invoice" with the tiny encoder's tokenizer."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig

    from likewise.training.loading import quiet

    folder = tmp_path_factory.mktemp("classifier")
    names = {0: "delivery", 1: "invoice"}
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
        config = BertConfig(
            vocab_size=len(tokenizer),
            id2label=names,
            label2id={name: number for number, name in names.items()},
            **{**BERT, "max_position_embeddings": 64, "initializer_range": 0.3},
        )
        AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder
