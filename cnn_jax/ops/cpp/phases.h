// Correlation of inputs that may lie apart, with zeros between them: outputs of one remainder see every gap-th tap of the window, and by
// those the inputs alone. So each phase of the result is a correlation of its own, written where it belongs. Of few channels, several
// outputs of a row are computed as if they were channels of one, remainders and all: vectors are filled so, for some products with zeros.
#pragma once

#include <array>

#include "correlation.h"
#include "winograd_correlation.h"

namespace cnn_jax {

// A kernel [*window, c_in, c_out], or that of a correlation of which this one is the transpose: mirrored, and [*window, c_out, c_in].
struct Kernel {
  const float* weights;
  bool mirrored;

  const float* tap(const Geometry& g, int64_t z, int64_t y, int64_t x) const {
    const int64_t taps = g.window[0] * g.window[1] * g.window[2], tap = (z * g.window[1] + y) * g.window[2] + x;
    return weights + (mirrored ? taps - 1 - tap : tap) * g.c_in * g.c_out;
  }
};

// Some outputs of an axis: every gap-th from the first on, so many places; the first of the taps that see inputs, and how they walk.
struct Phase {
  int64_t first, gap, places, tap, window, stride, before;
};

// Those of each remainder. Where no tap sees inputs, the window is 0.
inline std::vector<Phase> phases(const Geometry& g, int axis) {
  const int64_t gap = g.apart[axis], d = g.dilation[axis];
  std::vector<Phase> found;
  for (int64_t r = 0; r < std::min(gap, g.out[axis]); ++r) {
    int64_t tap = 0;
    while (tap < g.window[axis] && (r + tap * d - g.before[axis]) % gap != 0) ++tap;
    const int64_t window = (g.window[axis] - tap + gap - 1) / gap, before = -(r + tap * d - g.before[axis]) / gap;
    found.push_back({r, gap, (g.out[axis] - r + gap - 1) / gap, tap, window, g.stride[axis], before});
  }
  return found;
}

// Outputs of a row side by side as channels: so many blocks from the first output on.
struct Side {
  int64_t first, outputs, blocks, window, before;

  Side(const Geometry& g, int64_t first, int64_t outputs, int64_t blocks) : first(first), outputs(outputs), blocks(blocks) {
    int64_t least = INT64_MAX, most = INT64_MIN;
    for (int64_t r = 0; r < outputs; ++r)
      for (int64_t k = 0; k < g.window[2]; ++k)
        if (const int64_t at = offset(g, r, k); at % g.apart[2] == 0)
          least = std::min(least, at / g.apart[2]), most = std::max(most, at / g.apart[2]);
    before = -least, window = std::max<int64_t>(0, most - least + 1);
  }

  int64_t offset(const Geometry& g, int64_t output, int64_t tap) const {
    return (first + output) * g.stride[2] + tap * g.dilation[2] - g.before[2];
  }

  // Products of vectors for each output.
  double cost(const Geometry& g) const { return static_cast<double>((outputs * g.c_out + kLanes - 1) / kLanes * window) / outputs; }
};

// How many outputs side by side are cheapest; 0 where each phase by itself is, or where channels fill vectors anyway.
inline int64_t outputs_at_once(const Geometry& g) {
  const int64_t gap = g.apart[2];
  if (g.c_out >= kLanes || g.window[2] == 1) return 0;
  int64_t best = 0;
  double least = 0.9 * ((g.c_out + kLanes - 1) / kLanes) * g.window[2] / gap;
  for (int64_t n = gap; n * g.c_out <= kWide && n <= g.out[2]; n += gap)
    if (const double cost = Side(g, 0, n, 1).cost(g); cost < least) best = n, least = cost;
  return best;
}

// The weights of all taps of a window, of which `side` takes the last axis.
inline Weights beside(const Geometry& g, const Kernel& kernel, const Phase& z, const Phase& y, const Side& side, Scratch& scratch) {
  const int64_t channels = side.outputs * g.c_out, size = g.c_in * channels;
  Weights made{{}, false};
  float* at = scratch.of(z.window * y.window * side.window * size);
  std::fill(at, at + z.window * y.window * side.window * size, 0.0f);
  for (int64_t i = 0; i < z.window; ++i)
    for (int64_t j = 0; j < y.window; ++j, at += side.window * size) {
      for (int64_t t = 0; t < side.window; ++t) made.taps.push_back(at + t * size);
      for (int64_t r = 0; r < side.outputs; ++r)
        for (int64_t k = 0; k < g.window[2]; ++k) {
          if (side.offset(g, r, k) % g.apart[2]) continue;
          const float* from = kernel.tap(g, z.tap + i * g.apart[0], y.tap + j * g.apart[1], k);
          float* to = at + (side.offset(g, r, k) / g.apart[2] + side.before) * size + r * g.c_out;
          for (int64_t a = 0; a < g.c_in; ++a)
            for (int64_t b = 0; b < g.c_out; ++b) to[a * channels + b] = from[kernel.mirrored ? b * g.c_in + a : a * g.c_out + b];
        }
    }
  return made;
}

inline void take(const Phase& phase, int axis, Geometry& part, Places& places) {
  part.out[axis] = phase.places, part.window[axis] = phase.window, part.stride[axis] = phase.stride;
  part.before[axis] = phase.before, part.apart[axis] = 1;
  places.first[axis] = phase.first, places.gap[axis] = phase.gap;
}

// Inputs lie apart only where the stride is 1, and by what has no divisor in common with the dilation.
class PhasedCorrelation {
 public:
  PhasedCorrelation(const Geometry& g, const float* inputs, const Kernel& kernel, float* out, xla::ffi::ThreadPool& pool)
      : g_(g), inputs_(inputs), kernel_(kernel), out_(out), pool_(pool) {}

  void compute() {
    if (winograd::pays(g_)) return by_winograds_products();
    add_phases();
    // All parts of all of them at once: threads are woken once.
    const int64_t threads = num_threads(pool_);
    std::vector<std::pair<const Correlation*, int64_t>> parts;
    for (const auto& phase : phases_)
      for (int64_t i = 0; i < phase->parts(threads); ++i) parts.push_back({phase.get(), i});
    share(pool_, parts.size(), [&](int i) { parts[i].first->compute(parts[i].second, threads, out_); });
  }

 private:
  void by_winograds_products() const {
    Weights weights{{}, kernel_.mirrored};
    for (int64_t y = 0; y < 3; ++y)
      for (int64_t x = 0; x < 3; ++x) weights.taps.push_back(kernel_.tap(g_, 0, y, x));
    WinogradCorrelation(g_, inputs_, weights, pool_).compute(out_);
  }

  void add_phases() {
    if (g_.window[0] < g_.apart[0] || g_.window[1] < g_.apart[1] || g_.window[2] < g_.apart[2])  // some phases see nothing
      std::memset(out_, 0, g_.n * g_.out[0] * g_.out[1] * g_.out[2] * g_.c_out * 4);
    const int64_t at_once = outputs_at_once(g_);
    for (const Phase& z : phases(g_, 0))
      for (const Phase& y : phases(g_, 1)) {
        if (z.window == 0 || y.window == 0) continue;
        if (at_once == 0) {
          for (const Phase& x : phases(g_, 2))
            if (x.window > 0) one_by_one(z, y, x);
          continue;
        }
        const int64_t blocks = g_.out[2] / at_once, rest = g_.out[2] % at_once;
        side_by_side(z, y, {g_, 0, at_once, blocks});
        if (rest > 0) side_by_side(z, y, {g_, blocks * at_once, rest, 1});
      }
  }

  void one_by_one(const Phase& z, const Phase& y, const Phase& x) {
    Geometry part = g_;
    Places places{g_.c_out, {g_.out[0], g_.out[1], g_.out[2]}, {}, {}};
    take(z, 0, part, places), take(y, 1, part, places), take(x, 2, part, places);
    Weights weights{{}, kernel_.mirrored};
    for (int64_t i = z.tap; i < g_.window[0]; i += g_.apart[0])
      for (int64_t j = y.tap; j < g_.window[1]; j += g_.apart[1])
        for (int64_t k = x.tap; k < g_.window[2]; k += g_.apart[2]) weights.taps.push_back(kernel_.tap(g_, i, j, k));
    phases_.push_back(std::make_unique<Correlation>(part, inputs_, weights, places, pool_));
  }

  void side_by_side(const Phase& z, const Phase& y, const Side& side) {
    if (side.window == 0) return;
    Geometry part = g_;
    Places places{g_.c_out, {g_.out[0], g_.out[1], g_.out[2]}, {}, {}};
    take(z, 0, part, places), take(y, 1, part, places);
    take({side.first, side.outputs, side.blocks, 0, side.window, side.outputs * g_.stride[2] / g_.apart[2], side.before}, 2, part, places);
    part.dilation[2] = 1, part.c_out = side.outputs * g_.c_out;
    Scratch scratch;
    phases_.push_back(std::make_unique<Correlation>(part, inputs_, beside(g_, kernel_, z, y, side, scratch), places, pool_));
  }

  const Geometry& g_;
  const float* inputs_;
  const Kernel kernel_;
  float* out_;
  xla::ffi::ThreadPool& pool_;
  std::vector<std::unique_ptr<const Correlation>> phases_;
};

}  // namespace cnn_jax
