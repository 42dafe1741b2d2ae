// The gradient of a kernel: a matrix product, (what a tap sees)ᵀ · cotangent, whose left factor need not be written out: its rows are the
// inputs themselves, a stride apart. A tile of it, a few input channels by a few vectors of output channels, stays in registers over many
// positions (Goto & van de Geijn 2008, "Anatomy of high-performance matrix multiplication").
#pragma once

#include "taps.h"

namespace cnn_jax {
namespace gradient_tiles {

struct Row {
  const float* inputs;
  const float* cotangent;
};

// out[r][v] = Σ inputs[r] · cotangent[v] over all positions of all rows, or is increased by it where it is not fresh
template <int R, int V>
void tile(const std::vector<Row>& rows, int64_t count, int64_t step, int64_t width, float* out, int64_t c_out, int64_t tail,
          bool fresh) {
  Vector sums[R][V];
  UNROLL
  for (int r = 0; r < R; ++r)
    UNROLL
    for (int v = 0; v < V; ++v) sums[r][v] = Vector{};
  for (const Row& row : rows) {
    const float* a = row.inputs;
    const float* b = row.cotangent;
    for (int64_t p = 0; p < count; ++p, a += step, b += width) {
      Vector g[V];
      UNROLL
      for (int v = 0; v < V; ++v) g[v] = load(b + v * kLanes);
      UNROLL
      for (int r = 0; r < R; ++r) {
        const float x = a[r];
        UNROLL
        for (int v = 0; v < V; ++v) sums[r][v] += x * g[v];
      }
    }
  }
  UNROLL
  for (int r = 0; r < R; ++r, out += c_out)
    UNROLL
    for (int v = 0; v < V; ++v) {
      float* at = out + v * kLanes;
      if (v < V - 1 || tail == kLanes) {
        store(at, fresh ? sums[r][v] : load(at) + sums[r][v]);
      } else {
        float last[kLanes];
        store(last, sums[r][v]);
        for (int i = 0; i < tail; ++i) at[i] = fresh ? last[i] : at[i] + last[i];
      }
    }
}

template <int V>
void tiles(const std::vector<Row>& rows, int64_t count, int64_t step, int64_t width, int64_t features, float* out, int64_t c_out,
           int64_t tail, bool fresh) {
  constexpr int R = kRows * kVectors / V;
  std::vector<Row> at = rows;
  auto advance = [&](int r) {
    for (Row& row : at) row.inputs += r;
    out += r * c_out;
    features -= r;
  };
  while (features >= R) tile<R, V>(at, count, step, width, out, c_out, tail, fresh), advance(R);
  if constexpr (R / 2 > 4)
    if (features >= R / 2) tile<R / 2, V>(at, count, step, width, out, c_out, tail, fresh), advance(R / 2);
  while (features >= 4) tile<4, V>(at, count, step, width, out, c_out, tail, fresh), advance(4);
  if (features == 3) tile<3, V>(at, count, step, width, out, c_out, tail, fresh);
  if (features == 2) tile<2, V>(at, count, step, width, out, c_out, tail, fresh);
  if (features == 1) tile<1, V>(at, count, step, width, out, c_out, tail, fresh);
}

inline void tiles(int vectors, const std::vector<Row>& rows, int64_t count, int64_t step, int64_t width, int64_t features, float* out,
           int64_t c_out, int64_t tail, bool fresh) {
  if (vectors == 1) return tiles<1>(rows, count, step, width, features, out, c_out, tail, fresh);
  if (vectors == 2) return tiles<2>(rows, count, step, width, features, out, c_out, tail, fresh);
  if constexpr (kVectors == 4) {
    if (vectors == 3) return tiles<3>(rows, count, step, width, features, out, c_out, tail, fresh);
    tiles<4>(rows, count, step, width, features, out, c_out, tail, fresh);
  }
}

}  // namespace gradient_tiles

class KernelGradient {
 public:
  KernelGradient(const Geometry& g, const float* inputs, xla::ffi::ThreadPool& pool) : g_(g), inputs_(g, inputs, pool), pool_(pool) {}

  void compute(const float* cotangent, float* out) const {
    const int64_t rows = g_.n * g_.out[0] * g_.out[1], taps = inputs_.taps.size(), size = taps * inputs_.features * g_.c_out;
    const int64_t parts = std::min<int64_t>(num_threads(pool_), rows);
    if (parts * size > inputs_.num_pixels() * g_.c_in + rows * g_.out[2] * g_.c_out)
      by_parts_of_the_result(rows, taps, cotangent, out);
    else
      by_positions(rows, taps, size, parts, cotangent, out);
  }

 private:
  static constexpr int64_t kPositions = 256, kFeatures = 8 * kRows;  // that stay in the nearest caches

  // Each part of the result from all positions.
  void by_parts_of_the_result(int64_t rows, int64_t taps, const float* cotangent, float* out) const {
    Scratch left_columns, right_columns;
    const auto left = inputs_.joined ? as_they_are() : blocks(inputs_.pixels, inputs_.num_pixels(), g_.c_in, kFeatures, 1, left_columns);
    const auto right = blocks(cotangent, rows * g_.out[2], g_.c_out, kWide, kLanes, right_columns);
    share(pool_, taps * right.size(), [&](int i) {
      int64_t feature = i % taps * inputs_.features;
      for (const Block& some : left) {
        add(0, rows, inputs_.taps[i % taps], some, right[i / taps], out + feature * g_.c_out + i / taps * kWide, true);
        feature += some.columns;
      }
    });
  }

  // All of the result from each part of the positions; as many parts as threads, so that the sum is the same in every run.
  void by_positions(int64_t rows, int64_t taps, int64_t size, int64_t parts, const float* cotangent, float* out) const {
    const bool fits = g_.c_out <= kWide && g_.c_out % kLanes == 0;
    const int64_t step = std::max<int64_t>(1, kPositions / g_.out[2]);
    const auto left = as_they_are();
    Scratch scratch;
    float* others = scratch.of((parts - 1) * size + 1);
    share(pool_, parts, [&](int i) {
      float* sums = i ? others + (i - 1) * size : out;
      const int64_t begin = rows * i / parts, end = rows * (i + 1) / parts;
      thread_local Scratch columns;
      for (int64_t row = begin; row < end; row += step) {
        const int64_t last = std::min(row + step, end);
        const float* seen = cotangent + row * g_.out[2] * g_.c_out;
        const auto right = fits ? std::vector<Block>{{seen, g_.c_out, g_.c_out}}
                                : blocks(seen, (last - row) * g_.out[2], g_.c_out, kWide, kLanes, columns);
        for (size_t b = 0; b < right.size(); ++b)
          for (int64_t t = 0; t < taps; ++t)
            add(row, last, inputs_.taps[t], left[0], right[b], sums + t * inputs_.features * g_.c_out + b * kWide, row == begin);
      }
    });
    for (int64_t i = 1; i < parts; ++i)
      for (int64_t j = 0; j < size; ++j) out[j] += others[(i - 1) * size + j];
  }

  std::vector<Block> as_they_are() const { return {{inputs_.pixels, g_.c_in, inputs_.features}}; }

  // Adds to a tap's part of the result what output rows contribute, the first of which `right` begins with.
  void add(int64_t row, int64_t last, const Tap& tap, const Block& left, const Block& right, float* out, bool fresh) const {
    thread_local std::vector<gradient_tiles::Row> rows;
    rows.clear();
    for (int64_t r = row; r < last; ++r)
      if (const int64_t pixel = inputs_.first_seen(tap, r); pixel >= 0)
        rows.push_back({left.rows + pixel * left.width, right.rows + ((r - row) * g_.out[2] + tap.first) * right.width});
    const int64_t vectors = right.width / kLanes, tail = right.columns - (vectors - 1) * kLanes;
    gradient_tiles::tiles(vectors, rows, tap.last - tap.first, g_.stride[2] * left.width, right.width, left.columns, out, g_.c_out, tail,
                          fresh);
  }

  const Geometry& g_;
  const Inputs inputs_;
  xla::ffi::ThreadPool& pool_;
};

}  // namespace cnn_jax
