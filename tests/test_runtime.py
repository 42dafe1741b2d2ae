"""What is set before the first array: in processes of their own, since a process can set it once."""

import json
import os
import stat
import subprocess
import sys

import jax
import pytest

from cnn_jax import runtime
from tests.runs import REPOSITORY

REPORT = """
import json, os
from cnn_jax import runtime
runtime.set_up()
import jax, jax.numpy as jnp
program = jax.jit(lambda x: jnp.sort(jnp.sin(x) @ x)).lower(jnp.ones((8, 8))).compile()
print(json.dumps({**runtime.settings(), "XLA_FLAGS": os.environ["XLA_FLAGS"], "dir": jax.config.jax_compilation_cache_dir}))
"""


def reported(home, **env):
    """What `set_up` says in a process with this home and these variables; None takes one away."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_", "CNN_JAX", "XDG_"))}
    env = {k: v for k, v in {**clean, "HOME": str(home), **env}.items() if v is not None}
    result = subprocess.run([sys.executable, "-c", REPORT], cwd=REPOSITORY, env=env, capture_output=True, text=True, check=True)
    return json.loads(result.stdout.splitlines()[-1])


def test_all_is_set_and_reported(tmp_path):
    found = reported(tmp_path)
    assert "--xla_cpu_experimental_ynn_fusion_type=-individual_convolution" in found["XLA_FLAGS"]
    assert found["compile_cache"] == found["dir"]
    assert found["dir"].startswith(str(tmp_path / ".cache" / "cnn_jax"))
    assert stat.S_IMODE(os.stat(found["dir"]).st_mode) == 0o700
    assert sys.platform != "linux" or found["allocator"].startswith("memory kept")
    assert found["onednn"]
    assert found["extension"] == "not built"


def test_what_the_user_has_set_stays(tmp_path):
    mine = "--xla_cpu_experimental_ynn_fusion_type= --xla_cpu_enable_fast_math=false"
    off = dict.fromkeys(("CNN_JAX_ALLOCATOR", "CNN_JAX_ONEDNN", "CNN_JAX_EXTENSION"), "0")
    found = reported(tmp_path, XLA_FLAGS=mine, JAX_COMPILATION_CACHE_DIR=str(tmp_path / "mine"), **off)
    assert found["XLA_FLAGS"] == mine
    assert found["dir"] == str(tmp_path / "mine")
    assert found["allocator"] == "as it was: CNN_JAX_ALLOCATOR=0"
    assert found["onednn"].startswith("not used")
    assert found["extension"] == "not used: CNN_JAX_EXTENSION=0"


def test_other_flags_are_added_to_and_the_cache_can_be_off(tmp_path):
    found = reported(tmp_path, XLA_FLAGS="--xla_cpu_enable_fast_math=false", CNN_JAX_COMPILE_CACHE="0")
    added = "--xla_cpu_experimental_ynn_fusion_type=-individual_convolution"
    assert found["XLA_FLAGS"].split() == ["--xla_cpu_enable_fast_math=false", added]
    assert found["compile_cache"] == "none: CNN_JAX_COMPILE_CACHE=0"
    assert found["dir"] is None


@pytest.fixture
def no_cache():
    """This process as it is before `set_up`, but that the flags are read already."""
    kept = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    jax.config.update("jax_compilation_cache_dir", kept)


@pytest.mark.parametrize(("folder", "said"), [("open", "others can write to it"), ("file/below", "Not a directory")])
def test_a_cache_is_never_shared_and_one_that_cannot_be_made_does_no_harm(folder, said, no_cache, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    monkeypatch.setenv(runtime.CACHE_SWITCH, str(tmp_path / folder))
    assert runtime._set_cache() == f"none: {tmp_path / folder}: {said}"
    assert jax.config.jax_compilation_cache_dir is None


def test_a_version_that_is_not_known_gets_no_flags():
    """An unknown flag would end the process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLA_FLAGS", "--mine")
        patch.setattr(runtime.jaxlib, "__version__", "9.9.0")
        assert runtime._set_flags() == "--mine"


def test_freed_memory_stays_for_the_next_allocation():
    """Counted by the system: the second array of 256 MB takes no new pages."""
    program = """
import resource
from cnn_jax.allocator import keep_memory
import numpy as np
said = keep_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(2**25)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(said, faults(), faults(), sep=";")
"""
    env = {k: v for k, v in os.environ.items() if k != "CNN_JAX_ALLOCATOR"}
    said, first, second = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, env=env, capture_output=True, text=True, check=True
    ).stdout.split(";")
    if said.startswith("memory kept"):
        assert int(second) < 100 < 2**25 * 8 // 4096
        assert "huge" not in said or int(first) < 2**25 * 8 // 4096 // 8


def test_the_devices_are_left_as_they_are_without_a_number():
    runtime._split(None)
    assert jax.config.jax_num_cpu_devices == 4
