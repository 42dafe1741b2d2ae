// Correlation with a 3×3 window by Winograd's products.
#pragma once

#include "correlation.h"
#include "winograd.h"

namespace cnn_jax {

class WinogradCorrelation {
 public:
  WinogradCorrelation(const Geometry& g, const float* inputs, const Weights& weights, xla::ffi::ThreadPool& pool)
      : g_(g), inputs_(inputs), pool_(pool), blocks_(blocks(weights, g.c_in, g.c_out, plain_, pool)) {
    const int64_t sizes = blocks_.size() * kWide * g.c_in;
    float* const to = transformed_.of(sizes * winograd::kPlaces);
    const auto transform_some = [&](int i) {  // a sixteenth of the rows each, of all places
      Block& block = blocks_[i / winograd::kPlaces];
      const int64_t part = i % winograd::kPlaces, size = g_.c_in * block.width, first = g_.c_in * part / winograd::kPlaces * block.width;
      float* const at = to + i / winograd::kPlaces * winograd::kPlaces * g_.c_in * kWide;
      for (int64_t k = first; k < g_.c_in * (part + 1) / winograd::kPlaces * block.width; k += kLanes) transform(block.rows + k, at + k, size);
    };
    share_where_long(pool, blocks_.size() * winograd::kPlaces, sizes * winograd::kPlaces, transform_some);
    for (size_t b = 0; b < blocks_.size(); ++b) blocks_[b].rows = to + b * winograd::kPlaces * g_.c_in * kWide;
  }

  void compute(float* out) const {
    const int64_t tiles = winograd::num_tiles(g_), wide = winograd::in_vectors(g_.c_in);
    const int64_t step = winograd::tiles_at_once(wide, tiles, num_threads(pool_));
    share(pool_, (tiles + step - 1) / step, [&](int i) { some(i * step, std::min((i + 1) * step, tiles), wide, out); });
  }

 private:
  static constexpr int64_t kFeatures = 256;  // whose weights stay in the nearest cache

  // G g Gᵀ of a vector of output channels; taps and places are `size` floats from each other.
  static void transform(const float* from, float* to, int64_t size) {
    Vector half[4][3];
    UNROLL
    for (int j = 0; j < 3; ++j) {
      const Vector a = load(from + j * size), b = load(from + (3 + j) * size), c = load(from + (6 + j) * size);
      half[0][j] = a, half[1][j] = 0.5f * (a + b + c), half[2][j] = 0.5f * (a - b + c), half[3][j] = c;
    }
    UNROLL
    for (int i = 0; i < 4; ++i) {
      const Vector a = half[i][0], b = half[i][1], c = half[i][2];
      store(to + (i * 4) * size, a), store(to + (i * 4 + 1) * size, 0.5f * (a + b + c));
      store(to + (i * 4 + 2) * size, 0.5f * (a - b + c)), store(to + (i * 4 + 3) * size, c);
    }
  }

  void some(int64_t first, int64_t last, int64_t wide, float* out) const {
    using namespace correlation_tiles;
    const int64_t n = last - first, apart = n * wide;
    thread_local Scratch seen, products;
    thread_local std::vector<Point> points;
    float* const x = seen.of(winograd::kPlaces * apart);
    float* const y = products.of(winograd::kPlaces * n * kWide);
    points.resize(n);
    for (int64_t t = 0; t < n; ++t) {
      winograd::inputs_of(g_, winograd::Tile(g_, first + t), inputs_, x + t * wide, apart);
      points[t] = {x + t * wide, t, 0};
    }
    const int64_t parts = (g_.c_in + kFeatures - 1) / kFeatures;
    for (size_t b = 0; b < blocks_.size(); ++b) {
      const Block& block = blocks_[b];
      for (int64_t place = 0; place < winograd::kPlaces; ++place)
        for (int64_t i = 0; i < parts; ++i) {
          const int64_t begin = g_.c_in * i / parts, count = g_.c_in * (i + 1) / parts - begin;
          const Features features{place * apart + begin, count, {1, 0, 0}, {1, 0, 0}};
          tiles(points.data(), n, features, {y + place * n * block.width, block.width, i == 0, false}, block, place * g_.c_in + begin);
        }
      for (int64_t t = 0; t < n; ++t) put(winograd::Tile(g_, first + t), y + t * block.width, n * block.width, block, out + b * kWide);
    }
  }

  // Aᵀ m A: the 2×2 outputs of a tile, or those that there are.
  void put(const winograd::Tile& tile, const float* from, int64_t apart, const Block& block, float* out) const {
    const bool below = tile.y + 1 < g_.out[1], beside = tile.x + 1 < g_.out[2];
    float* const to = out + ((tile.image * g_.out[1] + tile.y) * g_.out[2] + tile.x) * g_.c_out;
    float* const next = to + g_.out[2] * g_.c_out;
    for (int64_t c = 0; c < block.columns; c += kLanes) {
      const int64_t kept = block.columns - c;
      Vector half[2][4];
      UNROLL
      for (int j = 0; j < 4; ++j) {
        const Vector a = load(from + j * apart + c), b = load(from + (4 + j) * apart + c), d = load(from + (8 + j) * apart + c);
        half[0][j] = a + b + d, half[1][j] = b - d - load(from + (12 + j) * apart + c);
      }
      store(to + c, half[0][0] + half[0][1] + half[0][2], kept);
      if (beside) store(to + g_.c_out + c, half[0][1] - half[0][2] - half[0][3], kept);
      if (below) store(next + c, half[1][0] + half[1][1] + half[1][2], kept);
      if (below && beside) store(next + g_.c_out + c, half[1][1] - half[1][2] - half[1][3], kept);
    }
  }

  const Geometry& g_;
  const float* inputs_;
  xla::ffi::ThreadPool& pool_;
  Scratch plain_, transformed_;
  std::vector<Block> blocks_;  // of each the rows of all places, one below the other
};

}  // namespace cnn_jax
