// Correlation of each channel with a kernel of its own, and the gradient of the kernel: as fast as memory is.
#pragma once

#include "vectors.h"
#include "walk.h"

namespace cnn_jax {

template <int V, typename Kept>
void depthwise_row(const Geometry& g, const std::vector<Seen>& rows, const Walk& across, const float* inputs,
                   const float* kernel, float* out, int64_t c, Kept kept) {
  const int64_t channels = g.c_in;
  for (int64_t o = 0; o < g.out[2]; ++o) {
    Vector sums[V];
    UNROLL
    for (int v = 0; v < V; ++v) sums[v] = Vector{};
    for (const Seen& row : rows)
      for (const Seen& t : across[o]) {
        const float* x = inputs + (row.input * g.in[2] + t.input) * channels + c;
        const float* w = kernel + (row.tap * g.window[2] + t.tap) * channels + c;
        UNROLL
        for (int v = 0; v < V; ++v) {
          const int64_t left = kept - v * kLanes;
          sums[v] += load(x + v * kLanes, left) * load(w + v * kLanes, left);
        }
      }
    UNROLL
    for (int v = 0; v < V; ++v) store(out + o * channels + c + v * kLanes, sums[v], kept - v * kLanes);
  }
}

template <int V, typename Kept>
void depthwise_gradient_row(const Geometry& g, const std::vector<Seen>& rows, const float* inputs, const float* cotangent, float* out,
                            int64_t c, Kept kept) {
  const int64_t channels = g.c_in;
  for (const Seen& row : rows)
    for (int64_t k = 0; k < g.window[2]; ++k) {
      const int64_t offset = k * g.dilation[2] - g.before[2];
      int64_t first, last;
      seen(offset, g.stride[2], g.in[2], g.out[2], &first, &last);
      const float* x = inputs + (row.input * g.in[2] + first * g.stride[2] + offset) * channels + c;
      const float* y = cotangent + first * channels + c;
      Vector sums[V];
      UNROLL
      for (int v = 0; v < V; ++v) sums[v] = Vector{};
      for (int64_t o = first; o < last; ++o, x += g.stride[2] * channels, y += channels) {
        UNROLL
        for (int v = 0; v < V; ++v) {
          const int64_t left = kept - v * kLanes;
          sums[v] += load(x + v * kLanes, left) * load(y + v * kLanes, left);
        }
      }
      float* at = out + (row.tap * g.window[2] + k) * channels + c;
      UNROLL
      for (int v = 0; v < V; ++v) store(at + v * kLanes, load(at + v * kLanes, kept - v * kLanes) + sums[v], kept - v * kLanes);
    }
}

// Calls work(std::integral_constant<int, V>, c, kept) for the channels from c on, whole blocks of vectors first.
template <typename Work>
void by_channels(int64_t channels, const Work& work) {
  int64_t c = 0;
  for (; c + 4 * kLanes <= channels; c += 4 * kLanes)
    work(std::integral_constant<int, 4>(), c, std::integral_constant<int64_t, 4 * kLanes>());
  for (; c + kLanes <= channels; c += kLanes) work(std::integral_constant<int, 1>(), c, std::integral_constant<int64_t, kLanes>());
  if (c < channels) work(std::integral_constant<int, 1>(), c, channels - c);
}

inline void depthwise(const Geometry& g, const float* inputs, const float* kernel, float* out, xla::ffi::ThreadPool& pool) {
  const Walk outer = walk(g, 0), inner = walk(g, 1), across = walk(g, 2);
  const int64_t rows = g.n * g.out[0] * g.out[1], parts = std::min<int64_t>(rows, 4 * num_threads(pool));
  share(pool, parts, [&](int i) {
    for (int64_t row = rows * i / parts; row < rows * (i + 1) / parts; ++row) {
      const std::vector<Seen> seen = rows_seen(g, row, outer, inner);
      by_channels(g.c_in, [&](auto v, int64_t c, auto kept) {
        depthwise_row<v()>(g, seen, across, inputs, kernel, out + row * g.out[2] * g.c_in, c, kept);
      });
    }
  });
}

inline void depthwise_gradient(const Geometry& g, const float* inputs, const float* cotangent, float* out, xla::ffi::ThreadPool& pool) {
  const Walk outer = walk(g, 0), inner = walk(g, 1);
  const int64_t rows = g.n * g.out[0] * g.out[1], size = g.window[0] * g.window[1] * g.window[2] * g.c_in;
  const int64_t parts = std::min<int64_t>(rows, num_threads(pool));
  std::vector<float> others((parts - 1) * size);
  std::memset(out, 0, size * 4);
  share(pool, parts, [&](int i) {
    float* sums = i ? others.data() + (i - 1) * size : out;
    for (int64_t row = rows * i / parts; row < rows * (i + 1) / parts; ++row) {
      const std::vector<Seen> seen = rows_seen(g, row, outer, inner);
      by_channels(g.c_in, [&](auto v, int64_t c, auto kept) {
        depthwise_gradient_row<v()>(g, seen, inputs, cotangent + row * g.out[2] * g.c_in, sums, c, kept);
      });
    }
  });
  for (int64_t i = 1; i < parts; ++i)
    for (int64_t j = 0; j < size; ++j) out[j] += others[(i - 1) * size + j];
}

}  // namespace cnn_jax
