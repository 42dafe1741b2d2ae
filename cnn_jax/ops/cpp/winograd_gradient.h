// The gradient of a 3×3 kernel by Winograd's products: of y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A the gradient by g is Gᵀ[Σ (Bᵀ d B) ⊙ (A y' Aᵀ)]G,
// the sum being over tiles: for each of the 16 places a matrix product.
#pragma once

#include "kernel_gradient.h"
#include "winograd.h"

namespace cnn_jax {

class WinogradGradient {
 public:
  WinogradGradient(const Geometry& g, const float* inputs, const float* cotangent, xla::ffi::ThreadPool& pool)
      : g_(g), inputs_(inputs), cotangent_(cotangent), pool_(pool), left_(winograd::in_vectors(g.c_in)), right_(winograd::in_vectors(g.c_out)) {}

  void compute(float* out) const {
    Scratch scratch;
    const int64_t weights = g_.c_in * g_.c_out;
    // The sums are read and written once for so many tiles, or else what these are transformed to.
    const bool by_tiles = weights <= kTiles * (g_.c_in + g_.c_out);
    const int64_t parts = by_tiles ? num_threads(pool_) : 1;
    float* const sums = scratch.of(parts * winograd::kPlaces * weights);
    by_tiles ? each_some_tiles(parts, sums) : each_some_places(sums);
    const int64_t vectors = (weights + kLanes - 1) / kLanes, threads = std::min<int64_t>(vectors, 4 * num_threads(pool_));
    share_where_long(pool_, threads, parts * winograd::kPlaces * weights, [&](int i) {
      for (int64_t k = vectors * i / threads; k < vectors * (i + 1) / threads; ++k) put(sums, parts, k * kLanes, out);
    });
  }

 private:
  static constexpr int64_t kTiles = 128;       // at once
  static constexpr int64_t kFloats = 1 << 22;  // of what tiles are transformed to, where all threads read it

  // All of the result from each part of the tiles; as many parts as threads, so that the sum is the same in every run.
  void each_some_tiles(int64_t parts, float* sums) const {
    const int64_t tiles = winograd::num_tiles(g_), size = winograd::kPlaces * g_.c_in * g_.c_out;
    share(pool_, parts, [&](int i) {
      thread_local Scratch seen, slopes;
      const int64_t first = tiles * i / parts, last = tiles * (i + 1) / parts, chunks = (last - first + kTiles - 1) / kTiles;
      if (chunks == 0) std::memset(sums + i * size, 0, size * 4);
      for (int64_t c = 0; c < chunks; ++c) {
        const int64_t begin = first + (last - first) * c / chunks, n = first + (last - first) * (c + 1) / chunks - begin;
        float* const x = seen.of(winograd::kPlaces * n * left_);
        float* const y = slopes.of(winograd::kPlaces * n * right_);
        for (int64_t t = 0; t < n; ++t) transform(begin + t, x + t * left_, n * left_, y + t * right_, n * right_);
        for (int64_t place = 0; place < winograd::kPlaces; ++place)
          for (int64_t b = 0; b < g_.c_out; b += kWide) multiply(x, y, n, place, b, c == 0, sums + i * size);
      }
    });
  }

  // Each place and block of columns from all tiles, of which there are few.
  void each_some_places(float* sums) const {
    const int64_t tiles = winograd::num_tiles(g_), most = std::max<int64_t>(kTiles, kFloats / (winograd::kPlaces * (left_ + right_)));
    const int64_t chunks = (tiles + most - 1) / most, blocks = (g_.c_out + kWide - 1) / kWide, some = 8;
    Scratch seen, slopes;
    for (int64_t c = 0; c < chunks; ++c) {
      const int64_t begin = tiles * c / chunks, n = tiles * (c + 1) / chunks - begin;
      float* const x = seen.of(winograd::kPlaces * (most + 1) * left_);
      float* const y = slopes.of(winograd::kPlaces * (most + 1) * right_);
      share(pool_, (n + some - 1) / some, [&](int i) {
        for (int64_t t = i * some; t < std::min((i + 1) * some, n); ++t)
          transform(begin + t, x + t * left_, n * left_, y + t * right_, n * right_);
      });
      share(pool_, winograd::kPlaces * blocks, [&](int i) { multiply(x, y, n, i / blocks, i % blocks * kWide, c == 0, sums); });
    }
  }

  // What a tile sees and its cotangent, A y' Aᵀ, at the places.
  void transform(int64_t number, float* x, int64_t x_apart, float* y, int64_t y_apart) const {
    const winograd::Tile tile(g_, number);
    winograd::inputs_of(g_, tile, inputs_, x, x_apart);
    const bool below = tile.y + 1 < g_.out[1], beside = tile.x + 1 < g_.out[2];
    const float* const from = cotangent_ + ((tile.image * g_.out[1] + tile.y) * g_.out[2] + tile.x) * g_.c_out;
    const float* const next = from + g_.out[2] * g_.c_out;
    for (int64_t c = 0; c < g_.c_out; c += kLanes) {
      const int64_t kept = g_.c_out - c;
      const Vector none{}, d[2][2] = {{load(from + c, kept), beside ? load(from + g_.c_out + c, kept) : none},
                                      {below ? load(next + c, kept) : none, below && beside ? load(next + g_.c_out + c, kept) : none}};
      Vector half[4][2];
      UNROLL
      for (int j = 0; j < 2; ++j) half[0][j] = d[0][j], half[1][j] = d[0][j] + d[1][j], half[2][j] = d[0][j] - d[1][j], half[3][j] = -d[1][j];
      UNROLL
      for (int i = 0; i < 4; ++i) {
        float* const to = y + i * 4 * y_apart + c;
        store(to, half[i][0]), store(to + y_apart, half[i][0] + half[i][1]);
        store(to + 2 * y_apart, half[i][0] - half[i][1]), store(to + 3 * y_apart, -half[i][1]);
      }
    }
  }

  // Adds a place's product over n tiles, in the columns of a block, to its sums.
  void multiply(const float* x, const float* y, int64_t n, int64_t place, int64_t column, bool fresh, float* sums) const {
    const std::vector<gradient_tiles::Row> rows = {{x + place * n * left_, y + place * n * right_ + column}};
    const int64_t kept = std::min<int64_t>(kWide, g_.c_out - column), vectors = (kept + kLanes - 1) / kLanes;
    gradient_tiles::tiles(vectors, rows, n, left_, right_, g_.c_in, sums + place * g_.c_in * g_.c_out + column, g_.c_out,
                          kept - (vectors - 1) * kLanes, fresh);
  }

  // Gᵀ u G of a vector of weights, u being the sum of the parts.
  void put(const float* sums, int64_t parts, int64_t first, float* out) const {
    const int64_t size = g_.c_in * g_.c_out, kept = size - first;
    Vector u[4][4], half[3][4];
    UNROLL
    for (int i = 0; i < 4; ++i)
      UNROLL
      for (int j = 0; j < 4; ++j) u[i][j] = load(sums + (i * 4 + j) * size + first, kept);
    for (int64_t p = 1; p < parts; ++p)
      UNROLL
      for (int i = 0; i < 4; ++i)
        UNROLL
        for (int j = 0; j < 4; ++j) u[i][j] += load(sums + (p * winograd::kPlaces + i * 4 + j) * size + first, kept);
    UNROLL
    for (int j = 0; j < 4; ++j) {
      const Vector sum = 0.5f * (u[1][j] + u[2][j]);
      half[0][j] = u[0][j] + sum, half[1][j] = 0.5f * (u[1][j] - u[2][j]), half[2][j] = sum + u[3][j];
    }
    UNROLL
    for (int i = 0; i < 3; ++i) {
      const Vector sum = 0.5f * (half[i][1] + half[i][2]);
      float* const to = out + i * 3 * size + first;
      store(to, half[i][0] + sum, kept), store(to + size, 0.5f * (half[i][1] - half[i][2]), kept);
      store(to + 2 * size, sum + half[i][3], kept);
    }
  }

  const Geometry& g_;
  const float* inputs_;
  const float* cotangent_;
  xla::ffi::ThreadPool& pool_;
  const int64_t left_, right_;  // channels, filled up to whole vectors
};

}  // namespace cnn_jax
