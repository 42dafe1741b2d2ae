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
    assert "cnn_jax_" in both.lower(*given).as_text() or (np.prod(geometry.window) == 1 and geometry.groups == 1)
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
    "many channels, by Winograd's products": (SAME._replace(space=(9, 11)), 3, 35, 70),
    "very many channels": (SAME._replace(space=(9, 11)), 3, 259, 301),
    "many channels, padded by two and none": (SAME._replace(space=(7, 24), pads=((2, 1), (0, 2))), 3, 64, 33),
    "spread, by phases": (SAME._replace(input_dilation=(2, 3), pads=((1, 2), (2, 1))), 2, 20, 35),
    "spread, some phases of which see nothing": (Geometry((4, 5), (2, 1), (1, 1), ((1, 0), (2, 1)), (3, 2), (1, 1)), 2, 5, 18),
    "spread and dilated, in 3-D": (
        Geometry((3, 4, 3), (3, 2, 3), (1, 1, 1), ((1, 2), (1, 0), (2, 2)), (2, 1, 2), (1, 2, 3)),
        *(2, 17, 19),
    ),
    "few outputs side by side, and a rest": (SAME._replace(space=(6, 23)), 3, 7, 3),
    "few outputs of strides side by side": (SAME._replace(space=(9, 30), stride=(2, 2)), 2, 19, 2),
    "few outputs of spread inputs side by side": (SAME._replace(space=(5, 11), input_dilation=(2, 2), pads=((1, 2), (2, 1))), 2, 18, 3),
    "few outputs of dilated windows": (SAME._replace(space=(9, 17), dilation=(1, 2), pads=((1, 1), (2, 1))), 2, 18, 1),
    "few outputs": (Geometry((31, 13), (5, 5), (1, 1), ((0, 0), (2, 1)), (1, 1), (1, 1)), 3, 1, 6),
    "few outputs, strided": (Geometry((40, 37), (3, 4), (2, 3), ((1, 1), (2, 0)), (1, 1), (1, 1)), 2, 3, 5),
    "few outputs, strided and dilated": (Geometry((50, 61), (2, 3), (3, 2), ((1, 0), (4, 3)), (1, 1), (2, 3)), 2, 1, 1),
    "few outputs of many inputs, in parts": (Geometry((43, 38), (7, 2), (1, 1), ((3, 3), (0, 1)), (1, 1), (1, 2)), 2, 37, 8),
    "few outputs, of which some see padding only": (Geometry((16, 3), (3, 2), (1, 1), ((1, 1), (9, 6)), (1, 1), (1, 1)), 3, 2, 2),
    "few outputs, 3-D": (Geometry((3, 20, 19), (3, 3, 2), (2, 1, 1), ((1, 1), (1, 0), (0, 1)), (1, 1, 1), (1, 1, 1)), 2, 2, 7),
    "groups that share vectors": (SAME._replace(groups=11), 3, 44, 44),
    "groups that share vectors, strided": (SAME._replace(stride=(2, 3), groups=8), 3, 32, 32),
    "groups that share vectors, dilated": (SAME._replace(dilation=(1, 2), window=(2, 5), pads=((1, 0), (4, 3)), groups=5), 2, 15, 25),
    "groups of more inputs than share a vector": (SAME._replace(groups=6), 3, 54, 12),
    "groups of one input": (SAME._replace(stride=(2, 1), groups=5), 2, 5, 15),
    "groups that fill vectors": (SAME._replace(stride=(1, 2), groups=3), 3, 48, 48),
    "groups of some vectors and blocks": (SAME._replace(dilation=(2, 1), pads=((2, 2), (0, 1)), groups=2), 2, 62, 150),
    "groups, dilated, of many images": (SAME._replace(space=(4, 5), dilation=(1, 2), groups=2), 19, 6, 22),
    "groups that are part of a vector": (SAME._replace(space=(5, 29), pads=((1, 1), (2, 1)), groups=24), 2, 48, 48),
    "groups that are half of a vector": (SAME._replace(space=(6, 19), stride=(2, 1), groups=4), 3, 32, 32),
    "groups that are part of a vector, 1×1": (SAME._replace(window=(1, 1), stride=(1, 2), pads=((0, 1), (2, 0)), groups=4), 2, 16, 16),
    "groups that are part of a vector, 3-D": (
        Geometry((3, 5, 17), (3, 3, 2), (1, 2, 1), ((1, 1), (1, 1), (0, 1)), (1, 1, 1), (1, 1, 2), 4), 2, 16, 16),
    "groups, 1×1": (SAME._replace(window=(1, 1), pads=((0, 0), (0, 0)), groups=3), 2, 9, 6),
    "groups, 3-D": (Geometry((3, 5, 4), (3, 3, 2), (1, 2, 1), ((1, 1), (1, 1), (0, 1)), (1, 1, 1), (1, 1, 1), 4), 2, 12, 20),
    "groups, many positions": (SAME._replace(space=(40, 37), groups=4), 2, 16, 8),
    "depthwise, of whole vectors and some more": (SAME._replace(stride=(2, 2), groups=83), 2, 83, 83),
    "depthwise, dilated": (SAME._replace(dilation=(2, 2), pads=((2, 2), (2, 2)), groups=16), 2, 16, 16),
    "depthwise, twelve of a row together, and some": (Geometry((5, 19), (3, 5), (1, 1), ((1, 1), (2, 1)), (1, 1), (1, 1), 4), 2, 4, 4),
    "depthwise, several outputs two apart": (Geometry((5, 23), (3, 3), (1, 2), ((1, 1), (1, 1)), (1, 1), (1, 1), 36), 2, 36, 36),
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
