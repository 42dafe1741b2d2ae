"""The suite's settings: four CPU devices, shapes checked, rank promotion and warnings errors. No network."""

import gc
import os
import shutil
import signal

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["CNN_JAX_EXTENSION"] = "0"  # whether this machine has it built must not matter; tests/test_extension.py builds its own
os.environ["CNN_JAX_ALLOCATOR"] = "0"  # a process that does so much gives memory back; commands in processes of their own do not

import hypothesis
import jax
import jaxtyping
import pytest
from absl import flags, logging

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")
# Compiling is most of the suite's time, and its arrays are small. `make models` and commands in processes of their own optimise.
jax.config.update("jax_disable_most_optimizations", True)
assert len(jax.devices()) == 4  # starts jax: a test's --num_devices must not change their number
logging.set_verbosity(logging.ERROR)  # orbax and tfds tell absl about every file

# The same examples in every run; `--hypothesis-profile=default` looks for new ones.
hypothesis.settings.register_profile("same", derandomize=True, deadline=None, print_blob=True)
hypothesis.settings.load_profile("same")

# Pure functions have their shapes checked; `b` and `k` of one call must agree.
_CHECKED = jaxtyping.install_import_hook(["cnn_jax.ops", "cnn_jax.losses", "cnn_jax.metrics"], "beartype.beartype")
_CHECKED.__enter__()

# A shell's background jobs ignore Ctrl-C, and so would the runs that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Millions of objects of compiled programs live until the end: looking for garbage among them takes a twentieth of the time.
gc.set_threshold(50_000, 50, 100)


@pytest.fixture
def float64():
    """Doubles for the test: agreement with an oracle is then a matter of the formula, not of rounding."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def quick_commands():
    """The commands of a file that starts many are compiled without optimisation too."""
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    yield
    del os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"]


@pytest.fixture(scope="module", autouse=True)
def kept_programs():
    """Compiled programs stay until the end, millions of objects that the garbage collector need not go over again."""
    yield
    gc.freeze()


@pytest.fixture
def unchecked():
    """Without the shape checks of the tests: bad arguments meet our own errors, as a user's do."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session", autouse=True)
def data_dir(tmp_path_factory):
    """Prepared data are shared by the session's tests, and by no one else's."""
    folder = tmp_path_factory.mktemp("tfds")
    os.environ["TFDS_DATA_DIR"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def built_extension(tmp_path_factory):
    """The optional kernels, built once for all files that test them."""
    from cnn_jax import build_extension  # not before shapes are checked

    if not any(map(shutil.which, build_extension.COMPILERS)):
        pytest.skip("there is no C++ compiler")
    return build_extension.build(tmp_path_factory.mktemp("cache") / "extension" / "kernels.so")


@pytest.fixture(scope="module")
def loaded(built_extension):
    """The library, used for as long as a file's tests run."""
    from cnn_jax.ops import extension

    assert not extension._loaded
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(extension.SWITCH, raising=False)
        assert extension.load(built_extension) == "loaded"
        yield
    extension._loaded.clear()


@pytest.fixture(scope="session", autouse=True)
def compile_cache(tmp_path_factory):
    """What takes time to compile is compiled once for a worker's tests, and once for their commands; small programs are not saved."""
    folder, seconds = str(tmp_path_factory.mktemp("compiled")), 0.3
    os.environ |= {"JAX_COMPILATION_CACHE_DIR": folder, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": str(seconds)}
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", seconds)


@pytest.fixture(autouse=True)
def parsed_flags():
    """grain's flags count as parsed, as they are in a run."""
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
