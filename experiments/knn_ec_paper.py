"""What the KNN-EC paper reports: macro-F1 in percent, means of five runs, by data set and encoder."""

from __future__ import annotations

from statistics import mean

TABLE_3 = {
    "goemotions-ekman": {
        "bert-base": (71.13, 71.55, 72.71),
        "bert-large": (71.64, 72.23, 72.85),
        "xlnet-base": (71.31, 71.81, 72.77),
        "roberta-base": (71.86, 72.39, 73.51),
        "roberta-large": (73.01, 74.10, 74.51),
    },
    "isear": {
        "bert-base": (69.18, 69.28, 69.46),
        "bert-large": (70.20, 70.47, 70.94),
        "xlnet-base": (68.39, 69.66, 69.83),
        "roberta-base": (69.36, 70.40, 70.68),
        "roberta-large": (73.09, 73.12, 73.56),
    },
}
"""p_model, p_kNN, p."""

TABLE_4 = {
    "goemotions-ekman": {
        "bert-base": (66.79, 71.55),
        "bert-large": (50.64, 72.23),
        "xlnet-base": (67.72, 71.81),
        "roberta-base": (52.24, 72.39),
        "roberta-large": (65.85, 74.10),
    },
    "isear": {
        "bert-base": (58.03, 69.28),
        "bert-large": (40.24, 70.47),
        "xlnet-base": (66.65, 69.66),
        "roberta-base": (60.12, 70.40),
        "roberta-large": (67.34, 73.12),
    },
}
"""p_kNN without and with whitening."""

TABLE_5 = {
    "bert-base": (70.64, 71.62, 71.73, 72.06, 72.11, 72.71, 70.52),
    "xlnet-base": (71.35, 72.20, 72.77, 71.28, 71.90, 72.09, 70.43),
    "roberta-base": (72.27, 72.05, 72.53, 73.05, 73.51, 72.66, 59.22),
    "bert-large": (72.85, 71.16, 72.06, 71.96, 71.74, 71.85, 71.73),
    "roberta-large": (73.01, 72.64, 74.09, 74.11, 74.51, 74.06, 73.32),
}
"""p for n = 8, 16, 32, 64, 128, 256 and "default". The paper names no data set; the figures are those of GoEmotions in
its Table 3, which are the best of each row."""
TABLE_5_DATA = "goemotions-ekman"
SIZES = (0.01, 0.02, 0.04, 0.08, 0.17, 0.33, 1.0)
"""Its size of the datastore, of encoders with 768 dimensions."""
DIMENSIONS = (8, 16, 32, 64, 128, 256)


def table_3(data: str) -> list[tuple[float, float]]:
    """p_model, p_kNN and p as shares of 1: bert-base's, and the mean of all five encoders; empty for other data."""
    return _beside(TABLE_3.get(data, {}))


def table_4(data: str) -> list[tuple[float, float]]:
    """p_kNN without and with whitening, in the same form."""
    return _beside(TABLE_4.get(data, {}))


def table_5(data: str) -> list[tuple[float, float]]:
    """p for each n, in the same form."""
    return _beside(TABLE_5 if data == TABLE_5_DATA else {})


def _beside(encoders: dict[str, tuple[float, ...]]) -> list[tuple[float, float]]:
    columns = zip(*encoders.values(), strict=True)
    return [(column[0] / 100, mean(column) / 100) for column in columns]
