// A window's walk: for each position of an axis, what it sees and by which taps.
#pragma once

#include <vector>

#include "geometry.h"

namespace cnn_jax {

struct Seen {
  int64_t input, tap;
};

using Walk = std::vector<std::vector<Seen>>;

// For each position of an axis the inputs it sees, by rising tap. Inputs may lie apart, with zeros between them.
inline Walk walk(const Geometry& g, int axis) {
  Walk walked(g.out[axis]);
  for (int64_t o = 0; o < g.out[axis]; ++o)
    for (int64_t k = 0; k < g.window[axis]; ++k) {
      const int64_t at = o * g.stride[axis] + k * g.dilation[axis] - g.before[axis];
      if (at >= 0 && at % g.apart[axis] == 0 && at / g.apart[axis] < g.in[axis]) walked[o].push_back({at / g.apart[axis], k});
    }
  return walked;
}

// The rows of inputs that an output row sees, and which rows of the window they meet.
inline std::vector<Seen> rows_seen(const Geometry& g, int64_t row, const Walk& outer, const Walk& inner) {
  std::vector<Seen> rows;
  const int64_t y = row % inner.size(), z = row / inner.size() % outer.size(), n = row / inner.size() / outer.size();
  for (const Seen& a : outer[z])
    for (const Seen& b : inner[y]) rows.push_back({(n * g.in[0] + a.input) * g.in[1] + b.input, a.tap * g.window[1] + b.tap});
  return rows;
}

}  // namespace cnn_jax
