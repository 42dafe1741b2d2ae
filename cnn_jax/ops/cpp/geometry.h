// How a window moves over inputs; one to three spatial axes are three, the outer ones of size 1.
#pragma once

#include <algorithm>
#include <cstdint>

namespace cnn_jax {

struct Geometry {
  int64_t n, in[3], c_in, out[3], c_out, window[3], stride[3], before[3], dilation[3], apart[3], groups;
};

// Positions of an output row that see inputs: [first, last) for an offset of the window.
inline void seen(int64_t offset, int64_t stride, int64_t size, int64_t positions, int64_t* first, int64_t* last) {
  *first = offset >= 0 ? 0 : (-offset + stride - 1) / stride;
  *last = offset >= size ? 0 : std::min(positions, (size - 1 - offset) / stride + 1);
  *last = std::max(*first, *last);
}

}  // namespace cnn_jax
