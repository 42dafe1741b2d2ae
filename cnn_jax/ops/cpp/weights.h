// The weights of a correlation, laid out as its tiles read them.
#pragma once

#include <vector>

#include "taps.h"

namespace cnn_jax {

// A matrix [c_in, c_out] for each tap, or [c_out, c_in] where transposed.
struct Weights {
  std::vector<const float*> taps;
  bool transposed;
};

// One matrix' columns from c on: rows of `width` floats, those beyond its end being 0.
inline void copy_columns(const float* from, bool transposed, int64_t c_in, int64_t c_out, int64_t c, int64_t width, float* to) {
  const int64_t kept = std::min(width, c_out - c);
  if (kept < width) std::fill(to, to + c_in * width, 0.0f);
  if (!transposed) {
    for (int64_t k = 0; k < c_in; ++k) std::memcpy(to + k * width, from + k * c_out + c, kept * 4);
    return;
  }
  constexpr int64_t kLine = 16;  // floats of a cache line: each is read whole
  for (int64_t k = 0; k < c_in; k += kLine)
    for (int64_t j = 0; j < kept; j += kLine)
      for (int64_t i = k; i < std::min(k + kLine, c_in); ++i)
        for (int64_t l = j; l < std::min(j + kLine, kept); ++l) to[i * width + l] = from[(c + l) * c_in + i];
}

// Blocks of kWide columns, filled up to whole vectors, of all taps' matrices one below the other.
inline std::vector<Block> blocks(const Weights& weights, int64_t c_in, int64_t c_out, Scratch& to, xla::ffi::ThreadPool& pool) {
  const int64_t taps = weights.taps.size(), n = (c_out + kWide - 1) / kWide;
  std::vector<Block> made;
  float* const begin = to.of(taps * c_in * n * kWide);
  for (int64_t c = 0; c < c_out; c += kWide) {
    const int64_t kept = std::min<int64_t>(kWide, c_out - c);
    made.push_back({begin + taps * c_in * c, (kept + kLanes - 1) / kLanes * kLanes, kept});
  }
  const auto copy = [&](int i) {
    const Block& block = made[i / taps];
    float* const at = const_cast<float*>(block.rows) + i % taps * c_in * block.width;
    copy_columns(weights.taps[i % taps], weights.transposed, c_in, c_out, i / taps * kWide, block.width, at);
  };
  share_where_long(pool, taps * n, taps * c_in * c_out, copy);
  return made;
}

}  // namespace cnn_jax
