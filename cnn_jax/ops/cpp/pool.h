// The maximum and the sum of each window, and the maximum's gradient, which goes to the first tap of each window that sees it. Which tap
// that is is not kept but found anew: it would be bytes, which would have to be written, read and widened, and the inputs are at hand.
#pragma once

#include "pool_windows.h"
#include "walk.h"

namespace cnn_jax {

// Calls work(std::integral_constant<int, L>): the shortest vectors that hold all channels, else the longest.
template <typename Work>
void by_lanes(int64_t channels, const Work& work) {
  if (channels <= 4) return work(std::integral_constant<int, 4>());
  if constexpr (kLanes > 8)
    if (channels <= 8) return work(std::integral_constant<int, 8>());
  work(std::integral_constant<int, kLanes>());
}

template <int L>
class Pool {
 public:
  explicit Pool(const Geometry& g)
      : g_(g),
        few_(g.c_in < L),
        pitch_(few_ ? L : g.c_in),
        outer_(runs(g, 0)),
        inner_(runs(g, 1)),
        across_(runs(g, 2)) {
    for (const Run& z : outer_)
      for (const Run& y : inner_)
        for (const Run& x : across_) looks_.push_back(looks(z, y, x));
    for (int axis = 0; axis < 3; ++axis) {
      const int64_t span = (g.window[axis] - 1) * g.dilation[axis] + 1;
      overlap_ |= g.stride[axis] < span && g.out[axis] > 1;
      tiled_ &= g.before[axis] == 0 && g.dilation[axis] == 1 && g.stride[axis] == span && g.in[axis] == g.out[axis] * span;
    }
  }

  void maximum(const float* inputs, float* out, xla::ffi::ThreadPool& pool) const {
    reduce(inputs, out, pool, [](auto taps, const float* x, auto& best) { pool_windows::maximum<L>(taps, x, best); });
  }

  void sum(const float* inputs, float divisor, float* out, xla::ffi::ThreadPool& pool) const {
    reduce(inputs, out, pool, [divisor](auto taps, const float* x, auto& sums) { pool_windows::sum<L>(taps, x, divisor, sums); });
  }

  void gradient(const float* inputs, const float* cotangent, float* out, xla::ffi::ThreadPool& pool) const {
    share(pool, g_.n, [&](int i) { overlap_ ? example<true>(inputs, cotangent, out, i) : example<false>(inputs, cotangent, out, i); });
  }

 private:
  using Looks = pool_windows::Looks;
  using Lanes = pool_windows::Lanes<L>;

  // Positions of an axis, [first, last), that see inputs by the same taps.
  struct Run {
    int64_t first, last;
    std::vector<int64_t> taps;
  };

  static std::vector<Run> runs(const Geometry& g, int axis) {
    std::vector<Run> found;
    for (const auto& position : walk(g, axis)) {
      std::vector<int64_t> taps;
      for (const Seen& seen : position) taps.push_back(seen.tap);
      const int64_t o = found.empty() ? 0 : found.back().last;
      if (found.empty() || found.back().taps != taps) found.push_back({o, o, taps});
      found.back().last = o + 1;
    }
    return found;
  }

  // Writes reduced(taps, x, vectors), of what a position's taps see, for each position.
  template <typename Reduced>
  void reduce(const float* inputs, float* out, xla::ffi::ThreadPool& pool, const Reduced& reduced) const {
    share(pool, g_.n, [&](int i) {
      thread_local Scratch room;
      const float* x = readable(inputs, i, pixels(g_.in), room);
      float* const y = out + i * pixels(g_.out) * g_.c_in;
      float* const end = y + pixels(g_.out) * g_.c_in;
      each_run([&](int64_t z, int64_t row, const Run& run, const Looks& looks) {
        const float* from = x + first_seen(z, row) * g_.c_in;
        float* const to = y + (z * g_.out[1] + row) * g_.out[2] * g_.c_in;
        pool_windows::by_number(looks, [&](auto taps) {
          for (int64_t o = run.first; o < run.last; ++o)
            pool_windows::by_vectors<L>(g_.c_in, [&](auto v, int64_t c, int64_t) {
              typename Lanes::Floats values[v()];
              reduced(taps, from + o * g_.stride[2] * g_.c_in + c, values);
              float* at = to + o * g_.c_in + c;
              UNROLL
              for (int k = 0; k < v(); ++k) Lanes::store(at + k * L, values[k], few_ ? end - at : L);  // the next one overwrites the rest
            });
        });
      });
    });
  }

  int64_t pixel(int64_t z, int64_t y, int64_t x) const { return (z * g_.in[1] + y) * g_.in[2] + x; }

  static int64_t pixels(const int64_t* sizes) { return sizes[0] * sizes[1] * sizes[2]; }

  // An example from which a whole vector may be read at any of its pixels.
  const float* readable(const float* from, int64_t example, int64_t pixels, Scratch& room) const {
    const int64_t size = pixels * g_.c_in;
    from += example * size;
    if (!few_ || (g_.n - example - 1) * size >= L) return from;  // what is read beyond is the next examples'
    float* copy = room.of(size + L);
    std::memcpy(copy, from, size * 4);
    std::fill(copy + size, copy + size + L, 0.0f);
    return copy;
  }

  // Asks memory for all of it at once, or for what the nearer caches hold: rows of few channels are too short for the processor to foresee.
  template <int Written>
  static void announce(const float* at, int64_t size) {
    const int64_t line = 16, most = 1 << 14;
    for (int64_t i = 0; i < std::min(size, most); i += line) __builtin_prefetch(at + i, Written, 3);
  }

  // What positions see that are in these runs, counted from where the first tap of each looks.
  Looks looks(const Run& planes, const Run& rows, const Run& across) const {
    Looks found;
    for (int64_t i : planes.taps)
      for (int64_t j : rows.taps)
        for (int64_t k : across.taps) {
          const int64_t at = pixel(i * g_.dilation[0], j * g_.dilation[1], k * g_.dilation[2]);
          const int64_t tap = (i * g_.window[1] + j) * g_.window[2] + k;
          found.push_back({at * g_.c_in, at * pitch_, static_cast<int32_t>(tap)});
        }
    return found;
  }

  // Calls work(z, y, run, looks) for all output rows of an example in order, for each run of their positions.
  template <typename Work>
  void each_run(const Work& work) const {
    for (size_t i = 0; i < outer_.size(); ++i)
      for (int64_t z = outer_[i].first; z < outer_[i].last; ++z)
        for (size_t j = 0; j < inner_.size(); ++j)
          for (int64_t y = inner_[j].first; y < inner_[j].last; ++y)
            for (size_t k = 0; k < across_.size(); ++k)
              work(z, y, across_[k], looks_[(i * inner_.size() + j) * across_.size() + k]);
  }

  // The pixel where the first tap of a row's first position looks, or would.
  int64_t first_seen(int64_t z, int64_t y) const {
    return pixel(z * g_.stride[0] - g_.before[0], y * g_.stride[1] - g_.before[1], -g_.before[2]);
  }

  // Of few channels each pixel has a vector of its own first: vectors that overlap would wait for each other.
  template <bool Adds>
  void example(const float* inputs, const float* cotangent, float* out, int64_t i) const {
    thread_local Scratch left, right, room;
    const int64_t c_in = g_.c_in, size = pixels(g_.in);
    const float* x = readable(inputs, i, size, left);
    const float* g = readable(cotangent, i, pixels(g_.out), right);
    out += i * size * c_in;
    float* const to = few_ ? room.of(size * L) : out;
    if (few_) {
      announce<0>(x, size * c_in);
      announce<1>(out, size * c_in);
    }
    std::vector<int64_t> ready(g_.in[0], tiled_ ? g_.in[1] : 0);  // rows of a plane that were set to zero, when they are first needed
    const auto prepare = [&](int64_t plane, int64_t rows) {
      if (ready[plane] >= rows) return;
      std::memset(to + pixel(plane, ready[plane], 0) * pitch_, 0, (rows - ready[plane]) * g_.in[2] * pitch_ * 4);
      ready[plane] = rows;
    };
    each_run([&](int64_t z, int64_t y, const Run& run, const Looks& looks) {
      if (run.first == 0 && !tiled_) {
        const int64_t last = y * g_.stride[1] - g_.before[1] + (g_.window[1] - 1) * g_.dilation[1] + 1;
        for (int64_t k = 0; k < g_.window[0]; ++k)
          if (const int64_t plane = z * g_.stride[0] - g_.before[0] + k * g_.dilation[0]; plane >= 0 && plane < g_.in[0])
            prepare(plane, std::min(last, g_.in[1]));
      }
      const int64_t first = first_seen(z, y);
      const float* given = g + (z * g_.out[1] + y) * g_.out[2] * c_in;
      pool_windows::by_number(looks, [&](auto taps) {
        for (int64_t o = run.first; o < run.last; ++o) {
          const int64_t at = first + o * g_.stride[2];
          pool_windows::by_vectors<L>(c_in, [&](auto v, int64_t c, int64_t done) {
            pool_windows::gradient<L, v(), Adds>(taps, x + at * c_in + c, given + o * c_in + c, to + at * pitch_ + c, done);
          });
        }
      });
    });
    for (int64_t plane = 0; plane < g_.in[0]; ++plane) prepare(plane, g_.in[1]);
    if (few_)
      for (int64_t p = 0; p < size; ++p) Lanes::store(out + p * c_in, Lanes::load(to + p * L), (size - p) * c_in);
  }

  const Geometry g_;
  const bool few_;  // channels: less than a vector
  const int64_t pitch_;  // of the gradient's pixels, while it is added up
  const std::vector<Run> outer_, inner_, across_;
  std::vector<Looks> looks_;  // for each three of runs
  bool overlap_ = false, tiled_ = true;  // windows meet; they cover all inputs once
};

}  // namespace cnn_jax
