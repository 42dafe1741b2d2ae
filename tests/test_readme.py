"""What the documents say works: commands parse and resolve, code runs, files are where they are said to be."""

import re
import shlex
from functools import partial

import jax
import jax.numpy as jnp
import pytest

from cnn_jax import registry
from cnn_jax.build import build
from cnn_jax.options import reads
from cnn_jax.override import override_all
from cnn_jax.train import train
from tests.hostile_images import good, write_classes
from tests.runs import CLASSIFIER, REPOSITORY, launch_here

README = (REPOSITORY / "README.md").read_text()
CONTRIBUTING = (REPOSITORY / "CONTRIBUTING.md").read_text()
COMMANDS = sorted({line for block in re.findall(r"```sh\n(.*?)```", README, re.S) for line in block.splitlines() if "launch.py" in line})


def code(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.S)


@pytest.mark.parametrize("command", [c for c in COMMANDS if ("inspect" in c or "kernels" in c) and "vgg" not in c])
def test_commands_that_draw_draw(command, tmp_path, capsys):
    """As they stand, but a small network on a small input, and into another place."""
    words = [w for w in shlex.split(command)[2:] if not w.startswith(("--input", "--output", "--workdir", "--model"))]
    if "kernels" in command:
        words.append(f"--output={tmp_path / 'kernels.png'}")
    else:
        network = ["--input=16x16x3", "--model=resnet8"] if "--model" in command else ["--experiment=digits_resnet"]
        words += [f"--output={tmp_path}", *network]
    assert launch_here(*words) == 0
    assert list(tmp_path.glob("*.png"))


@pytest.mark.parametrize("command", [c for c in COMMANDS if not any(mode in c for mode in ("evaluate", "inspect", "kernels"))])
def test_commands_in_the_readme_resolve(command, capsys, tmp_path, monkeypatch):
    write_classes(tmp_path / "flowers", good())  # the reader's own
    monkeypatch.setenv("HOME", str(tmp_path))
    words = [w for w in shlex.split(command)[2:] if not w.startswith("--mode")]
    assert launch_here(*words, f"--mode={'describe' if words else 'list'}") == 0
    assert capsys.readouterr().out


def test_the_readmes_idea_trains(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    kernel, text = code(README)
    exec(compile(kernel, "README.md", "exec"), {})
    assert sum(bool(line.strip()) for line in text.splitlines() if "import" not in line) <= 20
    try:
        exec(compile(text, "README.md", "exec"), {})
    finally:
        registry.LOSSES.pop("confidence_penalty")
    assert float(capsys.readouterr().out.splitlines()[-1]) > 0.8


def test_the_additions_in_contributing_work(tmp_path, monkeypatch):
    for block in code(CONTRIBUTING):
        exec(compile(block, "CONTRIBUTING.md", "exec"), {})
    try:
        changes = ["model=three_convs", "model.width=8", "loss=brier", "loss.scale=2.5"]
        changes += ["dataset=stripes", "dataset.size=8", "num_steps=40"]
        figures = train(override_all(CLASSIFIER, changes), tmp_path, num_devices=1)
        assert figures["accuracy"] > 0.9
    finally:
        for entries, name in ((registry.MODELS, "three_convs"), (registry.LOSSES, "brier"), (registry.DATASETS, "stripes")):
            entries.pop(name)


def test_files_are_where_the_documents_say():
    for document in ("README.md", "CONTRIBUTING.md", "DESIGN.md"):
        text = (REPOSITORY / document).read_text()
        for path in re.findall(r"`((?:cnn_jax|experiments|tests|benchmarks)/[\w/.]*)`", text):
            assert (REPOSITORY / path).exists(), f"{document}: {path}"
        for path in re.findall(r"\]\(([\w/.]+\.(?:md|png))\)", text):
            assert (REPOSITORY / path).exists(), f"{document}: {path}"


def test_every_module_is_in_the_readmes_table():
    shown = re.findall(r"`(?:cnn_jax/)([\w/.]+)`", README)
    missing = {"__init__.py", "errors.py", "types.py", "files.py", "runtime.py"}  # found by name, sought by no one
    for path in (REPOSITORY / "cnn_jax").iterdir():
        if path.name not in missing and not path.name.startswith("__"):
            assert any(entry.rstrip("/") == path.name for entry in shown), path.name


@pytest.mark.parametrize("name", registry.LOSSES)
def test_every_loss_goes_with_any_model_by_flags_alone(name):
    channels = 2 if reads(registry.LOSSES[name]) == "distances" else 1  # pairs of images
    changes = [f"dataset.shape=8,8,{channels}", "metrics=", "best_by=loss", f"loss={name}", "embedding_size=5"]
    built = build(override_all(CLASSIFIER, changes))
    image = jax.ShapeDtypeStruct((3, 8, 8, channels), jnp.float32)
    outputs, _ = jax.eval_shape(partial(built.model.init_with_output, train=False), jax.random.key(0), image)
    assert outputs.shape == {"logits": (3, 4), "embeddings": (3, 5), "scores": (3,), "distances": (3,)}[built.outputs]
