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

// Where outputs lie in the result: at each axis' gap-th positions from the first on, each position `channels` floats.
struct Places {
  int64_t channels, size[3], first[3], gap[3];

  // Of the first position of an output row, counted in floats.
  int64_t of(const Geometry& g, int64_t row) const {
    const int64_t y = row % g.out[1] * gap[1] + first[1], z = row / g.out[1] % g.out[0] * gap[0] + first[0];
    return (((row / g.out[1] / g.out[0] * size[0] + z) * size[1] + y) * size[2] + first[2]) * channels;
  }

  bool next_to_each_other(const Geometry& g) const {
    return gap[0] == 1 && gap[1] == 1 && gap[2] * channels == g.c_out && g.out[2] * g.c_out == size[2] * channels;
  }
};

}  // namespace cnn_jax
