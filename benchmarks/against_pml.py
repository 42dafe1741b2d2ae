"""Compares what PyTorch Metric Learning has too: losses on embeddings, miners, memory, retrieval: values, gradients, time, peak memory.

    python -m benchmarks.against_pml             all, and writes docs/against_pml.md
    python -m benchmarks.against_pml nt_xent     the losses with this in their name, and writes nothing

Needs requirements-bench.txt. Ends with status 1 if a difference is above tolerance and not explained by name in metric_pairs.py.
"""

import datetime
import json
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks import pml_retrieval
from benchmarks.hardware import hardware, memory_of
from benchmarks.metric_pairs import EXPLAINED, LEARNED, PAIRS, WITHOUT, our_mean, their_mean
from cnn_jax.ops.distance import unit_length

PAGE = Path(__file__).parent.parent / "docs" / "against_pml.md"
RETRIEVAL = "retrieval"  # beside the names of losses
TOLERANCE = 1e-5  # in double precision
# Time and memory: a batch as one trains with.
BATCH, CLASSES, FEATURES, REPEATS = 256, 32, 128, 15


def batch(b: int, k: int, e: int, seed: int, *, even: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Returns unit-length embeddings that lean towards their class, and labels of unequal classes (equal ones where `even`)."""
    draw = np.random.default_rng(seed)
    labels = np.sort(np.arange(b) % k) if even else np.minimum(draw.geometric(1.5 / k, b) - 1, k - 1)
    x = draw.normal(size=(b, e)) + 0.7 * draw.normal(size=(k, e))[labels]
    return x / np.linalg.norm(x, axis=1, keepdims=True), labels


def ours_of(name: str):
    """Returns value and gradients, by embeddings and by weights, of ours as a compiled function of embeddings, labels and weights."""

    def our_learned(x, y, w):
        return LEARNED[name].ours(CLASSES).apply({"params": w}, unit_length(x), y).mean()  # theirs normalise inside

    def mean(x, y, w):
        return our_mean(PAIRS[name])(x, y) if name in PAIRS else our_learned(x, y, w)

    return jax.jit(jax.value_and_grad(mean, argnums=(0, 2)))


def our_weights(name: str, e: int):
    """Returns the first weights of ours, {} for a loss without."""
    if name in PAIRS:
        return {}
    module = LEARNED[name].ours(CLASSES)
    return module.init(jax.random.key(0), jnp.zeros((2, e)), jnp.zeros(2, int))["params"]


def theirs_of(name: str, e: int, dtype, weights=None):
    """Returns theirs as a function of embeddings and labels, holding our weights where there are some."""
    if name in PAIRS:
        return their_mean(PAIRS[name])
    pair = LEARNED[name]
    module = pair.theirs(num_classes=CLASSES, embedding_size=e)
    if weights is not None:
        own = getattr(module, pair.weights)
        with torch.no_grad():
            own.copy_(torch.tensor(as_theirs(weights, own.shape)))
    return module.to(dtype)


def as_theirs(weights, shape) -> np.ndarray:
    """Returns our weights, or their gradients, laid out as theirs, which has class vectors as rows or as columns."""
    (ours,) = jax.tree.leaves(weights)
    rows = np.asarray(ours, np.float64).reshape(-1, ours.shape[-1])
    return rows.reshape(shape) if len(shape) == 1 or rows.shape == tuple(shape) else rows.T


def difference(ours, theirs) -> float:
    """Returns the largest difference of two gradients, relative to the largest entry."""
    return float(np.abs(np.asarray(ours) - theirs).max() / max(1e-3, np.abs(theirs).max()))


def agreement(name: str) -> tuple[float, float]:
    """Returns the largest differences of value and gradient over four batches in double precision, relative to the largest."""
    values, gradients = [], []
    with jax.enable_x64(True):
        batches = PAIRS[name].batches if name in PAIRS else [(48, CLASSES, False), (96, CLASSES, True)]
        for seed, (b, k, even) in enumerate(batches):
            x, y = batch(b, k, 16, seed, even=even)
            weights = jax.tree.map(lambda w: w.astype(jnp.float64), our_weights(name, 16))
            value, gradient = ours_of(name)(jnp.array(x), jnp.array(y), weights)
            tx = torch.tensor(x, requires_grad=True)
            module = theirs_of(name, 16, torch.float64, weights)
            theirs = module(tx, torch.tensor(y))
            own = [getattr(module, LEARNED[name].weights)] if name in LEARNED else []
            pulled, *by_weights = (g.numpy() for g in torch.autograd.grad(theirs, [tx, *own]))
            values.append(abs(value.item() - theirs.item()) / max(1, abs(theirs.item())))
            gradients.append(difference(gradient[0], pulled))
            gradients.extend(difference(as_theirs(gradient[1], g.shape), g) for g in by_weights)
    return max(values), max(gradients)


def seconds(name: str) -> tuple[float, float]:
    """Returns the median times of value and gradient, ours and theirs, taken in turns."""
    x, y = (a.astype(t) for a, t in zip(batch(BATCH, CLASSES, FEATURES, 0, even=True), (np.float32, np.int32), strict=True))
    ours, weights = ours_of(name), our_weights(name, FEATURES)
    theirs, tx, ty = theirs_of(name, FEATURES, torch.float32), torch.tensor(x, requires_grad=True), torch.tensor(y).long()
    jx, jy = jnp.array(x), jnp.array(y)

    def run_ours():
        jax.block_until_ready(ours(jx, jy, weights))

    def run_theirs():
        torch.autograd.grad(theirs(tx, ty), tx)

    times: dict = {run_ours: [], run_theirs: []}
    for function in times:
        function()  # compiled, warm
    for _ in range(REPEATS):
        for function, record in times.items():
            start = time.perf_counter()
            function()
            record.append(time.perf_counter() - start)
    return statistics.median(times[run_ours]), statistics.median(times[run_theirs])


def peak(name: str, who: str) -> int:
    """Returns the bytes that value and gradient of a batch take at most, having been compiled, and run on a small one, before."""
    if name == RETRIEVAL:
        return pml_retrieval.peak(who)
    x, y = batch(BATCH, CLASSES, FEATURES, 0, even=True)
    if who == "ours":
        numbers = jnp.array(x, jnp.float32), jnp.array(y, jnp.int32)
        small, given = ((*(v[:n] for v in numbers), our_weights(name, FEATURES)) for n in (BATCH // 8, BATCH))
        program = ours_of(name).lower(*given).compile()
        jax.block_until_ready(ours_of(name)(*small))
        return memory_of(lambda: jax.block_until_ready(program(*given)))
    theirs = theirs_of(name, FEATURES, torch.float32)
    small, whole = (torch.tensor(x[:n], dtype=torch.float32, requires_grad=True) for n in (BATCH // 8, BATCH))
    torch.autograd.grad(theirs(small, torch.tensor(y[: BATCH // 8])), small)
    return memory_of(lambda: torch.autograd.grad(theirs(whole, torch.tensor(y)), whole))


def measured_peak(name: str, who: str) -> float:
    """Returns `peak` of a fresh process."""
    command = [sys.executable, "-m", "benchmarks.against_pml", "--peak", name, who]
    return float(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]))


def row(name: str) -> dict:
    """Returns all that is measured of one loss."""
    value, gradient = agreement(name)
    ours, theirs = seconds(name)
    return {
        "name": name, "value": value, "gradient": gradient, "ours": ours, "theirs": theirs,
        "our_peak": measured_peak(name, "ours"), "their_peak": measured_peak(name, "theirs"),
    }  # fmt: skip


def page(rows: list[dict], retrieval: list[str]) -> str:
    """Returns the tables as Markdown, with machine, versions and explanations."""
    versions = ", ".join(f"{p} {version(p)}" for p in ("jax", "torch", "pytorch-metric-learning"))
    lines = [
        "# Metric learning against PyTorch Metric Learning",
        "",
        f"`python -m benchmarks.against_pml`, {hardware()}, {versions}, {datetime.date.today()}.",
        "",
        "Differences are the largest over two to four random batches in double precision, relative to the largest entry; b = 24 to 96, "
        "classes of unequal size where theirs allows. Time is value and gradient in float32, medians of "
        f"{REPEATS} taken in turns, memory the rise of a process's peak, both at b = {BATCH}, {CLASSES} classes of {BATCH // CLASSES}, "
        f"e = {FEATURES}. Ratio: theirs / ours. A matrix of all pairs takes 0.26 MB; ours holds a few, and none of triplets.",
        "",
        "| loss | value | gradient | times faster | ours | theirs | our memory | their memory | |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    notes = [name for name in EXPLAINED if name in {r["name"] for r in rows}]
    for r in rows:
        note = str(notes.index(r["name"]) + 1) if r["name"] in notes else ""
        lines.append(
            f"| `{r['name']}` | {r['value']:.0e} | {r['gradient']:.0e} | **{r['theirs'] / r['ours']:.1f}** | {1e3 * r['ours']:.1f} ms | "
            f"{1e3 * r['theirs']:.1f} ms | {r['our_peak'] / 1e6:.0f} MB | {r['their_peak'] / 1e6:.0f} MB | {note} |"
        )
    notes = [f"{i}. {EXPLAINED[name]}" for i, name in enumerate(notes, 1)]
    without = ["Not compared:", "", *(f"- `{name}`: {reason}" for name, reason in WITHOUT.items())]
    return "\n".join([*lines, "", *notes, "", *without, "", *retrieval, ""])


def main(arguments: list[str]) -> int:
    """Runs the comparison; returns the exit status."""
    if arguments[:1] == ["--peak"]:
        print(json.dumps(peak(*arguments[1:])))
        return 0
    names = [name for name in [*PAIRS, *LEARNED] if not arguments or any(a in name for a in arguments)]
    rows = []
    for name in names:
        rows.append(row(name))
        r = rows[-1]
        agrees = max(r["value"], r["gradient"]) <= TOLERANCE
        status = "" if agrees != (name in EXPLAINED) else "DIFFERS" if not agrees else "explained, but agrees"
        r["failed"] = bool(status)
        print(
            f"{name:32} value {r['value']:.0e}  gradient {r['gradient']:.0e}  {r['theirs'] / r['ours']:6.1f} times faster "
            f"({1e3 * r['ours']:.1f} against {1e3 * r['theirs']:.1f} ms, {r['our_peak'] / 1e6:.0f} against {r['their_peak'] / 1e6:.0f} MB)"
            f"  {status}",
            flush=True,
        )
    if not arguments:
        figures = [function(*pml_retrieval.embeddings()) for function in pml_retrieval.WHO.values()]
        times, peaks = pml_retrieval.seconds(), [measured_peak(RETRIEVAL, who) for who in pml_retrieval.WHO]
        PAGE.write_text(page(rows, pml_retrieval.section(times, peaks, figures)))
        print(f"wrote {PAGE}")
    return int(any(r["failed"] for r in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
