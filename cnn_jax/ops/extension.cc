// Convolutions' gradients, and what has a kernel of its own for each channel, for a CPU, in float32, channels last. Called by XLA.
//
// The gradient of a kernel is a matrix product, (what a tap sees)ᵀ · cotangent, whose left factor need not be written out: its rows are
// the inputs themselves, a stride apart. A tile of it, a few input channels by a few vectors of output channels, stays in registers over
// many positions (Goto & van de Geijn 2008, "Anatomy of high-performance matrix multiplication").

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

#define UNROLL _Pragma("GCC unroll 64")

namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16, kVectors = 4, kRows = 6;  // 32 registers of 16: 6 · 4 sums, 4 of the cotangent, 1 of the inputs
#elif defined(__AVX__)
constexpr int kLanes = 8, kVectors = 2, kRows = 6;  // 16 registers of 8
#else
constexpr int kLanes = 4, kVectors = 4, kRows = 6;  // 32 registers of 4
#endif
constexpr int kWide = kLanes * kVectors;

typedef float Vector __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));

inline Vector load(const float* at) { return *reinterpret_cast<const Vector*>(at); }
inline void store(float* at, Vector v) { *reinterpret_cast<Vector*>(at) = v; }

// Does work(0) … work(n - 1), on the pool's threads and this one, which waits only for what others have begun: the pool may be busy.
template <typename Work>
void share(ffi::ThreadPool& pool, int n, const Work& work) {
  struct Shared {
    std::atomic<int> next{0}, done{0};
  };
  auto shared = std::make_shared<Shared>();
  auto take = [shared, n, &work] {
    for (int i; (i = shared->next++) < n; ++shared->done) work(i);
  };
  for (int i = 1; i < std::min<int64_t>(n, pool.num_threads()); ++i) pool.Schedule(std::decay_t<decltype(take)>(take));
  take();
  while (shared->done < n) std::this_thread::yield();
}

struct Geometry {
  int64_t n, in[3], c_in, out[3], c_out, window[3], stride[3], before[3], dilation[3], apart[3];
};

// Positions of an output row that see inputs: [first, last) for an offset of the window.
void seen(int64_t offset, int64_t stride, int64_t size, int64_t positions, int64_t* first, int64_t* last) {
  *first = offset >= 0 ? 0 : (-offset + stride - 1) / stride;
  *last = offset >= size ? 0 : std::min(positions, (size - 1 - offset) / stride + 1);
  *last = std::max(*first, *last);
}

struct Row {
  const float* inputs;
  const float* cotangent;
};

// out[r][v] = Σ inputs[r] · cotangent[v] over all positions of all rows, or is increased by it where it is not fresh
template <int R, int V>
void tile(const std::vector<Row>& rows, int64_t count, int64_t step, int64_t width, float* out, int64_t c_out, int64_t tail,
          bool fresh) {
  Vector sums[R][V];
  UNROLL
  for (int r = 0; r < R; ++r)
    UNROLL
    for (int v = 0; v < V; ++v) sums[r][v] = Vector{};
  for (const Row& row : rows) {
    const float* a = row.inputs;
    const float* b = row.cotangent;
    for (int64_t p = 0; p < count; ++p, a += step, b += width) {
      Vector g[V];
      UNROLL
      for (int v = 0; v < V; ++v) g[v] = load(b + v * kLanes);
      UNROLL
      for (int r = 0; r < R; ++r) {
        const float x = a[r];
        UNROLL
        for (int v = 0; v < V; ++v) sums[r][v] += x * g[v];
      }
    }
  }
  UNROLL
  for (int r = 0; r < R; ++r, out += c_out)
    UNROLL
    for (int v = 0; v < V; ++v) {
      float* at = out + v * kLanes;
      if (v < V - 1 || tail == kLanes) {
        store(at, fresh ? sums[r][v] : load(at) + sums[r][v]);
      } else {
        float last[kLanes];
        store(last, sums[r][v]);
        for (int i = 0; i < tail; ++i) at[i] = fresh ? last[i] : at[i] + last[i];
      }
    }
}

template <int V>
void tiles(const std::vector<Row>& rows, int64_t count, int64_t step, int64_t width, int64_t features, float* out, int64_t c_out,
           int64_t tail, bool fresh) {
  constexpr int R = kRows * kVectors / V;
  std::vector<Row> at = rows;
  auto advance = [&](int r) {
    for (Row& row : at) row.inputs += r;
    out += r * c_out;
    features -= r;
  };
  while (features >= R) tile<R, V>(at, count, step, width, out, c_out, tail, fresh), advance(R);
  while (features >= 4) tile<4, V>(at, count, step, width, out, c_out, tail, fresh), advance(4);
  if (features == 3) tile<3, V>(at, count, step, width, out, c_out, tail, fresh);
  if (features == 2) tile<2, V>(at, count, step, width, out, c_out, tail, fresh);
  if (features == 1) tile<1, V>(at, count, step, width, out, c_out, tail, fresh);
}

void tiles(int vectors, const std::vector<Row>& rows, int64_t count, int64_t step, int64_t width, int64_t features, float* out,
           int64_t c_out, int64_t tail, bool fresh) {
  switch (vectors) {
    case 1: return tiles<1>(rows, count, step, width, features, out, c_out, tail, fresh);
    case 2: return tiles<2>(rows, count, step, width, features, out, c_out, tail, fresh);
#if !defined(__AVX__) || defined(__AVX512F__)
    case 3: return tiles<3>(rows, count, step, width, features, out, c_out, tail, fresh);
    default: return tiles<4>(rows, count, step, width, features, out, c_out, tail, fresh);
#endif
  }
}

// Some taps whose features lie next to each other in the inputs: one tap's channels, or, of few, a whole row of the window's.
struct Taps {
  int64_t z, y, x, first, last;  // offsets in the inputs, and the positions of a row that see inputs there
};

// Pixels of some channels, [pixels, width]; the channels themselves are fewer where they are filled up to whole vectors.
struct Block {
  const float* pixels;
  int64_t width, channels;
};

// [pixels, channels] as blocks of so many channels, each filled up with zeros to a multiple of `whole`.
std::vector<Block> blocks(const float* from, int64_t pixels, int64_t channels, int64_t size, int64_t whole, std::vector<float>& to) {
  std::vector<Block> made;
  to.resize(pixels * ((channels + size - 1) / size) * ((size + whole - 1) / whole * whole));
  float* at = to.data();
  for (int64_t c = 0; c < channels; c += size) {
    const int64_t kept = std::min(size, channels - c), width = (kept + whole - 1) / whole * whole;
    made.push_back({at, width, kept});
    for (int64_t p = 0; p < pixels; ++p, at += width) {
      std::memcpy(at, from + p * channels + c, kept * 4);
      std::fill(at + kept, at + width, 0.0f);
    }
  }
  return made;
}

class KernelGradient {
 public:
  KernelGradient(const Geometry& g, const float* inputs) : g_(g), inputs_(inputs), wide_(g.in[2]), joined_(joins(g)) {
    features_ = joined_ ? g.window[2] * g.c_in : g.c_in;
    if (joined_) pad();
    for (int64_t z = 0; z < g.window[0]; ++z)
      for (int64_t y = 0; y < g.window[1]; ++y)
        for (int64_t x = 0; x < (joined_ ? 1 : g.window[2]); ++x) {
          Taps t{z * g.dilation[0] - g.before[0], y * g.dilation[1] - g.before[1], 0, 0, g.out[2]};
          if (!joined_) {
            t.x = x * g.dilation[2] - g.before[2];
            seen(t.x, g.stride[2], g.in[2], g.out[2], &t.first, &t.last);
          }
          taps_.push_back(t);
        }
  }

  void compute(const float* cotangent, float* out, ffi::ThreadPool& pool) const {
    const int64_t rows = g_.n * g_.out[0] * g_.out[1], positions = g_.out[2], n = taps_.size(), size = n * features_ * g_.c_out;
    const int64_t pixels = g_.n * g_.in[0] * g_.in[1] * wide_, parts = std::min<int64_t>(pool.num_threads(), rows);
    std::vector<float> inputs;
    if (parts * size > pixels * g_.c_in + rows * positions * g_.c_out) {  // each part of the result from all positions
      std::vector<float> cotangents;
      const auto left = joined_ ? whole_inputs() : blocks(inputs_, pixels, g_.c_in, 8 * kRows, 1, inputs);
      const auto right = blocks(cotangent, rows * positions, g_.c_out, kWide, kLanes, cotangents);
      share(pool, n * right.size(), [&](int i) {
        int64_t feature = 0;
        for (const Block& some : left) {
          add(0, rows, i % n, some, right[i / n], out + (i % n * features_ + feature) * g_.c_out + i / n * kWide, true);
          feature += some.channels;
        }
      });
      return;
    }
    std::vector<float> others((parts - 1) * size);  // all of the result from each part of the positions
    share(pool, parts, [&](int i) {
      float* sums = i ? others.data() + (i - 1) * size : out;
      const int64_t begin = rows * i / parts, end = rows * (i + 1) / parts, step = std::max<int64_t>(1, kPositions / positions);
      std::vector<float> packed;
      for (int64_t row = begin; row < end; row += step) {
        const int64_t last = std::min(row + step, end);
        const float* seen = cotangent + row * positions * g_.c_out;
        const bool fits = g_.c_out <= kWide && g_.c_out % kLanes == 0;
        const auto right = fits ? std::vector<Block>{{seen, g_.c_out, g_.c_out}}
                                : blocks(seen, (last - row) * positions, g_.c_out, kWide, kLanes, packed);
        for (size_t b = 0; b < right.size(); ++b)
          for (int64_t t = 0; t < n; ++t) add(row, last, t, whole_inputs()[0], right[b], sums + t * features_ * g_.c_out + b * kWide, row == begin);
      }
    });
    for (int64_t i = 1; i < parts; ++i)
      for (int64_t j = 0; j < size; ++j) out[j] += others[(i - 1) * size + j];
  }

 private:
  static constexpr int64_t kPositions = 256;  // whose inputs and cotangents stay in the nearest caches

  static bool joins(const Geometry& g) { return g.c_in < kLanes && g.dilation[2] == 1 && g.window[2] > 1; }

  std::vector<Block> whole_inputs() const { return {{inputs_, g_.c_in, features_}}; }

  // Adds to a tap's part of the result what output rows contribute, of which `cotangent` has the first.
  void add(int64_t row, int64_t last, int64_t tap, const Block& inputs, const Block& cotangent, float* out, bool fresh) const {
    thread_local std::vector<Row> rows;
    const Taps& t = taps_[tap];
    rows.clear();
    for (int64_t r = row; r < last && t.first < t.last; ++r) {
      const int64_t y = r % g_.out[1] * g_.stride[1] + t.y, z = r / g_.out[1] % g_.out[0] * g_.stride[0] + t.z;
      if (y < 0 || y >= g_.in[1] || z < 0 || z >= g_.in[0]) continue;
      const int64_t pixel = ((r / g_.out[1] / g_.out[0] * g_.in[0] + z) * g_.in[1] + y) * wide_ + t.first * g_.stride[2] + t.x;
      rows.push_back({inputs.pixels + pixel * inputs.width, cotangent.pixels + ((r - row) * g_.out[2] + t.first) * cotangent.width});
    }
    const int64_t vectors = cotangent.width / kLanes, tail = cotangent.channels - (vectors - 1) * kLanes;
    tiles(vectors, rows, t.last - t.first, g_.stride[2] * inputs.width, cotangent.width, inputs.channels, out, g_.c_out, tail, fresh);
  }

  // Rows of inputs as wide as windows reach, so that a row of the window sees features next to each other everywhere.
  void pad() {
    const int64_t wide = (g_.out[2] - 1) * g_.stride[2] + g_.window[2], rows = g_.n * g_.in[0] * g_.in[1];
    const int64_t kept = std::max<int64_t>(0, std::min(g_.in[2], wide - g_.before[2])) * g_.c_in * 4;
    padded_.assign(rows * wide * g_.c_in, 0);
    for (int64_t r = 0; r < rows; ++r)
      std::memcpy(&padded_[(r * wide + g_.before[2]) * g_.c_in], inputs_ + r * g_.in[2] * g_.c_in, kept);
    inputs_ = padded_.data();
    wide_ = wide;
  }

  const Geometry g_;
  const float* inputs_;
  int64_t wide_, features_;
  const bool joined_;
  std::vector<Taps> taps_;
  std::vector<float> padded_;
};

// What is computed for each channel by itself: vectors of channels, the last of which may be filled in part.
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

struct Tap {
  int64_t input, tap;
};

// For each position of an axis, the inputs it sees and by which taps. Inputs may lie apart, with zeros between them.
std::vector<std::vector<Tap>> walk(const Geometry& g, int axis) {
  std::vector<std::vector<Tap>> walked(g.out[axis]);
  for (int64_t o = 0; o < g.out[axis]; ++o)
    for (int64_t k = 0; k < g.window[axis]; ++k) {
      const int64_t at = o * g.stride[axis] + k * g.dilation[axis] - g.before[axis];
      if (at >= 0 && at % g.apart[axis] == 0 && at / g.apart[axis] < g.in[axis]) walked[o].push_back({at / g.apart[axis], k});
    }
  return walked;
}

// The inputs' rows that an output row sees, and which rows of the window they meet.
std::vector<Tap> rows_seen(const Geometry& g, int64_t row, const std::vector<std::vector<Tap>> (&walked)[3]) {
  std::vector<Tap> rows;
  const int64_t y = row % g.out[1], z = row / g.out[1] % g.out[0], n = row / g.out[1] / g.out[0];
  for (const Tap& a : walked[0][z])
    for (const Tap& b : walked[1][y]) rows.push_back({(n * g.in[0] + a.input) * g.in[1] + b.input, a.tap * g.window[1] + b.tap});
  return rows;
}

template <int V, typename Kept>
void depthwise_row(const Geometry& g, const std::vector<Tap>& rows, const std::vector<std::vector<Tap>>& walked, const float* inputs,
                   const float* kernel, float* out, int64_t c, Kept kept) {
  const int64_t channels = g.c_in;
  for (int64_t o = 0; o < g.out[2]; ++o) {
    Vector sums[V];
    UNROLL
    for (int v = 0; v < V; ++v) sums[v] = Vector{};
    for (const Tap& row : rows)
      for (const Tap& t : walked[o]) {
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
void depthwise_gradient_row(const Geometry& g, const std::vector<Tap>& rows, const float* inputs, const float* cotangent, float* out,
                            int64_t c, Kept kept) {
  const int64_t channels = g.c_in;
  for (const Tap& row : rows)
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
  for (; c + 4 * kLanes <= channels; c += 4 * kLanes) work(std::integral_constant<int, 4>(), c, std::integral_constant<int64_t, 4 * kLanes>());
  for (; c + kLanes <= channels; c += kLanes) work(std::integral_constant<int, 1>(), c, std::integral_constant<int64_t, kLanes>());
  if (c < channels) work(std::integral_constant<int, 1>(), c, channels - c);
}

void depthwise(const Geometry& g, const float* inputs, const float* kernel, float* out, ffi::ThreadPool& pool) {
  const std::vector<std::vector<Tap>> walked[3] = {walk(g, 0), walk(g, 1), walk(g, 2)};
  const int64_t rows = g.n * g.out[0] * g.out[1], parts = std::min<int64_t>(rows, 4 * pool.num_threads());
  share(pool, parts, [&](int i) {
    for (int64_t row = rows * i / parts; row < rows * (i + 1) / parts; ++row) {
      const std::vector<Tap> seen = rows_seen(g, row, walked);
      by_channels(g.c_in, [&](auto v, int64_t c, auto kept) {
        depthwise_row<v()>(g, seen, walked[2], inputs, kernel, out + row * g.out[2] * g.c_in, c, kept);
      });
    }
  });
}

void depthwise_gradient(const Geometry& g, const float* inputs, const float* cotangent, float* out, ffi::ThreadPool& pool) {
  const std::vector<std::vector<Tap>> walked[3] = {walk(g, 0), walk(g, 1), {}};
  const int64_t rows = g.n * g.out[0] * g.out[1], size = g.window[0] * g.window[1] * g.window[2] * g.c_in;
  const int64_t parts = std::min<int64_t>(rows, pool.num_threads());
  std::vector<float> others((parts - 1) * size);
  std::memset(out, 0, size * 4);
  share(pool, parts, [&](int i) {
    float* sums = i ? others.data() + (i - 1) * size : out;
    for (int64_t row = rows * i / parts; row < rows * (i + 1) / parts; ++row) {
      const std::vector<Tap> seen = rows_seen(g, row, walked);
      by_channels(g.c_in, [&](auto v, int64_t c, auto kept) {
        depthwise_gradient_row<v()>(g, seen, inputs, cotangent + row * g.out[2] * g.c_in, sums, c, kept);
      });
    }
  });
  for (int64_t i = 1; i < parts; ++i)
    for (int64_t j = 0; j < size; ++j) out[j] += others[(i - 1) * size + j];
}

using Numbers = ffi::Span<const int64_t>;
using Floats = ffi::Buffer<ffi::F32>;
using Result = ffi::Result<Floats>;

// One to three spatial axes as three.
Geometry geometry(Floats::Dimensions x, Floats::Dimensions y, Numbers window, Numbers stride, Numbers before, Numbers dilation,
                  Numbers apart) {
  Geometry g{x.front(), {1, 1, 1}, x.back(), {1, 1, 1}, y.back(), {1, 1, 1}, {1, 1, 1}, {0, 0, 0}, {1, 1, 1}, {1, 1, 1}};
  const int64_t axes = window.size();
  for (int64_t i = 0, j = 3 - axes; i < axes; ++i, ++j) {
    g.in[j] = x[i + 1], g.out[j] = y[i + 1], g.window[j] = window[i];
    g.stride[j] = stride[i], g.before[j] = before[i], g.dilation[j] = dilation[i], g.apart[j] = apart[i];
  }
  return g;
}

ffi::Error kernel_gradient(ffi::ThreadPool pool, Floats x, Floats y, Result w, Numbers window, Numbers stride, Numbers before,
                           Numbers dilation, Numbers apart) {
  const Geometry g = geometry(x.dimensions(), y.dimensions(), window, stride, before, dilation, apart);
  KernelGradient(g, x.typed_data()).compute(y.typed_data(), w->typed_data(), pool);
  return ffi::Error::Success();
}

ffi::Error depthwise_correlation(ffi::ThreadPool pool, Floats x, Floats w, Result y, Numbers window, Numbers stride, Numbers before,
                                 Numbers dilation, Numbers apart) {
  const Geometry g = geometry(x.dimensions(), y->dimensions(), window, stride, before, dilation, apart);
  depthwise(g, x.typed_data(), w.typed_data(), y->typed_data(), pool);
  return ffi::Error::Success();
}

ffi::Error depthwise_kernel_gradient(ffi::ThreadPool pool, Floats x, Floats y, Result w, Numbers window, Numbers stride, Numbers before,
                                     Numbers dilation, Numbers apart) {
  const Geometry g = geometry(x.dimensions(), y.dimensions(), window, stride, before, dilation, apart);
  depthwise_gradient(g, x.typed_data(), y.typed_data(), w->typed_data(), pool);
  return ffi::Error::Success();
}

auto bound() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::ThreadPool>()
      .Arg<Floats>()
      .Arg<Floats>()
      .Ret<Floats>()
      .Attr<Numbers>("window")
      .Attr<Numbers>("stride")
      .Attr<Numbers>("before")
      .Attr<Numbers>("dilation")
      .Attr<Numbers>("apart");
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(cnn_jax_kernel_gradient, kernel_gradient, bound());
XLA_FFI_DEFINE_HANDLER_SYMBOL(cnn_jax_depthwise_correlation, depthwise_correlation, bound());
XLA_FFI_DEFINE_HANDLER_SYMBOL(cnn_jax_depthwise_kernel_gradient, depthwise_kernel_gradient, bound());

