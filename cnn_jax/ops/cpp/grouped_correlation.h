// Correlation in groups as large as a part of a vector, or as some vectors: outputs of a few positions stay in registers over all taps, and
// each input is spread over the lanes of its group. Groups have as many outputs as inputs, a power of two.
#pragma once

#include "vectors.h"
#include "walk.h"

namespace cnn_jax {

class GroupedCorrelation {
 public:
  GroupedCorrelation(const Geometry& g, const float* inputs, const float* kernel)
      : g_(g), inputs_(inputs), kernel_(kernel), size_(g.c_in / g.groups), some_(std::min<int64_t>(size_, kLanes)), across_(walk(g, 2)) {
    for (int64_t r = 0; r < some_; ++r)
      for (int64_t i = 0; i < kLanes; ++i) spread_[r][i] = i / some_ * some_ + r;
  }

  static bool takes(const Geometry& g) {
    const int64_t size = g.c_in / g.groups;
    return g.c_in == g.c_out && g.c_in % kLanes == 0 && (size & (size - 1)) == 0;
  }

  void compute(float* out, xla::ffi::ThreadPool& pool) const {
    const Walk outer = walk(g_, 0), inner = walk(g_, 1);
    const int64_t rows = g_.n * g_.out[0] * g_.out[1], parts = std::min<int64_t>(rows, 4 * num_threads(pool));
    share(pool, parts, [&](int i) {
      for (int64_t row = rows * i / parts; row < rows * (i + 1) / parts; ++row) {
        const std::vector<Seen> seen = rows_seen(g_, row, outer, inner);
        positions(seen, out + row * g_.out[2] * g_.c_out);
      }
    });
  }

 private:
  static constexpr int kPositions = kVectors == 4 ? 12 : 5;  // whose inputs and sums fill the registers

  // A row's positions: those that see all taps many at once, the last of them again where they are too few.
  void positions(const std::vector<Seen>& rows, float* out) const {
    const int64_t n = g_.out[2], taps = g_.window[2];
    int64_t o = 0;
    const auto all = [&](int64_t p) { return static_cast<int64_t>(across_[p].size()) == taps; };
    while (o < n) {
      int64_t last = o;
      while (last < n && all(last)) ++last;
      if (last - o >= kPositions) {
        for (; o + kPositions <= last; o += kPositions) tiles<kPositions>(rows, o, out);
        if (o < last) tiles<kPositions>(rows, last - kPositions, out);
        o = last;
      } else if (last - o >= 4) {
        for (; o + 4 <= last; o += 4) tiles<4>(rows, o, out);
        if (o < last) tiles<4>(rows, last - 4, out);
        o = last;
      } else {
        tiles<1>(rows, o++, out);
      }
    }
  }

  template <int P>
  void tiles(const std::vector<Seen>& rows, int64_t first, float* out) const {
    for (int64_t c = 0; c < g_.c_out; c += kLanes) tile<P>(rows, first, c, out + c);
  }

  // Positions from this one on, all of which see the same taps.
  template <int P>
  void tile(const std::vector<Seen>& rows, int64_t first, int64_t c, float* out) const {
    const int64_t channel = c / std::max<int64_t>(size_, kLanes) * std::max<int64_t>(size_, kLanes), step = g_.stride[2] * g_.c_in;
    Vector sums[P];
    UNROLL
    for (int p = 0; p < P; ++p) sums[p] = Vector{};
    for (const Seen& row : rows)
      for (const Seen& t : across_[first]) {
        const float* from = inputs_ + (row.input * g_.in[2] + t.input) * g_.c_in + (size_ < kLanes ? c : channel);
        const float* w = kernel_ + (row.tap * g_.window[2] + t.tap) * size_ * g_.c_out + c;
        for (int64_t k = 0; k < size_; k += some_, from += kLanes) {
          Vector x[P];
          UNROLL
          for (int p = 0; p < P; ++p) x[p] = load(from + p * step);
          for (int64_t r = 0; r < some_; ++r, w += g_.c_out) {
            const Vector weights = load(w);
            const Indices at = spread_[r];
            UNROLL
            for (int p = 0; p < P; ++p) sums[p] += shuffle(x[p], at) * weights;
          }
        }
      }
    UNROLL
    for (int p = 0; p < P; ++p) store(out + (first + p) * g_.c_out, sums[p]);
  }

  const Geometry& g_;
  const float* inputs_;
  const float* kernel_;
  const int64_t size_, some_;  // channels of a group, and those of them in a vector
  const Walk across_;
  Indices spread_[kLanes];
};

}  // namespace cnn_jax
