"""The optional kernels: built anew, against XLA's convolutions; and what happens where they cannot be built or loaded."""

import os
import shutil

import jax
import numpy as np
import pytest
from hypothesis import given, settings

from cnn_jax import build_extension
from cnn_jax.errors import UserError
from cnn_jax.ops import cpu_conv, extension, native_conv
from cnn_jax.ops.native_conv import Geometry
from tests.geometries import all_three, arrays, assert_alike, geometries

needs_compiler = pytest.mark.skipif(not any(map(shutil.which, build_extension.COMPILERS)), reason="there is no C++ compiler")


def assert_equals_xla(geometry, batch, c_in, c_out):
    given = arrays(geometry, batch, c_in, c_out, np.float32)
    both = jax.jit(lambda *a: [all_three(module, geometry, *a) for module in (cpu_conv, native_conv)])
    assert "cnn_jax_" in both.lower(*given).as_text() or np.prod(geometry.window) == 1 or geometry.groups not in (1, c_in)
    assert_alike(*both(*given), 1e-5)


@pytest.mark.usefixtures("loaded")
@settings(max_examples=25, deadline=None, derandomize=True)
@given(geometries())
def test_the_kernels_equal_xlas(drawn):
    geometry, *sizes = drawn
    ours, theirs = (
        jax.jit(lambda *a, module=module: all_three(module, geometry, *a))(*arrays(geometry, *sizes, np.float32))
        for module in (cpu_conv, native_conv)
    )
    assert_alike(ours, theirs, 1e-5)


SAME = Geometry((7, 6), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), (1, 1))
CASES = {
    "few inputs, whose window's rows are joined": (SAME._replace(stride=(2, 2)), 5, 3, 33),
    "few inputs, of which none is seen": (Geometry((4, 1), (3, 2), (1, 4), ((1, 1), (3, 0)), (1, 1), (1, 1)), 2, 3, 20),
    "many outputs, some of a block": (SAME._replace(dilation=(1, 2), pads=((1, 1), (2, 2))), 3, 17, 71),
    "many of both, each part by itself": (SAME._replace(space=(3, 2)), 2, 101, 130),
    "many positions": (SAME._replace(space=(40, 37)), 2, 20, 16),
    "1-D": (Geometry((50,), (4,), (1,), ((3, 0),), (1,), (1,)), 2, 30, 10),
    "3-D": (Geometry((3, 5, 4), (3, 3, 2), (1, 2, 1), ((1, 1), (1, 1), (0, 1)), (1, 1, 1), (1, 1, 1)), 2, 18, 20),
    "depthwise, of whole vectors and some more": (SAME._replace(stride=(2, 2), groups=83), 2, 83, 83),
    "depthwise, dilated": (SAME._replace(dilation=(2, 2), pads=((2, 2), (2, 2)), groups=16), 2, 16, 16),
    "depthwise, spread": (SAME._replace(space=(4, 3), input_dilation=(2, 2), pads=((1, 2), (1, 2)), groups=4), 2, 4, 4),
}


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize("case", CASES)
def test_vectors_blocks_and_what_is_left_of_them(case):
    assert_equals_xla(*CASES[case])


@pytest.mark.usefixtures("loaded")
def test_other_types_and_split_programs_are_computed_without():
    x, _, g = arrays(SAME, 2, 4, 8, np.float32)
    for whole, dtype in ((False, "float32"), (True, "bfloat16")):
        gradient = jax.jit(lambda x, g, whole=whole: cpu_conv.kernel_gradient(x, g, SAME, whole=whole))
        assert "cnn_jax_" not in gradient.lower(x.astype(dtype), g.astype(dtype)).as_text()


def test_without_a_compiler_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UserError, match=r"needs a C\+\+ compiler, and none of c\+\+, g\+\+, clang\+\+ is there"):
        build_extension.build(tmp_path / "kernels.so")


@needs_compiler
def test_a_source_that_does_not_compile_leaves_the_old_library(tmp_path, monkeypatch):
    (tmp_path / "wrong.cc").write_text("int main( {")
    (tmp_path / "kernels.so").write_text("old")
    monkeypatch.setattr(extension, "SOURCE", tmp_path / "wrong.cc")
    with pytest.raises(UserError, match="could not compile"):
        build_extension.build(tmp_path / "kernels.so")
    assert (tmp_path / "kernels.so").read_text() == "old"


@pytest.mark.parametrize(("mode", "said"), [(0o777, "others can write to it"), (0o700, "not used")])
def test_a_library_that_is_not_to_be_trusted_or_is_broken_is_not_used(mode, said, tmp_path, monkeypatch):
    monkeypatch.setattr(extension, "_loaded", [])
    monkeypatch.delenv(extension.SWITCH, raising=False)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "kernels.so").write_text("no library")
    os.chmod(tmp_path / "own", mode)
    assert said in extension.load(tmp_path / "own" / "kernels.so")
    assert not extension.takes(jax.numpy.ones(2))
