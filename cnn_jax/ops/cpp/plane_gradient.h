// The gradient of a kernel of few output channels, of which a vector would be nearly empty. Pixels are taken apart into planes, one of each
// channel, and vectors run along positions, row after row: a tap sees the inputs' plane so much later. Sums are added up at the very end.
#pragma once

#include "taps.h"

namespace cnn_jax {
namespace plane_tiles {

// Whose sums fill the registers, at most so many: inputs and a cotangent have the others.
constexpr int kTaps = kVectors == 4 ? 6 : 3, kChannels = kVectors == 4 ? 8 : 3, kSums = kVectors == 4 ? 24 : 9;

// out[t][c] += Σ inputs at offset t · cotangent of channel c over so many floats
template <int T, int C>
void tile(const float* inputs, const int64_t* offsets, const float* cotangent, int64_t plane, int64_t count, float* out, int64_t c_out) {
  Vector sums[T][C];
  const float* x[T];
  UNROLL
  for (int t = 0; t < T; ++t) {
    x[t] = inputs + offsets[t];
    UNROLL
    for (int c = 0; c < C; ++c) sums[t][c] = load(out + (t * c_out + c) * kLanes);
  }
  for (int64_t p = 0; p < count; p += kLanes) {
    Vector seen[T];
    UNROLL
    for (int t = 0; t < T; ++t) seen[t] = load(x[t] + p);
    UNROLL
    for (int c = 0; c < C; ++c) {
      const Vector g = load(cotangent + c * plane + p);
      UNROLL
      for (int t = 0; t < T; ++t) sums[t][c] += seen[t] * g;
    }
  }
  UNROLL
  for (int t = 0; t < T; ++t)
    UNROLL
    for (int c = 0; c < C; ++c) store(out + (t * c_out + c) * kLanes, sums[t][c]);
}

template <int C>
constexpr int taps_at_once() {
  return kSums / C < kTaps ? kSums / C : kTaps;
}

template <int C, int T = taps_at_once<C>()>
void tile_of(int64_t taps, const float* inputs, const int64_t* offsets, const float* cotangent, int64_t plane, int64_t count, float* out,
             int64_t c_out) {
  if (taps == T) return tile<T, C>(inputs, offsets, cotangent, plane, count, out, c_out);
  if constexpr (T > 1) tile_of<C, T - 1>(taps, inputs, offsets, cotangent, plane, count, out, c_out);
}

// All taps and some output channels, in parts of nearly the same size.
template <int C = kChannels>
void tiles(int64_t channels, const float* inputs, const std::vector<int64_t>& offsets, const float* cotangent, int64_t plane, int64_t count,
           float* out, int64_t c_out) {
  if constexpr (C > 1)
    if (channels < C) return tiles<C - 1>(channels, inputs, offsets, cotangent, plane, count, out, c_out);
  const int64_t n = offsets.size(), parts = (n + taps_at_once<C>() - 1) / taps_at_once<C>();
  for (int64_t i = 0; i < parts; ++i) {
    const int64_t t = n * i / parts;
    tile_of<C>(n * (i + 1) / parts - t, inputs, offsets.data() + t, cotangent, plane, count, out + t * c_out * kLanes, c_out);
  }
}

typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));

// Four channels of four pixels that lie so far apart, as planes, of which there are n.
inline void take_four_apart(const float* from, int64_t step, float* to, int64_t plane, int64_t n) {
  const auto at = [](const float* p) { return *reinterpret_cast<const Four*>(p); };
  const Four a = at(from), b = at(from + step), c = at(from + 2 * step), d = at(from + 3 * step);
#if __has_builtin(__builtin_shufflevector)
  const Four first = __builtin_shufflevector(a, b, 0, 4, 1, 5), second = __builtin_shufflevector(c, d, 0, 4, 1, 5);
  const Four third = __builtin_shufflevector(a, b, 2, 6, 3, 7), fourth = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  const Four planes[] = {__builtin_shufflevector(first, second, 0, 1, 4, 5), __builtin_shufflevector(first, second, 2, 3, 6, 7),
                         __builtin_shufflevector(third, fourth, 0, 1, 4, 5), __builtin_shufflevector(third, fourth, 2, 3, 6, 7)};
#else
  const Four planes[] = {{a[0], b[0], c[0], d[0]}, {a[1], b[1], c[1], d[1]}, {a[2], b[2], c[2], d[2]}, {a[3], b[3], c[3], d[3]}};
#endif
  UNROLL
  for (int i = 0; i < 4; ++i)
    if (i < n) *reinterpret_cast<Four*>(to + i * plane) = planes[i];
}

// Pixels that lie so far apart as planes of their channels.
inline void take_apart(const float* from, int64_t channels, int64_t pixels, int64_t step, float* to, int64_t plane) {
  if (step == 1) return void(std::memcpy(to, from, pixels * 4));
  const int64_t end = (pixels - 1) * step + channels, read = std::max<int64_t>(4, channels);  // of few channels the next pixel's as well
  int64_t p = 0;
  for (; p + 4 <= pixels && (p + 3) * step + read <= end; p += 4)
    for (int64_t c = 0; c < channels; c += 4) {
      const int64_t first = std::max<int64_t>(0, std::min(c, channels - 4));
      take_four_apart(from + p * step + first, step, to + first * plane + p, plane, channels);
    }
  for (; p < pixels; ++p)
    for (int64_t c = 0; c < channels; ++c) to[c * plane + p] = from[p * step + c];
}

}  // namespace plane_tiles

class PlaneGradient {
 public:
  PlaneGradient(const Geometry& g, const float* inputs, const float* cotangent)
      : g_(g), inputs_(inputs), cotangent_(cotangent), pitch_(g.out[2] + (g.window[2] - 1) * g.dilation[2] / g.stride[2]) {}

  // Whether this is faster than products of taps: those would fill three quarters of their vectors at most, positions fill these.
  static bool takes(const Geometry& g) {
    const int64_t lanes = (g.c_out + kLanes - 1) / kLanes * kLanes;
    return g.groups == 1 && g.c_out <= 8 && 4 * g.c_out <= 3 * lanes && g.out[1] * g.out[2] >= kFewest;
  }

  void compute(float* out, xla::ffi::ThreadPool& pool) const {
    const int64_t planes = g_.n * g_.out[0], size = g_.window[0] * g_.window[1] * g_.window[2] * g_.c_in * g_.c_out;
    const int64_t rows = std::max<int64_t>(1, std::min(g_.out[1], kFloats / (pitch_ * g_.c_out))), parts = (g_.out[1] + rows - 1) / rows;
    const int64_t most = g_.n * g_.in[0] * g_.in[1] * g_.in[2] * g_.c_in / (size * kLanes);  // whose sums take no more than the inputs do
    const int64_t chunks = planes * parts, threads = std::max<int64_t>(1, std::min({num_threads(pool), chunks, most}));
    Scratch scratch;
    float* const sums = scratch.of(threads * size * kLanes);
    std::memset(sums, 0, threads * size * kLanes * 4);
    share(pool, threads, [&](int i) {
      for (int64_t c = chunks * i / threads; c < chunks * (i + 1) / threads; ++c)
        add(c / parts, g_.out[1] * (c % parts) / parts, g_.out[1] * (c % parts + 1) / parts, sums + i * size * kLanes);
    });
    for (int64_t j = 0; j < size; ++j) {
      out[j] = 0;
      for (int64_t i = 0; i < threads; ++i)
        for (int64_t lane = 0; lane < kLanes; ++lane) out[j] += sums[(i * size + j) * kLanes + lane];
    }
  }

 private:
  static constexpr int64_t kFewest = 128;
  static constexpr int64_t kFloats = 6000;  // of the cotangent, that stay in the nearest cache

  // Adds what some rows of a plane of the outputs contribute.
  void add(int64_t plane, int64_t row, int64_t last_row, float* out) const {
    thread_local Scratch left, right;
    const int64_t count = ((last_row - row) * pitch_ + kLanes - 1) / kLanes * kLanes, sy = g_.stride[1], sx = g_.stride[2];
    float* const cotangent = right.of(g_.c_out * count);
    std::memset(cotangent, 0, g_.c_out * count * 4);
    for (int64_t y = row; y < last_row; ++y)
      plane_tiles::take_apart(cotangent_ + (plane * g_.out[1] + y) * g_.out[2] * g_.c_out, g_.c_out, g_.out[2], g_.c_out,
                              cotangent + (y - row) * pitch_, count);
    // Of a stride s, s planes along each axis: of the pixels that lie 0, 1, … s − 1 after its multiples, padding counted.
    const int64_t rows = last_row - row + (g_.window[1] - 1) * g_.dilation[1] / sy, phase = rows * pitch_, size = g_.c_in * sy * sx * phase;
    std::vector<int64_t> offsets;
    for (int64_t k = 0; k < g_.window[1]; ++k)
      for (int64_t j = 0; j < g_.window[2]; ++j)
        for (int64_t c = 0, y = k * g_.dilation[1], x = j * g_.dilation[2]; c < g_.c_in; ++c)
          offsets.push_back(((c * sy + y % sy) * sx + x % sx) * phase + y / sy * pitch_ + x / sx);
    float* const inputs = left.of(size + kLanes);
    for (int64_t z = 0; z < g_.window[0]; ++z) {
      const int64_t in = plane % g_.out[0] * g_.stride[0] + z * g_.dilation[0] - g_.before[0];
      if (in < 0 || in >= g_.in[0]) continue;
      std::memset(inputs, 0, (size + kLanes) * 4);
      for (int64_t r = 0; r < rows * sy; ++r)
        if (const int64_t y = row * sy - g_.before[1] + r; y >= 0 && y < g_.in[1])
          take_inputs_apart(((plane / g_.out[0] * g_.in[0] + in) * g_.in[1] + y) * g_.in[2],
                            inputs + r % sy * sx * phase + r / sy * pitch_, phase, sy * sx * phase);
      float* to = out + z * offsets.size() * g_.c_out * kLanes;
      const int64_t parts = (g_.c_out + plane_tiles::kChannels - 1) / plane_tiles::kChannels;
      for (int64_t i = 0; i < parts; ++i) {
        const int64_t c = g_.c_out * i / parts, n = g_.c_out * (i + 1) / parts - c;
        plane_tiles::tiles(n, inputs, offsets, cotangent + c * count, count, count, to + c * kLanes, g_.c_out);
      }
    }
  }

  // A row, from this pixel on.
  void take_inputs_apart(int64_t first, float* to, int64_t phase, int64_t plane) const {
    for (int64_t s = g_.stride[2], x = 0; x < s; ++x) {
      const int64_t begin = std::max<int64_t>(0, (g_.before[2] - x + s - 1) / s);  // the first that is no padding
      const int64_t pixel = begin * s + x - g_.before[2], n = std::min(pitch_ - begin, (g_.in[2] - pixel + s - 1) / s);
      if (n > 0)
        plane_tiles::take_apart(inputs_ + (first + pixel) * g_.c_in, g_.c_in, n, s * g_.c_in, to + x * phase + begin, plane);
    }
  }

  const Geometry& g_;
  const float* inputs_;
  const float* cotangent_;
  const int64_t pitch_;  // positions and inputs of a row, and some zeros: those of the next begin as much later for both
};

}  // namespace cnn_jax
