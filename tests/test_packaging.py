"""What the package promises from outside: its names, what importing it costs, its version, and what is committed."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import likewise

ROOT = Path(__file__).resolve().parents[1]

PUBLIC = [
    "Change",
    "Classifier",
    "Example",
    "LikewiseError",
    "LikewiseWarning",
    "Model",
    "Neighbour",
    "Prediction",
    "Revision",
    "Settings",
    "__version__",
]

HEAVY = [
    "accelerate",
    "datasets",
    "faiss",
    "onnx",
    "onnxruntime",
    "openvino",
    "pandas",
    "pyarrow",
    "scipy",
    "sentence_transformers",
    "sklearn",
    "torch",
    "transformers",
]


def project() -> dict[str, object]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        found: dict[str, object] = tomllib.load(file)["project"]
    return found


def committed_files() -> list[Path]:
    """Every text file that is, or would be, committed."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in names if name and (ROOT / name).is_file()]
    return [file for file in files if b"\0" not in file.read_bytes()[:8192]]


# ------------------------------------------------------------------------------------------------ names and version


def test_the_public_names_are_these() -> None:
    assert sorted(likewise.__all__) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_can_be_had(name: str) -> None:
    assert getattr(likewise, name) is not None
    assert name in dir(likewise)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Clasifier"):
        _ = likewise.Clasifier


def test_the_version_is_that_of_the_metadata() -> None:
    assert likewise.__version__ == importlib.metadata.version("likewise") == project()["version"]


def test_types_are_shipped() -> None:
    assert (Path(likewise.__file__).parent / "py.typed").is_file()


# --------------------------------------------------------------------------------------------- what importing costs


@pytest.mark.parametrize("module", ["likewise", "likewise.model", "likewise.cli"])
def test_importing_loads_nothing_heavy(module: str) -> None:
    program = f"import sys, {module}; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
    assert done.stderr == ""


def test_importing_the_package_alone_loads_only_the_standard_library() -> None:
    program = (
        "import sys, likewise\n"
        "tops = {name.partition('.')[0] for name in sys.modules}\n"
        "print(*sorted({'click', 'numpy', 'rich', 'safetensors', 'sqlalchemy', 'tokenizers'} & tops))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


# ------------------------------------------------------------------------------------------------ the dependencies


def test_every_requirement_is_pinned_and_the_pins_are_plain() -> None:
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if line[:1] != "#")
    metadata = project()
    required = list(metadata["dependencies"])  # type: ignore[call-overload]
    for extra in metadata["optional-dependencies"].values():  # type: ignore[attr-defined]
        required += extra
    names = {re.split(r"[<>=!~\[ ;]", requirement)[0].lower().replace("_", "-") for requirement in required}
    assert names <= set(pins), f"not in constraints.txt: {sorted(names - set(pins))}"
    assert not [pin for pin in pins.values() if not re.fullmatch(r"\d[\w.]*", pin)]
    assert not [name for name in pins if re.search("nvidia|cuda|triton", name)]


def test_the_tests_run_on_the_pinned_versions() -> None:
    """Otherwise they say nothing about what `make setup` gives to others."""
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if line[:1] != "#")
    for name in ("numpy", "onnxruntime", "sqlalchemy", "torch", "sentence-transformers", "transformers"):
        assert importlib.metadata.version(name).partition("+")[0] == pins[name], name


def test_every_third_party_import_is_declared() -> None:
    """A package that is there by luck, because another one needs it, is not ours to import."""
    provided = {"sentence-transformers": "sentence_transformers", "scikit-learn": "sklearn"}
    metadata = project()
    required = list(metadata["dependencies"])  # type: ignore[call-overload]
    for extra in metadata["optional-dependencies"].values():  # type: ignore[attr-defined]
        required += extra
    names = [re.split(r"[<>=!~\[ ;]", requirement)[0].lower() for requirement in required]
    declared = {provided.get(name, name.replace("-", "_")) for name in names}
    imported: set[str] = set()
    sources = list((ROOT / "src").rglob("*.py"))
    assert sources
    for source in sources:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                imported.add(node.module.partition(".")[0])
    assert imported - set(sys.stdlib_module_names) - {"likewise"} <= declared


# ------------------------------------------------------------------------------------------------ what is committed


def test_no_committed_file_names_a_registry_or_a_place_on_a_machine() -> None:
    registries = [
        ".".join(parts)
        for parts in [
            ("pypi", "org"),
            ("pythonhosted", "org"),
            ("download", "pytorch", "org"),
            ("npmjs", "org"),
            ("deb", "debian", "org"),
            ("conda", "anaconda", "org"),
        ]
    ]
    places = re.compile(r"(?<![\w.*~}])/(?:root|work|opt|home/\w+|Users/\w+)/")
    files = committed_files()
    assert ROOT / "pyproject.toml" in files
    found = []
    for file in files:
        for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if places.search(line) or any(host in line for host in registries):
                found.append(f"{file.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert not found, "\n".join(found)


def test_no_large_file_is_committed() -> None:
    large = [f"{file.relative_to(ROOT)}" for file in committed_files() if file.stat().st_size > 2_000_000]
    assert not large, f"over 2 MB: {large}"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no executable bit")
def test_ci_can_be_run() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_every_module_can_be_imported_by_itself() -> None:
    """No module relies on another having been imported first; `training` needs the extra and is imported too."""
    package = Path(likewise.__file__).parent
    modules = sorted(
        ".".join(("likewise", *path.relative_to(package).with_suffix("").parts)).removesuffix(".__init__")
        for path in package.rglob("*.py")
        if path.name != "__main__.py"
    )
    for module in modules:
        importlib.import_module(module)
    assert "likewise.model" in modules
