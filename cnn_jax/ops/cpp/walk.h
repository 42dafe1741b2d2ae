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

// The way back: for each input the positions that see it, by rising position.
inline Walk back(const Walk& walked, int64_t size) {
  Walk seen_by(size);
  for (size_t o = 0; o < walked.size(); ++o)
    for (const Seen& s : walked[o]) seen_by[s.input].push_back({static_cast<int64_t>(o), s.tap});
  return seen_by;
}

// The rows of one side, of sizes [n, outer, inner], that a row of the other side meets, and by which rows of the window.
inline std::vector<Seen> rows_met(int64_t row, const Walk& outer, const Walk& inner, int64_t size_outer, int64_t size_inner,
                                  int64_t window_inner) {
  std::vector<Seen> rows;
  const int64_t y = row % inner.size(), z = row / inner.size() % outer.size(), n = row / inner.size() / outer.size();
  for (const Seen& a : outer[z])
    for (const Seen& b : inner[y]) rows.push_back({(n * size_outer + a.input) * size_inner + b.input, a.tap * window_inner + b.tap});
  return rows;
}

}  // namespace cnn_jax
