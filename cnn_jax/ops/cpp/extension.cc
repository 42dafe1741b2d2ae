// What XLA calls: correlation, pooling and their gradients on a CPU, in float32, channels last.

#include "depthwise.h"
#include "grouped_correlation.h"
#include "grouped_gradient.h"
#include "kernel_gradient.h"
#include "phases.h"
#include "plane_gradient.h"
#include "pool.h"
#include "winograd_gradient.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;
using namespace cnn_jax;

namespace {

using Numbers = ffi::Span<const int64_t>;
using Floats = ffi::Buffer<ffi::F32>;
using Result = ffi::Result<Floats>;

// One to three spatial axes as three.
Geometry geometry(Floats::Dimensions x, Floats::Dimensions y, Numbers window, Numbers stride, Numbers before, Numbers dilation,
                  Numbers apart, int64_t groups) {
  Geometry g{x.front(), {1, 1, 1}, x.back(), {1, 1, 1}, y.back(), {1, 1, 1}, {1, 1, 1}, {0, 0, 0}, {1, 1, 1}, {1, 1, 1}, groups};
  const int64_t axes = window.size();
  for (int64_t i = 0, j = 3 - axes; i < axes; ++i, ++j) {
    g.in[j] = x[i + 1], g.out[j] = y[i + 1], g.window[j] = window[i];
    g.stride[j] = stride[i], g.before[j] = before[i], g.dilation[j] = dilation[i], g.apart[j] = apart[i];
  }
  return g;
}

ffi::Error correlation(ffi::ThreadPool pool, Floats x, Floats w, Result y, Numbers window, Numbers stride, Numbers before,
                       Numbers dilation, Numbers apart, int64_t groups, bool mirrored) {
  const Geometry g = geometry(x.dimensions(), y->dimensions(), window, stride, before, dilation, apart, groups);
  if (g.groups == 1)
    PhasedCorrelation(g, x.typed_data(), {w.typed_data(), mirrored}, y->typed_data(), pool).compute();
  else if (GroupedCorrelation::takes(g))
    GroupedCorrelation(g, x.typed_data(), w.typed_data()).compute(y->typed_data(), pool);
  else
    return ffi::Error(ffi::ErrorCode::kInvalidArgument, "groups of such sizes are not taken");
  return ffi::Error::Success();
}

ffi::Error kernel_gradient(ffi::ThreadPool pool, Floats x, Floats y, Result w, Numbers window, Numbers stride, Numbers before,
                           Numbers dilation, Numbers apart, int64_t groups) {
  const Geometry g = geometry(x.dimensions(), y.dimensions(), window, stride, before, dilation, apart, groups);
  if (g.groups > 1)
    GroupedKernelGradient(g, x.typed_data(), y.typed_data()).compute(w->typed_data(), pool);
  else if (PlaneGradient::takes(g))
    PlaneGradient(g, x.typed_data(), y.typed_data()).compute(w->typed_data(), pool);
  else if (winograd::pays(g))
    WinogradGradient(g, x.typed_data(), y.typed_data(), pool).compute(w->typed_data());
  else
    KernelGradient(g, x.typed_data(), pool).compute(y.typed_data(), w->typed_data());
  return ffi::Error::Success();
}

ffi::Error depthwise_correlation(ffi::ThreadPool pool, Floats x, Floats w, Result y, Numbers window, Numbers stride, Numbers before,
                                 Numbers dilation, Numbers apart, int64_t groups) {
  const Geometry g = geometry(x.dimensions(), y->dimensions(), window, stride, before, dilation, apart, groups);
  depthwise(g, x.typed_data(), w.typed_data(), y->typed_data(), pool);
  return ffi::Error::Success();
}

ffi::Error depthwise_kernel_gradient(ffi::ThreadPool pool, Floats x, Floats y, Result w, Numbers window, Numbers stride, Numbers before,
                                     Numbers dilation, Numbers apart, int64_t groups) {
  const Geometry g = geometry(x.dimensions(), y.dimensions(), window, stride, before, dilation, apart, groups);
  depthwise_gradient(g, x.typed_data(), y.typed_data(), w->typed_data(), pool);
  return ffi::Error::Success();
}

ffi::Error max_pool(ffi::ThreadPool pool, Floats x, Result y, Numbers window, Numbers stride, Numbers before, Numbers dilation,
                    Numbers apart, int64_t groups) {
  const Geometry g = geometry(x.dimensions(), y->dimensions(), window, stride, before, dilation, apart, groups);
  by_lanes(g.c_in, [&](auto lanes) { Pool<lanes()>(g).maximum(x.typed_data(), y->typed_data(), pool); });
  return ffi::Error::Success();
}

ffi::Error max_pool_gradient(ffi::ThreadPool pool, Floats x, Floats y, Result out, Numbers window, Numbers stride, Numbers before,
                             Numbers dilation, Numbers apart, int64_t groups) {
  const Geometry g = geometry(x.dimensions(), y.dimensions(), window, stride, before, dilation, apart, groups);
  by_lanes(g.c_in, [&](auto lanes) { Pool<lanes()>(g).gradient(x.typed_data(), y.typed_data(), out->typed_data(), pool); });
  return ffi::Error::Success();
}

ffi::Error sum_pool(ffi::ThreadPool pool, Floats x, Result y, Numbers window, Numbers stride, Numbers before, Numbers dilation,
                    Numbers apart, int64_t groups, float divisor) {
  const Geometry g = geometry(x.dimensions(), y->dimensions(), window, stride, before, dilation, apart, groups);
  by_lanes(g.c_in, [&](auto lanes) { Pool<lanes()>(g).sum(x.typed_data(), divisor, y->typed_data(), pool); });
  return ffi::Error::Success();
}

template <typename Binding>
auto windowed(Binding&& inputs) {
  return std::move(inputs)
      .template Ret<Floats>()
      .template Attr<Numbers>("window")
      .template Attr<Numbers>("stride")
      .template Attr<Numbers>("before")
      .template Attr<Numbers>("dilation")
      .template Attr<Numbers>("apart")
      .template Attr<int64_t>("groups");
}

auto of_one() { return windowed(ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Floats>()); }
auto of_two() { return windowed(ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Floats>().Arg<Floats>()); }

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(cnn_jax_correlation, correlation, of_two().Attr<bool>("mirrored"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(cnn_jax_kernel_gradient, kernel_gradient, of_two());
XLA_FFI_DEFINE_HANDLER_SYMBOL(cnn_jax_depthwise_correlation, depthwise_correlation, of_two());
XLA_FFI_DEFINE_HANDLER_SYMBOL(cnn_jax_depthwise_kernel_gradient, depthwise_kernel_gradient, of_two());
XLA_FFI_DEFINE_HANDLER_SYMBOL(cnn_jax_max_pool, max_pool, of_one());
XLA_FFI_DEFINE_HANDLER_SYMBOL(cnn_jax_max_pool_gradient, max_pool_gradient, of_two());
XLA_FFI_DEFINE_HANDLER_SYMBOL(cnn_jax_sum_pool, sum_pool, of_one().Attr<float>("divisor"));
