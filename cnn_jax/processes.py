"""Several processes that train as one, by jax.distributed: who this one is, what only the first does, what all must agree on."""

import atexit
import contextlib
import hashlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import numpy as np

from cnn_jax.errors import EXIT_STUCK, UserError, shortened

# jax is imported by those who need it: what speaks to people asks here who does, and must not take seconds.

HEARTBEAT = "CNN_JAX_HEARTBEAT"  # an environment variable: seconds without a sign of life after which a process is taken for dead
_HEARTBEAT = 30
_INITIALIZATION = 300  # seconds in which all must have come
_PREPARATION = 7 * 24 * 3600  # seconds in which the first must have prepared what all need: the largest data sets take days
_FINISH = 3600  # seconds in which the first must have written what is left to write at the end, while the others wait
_CARRIERS = ("Gloo", "NCCL")  # of sums over processes: they name themselves in errors, of which jax raises some as ValueError
_SHOWN = 500  # bytes of a value that is not the same for all
_FAILED = "cnn_jax/failed"  # what the processes read there ends them

_me = {"index": 0, "count": 1}


def join(coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None) -> None:
    """Makes this process one of several, before jax starts; does nothing where there is one.

    Without arguments it is one of several if SLURM (`srun`), Open MPI (`mpirun`) or JAX_COORDINATOR_ADDRESS say so.

    Args:
      coordinator: "host:port" where the first process listens, or "auto": whatever jax.distributed finds out, of a TPU pod for example.
      num_processes, process_id: how many there are, and which this is, from 0.

    Raises:
      UserError: the arguments do not go together, or the others did not come.
    """
    detailed = (num_processes, process_id)
    if coordinator is None and detailed == (None, None):
        if not launched_together(os.environ):
            return
        arguments = {}
    elif coordinator == "auto":
        arguments = {}
    elif coordinator is None or None in detailed:
        raise UserError(
            "--coordinator=HOST:PORT, --num_processes=N and --process_id=I go together: the same for all, but for I, from 0 to N - 1. "
            "--coordinator=auto alone leaves it to what the cluster says."
        )
    elif not 0 <= process_id < num_processes or not coordinator.rpartition(":")[2].isdigit():
        raise UserError(
            f"--coordinator={coordinator} must be HOST:PORT, and --process_id={process_id} from 0 to --num_processes - 1, which is "
            f"{num_processes - 1}."
        )
    else:
        arguments = {"coordinator_address": coordinator, "num_processes": num_processes, "process_id": process_id}
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM, which `stopping` hears
    try:
        heartbeat = int(os.environ.get(HEARTBEAT) or _HEARTBEAT)
        timeouts = {"initialization_timeout": _INITIALIZATION, "heartbeat_timeout_seconds": heartbeat, "shutdown_timeout_seconds": _FINISH}
        jax.distributed.initialize(**arguments, **timeouts)
    except (RuntimeError, ValueError) as error:
        first = str(error).strip().splitlines()[0][:200]
        raise UserError(
            f"This process could not join the others ({first}). Each must be started within {_INITIALIZATION} s, with the same "
            f"--coordinator and --num_processes and a --process_id of its own, and must reach the coordinator's port."
        ) from error
    _me.update(index=jax.process_index(), count=jax.process_count())
    if count() > 1:
        threading.Thread(target=_listen, name="others", daemon=True).start()
        sys.excepthook = _end_all_for
        atexit.register(barrier, "the end", seconds=_FINISH)  # the last place where what another has to tell is heard


def launched_together(environment: Mapping[str, str]) -> bool:
    """Returns whether the environment is that of one of several processes.

    >>> launched_together({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NODELIST": "n[1-4]"})
    True
    >>> launched_together({"SLURM_JOB_ID": "7"}), launched_together({"OMPI_COMM_WORLD_SIZE": "1"})
    (False, False)
    """
    by_slurm = "SLURM_PROCID" in environment and "SLURM_STEP_NODELIST" in environment
    counts = [environment.get("SLURM_STEP_NUM_TASKS") if by_slurm else None, environment.get("OMPI_COMM_WORLD_SIZE")]
    return "JAX_COORDINATOR_ADDRESS" in environment or any(count is not None and int(count) > 1 for count in counts)


def index() -> int:
    """Returns which process this is, from 0."""
    return _me["index"]


def count() -> int:
    """Returns how many processes there are."""
    return _me["count"]


def is_first() -> bool:
    """Returns whether this is the process that writes files and speaks to people.

    >>> is_first()
    True
    """
    return _me["index"] == 0


def share(size: int) -> slice:
    """Returns which rows of a batch of so many this process brings.

    >>> share(8)
    slice(0, 8, None)
    """
    part = size // count()
    return slice(index() * part, (index() + 1) * part)


def check_same(what: str, value: Any) -> None:
    """Raises UserError if the processes do not all have the same value.

    Args:
      what: of the value, for the message.
      value: of which the text is compared.
    """
    if count() == 1:
        return
    from jax.experimental import multihost_utils

    text = repr(value).encode()
    mine = hashlib.sha256(text).digest() + text[:_SHOWN].ljust(_SHOWN, b"\0")
    all_of_them = map(bytes, np.asarray(multihost_utils.process_allgather(np.frombuffer(mine, np.uint8))))
    found = {row[:32] + row[32:].rstrip(b"\0"): i for i, row in reversed(list(enumerate(all_of_them)))}
    if len(found) > 1:
        first = sorted(found.items(), key=lambda item: item[1])[:4]
        said = "; ".join(f"process {i} has {row[32:].decode(errors='replace')}" for row, i in first)
        raise UserError(
            f"The processes do not agree on {what}: {said}. Start all with the same command, and with a --workdir on a disk that all see."
        )


def barrier(name: str, *, seconds: int = 1800) -> None:
    """Returns when all processes have come to it. It needs no device: one that compiles for long is waited for.

    Raises:
      UserError: one has not come in time.
    """
    if count() == 1:
        return
    try:
        _client().wait_at_barrier(name, seconds * 1000)
    except RuntimeError as error:
        raise UserError(f"Not all processes came to the point '{name}' within {seconds} s: {str(error).splitlines()[0][:200]}") from error


@contextlib.contextmanager
def first_alone(name: str) -> Iterator[None]:
    """What is inside is done by the first process, and then by the others: they find what it has prepared.

    Raises:
      UserError: the first has not done it in a week.
    """
    if not is_first():
        barrier(name, seconds=_PREPARATION)
    yield
    if is_first():
        barrier(name, seconds=_PREPARATION)


def end_all(why: str) -> NoReturn:
    """Ends this process with exit code 1, and the others with it, which would wait for it. All say why."""
    print(f"error: {why}", file=sys.stderr, flush=True)
    end_others(why)
    sys.exit(1) if count() == 1 else os._exit(1)  # at once: the interpreter's end would wait for them


def end_others(why: str, code: int = 1) -> None:
    """Ends the other processes: each says why, and exits with the code. This one is to exit, too.

    Returns when they have heard it, or after some seconds, since not all may be there any more.
    """
    if count() == 1:
        return
    with contextlib.suppress(RuntimeError):  # another was faster; or nobody is there
        _client().key_value_set(_FAILED, f"{code} process {index()}: {why}")
    _wait_until_all_have_heard()


def _listen() -> None:
    """Asks each second whether another process has failed, and ends this one if so."""
    while True:
        time.sleep(1)
        try:
            code, _, why = _client().key_value_try_get(_FAILED).partition(" ")
        except (RuntimeError, AttributeError):  # none has; or it is over, or the coordinator is gone, which jax notices
            continue
        if why.startswith(f"process {index()}:"):
            return
        print(f"error: {why}\nthis process ends with it", file=sys.stderr, flush=True)
        _wait_until_all_have_heard()
        os._exit(int(code))


def _wait_until_all_have_heard(seconds: float = 10) -> None:
    """What was told lies with the first process, which therefore is the last to go."""
    client, end = _client(), time.monotonic() + seconds
    with contextlib.suppress(RuntimeError):
        client.key_value_set(f"{_FAILED}_heard/{index()}", "", allow_overwrite=True)
        while is_first() and len(client.key_value_dir_get(f"{_FAILED}_heard")) < count() and time.monotonic() < end:
            time.sleep(0.1)


def _end_all_for(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """In place of Python's last word on an error that nobody caught: at the interpreter's end it would wait for the others."""
    import jax

    lost = issubclass(kind, jax.errors.JaxRuntimeError) or any(name in str(error) for name in _CARRIERS)
    if lost:  # perhaps a sum over all processes, since another has ended: if that has told why, `_listen` says so meanwhile
        time.sleep(3)
    traceback.print_exception(kind, error, trace)
    sys.stderr.flush()
    code = EXIT_STUCK if lost else 1
    end_others(f"{kind.__name__}: {shortened(error)}", code)
    os._exit(code)


def _client() -> Any:
    from jax._src import distributed  # jax has no public store of keys, and no barrier but a sum over devices, which gives up after 30 s

    return distributed.global_state.client
