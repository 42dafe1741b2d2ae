"""The layering, the names and the docstrings of DESIGN.md, read off the source."""

import ast
import inspect
from pathlib import Path

import pytest

from cnn_jax.options import reads
from cnn_jax.registry import BY_FIELD, LOSSES, METRICS, REPORTS, RETRIEVAL
from tests.runs import REPOSITORY

SOURCES = sorted([*(REPOSITORY / "cnn_jax").rglob("*.py"), *(REPOSITORY / "experiments").glob("*.py"), REPOSITORY / "launch.py"])
TESTS = sorted((REPOSITORY / "tests").glob("*.py"))

# Imports point down only: a module may import from layers below its own, and from its own folder.
LAYERS = [
    ["errors", "types", "files", "allocator", "idle", "private_folder", "output"],
    ["manifest", "leftovers", "lock", "lines", "stopping", "window", "tree_difference", "events", "processes"],
    ["experiment", "options"],
    ["ops", "field_rules"],
    ["initialisers", "receptive_field", "runtime", "precision", "build_extension"],
    ["layers", "losses"],
    ["metrics", "geometry"],
    ["models", "mixing", "anatomy", "features"],
    ["state", "optim", "data", "folding", "accumulate"],
    ["state_files"],
    ["step", "parallel", "checkpoint", "report", "workdir", "watchdog"],
    ["registry", "dispatch"],
    ["override", "check"],
    ["build", "verdict"],
    ["embedding_picture", "worst_retrievals", "projector", "listing", "profiling"],
    ["embedding_files"],
    ["tiny", "evaluate", "description", "effective_field", "kernel_sheet", "calibrate", "cache_data", "check_data"],
    ["inspection", "autopsy", "loop"],
    ["train"],
    ["verify_resume"],
    ["experiments"],
    ["launch"],
]


def place(module: str) -> str:
    """The unit of a dotted name: cnn_jax.ops.conv belongs to ops, experiments.x to experiments."""
    parts = module.split(".")
    return parts[1] if parts[0] == "cnn_jax" and len(parts) > 1 else parts[0]


def imports(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


def ids(path: Path) -> str:
    return name_of(path)


@pytest.mark.parametrize("path", SOURCES, ids=ids)
def test_imports_point_down(path):
    rank = {unit: i for i, layer in enumerate(LAYERS) for unit in layer}
    here = place(name_of(path))
    if name_of(path) == "cnn_jax":
        return
    for imported in imports(path):
        if imported.split(".")[0] not in ("cnn_jax", "experiments", "launch"):
            continue
        there = place(imported)
        assert there == here or rank[there] < rank[here], f"{here} imports {there}"


@pytest.mark.parametrize("path", SOURCES, ids=ids)
def test_each_library_has_its_one_importer(path):
    here = place(name_of(path))
    owners = {"tensorflow_datasets": "data", "grain": "data", "orbax": "state_files", "tensorboardX": "events"}
    for imported in imports(path):
        library = imported.split(".")[0]
        assert owners.get(library, here) == here, f"{library} belongs in {owners.get(library)}"
        assert library not in ("tensorflow", "torch", "pickle"), library
    text = path.read_text()
    if here != "parallel":
        for word in ("jax.jit", "jax.pmap", "PartitionSpec", "Mesh("):
            assert word not in text or (word, name_of(path)) == ("jax.jit", "cnn_jax.ops.apart")  # a call within a program
    if name_of(path) != "launch":
        assert "DEFINE_" not in text
        for word in ("XLA_FLAGS", "FLAGS.is_parsed()", "FLAGS.mark_as_parsed()"):  # grain wants them parsed; that is not reading them
            text = text.replace(word, "")
        assert "FLAGS" not in text


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=ids)
def test_files_are_short_and_named_for_a_concept(path):
    assert path.stem not in ("utils", "util", "common", "base", "core", "helpers", "misc")
    lines = path.read_text().splitlines()
    assert len(lines) <= 300
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            assert not body or body[-1].end_lineno - body[0].lineno < 70, node.name
            assert not any(a.arg in ("rng", "prng") for a in (*node.args.args, *node.args.kwonlyargs)), "a random key is called key"


def public_functions():
    for field, registry in BY_FIELD.items():
        for name, function in registry.items():
            if field not in ("model", "dataset") and inspect.isfunction(function):
                yield pytest.param(function, id=f"{field}-{name}")


@pytest.mark.parametrize("function", list(public_functions()))
def test_registered_functions_have_keyword_only_options_and_say_what_they_return(function):
    assert inspect.getdoc(function).startswith("Returns"), function.__name__
    for p in inspect.signature(function).parameters.values():
        assert (p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD) or p.kind is p.KEYWORD_ONLY, p.name


def test_the_first_argument_says_what_is_read():
    for function in (*LOSSES.values(), *METRICS.values(), *REPORTS.values()):
        assert reads(function) in ("logits", "embeddings", "scores", "distances")
    for function in RETRIEVAL.values():
        assert reads(function) in REPORTS


# What one calls by hand: pure functions, layers, networks.
LIBRARIES = ("ops", "losses", "metrics", "layers", "models")
BESIDE = (
    "anatomy", "calibrate", "features", "field_rules", "folding", "geometry", "initialisers",
    "mixing", "optim", "receptive_field",
)  # fmt: skip


@pytest.mark.parametrize("path", [path for path in SOURCES if place(name_of(path)) in (*LIBRARIES, *BESIDE)], ids=ids)
def test_public_names_show_themselves_at_work_and_say_what_they_refuse(path):
    definitions = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    private = {node.name: node for node in definitions if node.name.startswith("_")}

    def refuses(node) -> bool:
        """In its own body, by a check, or through a private definition of its file."""
        names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} - {node.name}
        checks = any(name.startswith("check_") for name in names)
        return checks or any(isinstance(n, ast.Raise) for n in ast.walk(node)) or any(refuses(private[n]) for n in names & {*private})

    for node in definitions:
        if node.name in private:
            continue
        doc, is_function = ast.get_docstring(node) or "", isinstance(node, ast.FunctionDef)
        first = doc.partition("\n")[0]
        assert first.endswith((".", ":")), f"{node.name}: the first line is a sentence"
        assert not is_function or first.startswith(("Returns ", "Raises ValueError ")), f"{node.name}: the first line says what is returned"
        is_record = not is_function and "NamedTuple" in map(ast.unparse, node.bases)
        assert is_record or ">>>" in doc, f"{node.name} has no doctest"
        assert "Raises" in doc or not refuses(node), f"{node.name} does not say what it refuses"
