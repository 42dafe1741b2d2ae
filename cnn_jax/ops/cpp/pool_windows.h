// What one position of pooling computes: the sum or the maximum of its window, and the first tap that sees the maximum. All choosing is
// done by vectors, whose comparisons become blends: of single values they become jumps, which random inputs make the processor guess wrong.
#pragma once

#include <limits>
#include <vector>

#include "vectors.h"

namespace cnn_jax {
namespace pool_windows {

// Vectors of so many lanes. Of few channels short ones are faster: fewer of their loads cross a cache line.
template <int L>
struct Lanes {
  typedef float Floats __attribute__((vector_size(L * 4)));
  typedef int32_t Choice __attribute__((vector_size(L * 4)));

  static Floats load(const float* at) {
    Floats v;
    std::memcpy(&v, at, sizeof(v));
    return v;
  }

  static void store(float* at, Floats v) { std::memcpy(at, &v, sizeof(v)); }

  static void store(float* at, Floats v, int64_t kept) {
    if (kept >= L) return store(at, v);
    std::memcpy(at, &v, kept * 4);
  }
};

// A tap of a window: where it looks, counted from where a position's first tap would be, in the inputs and in their gradient.
struct Look {
  int64_t input, gradient;
  int32_t tap;
};
using Looks = std::vector<Look>;

// Of `mine` and `other` that of the better value. A NaN is handed on: nothing is greater.
template <typename Floats, typename T>
inline T better(Floats value, Floats best, T mine, T other) {
  const T greater = value > best ? mine : other;
  return value != value ? mine : greater;
}

// So many looks of a position: a number known when this is compiled, or, as 0, one told.
template <int N>
struct Taps {
  const Look* first;
  int64_t told;

  template <typename Work>
  void each(const Work& work) const {
    if constexpr (N > 0) {
      UNROLL
      for (int i = 0; i < N; ++i) work(first[i]);
    } else {
      for (int64_t i = 0; i < told; ++i) work(first[i]);
    }
  }
};

// Calls work(taps) where the windows of 2×2 and 3×3 are known to the compiler.
template <typename Work>
inline void by_number(const Looks& looks, const Work& work) {
  const int64_t n = looks.size();
  if (n == 4) return work(Taps<4>{looks.data(), n});
  if (n == 9) return work(Taps<9>{looks.data(), n});
  work(Taps<0>{looks.data(), n});
}

template <int L, int V, typename Taps>
inline void sum(const Taps& taps, const float* x, float divisor, typename Lanes<L>::Floats (&sums)[V]) {
  UNROLL
  for (int v = 0; v < V; ++v) sums[v] = typename Lanes<L>::Floats{};
  taps.each([&](const Look& look) {
    UNROLL
    for (int v = 0; v < V; ++v) sums[v] += Lanes<L>::load(x + look.input + v * L);
  });
  UNROLL
  for (int v = 0; v < V; ++v) sums[v] /= divisor;
}

template <int L, int V, typename Taps>
inline void maximum(const Taps& taps, const float* x, typename Lanes<L>::Floats (&best)[V]) {
  UNROLL
  for (int v = 0; v < V; ++v) best[v] = typename Lanes<L>::Floats{} - std::numeric_limits<float>::infinity();
  taps.each([&](const Look& look) {
    UNROLL
    for (int v = 0; v < V; ++v) {
      const auto value = Lanes<L>::load(x + look.input + v * L);
      best[v] = better(value, best[v], value, best[v]);
    }
  });
}

// Adds to each tap's place what the tap gets, or puts it there. Of a window that sees nothing but -inf the first tap is chosen, in the
// padding as well, where what it gets is lost. Of the first vector `done` channels have had theirs.
template <int L, int V, bool Adds, typename Taps>
inline void gradient(const Taps& taps, const float* x, const float* g, float* out, int64_t done) {
  using Floats = typename Lanes<L>::Floats;
  using Choice = typename Lanes<L>::Choice;
  Floats best[V], values[V];
  Choice choice[V];
  UNROLL
  for (int v = 0; v < V; ++v) {
    best[v] = Floats{} - std::numeric_limits<float>::infinity();
    choice[v] = Choice{};
    values[v] = Lanes<L>::load(g + v * L);
  }
  if (Adds && done) {
    float kept[L];
    Lanes<L>::store(kept, values[0]);
    std::fill(kept, kept + done, 0.0f);
    values[0] = Lanes<L>::load(kept);
  }
  taps.each([&](const Look& look) {
    UNROLL
    for (int v = 0; v < V; ++v) {
      const auto value = Lanes<L>::load(x + look.input + v * L);
      choice[v] = better(value, best[v], Choice{} + look.tap, choice[v]);
      best[v] = better(value, best[v], value, best[v]);
    }
  });
  taps.each([&](const Look& look) {
    UNROLL
    for (int v = 0; v < V; ++v) {
      float* at = out + look.gradient + v * L;
      const Floats piece = choice[v] == look.tap ? values[v] : Floats{};
      Lanes<L>::store(at, Adds ? Lanes<L>::load(at) + piece : piece);
    }
  });
}

// Calls work(std::integral_constant<int, V>, channel, done): vectors for all channels, the last of which may begin with `done` channels
// that the one before had, or, where channels are fewer than a vector has, end with what belongs to others.
template <int L, typename Work>
inline void by_vectors(int64_t channels, const Work& work) {
  constexpr int V = L == kLanes ? kVectors : 1;
  int64_t c = 0;
  for (; V > 1 && c + V * L <= channels; c += V * L) work(std::integral_constant<int, V>(), c, 0);
  for (; c + L <= channels; c += L) work(std::integral_constant<int, 1>(), c, 0);
  if (c == channels) return;
  const int64_t first = std::max<int64_t>(0, channels - L);
  work(std::integral_constant<int, 1>(), first, c - first);
}

}  // namespace pool_windows
}  // namespace cnn_jax
