from __future__ import annotations

import dataclasses
from typing import get_type_hints

import numpy as np
import pytest

from likewise.errors import SettingError
from likewise.setting import Setting
from likewise.settings import SETTINGS, Settings, settings_of


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in SETTINGS.values():
        monkeypatch.delenv(setting.variable, raising=False)


def test_defaults() -> None:
    assert dataclasses.asdict(Settings.resolve()) == {
        "seed": 0,
        "epochs": None,
        "batch_size": None,
        "learning_rate": None,
        "max_tokens": 128,
        "objective": None,
        "contrastive_temperature": None,
        "projection": None,
        "preservation": None,
        "batches": None,
        "per_class": None,
        "gamma": None,
        "shared_labels": None,
        "siamese_pairs": None,
        "pooling": None,
        "measure": None,
        "holdout": 0.1,
        "precision": "fp32",
        "storage": "float32",
        "neighbours": 5,
        "threads": 0,
        "token_budget": None,
        "runtime": "auto",
        "lock_timeout": 10.0,
        "max_text": 1_000_000,
        "http_host": "127.0.0.1",
        "http_port": 8000,
        "http_workers": 1,
        "http_allow_hosts": None,
        "http_allow_origins": None,
        "http_max_body": 1_048_576,
        "http_max_texts": 256,
        "http_timeout": 30.0,
        "http_batch_wait": 2.0,
        "http_batch_texts": 32,
        "http_queue": 1024,
        "http_grace": 30.0,
        "http_log": "requests",
    }


def test_given_wins_over_environment_wins_over_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKEWISE_SEED", "7")
    monkeypatch.setenv("LIKEWISE_HOLDOUT", " 0.25 ")
    monkeypatch.setenv("LIKEWISE_EPOCHS", "")
    settings = Settings.resolve(seed=3, holdout=None)
    assert (settings.seed, settings.holdout, settings.epochs) == (3, 0.25, None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"neighbors": 3}, "unknown setting 'neighbors'; did you mean 'neighbours'?"),
        ({"zzz": 3}, "unknown setting 'zzz'; settings are seed, epochs,"),
        ({"seed": "3"}, "seed: found '3', expected a whole number from 0 to 4,294,967,295"),
        ({"seed": True}, "seed: found True"),
        ({"seed": 1.0}, "seed: found 1.0"),
        ({"seed": -1}, "seed: found -1"),
        ({"epochs": 0}, "epochs: found 0, expected a whole number, at least 1 (passes over the examples)"),
        ({"holdout": 0}, "holdout: found 0, expected a number above 0 and below 1"),
        ({"holdout": 1.0}, "holdout: found 1.0"),
        ({"lock_timeout": float("nan")}, "lock_timeout: found nan"),
        ({"lock_timeout": float("inf")}, "lock_timeout: found inf"),
        ({"lock_timeout": 1e10}, "lock_timeout: found 10000000000.0, expected a number from 0 to 86,400 (seconds)"),
        ({"threads": 2**31}, "threads: found 2147483648, expected a whole number from 0 to 1,024 (threads)"),
        ({"measure": "macro-f1"}, "measure: found 'macro-f1', expected one of macro_f1, accuracy, micro_f1"),
        ({"measure": 1}, "measure: found 1"),
        ({"runtime": "openvno"}, "did you mean 'openvino'?"),
        ({"max_text": "x" * 1000}, "xxx..., expected a whole number"),
    ],
)
def test_a_wrong_value_is_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(SettingError) as caught:
        Settings.resolve(**given)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("LIKEWISE_SEED", "1.5", "environment variable LIKEWISE_SEED: found '1.5', expected a whole number"),
        ("LIKEWISE_THREADS", "-2", "environment variable LIKEWISE_THREADS: found -2"),
        ("LIKEWISE_RUNTIME", "tensorrt", "environment variable LIKEWISE_RUNTIME: found 'tensorrt', expected one of"),
        ("LIKEWISE_NEIGHBORS", "3", "unknown environment variable LIKEWISE_NEIGHBORS; did you mean LIKEWISE_NEIGHB"),
    ],
)
def test_a_wrong_variable_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingError) as caught:
        Settings.resolve()
    assert message in str(caught.value)


def test_a_container_platforms_variables_are_no_slips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKEWISE_PORT", "tcp://10.0.0.1:8000")
    monkeypatch.setenv("LIKEWISE_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("LIKEWISE_SERVICE_PORT", "8000")
    monkeypatch.setenv("LIKEWISE_SERVICE_PORT_HTTP", "8000")
    assert Settings.resolve() == Settings()


def test_numpy_numbers_become_plain_ones() -> None:
    settings = Settings.resolve(seed=np.int64(3), holdout=np.float32(0.25), lock_timeout=2)
    assert [type(v) for v in (settings.seed, settings.holdout, settings.lock_timeout)] == [int, float, float]


def test_construction_checks_and_values_are_frozen() -> None:
    with pytest.raises(SettingError):
        Settings(seed=-1)
    with pytest.raises(SettingError):
        dataclasses.replace(Settings(), threads=-1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().seed = 1  # type: ignore[misc]


def test_the_scopes_share_out_the_table() -> None:
    names = [setting.name for scope in ("fit", "answer", "serve") for setting in settings_of(scope)]
    assert names == list(SETTINGS) == list(get_type_hints(Settings))
    assert [s.name for s in settings_of("answer")] == [
        "neighbours",
        "threads",
        "token_budget",
        "runtime",
        "lock_timeout",
        "max_text",
    ]


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=lambda setting: setting.name)
def test_every_setting_has_what_a_command_line_needs(setting: Setting) -> None:
    assert setting.help and not setting.help.endswith(".")
    assert setting.flag == "--" + setting.name.removeprefix("http_").replace("_", "-")
    assert setting.name.startswith("http_") == (setting.scope == "serve")
    assert setting.variable == "LIKEWISE_" + setting.name.upper()
    assert setting.check(setting.default) == setting.default
    if setting.default is not None:
        assert setting.parse(str(setting.default)) == setting.default
    assert setting.optional == (setting.default is None)
    assert all(setting.parse(choice) == choice for choice in setting.choices)
