// 3×3 windows with 16 products for each 2×2 outputs, where plain sums take 36: with d the 4×4 inputs that they see and g the window,
// y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A, whose products over channels are matrix products, one for each of the 16 places. Rounding errors are about
// twice those of plain sums. (Winograd 1980; Lavin & Gray 2016, "Fast algorithms for convolutional neural networks".)
#pragma once

#include "taps.h"

namespace cnn_jax {
namespace winograd {

constexpr int64_t kPlaces = 16;

inline int64_t in_vectors(int64_t channels) { return (channels + kLanes - 1) / kLanes * kLanes; }

// The products an output takes by plain sums, which leave out padding.
inline double plain_products(const Geometry& g, int axis) {
  int64_t seen_by_all = 0;
  for (int64_t k = 0; k < g.window[axis]; ++k) {
    int64_t first, last;
    seen(k - g.before[axis], 1, g.in[axis], g.out[axis], &first, &last);
    seen_by_all += last - first;
  }
  return static_cast<double>(seen_by_all) / g.out[axis];
}

// How many pairs of outputs an axis has.
inline int64_t pairs(const Geometry& g, int axis) { return (g.out[axis] + 1) / 2; }

inline int64_t num_tiles(const Geometry& g) { return g.n * g.out[0] * pairs(g, 1) * pairs(g, 2); }

// Whether it is faster: many channels to share the transforms' cost, and many tiles to share that of the weights'.
inline bool pays(const Geometry& g) {
  for (int axis = 0; axis < 3; ++axis)
    if (g.stride[axis] != 1 || g.dilation[axis] != 1 || g.apart[axis] != 1 || g.window[axis] != (axis ? 3 : 1)) return false;
  if (g.before[0] != 0 || g.in[0] != g.out[0] || std::min(g.c_in, g.c_out) < 2 * kLanes || num_tiles(g) < 64) return false;
  const double products = 16.0 * pairs(g, 1) * pairs(g, 2) / (g.out[1] * g.out[2]);
  return 1.3 * products < plain_products(g, 1) * plain_products(g, 2);
}

// Four of 4×4 values by four: the product with Bᵀ from the left, then the same for rows.
inline void transform_inputs(Vector (&d)[4][4]) {
  UNROLL
  for (int j = 0; j < 4; ++j) {
    const Vector a = d[0][j] - d[2][j], b = d[1][j] + d[2][j], c = d[2][j] - d[1][j], e = d[1][j] - d[3][j];
    d[0][j] = a, d[1][j] = b, d[2][j] = c, d[3][j] = e;
  }
  UNROLL
  for (int i = 0; i < 4; ++i) {
    const Vector a = d[i][0] - d[i][2], b = d[i][1] + d[i][2], c = d[i][2] - d[i][1], e = d[i][1] - d[i][3];
    d[i][0] = a, d[i][1] = b, d[i][2] = c, d[i][3] = e;
  }
}

// The place of a tile in the inputs: its first row and column, which padding may put outside.
struct Tile {
  int64_t image, y, x;

  Tile(const Geometry& g, int64_t number)
      : image(number / pairs(g, 2) / pairs(g, 1)), y(number / pairs(g, 2) % pairs(g, 1) * 2), x(number % pairs(g, 2) * 2) {}
};

// Bᵀ d B of a tile; the places lie `apart` floats from each other, channels filled up to whole vectors.
inline void inputs_of(const Geometry& g, const Tile& tile, const float* inputs, float* to, int64_t apart) {
  const int64_t y = tile.y - g.before[1], x = tile.x - g.before[2], channels = g.c_in;
  const float* from = inputs + ((tile.image * g.in[1] + y) * g.in[2] + x) * channels;
  int64_t row = g.in[2] * channels;
  if (y < 0 || x < 0 || y + 4 > g.in[1] || x + 4 > g.in[2]) {
    thread_local Scratch scratch;
    float* const patch = scratch.of(kPlaces * channels);
    for (int64_t i = 0; i < 4; ++i)
      for (int64_t j = 0; j < 4; ++j) {
        float* const at = patch + (i * 4 + j) * channels;
        const bool inside = y + i >= 0 && y + i < g.in[1] && x + j >= 0 && x + j < g.in[2];
        inside ? std::memcpy(at, from + i * row + j * channels, channels * 4) : std::memset(at, 0, channels * 4);
      }
    from = patch, row = 4 * channels;
  }
  for (int64_t c = 0; c < channels; c += kLanes) {
    Vector d[4][4];
    UNROLL
    for (int i = 0; i < 4; ++i)
      UNROLL
      for (int j = 0; j < 4; ++j) d[i][j] = load(from + i * row + j * channels + c, channels - c);
    transform_inputs(d);
    UNROLL
    for (int i = 0; i < 4; ++i)
      UNROLL
      for (int j = 0; j < 4; ++j) store(to + (i * 4 + j) * apart + c, d[i][j]);
  }
}

// Tiles that are computed together; what they are transformed to stays in a cache, and the weights are read once for all of them.
inline int64_t tiles_at_once(int64_t channels, int64_t tiles, int64_t threads) {
  const int64_t most = std::clamp<int64_t>((1 << 17) / (kPlaces * channels), 48, 128);
  const int64_t parts = (tiles + most - 1) / most, even = (parts + threads - 1) / threads * threads;
  return (tiles + even - 1) / even;
}

}  // namespace winograd
}  // namespace cnn_jax
