// Correlation: sums of matrix products, (what some taps see) · (their weights). A tile of the result, a few positions by a few vectors of
// output channels, stays in registers over all features that lie next to each other in the inputs: the channels of a row of the window.
#pragma once

#include "taps.h"

namespace cnn_jax {
namespace correlation_tiles {

// What a position sees, and where its outputs are.
struct Point {
  const float* inputs;
  int64_t position;
};

struct Outputs {
  float* first;
  int64_t width;
  bool fresh;
};

// Features of a position: some rows of so many, each `inputs` and `weights` after the one before.
struct Features {
  int64_t first, count, rows, inputs, weights;
};

// out[r][v] += Σ inputs[r][k] · weights[k][v] over all features k, or = where nothing is there yet
template <int R, int V>
void tile(const Point* points, const Features& features, const Outputs& out, const float* weights) {
  Vector sums[R][V];
  const float* x[R];
  float* y[R];
  UNROLL
  for (int r = 0; r < R; ++r) {
    x[r] = points[r].inputs + features.first;
    y[r] = out.first + points[r].position * out.width;
    UNROLL
    for (int v = 0; v < V; ++v) sums[r][v] = out.fresh ? Vector{} : load(y[r] + v * kLanes);
  }
  for (int64_t row = 0; row < features.rows; ++row) {
    const float* at = weights + row * features.weights * V * kLanes;
    for (int64_t k = 0; k < features.count; ++k, at += V * kLanes) {
      Vector w[V];
      UNROLL
      for (int v = 0; v < V; ++v) w[v] = load(at + v * kLanes);
      UNROLL
      for (int r = 0; r < R; ++r) {
        const float value = x[r][k];
        UNROLL
        for (int v = 0; v < V; ++v) sums[r][v] += value * w[v];
      }
    }
    UNROLL
    for (int r = 0; r < R; ++r) x[r] += features.inputs;
  }
  UNROLL
  for (int r = 0; r < R; ++r)
    UNROLL
    for (int v = 0; v < V; ++v) store(y[r] + v * kLanes, sums[r][v]);
}

template <int R, int V>
void tile_of(int64_t rows, const Point* points, const Features& features, const Outputs& out, const float* weights) {
  if constexpr (R > 0) {
    if (rows == R) return tile<R, V>(points, features, out, weights);
    tile_of<R - 1, V>(rows, points, features, out, weights);
  }
}

// All points, in tiles of nearly the same size.
template <int V>
void tiles(const Point* points, int64_t n, const Features& features, const Outputs& out, const float* weights) {
  constexpr int R = V == kVectors ? kRows : kRows + 2;
  const int64_t parts = (n + R - 1) / R;
  for (int64_t i = 0; i < parts; ++i) {
    const int64_t begin = n * i / parts, end = n * (i + 1) / parts;
    tile_of<R, V>(end - begin, points + begin, features, out, weights);
  }
}

inline void tiles(const Point* points, int64_t n, const Features& features, const Outputs& out, const Block& weights, int64_t row) {
  const float* from = weights.rows + row * weights.width;
  const int64_t vectors = weights.width / kLanes;
  if (vectors == 1) return tiles<1>(points, n, features, out, from);
  if (vectors == 2) return tiles<2>(points, n, features, out, from);
  if constexpr (kVectors == 4) {
    if (vectors == 3) return tiles<3>(points, n, features, out, from);
    tiles<4>(points, n, features, out, from);
  }
}

}  // namespace correlation_tiles

class Correlation {
 public:
  Correlation(const Geometry& g, const float* inputs, const float* kernel)
      : g_(g),
        inputs_(inputs),
        runs_(runs_of(g)),
        fresh_(runs_.size() == 1 && all_alike(g)),
        weights_(blocks(kernel, g.window[0] * g.window[1] * g.window[2] * g.c_in, g.c_out, kWide, kLanes, columns_)) {}

  void compute(float* out, xla::ffi::ThreadPool& pool) const {
    const int64_t rows = g_.n * g_.out[0] * g_.out[1], step = std::max<int64_t>(1, kPositions / g_.out[2]);
    const int64_t parts = (rows + step - 1) / step, n = weights_.size(), splits = parts < 4 * num_threads(pool) ? n : 1;
    share(pool, parts * splits, [&](int i) {
      const int64_t row = i / splits * step;
      some(row, std::min(row + step, rows), i % splits * n / splits, (i % splits + 1) * n / splits, out);
    });
  }

 private:
  using Point = correlation_tiles::Point;
  using Outputs = correlation_tiles::Outputs;
  using Features = correlation_tiles::Features;
  static constexpr int64_t kPositions = 512, kFeatures = 160;  // whose outputs, and whose weights, stay in the nearest caches

  // Of these output rows the channels of these blocks of weights.
  void some(int64_t row, int64_t last_row, int64_t block, int64_t last_block, float* out) const {
    const int64_t positions = (last_row - row) * g_.out[2];
    thread_local std::vector<Point> room;
    thread_local Scratch scratch;
    room.resize(positions);
    Point* const points = room.data();
    float* const filled_up = scratch.of(positions * kWide);
    out += row * g_.out[2] * g_.c_out;
    for (int64_t b = block; b < last_block && !fresh_; ++b)
      if (weights_[b].columns == weights_[b].width)
        for (int64_t p = 0; p < positions; ++p) std::memset(out + p * g_.c_out + b * kWide, 0, weights_[b].width * 4);
      else
        std::memset(filled_up, 0, positions * weights_[b].width * 4);  // the last block only
    for (const Run& run : runs_) {
      Point* end = points;
      for (int64_t r = row; r < last_row; ++r) {
        const int64_t pixel = run.rows[r % g_.out[1]] ? first_seen(g_, run.first, r) : -1;
        if (pixel < 0) continue;
        const float* from = inputs_ + pixel * g_.c_in;
        const int64_t step = g_.stride[2] * g_.c_in, last = (r - row) * g_.out[2] + run.first.last;
        for (int64_t p = last - run.first.last + run.first.first; p < last; ++p, from += step) *end++ = {from, p};
      }
      const int64_t parts = (run.features.count + kFeatures - 1) / kFeatures;
      for (int64_t b = block; b < last_block; ++b) {
        const bool whole = weights_[b].columns == weights_[b].width;
        Outputs to = whole ? Outputs{out + b * kWide, g_.c_out, fresh_} : Outputs{filled_up, weights_[b].width, fresh_};
        for (int64_t i = 0; i < parts; ++i, to.fresh = false) {
          Features some = run.features;
          some.first = run.features.count * i / parts;
          some.count = run.features.count * (i + 1) / parts - some.first;
          correlation_tiles::tiles(points, end - points, some, to, weights_[b], run.weight + some.first);
        }
      }
    }
    if (const Block& last = weights_[last_block - 1]; last.columns < last.width) {
      // Whole vectors where what they write beyond is written by the next positions; these are not another thread's.
      const int64_t whole = weights_.size() == 1 ? std::max<int64_t>(0, positions - last.width) : 0;
      for (int64_t p = 0; p < whole; ++p)
        for (int64_t v = 0; v < last.width; v += kLanes) store(out + p * g_.c_out + v, load(filled_up + p * last.width + v));
      for (int64_t p = whole; p < positions; ++p)
        std::memcpy(out + p * g_.c_out + (last_block - 1) * kWide, filled_up + p * last.width, last.columns * 4);
    }
  }

  // Positions that see the same taps, of some rows: the first one's place, and its features, whose weights begin at this row.
  struct Run {
    Tap first;
    std::vector<bool> rows;
    int64_t weight;
    Features features;
  };

  static std::vector<Run> runs_of(const Geometry& g) {
    std::vector<Run> runs;
    const auto across = alike(g, 2), down = alike(g, 1);
    for (const Alike& x : across) {
      if (x.first == x.last) continue;
      const int64_t next_to = g.dilation[2] == 1 ? x.last - x.first : 1;  // taps whose inputs lie next to each other
      const int64_t at_once = std::max<int64_t>(1, kFeatures / (next_to * g.c_in));
      for (const Alike& y : down)
        for (int64_t z = 0; z < g.window[0]; ++z)
          for (int64_t i = y.first; i < y.last; i += at_once)
            for (int64_t j = x.first; j < x.last; j += next_to) {
              const int64_t begin = x.positions.front(), end = x.positions.back() + 1, row = g.window[2] * g.c_in;
              const Tap first{z * g.dilation[0] - g.before[0], i * g.dilation[1] - g.before[1], j * g.dilation[2] - g.before[2], begin,
                              end};
              std::vector<bool> rows(g.out[1]);
              for (int64_t p : y.positions) rows[p] = true;
              runs.push_back({first, rows, (z * g.window[1] + i) * row + j * g.c_in,
                              {0, next_to * g.c_in, std::min(at_once, y.last - i), g.dilation[1] * g.in[2] * g.c_in, row}});
            }
    }
    return runs;
  }

  static bool all_alike(const Geometry& g) {
    for (int axis = 0; axis < 3; ++axis)
      if (const auto found = alike(g, axis); found.size() > 1 || found[0].last - found[0].first < g.window[axis]) return false;
    return true;
  }

  // Positions of an axis that see inputs by the same taps: [first, last).
  struct Alike {
    int64_t first, last;
    std::vector<int64_t> positions;
  };

  static std::vector<Alike> alike(const Geometry& g, int axis) {
    std::vector<Alike> found;
    const int64_t window = g.window[axis], d = g.dilation[axis];
    for (int64_t p = 0; p < g.out[axis]; ++p) {
      const int64_t start = p * g.stride[axis] - g.before[axis], end = g.in[axis] - 1 - start;  // of the first tap; how far inputs go
      const int64_t first = start >= 0 ? 0 : std::min(window, (-start + d - 1) / d);
      const int64_t last = end < 0 ? first : std::max(first, std::min(window, end / d + 1));
      auto same = std::find_if(found.begin(), found.end(), [&](const Alike& a) { return a.first == first && a.last == last; });
      if (same == found.end()) same = found.insert(found.end(), {first, last, {}});
      same->positions.push_back(p);
    }
    return found;
  }

  const Geometry g_;
  const float* inputs_;
  const std::vector<Run> runs_;
  const bool fresh_;  // all positions see all features at once
  Scratch columns_;
  const std::vector<Block> weights_;
};

}  // namespace cnn_jax
