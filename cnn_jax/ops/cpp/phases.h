// Correlation of inputs that may lie apart, with zeros between them: outputs of one remainder see every gap-th tap of the window, and by
// those the inputs alone. So each phase of the result is a correlation of its own, written where it belongs.
#pragma once

#include "correlation.h"

namespace cnn_jax {

// An axis' outputs of this remainder: how the taps that see inputs walk. Returns the first of them, or −1 where none does.
inline int64_t take_phase(const Geometry& g, int axis, int64_t remainder, Geometry& part, Places& places) {
  const int64_t gap = g.apart[axis], d = g.dilation[axis];
  places.size[axis] = g.out[axis], places.first[axis] = remainder, places.gap[axis] = gap;
  part.out[axis] = (g.out[axis] - remainder + gap - 1) / gap, part.apart[axis] = 1;
  int64_t tap = 0;
  while (tap < g.window[axis] && (remainder + tap * d - g.before[axis]) % gap != 0) ++tap;
  if (tap == g.window[axis] || part.out[axis] <= 0) return -1;
  part.window[axis] = (g.window[axis] - tap + gap - 1) / gap;
  part.before[axis] = -(remainder + tap * d - g.before[axis]) / gap;
  return tap;
}

// The weights of every gap-th tap from these on.
inline const float* weights_of(const Geometry& g, const Geometry& part, const int64_t* first, const float* kernel, Scratch& to) {
  const int64_t size = g.c_in * g.c_out;
  float* at = to.of(part.window[0] * part.window[1] * part.window[2] * size);
  const float* const begin = at;
  for (int64_t z = first[0]; z < g.window[0]; z += g.apart[0])
    for (int64_t y = first[1]; y < g.window[1]; y += g.apart[1])
      for (int64_t x = first[2]; x < g.window[2]; x += g.apart[2], at += size)
        std::memcpy(at, kernel + ((z * g.window[1] + y) * g.window[2] + x) * size, size * 4);
  return begin;
}

// Inputs lie apart only where the stride is 1, and by what has no divisor in common with the dilation.
inline void correlate(const Geometry& g, const float* inputs, const float* kernel, float* out, xla::ffi::ThreadPool& pool) {
  const int64_t* gap = g.apart;
  if (g.window[0] < gap[0] || g.window[1] < gap[1] || g.window[2] < gap[2])  // some phases see nothing
    std::memset(out, 0, g.n * g.out[0] * g.out[1] * g.out[2] * g.c_out * 4);
  Scratch scratch;
  for (int64_t phase = 0; phase < gap[0] * gap[1] * gap[2]; ++phase) {
    Geometry part = g;
    Places places;
    const int64_t first[3] = {take_phase(g, 0, phase / gap[2] / gap[1], part, places),
                              take_phase(g, 1, phase / gap[2] % gap[1], part, places), take_phase(g, 2, phase % gap[2], part, places)};
    if (std::min({first[0], first[1], first[2]}) < 0) continue;
    const bool whole = gap[0] * gap[1] * gap[2] == 1;
    Correlation(part, inputs, whole ? kernel : weights_of(g, part, first, kernel, scratch), places).compute(out, pool);
  }
}

}  // namespace cnn_jax
