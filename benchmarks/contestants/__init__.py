"""Who takes part, and what each needs. Read in every environment, so it imports nothing but the standard library."""

from __future__ import annotations

from typing import Literal

ENCODER_TOKENS = 256
"""Tokens after which every contestant cuts a text: the encoder's own limit."""

HOMES = {
    "likewise": ("ours", "Likewise"),
    "likewise-openvino": ("ours", "Likewise"),
    "likewise-bf16": ("ours", "Likewise"),
    "likewise-int8": ("ours", "Likewise"),
    "plain": ("plain", "Plain"),
    "logistic": ("frozen", "Logistic"),
    "logistic-onnx": ("frozen", "Logistic"),
    "logistic-openvino": ("frozen", "Logistic"),
    "knn": ("frozen", "Neighbours"),
    "setfit": ("few_shot", "SetFit"),
    "setfit-onnx": ("few_shot", "SetFit"),
    "setfit-openvino": ("few_shot", "SetFit"),
    "adaptive": ("adaptive", "Adaptive"),
    "index": ("search", "LikewiseIndex"),
    "product": ("search", "MatrixProduct"),
    "faiss": ("search", "Faiss"),
}
"""Each contestant's module and class."""

ANSWERING = (
    "likewise", "likewise-openvino", "likewise-bf16", "likewise-int8", "setfit", "setfit-onnx", "setfit-openvino",
    "logistic", "logistic-onnx", "logistic-openvino", "knn", "adaptive",
)  # fmt: skip
"""Those whose answers are timed, in the order of the tables."""

OURS = ("likewise", "likewise-openvino", "likewise-bf16", "likewise-int8", "plain", "index", "product")
"""Those that run in Likewise's own environment; the others in the one of the peers, whose versions exclude its own."""

_BACKENDS = {"onnx": ["optimum", "onnxruntime"], "openvino": ["optimum", "openvino"]}

REQUIRED = {
    "likewise": ["onnxruntime"],
    "likewise-openvino": ["openvino"],
    "likewise-bf16": ["openvino"],
    "likewise-int8": ["onnxruntime"],
    "plain": ["torch", "transformers"],
    "logistic": ["sentence_transformers", "sklearn"],
    "logistic-onnx": ["sentence_transformers", "sklearn", *_BACKENDS["onnx"]],
    "logistic-openvino": ["sentence_transformers", "sklearn", *_BACKENDS["openvino"]],
    "knn": ["sentence_transformers", "sklearn"],
    "setfit": ["setfit"],
    "setfit-onnx": ["setfit", *_BACKENDS["onnx"]],
    "setfit-openvino": ["setfit", *_BACKENDS["openvino"]],
    "adaptive": ["adaptive_classifier", *_BACKENDS["onnx"]],
    "index": ["numpy"],
    "product": ["numpy"],
    "faiss": ["faiss"],
}
"""The modules that must be there."""

TITLES = {
    "likewise": "Likewise",
    "likewise-openvino": "Likewise, OpenVINO",
    "likewise-bf16": "Likewise, bfloat16 (OpenVINO)",
    "likewise-int8": "Likewise, whole numbers of eight bits",
    "likewise-taught": "Likewise, taught meanwhile",
    "likewise-bf16-taught": "Likewise, bfloat16, taught meanwhile",
    "likewise-int8-taught": "Likewise, whole numbers, taught meanwhile",
    "plain": "plain fine-tuning",
    "logistic": "sentence-transformers + LogisticRegression",
    "logistic-onnx": "sentence-transformers + LogisticRegression, ONNX",
    "logistic-openvino": "sentence-transformers + LogisticRegression, OpenVINO",
    "knn": "sentence-transformers + KNeighborsClassifier",
    "setfit": "SetFit",
    "setfit-onnx": "SetFit, ONNX",
    "setfit-openvino": "SetFit, OpenVINO",
    "adaptive": "adaptive-classifier",
}


def precision_of(name: str) -> Literal["fp32", "bf16", "int8"]:
    """What one of ours calculates in; the peers' backends choose for themselves."""
    if name.endswith("-bf16"):
        return "bf16"
    return "int8" if name.endswith("-int8") else "fp32"


def backend_of(name: str) -> str:
    """ "onnx", "openvino", or "torch", everybody's default."""
    for backend in _BACKENDS:
        if name.endswith(f"-{backend}"):
            return backend
    return "torch"
