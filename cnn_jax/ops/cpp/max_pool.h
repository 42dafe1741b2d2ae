// The maximum of each window with the tap that saw it, and the way back. Windows lie within the inputs.
#pragma once

#include "vectors.h"
#include "walk.h"

namespace cnn_jax {

typedef int32_t Numbers32 __attribute__((vector_size(kLanes * 4)));
typedef int8_t Numbers8 __attribute__((vector_size(kLanes), aligned(1)));

// Vectors that may reach beyond their row of channels, but not beyond the array.
inline Vector load_within(const float* from, int64_t at, int64_t size) { return load(from + at, size - at); }

inline Numbers32 load_within(const int8_t* from, int64_t at, int64_t size) {
  Numbers8 v{};
  std::memcpy(&v, from + at, std::min<int64_t>(kLanes, size - at));
  return __builtin_convertvector(v, Numbers32);
}

// One row after the other is put together where whole vectors may be written beyond its end.
template <typename T>
class Line {
 public:
  explicit Line(int64_t size) : size_(size), values_(size + kLanes) {}
  T* at(int64_t i) { return values_.data() + i; }
  void copy_to(T* to) const { std::memcpy(to, values_.data(), size_ * sizeof(T)); }

 private:
  int64_t size_;
  std::vector<T> values_;
};

// The last NaN is handed on; of equal maxima the first is chosen.
inline void max_pool(const Geometry& g, const float* inputs, float* maxima, int8_t* choice, xla::ffi::ThreadPool& pool) {
  const Walk outer = walk(g, 0), inner = walk(g, 1), across = walk(g, 2);
  const int64_t rows = g.n * g.out[0] * g.out[1], c = g.c_in, width = g.out[2] * c, size = g.n * g.in[0] * g.in[1] * g.in[2] * c;
  const int64_t parts = std::min<int64_t>(rows, 4 * pool.num_threads());
  share(pool, parts, [&](int i) {
    Line<float> best(width);
    Line<int8_t> chosen(width);
    for (int64_t row = rows * i / parts; row < rows * (i + 1) / parts; ++row) {
      const auto seen = rows_met(row, outer, inner, g.in[0], g.in[1], g.window[1]);
      for (int64_t o = 0; o < g.out[2]; ++o)
        for (int64_t k = 0; k < c; k += kLanes) {
          Vector most{};
          Numbers32 tap{};
          bool first = true;
          for (const Seen& s : seen)
            for (const Seen& t : across[o]) {
              const Vector x = load_within(inputs, (s.input * g.in[2] + t.input) * c + k, size);
              const int32_t number = s.tap * g.window[2] + t.tap;
              const Numbers32 wins = first ? (x == x) | (x != x) : (x > most) | (x != x);
              most = wins ? x : most;
              tap = wins ? number - Numbers32{} : tap;
              first = false;
            }
          store(best.at(o * c + k), most);
          const Numbers8 narrow = __builtin_convertvector(tap, Numbers8);
          std::memcpy(chosen.at(o * c + k), &narrow, kLanes);
        }
      best.copy_to(maxima + row * width);
      chosen.copy_to(choice + row * width);
    }
  });
}

// Zeros, and each window's value added where its chosen tap has looked.
inline void spread_choice(const Geometry& g, const int8_t* choice, const float* values, float* out, xla::ffi::ThreadPool& pool) {
  const Walk outer = back(walk(g, 0), g.in[0]), inner = back(walk(g, 1), g.in[1]), across = back(walk(g, 2), g.in[2]);
  const int64_t rows = g.n * g.in[0] * g.in[1], c = g.c_in, width = g.in[2] * c, size = g.n * g.out[0] * g.out[1] * g.out[2] * c;
  const int64_t parts = std::min<int64_t>(rows, 4 * pool.num_threads());
  share(pool, parts, [&](int i) {
    Line<float> line(width);
    for (int64_t row = rows * i / parts; row < rows * (i + 1) / parts; ++row) {
      const auto seen = rows_met(row, outer, inner, g.out[0], g.out[1], g.window[1]);
      for (int64_t x = 0; x < g.in[2]; ++x)
        for (int64_t k = 0; k < c; k += kLanes) {
          Vector sum{};
          for (const Seen& s : seen)
            for (const Seen& t : across[x]) {
              const int64_t at = (s.input * g.out[2] + t.input) * c + k;
              const int32_t number = s.tap * g.window[2] + t.tap;
              sum += load_within(choice, at, size) == number ? load_within(values, at, size) : Vector{};
            }
          store(line.at(x * c + k), sum);
        }
      line.copy_to(out + row * width);
    }
  });
}

}  // namespace cnn_jax
