// Correlation of each channel with a kernel of its own, and the gradient of the kernel: as fast as memory is.
#pragma once

#include "vectors.h"
#include "walk.h"

namespace cnn_jax {

// An output of some channels, from whatever inputs it sees.
template <int V, typename Kept>
void depthwise_output(const Geometry& g, const std::vector<Seen>& rows, const std::vector<Seen>& across, const float* inputs,
                      const float* kernel, float* out, int64_t c, Kept kept) {
  const int64_t channels = g.c_in;
  Vector sums[V];
  UNROLL
  for (int v = 0; v < V; ++v) sums[v] = Vector{};
  for (const Seen& row : rows)
    for (const Seen& t : across) {
      const float* x = inputs + (row.input * g.in[2] + t.input) * channels + c;
      const float* w = kernel + (row.tap * g.window[2] + t.tap) * channels + c;
      UNROLL
      for (int v = 0; v < V; ++v) {
        const int64_t left = kept - v * kLanes;
        sums[v] += load(x + v * kLanes, left) * load(w + v * kLanes, left);
      }
    }
  UNROLL
  for (int v = 0; v < V; ++v) store(out + c + v * kLanes, sums[v], kept - v * kLanes);
}

// P outputs of a row that see K inputs of each row, S apart from each other: weights and inputs are loaded once for all of them.
template <int P, int K, int S, typename Kept>
void depthwise_outputs(const std::vector<Seen>& rows, const float* inputs, int64_t row_size, const float* kernel, float* out,
                       int64_t channels, Kept kept) {
  Vector sums[P];
  UNROLL
  for (int p = 0; p < P; ++p) sums[p] = Vector{};
  for (const Seen& row : rows) {
    const float* x = inputs + row.input * row_size;
    const float* w = kernel + row.tap * K * channels;
    Vector weights[K];
    UNROLL
    for (int k = 0; k < K; ++k) weights[k] = load(w + k * channels, kept);
    UNROLL
    for (int i = 0; i < (P - 1) * S + K; ++i) {
      const Vector value = load(x + i * channels, kept);
      UNROLL
      for (int k = 0; k < K; ++k)
        if (i >= k && (i - k) % S == 0 && (i - k) / S < P) sums[(i - k) / S] += value * weights[k];
    }
  }
  UNROLL
  for (int p = 0; p < P; ++p) store(out + p * channels, sums[p], kept);
}

// Calls work(std::integral_constant<int, V>, c, kept) for the channels from c on, whole blocks of vectors first.
template <int V, typename Work>
void by_channels(int64_t channels, const Work& work) {
  int64_t c = 0;
  for (; c + V * kLanes <= channels; c += V * kLanes)
    work(std::integral_constant<int, V>(), c, std::integral_constant<int64_t, V * kLanes>());
  for (; c + kLanes <= channels; c += kLanes) work(std::integral_constant<int, 1>(), c, std::integral_constant<int64_t, kLanes>());
  if (c < channels) work(std::integral_constant<int, 1>(), c, channels - c);
}

// An output row. K and S are 0 where windows are of another kind than depthwise_outputs has.
template <int K, int S>
void depthwise_row(const Geometry& g, const std::vector<Seen>& rows, const Walk& across, const float* inputs, const float* kernel,
                   float* out) {
  int64_t o = 0;
  auto see_all = [&](int64_t n) {  // so many outputs from here on
    return K > 0 && o + n <= g.out[2] && static_cast<int64_t>(std::min(across[o].size(), across[o + n - 1].size())) == g.window[2];
  };
  auto together = [&](auto n) {
    const float* from = inputs + across[o][0].input * g.c_in;
    by_channels<1>(g.c_in, [&](auto, int64_t c, auto kept) {
      depthwise_outputs<n(), K, S>(rows, from + c, g.in[2] * g.c_in, kernel + c, out + o * g.c_in + c, g.c_in, kept);
    });
    o += n();
  };
  while (o < g.out[2])
    if (see_all(8)) {
      together(std::integral_constant<int, 8>());
    } else if (see_all(4)) {
      together(std::integral_constant<int, 4>());
    } else {
      by_channels<4>(g.c_in, [&](auto v, int64_t c, auto kept) {
        depthwise_output<v()>(g, rows, across[o], inputs, kernel, out + o * g.c_in, c, kept);
      });
      ++o;
    }
}

using DepthwiseRow = decltype(&depthwise_row<0, 0>);

inline DepthwiseRow depthwise_row_for(const Geometry& g) {
  auto is = [&](int64_t window, int64_t stride) {
    return g.window[2] == window && g.stride[2] == stride && g.apart[2] == 1 && g.dilation[2] == 1;
  };
  if (is(3, 1)) return depthwise_row<3, 1>;
  if (is(3, 2)) return depthwise_row<3, 2>;
  if (is(5, 1)) return depthwise_row<5, 1>;
  if (is(5, 2)) return depthwise_row<5, 2>;
  if (is(7, 1)) return depthwise_row<7, 1>;
  return depthwise_row<0, 0>;
}

inline void depthwise(const Geometry& g, const float* inputs, const float* kernel, float* out, xla::ffi::ThreadPool& pool) {
  const Walk outer = walk(g, 0), inner = walk(g, 1), across = walk(g, 2);
  const int64_t rows = g.n * g.out[0] * g.out[1], parts = std::min<int64_t>(rows, 4 * num_threads(pool));
  const DepthwiseRow compute = depthwise_row_for(g);
  share(pool, parts, [&](int i) {
    for (int64_t row = rows * i / parts; row < rows * (i + 1) / parts; ++row) {
      const std::vector<Seen> seen = rows_seen(g, row, outer, inner);
      compute(g, seen, across, inputs, kernel, out + row * g.out[2] * g.c_in);
    }
  });
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
      by_channels<4>(g.c_in, [&](auto v, int64_t c, auto kept) {
        depthwise_gradient_row<v()>(g, seen, inputs, cotangent + row * g.out[2] * g.c_in, sums, c, kept);
      });
    }
  });
  for (int64_t i = 1; i < parts; ++i)
    for (int64_t j = 0; j < size; ++j) out[j] += others[(i - 1) * size + j];
}

}  // namespace cnn_jax
