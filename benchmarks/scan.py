"""Times convolutions and their gradients eight times in a loop of the compiled program, beside eight calls one after the other.

    python -m benchmarks.scan [words of rows]       writes its part of docs/performance.md when all are run

XLA's CPU compiler lays out operands for its own convolution outside of loops only: a gradient left to it takes many times as long inside.
"""

import sys

from benchmarks.op_cases import CONVS, FORWARD, INPUTS, KERNEL, Conv
from benchmarks.sides import Side
from benchmarks.steps import need_extension
from benchmarks.versus import chosen, compare

TIMES = 8
SIDES = [
    Side("in a loop", "benchmarks.scan:in_a_loop"),
    Side("one by one", "benchmarks.scan:one_by_one"),
]
CASES = [conv._replace(kind=kind) for conv in {conv.group: conv for conv in CONVS}.values() for kind in (FORWARD, INPUTS, KERNEL)]


def one_by_one(case: Conv):
    """Returns the function that makes eight calls of our compiled operation."""
    import jax

    from benchmarks.ops_jax import our_program

    program, given = our_program(case)
    compiled = jax.jit(program)

    def once():
        for _ in range(TIMES):
            y = compiled(*given)
        jax.block_until_ready(y)

    return once


def in_a_loop(case: Conv):
    """Returns the function that runs our operation eight times in one call."""
    import jax
    from jax import lax

    from benchmarks.ops_jax import our_program

    program, given = our_program(case)
    changed = 1 if case.kind == INPUTS else len(given) - 1  # the kernel, where the result depends on it; else the cotangent

    def body(_, given):
        # One value of the next one's arguments comes from this one: nothing can be moved out of the loop.
        (y,) = jax.tree.leaves(program(*given))
        # (By `.at[…].set`, which also looks at what stands there, the whole array would be copied.)
        return tuple(
            lax.dynamic_update_slice(a, y.reshape(-1)[:1].reshape((1,) * a.ndim), (0,) * a.ndim) if i == changed else a
            for i, a in enumerate(given)
        )

    compiled = jax.jit(lambda *given: lax.fori_loop(0, TIMES, body, given)[changed], donate_argnums=changed)
    held = list(given)

    def once():
        held[changed] = compiled(*held)
        jax.block_until_ready(held[changed])

    return once


def main(words: list[str]) -> int:
    """Runs all rows, or those whose names hold a word; returns the exit status."""
    need_extension()
    note = "A row's times are of eight; the ratio is that of our loop to our calls."
    compare("scan", chosen(CASES, words), SIDES, best=("one by one",), note=note, save=not words)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
