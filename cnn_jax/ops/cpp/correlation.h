// Correlation: sums of matrix products, (what some taps see) · (their weights). A tile of the result, a few positions by a few vectors of
// output channels, stays in registers over all features that lie next to each other in the inputs: the channels of a row of the window.
#pragma once

#include "taps.h"
#include "weights.h"

namespace cnn_jax {
namespace correlation_tiles {

// What a position sees, and where its outputs are: among those computed together, and in the result, counted in floats.
struct Point {
  const float* inputs;
  int64_t position, place;
};

struct Outputs {
  float* first;
  int64_t width;
  bool fresh, in_place;
};

// Features of a position: so many of each row of the window, rows and planes `inputs` and `weights` after the one before.
struct Step {
  int64_t count, inputs, weights;
};

struct Features {
  int64_t first, count;
  Step rows, planes;
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
    y[r] = out.first + (out.in_place ? points[r].place : points[r].position * out.width);
    UNROLL
    for (int v = 0; v < V; ++v) sums[r][v] = out.fresh ? Vector{} : load(y[r] + v * kLanes);
  }
  for (int64_t plane = 0; plane < features.planes.count; ++plane)
    for (int64_t row = 0; row < features.rows.count; ++row) {
      const int64_t to = plane * features.planes.inputs + row * features.rows.inputs;
      const float* at = weights + (plane * features.planes.weights + row * features.rows.weights) * V * kLanes;
      for (int64_t k = to; k < to + features.count; ++k, at += V * kLanes) {
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
  Correlation(const Geometry& g, const float* inputs, const Weights& weights, const Places& places, xla::ffi::ThreadPool& pool)
      : g_(g),
        places_(places),
        inputs_(inputs),
        runs_(runs_of(g)),
        fresh_(runs_.size() == 1 && all_alike(g)),
        weights_(blocks(weights, g.c_in, g.c_out, columns_, pool)) {}

  // Into how many parts so many threads share it.
  int64_t parts(int64_t threads) const { return row_parts() * splits(threads); }

  void compute(int64_t part, int64_t threads, float* out) const {
    const int64_t n = weights_.size(), split = part % splits(threads), row = part / splits(threads) * step();
    some(row, std::min(row + step(), rows()), split * n / splits(threads), (split + 1) * n / splits(threads), out);
  }

 private:
  using Point = correlation_tiles::Point;
  using Outputs = correlation_tiles::Outputs;
  using Features = correlation_tiles::Features;
  static constexpr int64_t kPositions = 512, kFeatures = 160;  // whose outputs, and whose weights, stay in the nearest caches

  int64_t rows() const { return g_.n * g_.out[0] * g_.out[1]; }
  int64_t step() const { return std::max<int64_t>(1, kPositions / g_.out[2]); }
  int64_t row_parts() const { return (rows() + step() - 1) / step(); }
  int64_t splits(int64_t threads) const { return row_parts() < 4 * threads ? weights_.size() : 1; }  // of the blocks of weights

  // Of these output rows the channels of these blocks of weights.
  void some(int64_t row, int64_t last_row, int64_t block, int64_t last_block, float* out) const {
    const int64_t positions = (last_row - row) * g_.out[2];
    thread_local std::vector<int64_t> places;
    thread_local std::vector<Point> room;
    thread_local Scratch scratch;
    places.resize(positions);
    for (int64_t r = row, p = 0; r < last_row; ++r)
      for (int64_t x = 0, at = places_.of(g_, r); x < g_.out[2]; ++x, ++p, at += places_.gap[2] * places_.channels) places[p] = at;
    room.resize(positions);
    Point* const points = room.data();
    float* const filled_up = scratch.of(positions * kWide);
    for (int64_t b = block; b < last_block && !fresh_; ++b)
      if (weights_[b].columns == weights_[b].width)
        for (int64_t at : places) std::memset(out + at + b * kWide, 0, weights_[b].width * 4);
      else
        std::memset(filled_up, 0, positions * weights_[b].width * 4);  // the last block only
    for (const Run& run : runs_) {
      Point* end = points;
      for (int64_t r = row; r < last_row; ++r) {
        const int64_t pixel = run.seen_by(g_, r) ? first_seen(g_, run.first, r) : -1;
        if (pixel < 0) continue;
        const float* from = inputs_ + pixel * g_.c_in;
        const int64_t step = g_.stride[2] * g_.c_in, last = (r - row) * g_.out[2] + run.first.last;
        for (int64_t p = last - run.first.last + run.first.first; p < last; ++p, from += step) *end++ = {from, p, places[p]};
      }
      const int64_t parts = (run.features.count + kFeatures - 1) / kFeatures;
      for (int64_t b = block; b < last_block; ++b) {
        const bool whole = weights_[b].columns == weights_[b].width;
        Outputs to = whole ? Outputs{out + b * kWide, 0, fresh_, true} : Outputs{filled_up, weights_[b].width, fresh_, false};
        for (int64_t i = 0; i < parts; ++i, to.fresh = false) {
          Features some = run.features;
          some.first = run.features.count * i / parts;
          some.count = run.features.count * (i + 1) / parts - some.first;
          correlation_tiles::tiles(points, end - points, some, to, weights_[b], run.weight + some.first);
        }
      }
    }
    if (const Block& last = weights_[last_block - 1]; last.columns < last.width) put(filled_up, last, places, out + (last_block - 1) * kWide);
  }

  // The columns of a block that is filled up, where they belong.
  void put(const float* from, const Block& block, const std::vector<int64_t>& places, float* out) const {
    // Whole vectors where what they write beyond is written by the next positions; these are not another thread's.
    const int64_t positions = places.size(), alone = weights_.size() == 1 && places_.next_to_each_other(g_);
    const int64_t whole = alone ? std::max<int64_t>(0, positions - block.width) : 0;
    for (int64_t p = 0; p < whole; ++p)
      for (int64_t v = 0; v < block.width; v += kLanes) store(out + places[p] + v, load(from + p * block.width + v));
    for (int64_t p = whole; p < positions; ++p) std::memcpy(out + places[p], from + p * block.width, block.columns * 4);
  }

  // Positions that see the same taps, of some rows: the first one's place, and its features, whose weights begin at this row.
  struct Run {
    Tap first;
    std::vector<bool> planes, rows;
    int64_t weight;
    Features features;

    bool seen_by(const Geometry& g, int64_t row) const { return rows[row % g.out[1]] && planes[row / g.out[1] % g.out[0]]; }
  };

  static std::vector<Run> runs_of(const Geometry& g) {
    std::vector<Run> runs;
    const auto across = alike(g, 2), down = alike(g, 1), deep = alike(g, 0);
    const int64_t row = g.window[2] * g.c_in, plane = g.window[1] * row, wide = g.in[2] * g.c_in;
    for (const Alike& x : across) {
      if (x.first == x.last) continue;
      const int64_t next_to = g.dilation[2] == 1 ? x.last - x.first : 1;  // taps whose inputs lie next to each other
      for (const Alike& y : down) {
        const int64_t rows = std::max<int64_t>(1, kFeatures / (next_to * g.c_in)), seen = y.last - y.first;
        const int64_t planes = seen ? std::max<int64_t>(1, rows / seen) : 1;  // several only where each has all its rows
        for (const Alike& z : deep)
          for (int64_t k = z.first; k < z.last; k += planes)
            for (int64_t i = y.first; i < y.last; i += rows)
              for (int64_t j = x.first; j < x.last; j += next_to) {
                const Tap first{k * g.dilation[0] - g.before[0], i * g.dilation[1] - g.before[1], j * g.dilation[2] - g.before[2],
                                x.positions.front(), x.positions.back() + 1};
                const Features features{0, next_to * g.c_in, {std::min(rows, y.last - i), g.dilation[1] * wide, row},
                                        {std::min(planes, z.last - k), g.dilation[0] * g.in[1] * wide, plane}};
                runs.push_back({first, z.among(g.out[0]), y.among(g.out[1]), k * plane + i * row + j * g.c_in, features});
              }
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

    std::vector<bool> among(int64_t n) const {
      std::vector<bool> is(n);
      for (int64_t p : positions) is[p] = true;
      return is;
    }
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
  const Places places_;
  const float* inputs_;
  const std::vector<Run> runs_;
  const bool fresh_;  // all positions see all features at once
  Scratch columns_;
  const std::vector<Block> weights_;
};

}  // namespace cnn_jax
