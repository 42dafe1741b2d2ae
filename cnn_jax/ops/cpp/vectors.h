// Vectors of this processor, and work shared among the threads that XLA has.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>
#include <type_traits>

#include "xla/ffi/api/ffi.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define UNROLL _Pragma("GCC unroll 64")

namespace cnn_jax {

#if defined(__AVX512F__)
constexpr int kLanes = 16, kVectors = 4, kRows = 6;  // 32 registers of 16: 6 · 4 sums, 4 of the cotangent, 1 of the inputs
#elif defined(__AVX__)
constexpr int kLanes = 8, kVectors = 2, kRows = 6;  // 16 registers of 8
#elif defined(__aarch64__)
constexpr int kLanes = 4, kVectors = 4, kRows = 6;  // 32 registers of 4
#else
constexpr int kLanes = 4, kVectors = 2, kRows = 6;  // 16 registers of 4
#endif
constexpr int kWide = kLanes * kVectors;

typedef float Vector __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));

inline Vector load(const float* at) { return *reinterpret_cast<const Vector*>(at); }
inline void store(float* at, Vector v) { *reinterpret_cast<Vector*>(at) = v; }

// The lanes that are named: [v[at[0]], v[at[1]], …].
typedef int32_t Indices __attribute__((vector_size(kLanes * 4)));
inline Vector shuffle(Vector v, Indices at) {
#if defined(__AVX512F__)
  return (Vector)_mm512_permutexvar_ps((__m512i)at, (__m512)v);
#elif defined(__AVX2__)
  return (Vector)_mm256_permutevar8x32_ps((__m256)v, (__m256i)at);
#elif defined(__clang__)
  Vector named;
  UNROLL
  for (int i = 0; i < kLanes; ++i) named[i] = v[at[i]];
  return named;
#else
  return __builtin_shuffle(v, at);
#endif
}

// The first `kept` that are there, the others being 0.
inline Vector load(const float* at, int64_t kept) {
  if (kept >= kLanes) return load(at);
  float some[kLanes] = {};
  std::memcpy(some, at, kept * 4);
  return load(some);
}

inline void store(float* at, Vector v, int64_t kept) {
  if (kept >= kLanes) return store(at, v);
  float some[kLanes];
  store(some, v);
  std::memcpy(at, some, kept * 4);
}

// Memory that begins where a vector may: loads of whole vectors across cache lines take twice as long. What it held is lost when it grows.
class Scratch {
 public:
  float* of(int64_t size) {
    if (size > size_) {
      floats_.reset(static_cast<float*>(std::aligned_alloc(64, (size * 4 + 63) / 64 * 64)));
      size_ = size;
    }
    return floats_.get();
  }

 private:
  struct Free {
    void operator()(float* at) const { std::free(at); }
  };
  std::unique_ptr<float, Free> floats_;
  int64_t size_ = 0;
};

inline int64_t num_threads(const xla::ffi::ThreadPool& pool) { return std::max<int64_t>(1, pool.num_threads()); }  // 0 is "not known"

// Does work(0) … work(n - 1), on the pool's threads and this one, which waits only for what others have begun: the pool may be busy.
template <typename Work>
void share(xla::ffi::ThreadPool& pool, int n, const Work& work) {
  struct Shared {
    std::atomic<int> next{0}, done{0};
  };
  auto shared = std::make_shared<Shared>();
  auto take = [shared, n, &work] {
    for (int i; (i = shared->next++) < n; ++shared->done) work(i);
  };
  for (int i = 1; i < std::min<int64_t>(n, num_threads(pool)); ++i) pool.Schedule(std::decay_t<decltype(take)>(take));
  take();
  while (shared->done < n) std::this_thread::yield();
}

// The same, alone where all of it, so many floats, is done before another thread would have begun.
template <typename Work>
void share_where_long(xla::ffi::ThreadPool& pool, int n, int64_t floats, const Work& work) {
  if (floats > 1 << 16) return share(pool, n, work);
  for (int i = 0; i < n; ++i) work(i);
}

}  // namespace cnn_jax
