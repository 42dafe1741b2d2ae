// The gradient of a grouped kernel. What a few groups have of some rows is copied to lie next to each other: a pixel's other groups would
// come between, and all taps read the copies, which the nearest cache holds. A group of many output channels is a product as in
// kernel_gradient.h. Of smaller groups several share a vector, and the r-th input of each is spread over its group's lanes.
#pragma once

#include "kernel_gradient.h"

namespace cnn_jax {
namespace spread_tiles {

using gradient_tiles::Row;

// Where a result's vectors are: those of a tap, of a feature so many floats apart; and how many lanes of them there are.
struct Sums {
  float* first;
  int64_t tap, feature, lanes;
};

// out[t][r] += Σ (inputs of tap t, the r-th of each group spread) · cotangent over all positions of all rows. Taps are `apart` from each
// other: in the inputs or, where they share what is spread, back in the cotangent.
template <int T, int R, bool kShared>
void tile(const std::vector<Row>& rows, int64_t count, int64_t step, int64_t apart, const Indices* spread, const Sums& out) {
  Vector sums[T][R];
  UNROLL
  for (int t = 0; t < T; ++t)
    UNROLL
    for (int r = 0; r < R; ++r) sums[t][r] = Vector{};
  Indices from[R];
  UNROLL
  for (int r = 0; r < R; ++r) from[r] = spread[r];
  for (const Row& row : rows) {
    const float* a = row.inputs;
    const float* b = row.cotangent;
    for (int64_t p = 0; p < count; ++p, a += step, b += kLanes) {
      if constexpr (kShared) {
        Vector g[T];
        UNROLL
        for (int t = 0; t < T; ++t) g[t] = load(b + (T - 1 - t) * apart);
        const Vector x = load(a);
        UNROLL
        for (int r = 0; r < R; ++r) {
          const Vector value = shuffle(x, from[r]);
          UNROLL
          for (int t = 0; t < T; ++t) sums[t][r] += value * g[t];
        }
      } else {
        const Vector g = load(b);
        UNROLL
        for (int t = 0; t < T; ++t) {
          const Vector x = load(a + t * apart);
          UNROLL
          for (int r = 0; r < R; ++r) sums[t][r] += shuffle(x, from[r]) * g;
        }
      }
    }
  }
  UNROLL
  for (int t = 0; t < T; ++t)
    UNROLL
    for (int r = 0; r < R; ++r) {
      float* at = out.first + t * out.tap + r * out.feature;
      store(at, load(at, out.lanes) + sums[t][r], out.lanes);
    }
}

template <bool kShared, int T = 3, int R = 4>
void tile_of(int64_t taps, int64_t features, const std::vector<Row>& rows, int64_t count, int64_t step, int64_t apart,
             const Indices* spread, const Sums& out) {
  if (taps == T && features == R) return tile<T, R, kShared>(rows, count, step, apart, spread, out);
  if constexpr (T > 1)
    if (taps < T) return tile_of<kShared, T - 1, R>(taps, features, rows, count, step, apart, spread, out);
  if constexpr (R > 1) tile_of<kShared, T, R - 1>(taps, features, rows, count, step, apart, spread, out);
}

// All taps of a row of the window and all features of a group, at most three and four at once: so many sums fill 16 registers.
inline void tiles(bool shared, int64_t taps, int64_t features, const std::vector<Row>& rows, int64_t count, int64_t step, int64_t apart,
                  const Indices* spread, const Sums& out) {
  for (int64_t t = 0, parts = (taps + 2) / 3, i = 0; i < parts; ++i) {
    const int64_t some = taps * (i + 1) / parts - t;
    std::vector<Row> at = rows;
    for (Row& row : at) (shared ? row.cotangent : row.inputs) += (shared ? taps - t - some : t) * apart;
    for (int64_t r = 0; r < features; r += 4) {
      const Sums to{out.first + t * out.tap + r * out.feature, out.tap, out.feature, out.lanes};
      const int64_t few = std::min<int64_t>(4, features - r);
      if (shared)
        tile_of<true>(some, few, at, count, step, apart, spread + r, to);
      else
        tile_of<false>(some, few, at, count, step, apart, spread + r, to);
    }
    t += some;
  }
}

}  // namespace spread_tiles

class GroupedKernelGradient {
 public:
  GroupedKernelGradient(const Geometry& g, const float* inputs, const float* cotangent)
      : g_(g),
        inputs_(inputs),
        cotangent_(cotangent),
        in_(g.c_in / g.groups),
        out_(g.c_out / g.groups),
        together_(std::max<int64_t>(1, std::min(g.groups, kLanes / out_))),
        chunk_(std::min(in_, kLanes / together_)),
        shared_(together_ > 1 && g.stride[2] == 1),
        span_((g.window[2] - 1) * g.dilation[2] + 1) {
    for (int64_t r = 0; r < chunk_ && together_ > 1; ++r)
      for (int64_t i = 0; i < kLanes; ++i) spread_[r][i] = std::min(i / out_, together_ - 1) * chunk_ + r;
  }

  void compute(float* out, xla::ffi::ThreadPool& pool) const {
    const int64_t threads = num_threads(pool), blocks = (g_.groups + together_ - 1) / together_;
    const int64_t planes = g_.n * g_.out[0], size = g_.window[0] * g_.window[1] * g_.window[2] * in_ * g_.c_out;
    const int64_t rows = std::max<int64_t>(1, std::min(g_.out[1], kPositions / g_.out[2])), parts = (g_.out[1] + rows - 1) / rows;
    const int64_t at_once = parts > 1 ? 1 : std::max<int64_t>(1, std::min(planes, kPositions / (g_.out[1] * g_.out[2])));
    const int64_t chunks = (planes + at_once - 1) / at_once * parts;
    // Each thread some groups or, of few groups, some of the positions: as many parts as threads, so that sums are the same in every run.
    const int64_t by_groups = blocks < threads ? 1 : threads, by_chunks = blocks < threads ? std::min(threads, chunks) : 1;
    Scratch scratch;
    float* others = scratch.of((by_chunks - 1) * size + 1);
    std::memset(out, 0, size * 4);
    std::memset(others, 0, (by_chunks - 1) * size * 4);
    share(pool, by_groups * by_chunks, [&](int i) {
      const int64_t k = i % by_chunks, b = i / by_chunks;
      float* sums = k ? others + (k - 1) * size : out;
      const int64_t last = chunks * (k + 1) / by_chunks, begin = blocks * b / by_groups, end = blocks * (b + 1) / by_groups;
      const auto positions = [&](int64_t c) {
        const int64_t plane = c / parts * at_once, part = c % parts;
        return Positions{plane, std::min(plane + at_once, planes), g_.out[1] * part / parts, g_.out[1] * (part + 1) / parts};
      };
      for (int64_t c = chunks * k / by_chunks; c < last; ++c)
        for (int64_t j = begin; j < end; ++j) {
          if (c + 1 < last) prefetch(positions(c + 1), begin * together_, std::min(end * together_, g_.groups), j - begin, end - begin);
          add(positions(c), j * together_, sums);
        }
    });
    for (int64_t i = 1; i < by_chunks; ++i)
      for (int64_t j = 0; j < size; ++j) out[j] += others[(i - 1) * size + j];
  }

 private:
  using Row = gradient_tiles::Row;
  static constexpr int64_t kPositions = 128;  // whose copies stay in the nearest cache

  // Rows of some planes of the outputs, of all examples one after the other.
  struct Positions {
    int64_t plane, last_plane, row, last_row;
  };

  // Some channels of each pixel of a row, in pieces so far apart, as they are copied: a piece after the other, then zeros.
  struct Channels {
    int64_t first, pieces, size, apart, slot, width;
  };

  // Adds what these positions contribute to some groups' part of the result, from this group on.
  void add(const Positions& some, int64_t group, float* out) const {
    const int64_t groups = std::min(together_, g_.groups - group), all = groups * out_, features = together_ > 1 ? chunk_ : in_;
    const int64_t before = shared_ ? span_ - 1 - g_.before[2] : 0, positions = shared_ ? g_.in[2] + span_ - 1 : g_.out[2];
    const int64_t rows = (some.last_plane - some.plane) * (some.last_row - some.row);
    thread_local Scratch scratch;
    float* to = scratch.of(rows * positions * ((all + kLanes - 1) / kLanes * kLanes));
    std::vector<Block> right;
    for (int64_t c = 0; c < all; c += kWide) {
      const int64_t kept = std::min<int64_t>(kWide, all - c), width = (kept + kLanes - 1) / kLanes * kLanes;
      right.push_back({to, width, kept});
      for (int64_t plane = some.plane; plane < some.last_plane; ++plane)
        for (int64_t y = some.row; y < some.last_row; ++y, to += positions * width)
          copy(cotangent_ + (plane * g_.out[1] + y) * g_.out[2] * g_.c_out, g_.c_out, g_.out[2], before, positions,
               {group * out_ + c, 1, kept, 0, kept, width}, to);
    }
    for (int64_t z = 0; z < g_.window[0]; ++z)
      for (int64_t r = 0; r < in_; r += features) {
        const int64_t few = std::min(features, in_ - r);
        const Channels whole{group * in_, 1, groups * in_, 0, in_, together_ > 1 ? kLanes : in_};
        add(some, few == in_ ? whole : Channels{group * in_ + r, groups, few, in_, chunk_, kLanes}, z, r, few, right, positions,
            out + group * out_);
      }
  }

  // The same for some features and a plane of the window.
  void add(const Positions& some, const Channels& channels, int64_t z, int64_t feature, int64_t features, const std::vector<Block>& right,
           int64_t positions, float* out) const {
    const auto [first, last] = rows_seen(some);
    if (first == last) return;
    const bool in_place = shared_ && channels.size == kLanes;  // nothing to fill up
    const int64_t before = shared_ ? 0 : g_.before[2], wide = shared_ ? g_.in[2] : (g_.out[2] - 1) * g_.stride[2] + span_;
    const int64_t width = in_place ? g_.c_in : channels.width, size = (last - first) * wide * width;  // of a pixel, of a plane
    thread_local Scratch scratch;
    float* const copies = in_place ? nullptr : scratch.of((some.last_plane - some.plane) * size);
    for (int64_t plane = some.plane; plane < some.last_plane && !in_place; ++plane)
      if (const int64_t from = plane_seen(plane, z); from >= 0)
        for (int64_t y = first; y < last; ++y)
          copy(inputs_ + (from * g_.in[1] + y) * g_.in[2] * g_.c_in, g_.c_in, g_.in[2], before, wide, channels,
               copies + (plane - some.plane) * size + (y - first) * wide * width);
    thread_local std::vector<Row> rows;
    for (int64_t k = 0; k < g_.window[1]; ++k)
      for (size_t b = 0; b < right.size(); ++b) {
        rows.clear();
        for (int64_t plane = some.plane; plane < some.last_plane; ++plane) {
          const int64_t from = plane_seen(plane, z);
          if (from < 0) continue;
          const float* inputs = in_place ? inputs_ + (from * g_.in[1] + first) * wide * width + channels.first
                                         : copies + (plane - some.plane) * size;
          for (int64_t row = some.row; row < some.last_row; ++row) {
            const int64_t y = row * g_.stride[1] + k * g_.dilation[1] - g_.before[1];
            const int64_t number = (plane - some.plane) * (some.last_row - some.row) + row - some.row;
            if (y >= first && y < last)
              rows.push_back({inputs + (y - first) * wide * width, right[b].rows + number * positions * right[b].width});
          }
        }
        const int64_t tap = (z * g_.window[1] + k) * g_.window[2];
        if (!rows.empty()) multiply(rows, width, right[b], features, out + (tap * in_ + feature) * g_.c_out + b * kWide);
      }
  }

  // A row of the window, in one block of outputs.
  void multiply(const std::vector<Row>& seen, int64_t width, const Block& right, int64_t features, float* out) const {
    const int64_t taps = g_.window[2], d = g_.dilation[2];
    if (together_ > 1) {
      const spread_tiles::Sums sums{out, in_ * g_.c_out, g_.c_out, right.columns};
      const int64_t count = shared_ ? g_.in[2] : g_.out[2];
      return spread_tiles::tiles(shared_, taps, features, seen, count, g_.stride[2] * width, d * kLanes, spread_, sums);
    }
    const int64_t vectors = right.width / kLanes, tail = right.columns - (vectors - 1) * kLanes, step = g_.stride[2] * width;
    if (d == 1)  // features of neighbouring taps lie next to each other
      return gradient_tiles::tiles(vectors, seen, g_.out[2], step, right.width, taps * in_, out, g_.c_out, tail, false);
    std::vector<Row> rows = seen;
    for (int64_t k = 0; k < taps; ++k, out += in_ * g_.c_out) {
      gradient_tiles::tiles(vectors, rows, g_.out[2], step, right.width, in_, out, g_.c_out, tail, false);
      for (Row& row : rows) row.inputs += d * in_;
    }
  }

  // The number of the inputs' plane that one of the outputs sees by a plane of the window; −1 where it sees none.
  int64_t plane_seen(int64_t plane, int64_t tap) const {
    const int64_t z = plane % g_.out[0] * g_.stride[0] + tap * g_.dilation[0] - g_.before[0];
    return z < 0 || z >= g_.in[0] ? -1 : plane / g_.out[0] * g_.in[0] + z;
  }

  // A row of so many pixels, the one at i being that at i - before, or zeros where there is none.
  static void copy(const float* row, int64_t all, int64_t size, int64_t before, int64_t count, const Channels& channels, float* to) {
    const int64_t begin = std::min(std::max<int64_t>(before, 0), count), end = std::min(std::max(before + size, begin), count);
    const float* from = row + (begin - before) * all + channels.first;
    std::fill(to, to + begin * channels.width, 0.0f);
    std::fill(to + end * channels.width, to + count * channels.width, 0.0f);
    to += begin * channels.width;
    const int64_t filled = channels.pieces > 1 ? channels.pieces * channels.slot : channels.size;
    if (channels.size == kLanes && channels.width == kLanes)
      for (int64_t i = begin; i < end; ++i, from += all, to += kLanes) store(to, load(from));
    else
      for (int64_t i = begin; i < end; ++i, from += all, to += channels.width) {
        for (int64_t p = 0; p < channels.pieces; ++p) std::memcpy(to + p * channels.slot, from + p * channels.apart, channels.size * 4);
        std::fill(to + filled, to + channels.width, 0.0f);
      }
  }

  // Asks for the channels of some groups of what these positions see: pixel by pixel, as memory has them, not group by group. One of so
  // many parts, as copying waits for memory and multiplying does not.
  void prefetch(const Positions& some, int64_t group, int64_t last_group, int64_t part, int64_t parts) const {
    const auto ask = [&](const float* from, int64_t pixels, int64_t all, int64_t first, int64_t last) {
      for (int64_t p = pixels * part / parts; p < pixels * (part + 1) / parts; ++p)
        for (int64_t c = first; c < last; c += 16) {
          __builtin_prefetch(from + p * all + c, 0, 2);
          asm volatile("");  // gcc takes away functions that only prefetch
        }
    };
    const auto [first, last] = rows_seen(some);
    for (int64_t plane = some.plane; plane < some.last_plane; ++plane) {
      ask(cotangent_ + (plane * g_.out[1] + some.row) * g_.out[2] * g_.c_out, (some.last_row - some.row) * g_.out[2], g_.c_out,
          group * out_, last_group * out_);
      if (const int64_t from = plane_seen(plane, 0); from >= 0)
        ask(inputs_ + (from * g_.in[1] + first) * g_.in[2] * g_.c_in, (last - first) * g_.in[2], g_.c_in, group * in_, last_group * in_);
    }
  }

  // The rows of a plane of inputs that any of these positions sees: [first, last).
  std::pair<int64_t, int64_t> rows_seen(const Positions& some) const {
    const int64_t first = std::max<int64_t>(0, some.row * g_.stride[1] - g_.before[1]);
    const int64_t end = (some.last_row - 1) * g_.stride[1] - g_.before[1] + (g_.window[1] - 1) * g_.dilation[1] + 1;
    return {first, std::max(first, std::min(g_.in[1], end))};
  }

  const Geometry& g_;
  const float* inputs_;
  const float* cotangent_;
  const int64_t in_, out_;  // channels of a group
  const int64_t together_;  // groups whose outputs share a vector
  const int64_t chunk_;     // features of each of them that a vector of inputs holds
  const bool shared_;       // taps see what is spread at one position after the other
  const int64_t span_;
  Indices spread_[kLanes];
};

}  // namespace cnn_jax
