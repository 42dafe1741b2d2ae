// Inputs as the taps of a window see them.
#pragma once

#include <vector>

#include "geometry.h"
#include "vectors.h"

namespace cnn_jax {

// Offsets in the inputs, and the positions of an output row that see inputs there: [first, last).
struct Tap {
  int64_t z, y, x, first, last;
};

// The number of the inputs' row that an output row sees by this tap; −1 where no position of it sees any.
inline int64_t row_seen(const Geometry& g, const Tap& t, int64_t row) {
  const int64_t y = row % g.out[1] * g.stride[1] + t.y, z = row / g.out[1] % g.out[0] * g.stride[0] + t.z;
  if (y < 0 || y >= g.in[1] || z < 0 || z >= g.in[0] || t.first == t.last) return -1;
  return (row / g.out[1] / g.out[0] * g.in[0] + z) * g.in[1] + y;
}

// The same for the pixel that the first position sees.
inline int64_t first_seen(const Geometry& g, const Tap& t, int64_t row) {
  const int64_t seen = row_seen(g, t, row);
  return seen < 0 ? seen : seen * g.in[2] + t.first * g.stride[2] + t.x;
}

// The features of a tap are its channels; of few channels, those of a whole row of the window, which lie next to each other.
class Inputs {
 public:
  Inputs(const Geometry& g, const float* from, xla::ffi::ThreadPool& pool)
      : joined(g.c_in < kLanes && g.dilation[2] == 1 && g.window[2] > 1),
        features(joined ? g.window[2] * g.c_in : g.c_in),
        wide(joined ? (g.out[2] - 1) * g.stride[2] + g.window[2] : g.in[2]),
        pixels(from),
        g_(g) {
    if (joined) pad(pool);
    for (int64_t z = 0; z < g.window[0]; ++z)
      for (int64_t y = 0; y < g.window[1]; ++y)
        for (int64_t x = 0; x < (joined ? 1 : g.window[2]); ++x) {
          Tap t{z * g.dilation[0] - g.before[0], y * g.dilation[1] - g.before[1], 0, 0, g.out[2]};
          if (!joined) {
            t.x = x * g.dilation[2] - g.before[2];
            seen(t.x, g.stride[2], g.in[2], g.out[2], &t.first, &t.last);
          }
          taps.push_back(t);
        }
  }

  // As the function of this name: the number of a pixel here.
  int64_t first_seen(const Tap& t, int64_t row) const {
    const int64_t seen = row_seen(g_, t, row);
    return seen < 0 ? seen : seen * wide + t.first * g_.stride[2] + t.x;
  }

  int64_t num_pixels() const { return g_.n * g_.in[0] * g_.in[1] * wide; }

  const bool joined;
  const int64_t features, wide;
  const float* pixels;  // [n, in, in, wide, c_in]
  std::vector<Tap> taps;

 private:
  // Rows as wide as windows reach, so that a row of the window sees features next to each other everywhere.
  void pad(xla::ffi::ThreadPool& pool) {
    const int64_t pad = std::min(g_.before[2], wide);  // more than that where windows see padding only
    const int64_t kept = std::min(g_.in[2], wide - pad) * g_.c_in, width = wide * g_.c_in, before = pad * g_.c_in;
    const int64_t planes = g_.n * g_.in[0];
    float* to = padded_.of(num_pixels() * g_.c_in);
    share(pool, planes, [&](int i) {
      for (int64_t r = i * g_.in[1]; r < (i + 1) * g_.in[1]; ++r) {
        std::fill(to + r * width, to + r * width + before, 0.0f);
        std::memcpy(to + r * width + before, pixels + r * g_.in[2] * g_.c_in, kept * 4);
        std::fill(to + r * width + before + kept, to + (r + 1) * width, 0.0f);
      }
    });
    pixels = to;
  }

  const Geometry& g_;
  Scratch padded_;
};

// Rows of some columns of a matrix, filled up to whole vectors.
struct Block {
  const float* rows;
  int64_t width, columns;
};

// A matrix [rows, columns] as blocks of so many columns, each filled up with zeros to a multiple of `whole`.
inline std::vector<Block> blocks(const float* from, int64_t rows, int64_t columns, int64_t size, int64_t whole, Scratch& to) {
  std::vector<Block> made;
  float* at = to.of(rows * ((columns + size - 1) / size) * ((size + whole - 1) / whole * whole));
  for (int64_t c = 0; c < columns; c += size) {
    const int64_t kept = std::min(size, columns - c), width = (kept + whole - 1) / whole * whole;
    made.push_back({at, width, kept});
    for (int64_t r = 0; r < rows; ++r, at += width) {
      std::memcpy(at, from + r * columns + c, kept * 4);
      std::fill(at + kept, at + width, 0.0f);
    }
  }
  return made;
}

}  // namespace cnn_jax
