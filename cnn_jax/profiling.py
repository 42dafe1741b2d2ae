"""`--profile`: a trace of a few steps, of what the device computes when and what the host does meanwhile, for viewers to open."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from cnn_jax import processes
from cnn_jax.errors import UserError
from cnn_jax.report import say

NUM_TRACED = 5  # calls: enough to see what repeats, and small enough to open in a browser


class Trace:
    """Traces a few calls of a compiled step: `with Trace(step, …) as step:`, and the calls are as without.

    Args:
      step: compiled; its results are arrays. It may consume its arguments.
      folder: where the trace is written, in a folder of its own for each.
      num_calls: that will be made. The trace is written with the last of them, if not earlier.
      skip: calls that are left out, since something warms up or is compiled beside them; the last call is traced in any case.

    Raises:
      UserError: the trace cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, Trace(jax.numpy.sin, Path(folder), num_calls=2) as sin:  # doctest: +ELLIPSIS
    ...     waves = [sin(1.0), sin(2.0)]
    traced call 2 of the compiled step: ...perfetto_trace.json.gz
    ...
    """

    def __init__(self, step: Callable[..., Any], folder: Path, *, num_calls: int, skip: int = 1):
        self.step = step
        self.folder = folder if processes.count() == 1 else folder / f"process_{processes.index()}"  # names would clash on one host
        self.first = min(skip, num_calls - 1)
        self.end = min(self.first + NUM_TRACED, num_calls)
        self.done, self.running, self.results = 0, False, None

    def __enter__(self) -> Callable[..., Any]:
        return self._call

    def __exit__(self, kind: type[BaseException] | None, *_) -> None:
        if self.running and kind is None:
            self._stop()
        elif self.running:
            with contextlib.suppress(Exception):  # the run's own error is the one to show
                jax.profiler.stop_trace()

    def _call(self, *arguments: Any) -> Any:
        if self.done == self.first:
            jax.block_until_ready(self.results)  # the trace is of what begins now
            # The viewer's file is made as well: it is opened by a page that needs no installation.
            jax.profiler.start_trace(self.folder, create_perfetto_trace=True)
            self.running = True
        marked = jax.profiler.StepTraceAnnotation("step", step_num=self.done) if self.running else contextlib.nullcontext()
        with marked:
            results = self.step(*arguments)
        self.done += 1
        self.results = results if self.done <= self.end else None  # afterwards nothing is kept alive
        if self.done == self.end:
            self._stop()
        return results

    def _stop(self) -> None:
        jax.block_until_ready(self.results)
        self.running = False
        try:
            jax.profiler.stop_trace()
        except (OSError, RuntimeError, ValueError) as error:
            raise UserError(f"The trace cannot be written to {self.folder}: {error}. What was saved is intact.") from None
        newest = max(self.folder.rglob("perfetto_trace.json.gz"), key=lambda path: path.stat().st_mtime)
        calls = f"call {self.done}" if self.done == self.first + 1 else f"calls {self.first + 1} to {self.done}"
        say(f"traced {calls} of the compiled step: {newest}")
        say(f"open it at https://ui.perfetto.dev, which needs no installation; or: pip install xprof, and xprof --logdir={self.folder}")
