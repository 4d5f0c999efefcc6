#include "refactor/fused_ops.h"

#include "common/base/status.h"

#if PREGATE_TORCH_CUDA
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>

#include "refactor/cuda/fused_kernels.h"
#endif

namespace pregate {

#if PREGATE_TORCH_CUDA
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

constexpr int64_t kVector = 8;

// Functions of autograd take no undefined tensors, but none at all.
using Maybe = std::optional<at::Tensor>;
Maybe MaybeOf(const at::Tensor& tensor) { return tensor.defined() ? Maybe(tensor) : Maybe(); }
at::Tensor TensorOf(const Maybe& tensor) { return tensor ? *tensor : at::Tensor(); }

cudaStream_t Stream() { return c10::cuda::getCurrentCUDAStream().stream(); }

void Check(cudaError_t error) { TORCH_CHECK(error == cudaSuccess, cudaGetErrorString(error)); }

template <typename T>
T* Data(const at::Tensor& tensor) {
  return tensor.defined() ? static_cast<T*>(tensor.data_ptr()) : nullptr;
}

at::Tensor Turn(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, int64_t first,
                bool back) {
  const at::Tensor in = x.contiguous();
  at::Tensor out = at::empty_like(in);
  const fused::RopeShape shape{.rows = in.size(0) * in.size(1),
                               .heads = static_cast<int>(in.size(2)),
                               .head_dim = static_cast<int>(in.size(3)),
                               .turned = static_cast<int>(2 * cos.size(1)),
                               .tokens = static_cast<int>(in.size(1)),
                               .first = static_cast<int>(first),
                               .back = back};
  Check(fused::Rope(shape, Data<__nv_bfloat16>(in), Data<float>(cos), Data<float>(sin),
                    Data<__nv_bfloat16>(out), Stream()));
  return out;
}

struct RopeFunction : Function<RopeFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& cos,
                            const at::Tensor& sin, int64_t first) {
    context->save_for_backward({cos, sin});
    context->saved_data["first"] = first;
    return Turn(x, cos, sin, first, /*back=*/false);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const int64_t first = context->saved_data["first"].toInt();
    return {Turn(gradients[0], saved[0], saved[1], first, /*back=*/true), {}, {}, {}};
  }
};

fused::GatedShape ShapeOf(const at::Tensor& gate) {
  return {.rows = gate.size(0), .width = static_cast<int>(gate.size(1))};
}

struct GatedFunction : Function<GatedFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& gate, const at::Tensor& up,
                            const Maybe& maybe_gains, const Maybe& maybe_routes) {
    const at::Tensor gains = TensorOf(maybe_gains), routes = TensorOf(maybe_routes);
    context->save_for_backward({gate, up, gains, routes});
    at::Tensor out = at::empty_like(gate);
    Check(fused::Gated(ShapeOf(gate), Data<__nv_bfloat16>(gate), Data<__nv_bfloat16>(up),
                       Data<float>(gains), Data<int64_t>(routes), Data<__nv_bfloat16>(out),
                       Stream()));
    return out;
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor grad = gradients[0].contiguous();
    const at::Tensor grad_gate = at::empty_like(grad), grad_up = at::empty_like(grad);
    Check(fused::GatedBack(ShapeOf(grad), Data<__nv_bfloat16>(grad), Data<__nv_bfloat16>(saved[0]),
                           Data<__nv_bfloat16>(saved[1]), Data<float>(saved[2]),
                           Data<int64_t>(saved[3]), Data<__nv_bfloat16>(grad_gate),
                           Data<__nv_bfloat16>(grad_up), Stream()));
    return {grad_gate, grad_up, {}, {}};
  }
};

fused::LossShape LossShapeOf(const at::Tensor& logits) {
  return {.rows = logits.size(0), .vocab = static_cast<int>(logits.size(1))};
}

struct LossesFunction : Function<LossesFunction> {
  static variable_list forward(AutogradContext* context, const at::Tensor& logits,
                               const Maybe& maybe_parent, const at::Tensor& next) {
    const at::Tensor parent = TensorOf(maybe_parent);
    const auto floats = logits.options().dtype(at::kFloat);
    const int64_t rows = logits.size(0);
    const at::Tensor divergence = at::empty({rows}, floats), nll = at::empty({rows}, floats);
    const at::Tensor sums = at::empty({rows, 2}, floats);
    Check(fused::Losses(LossShapeOf(logits), Data<__nv_bfloat16>(logits),
                        Data<__nv_bfloat16>(parent), Data<int64_t>(next), Data<float>(divergence),
                        Data<float>(nll), Data<float>(sums), Stream()));
    context->save_for_backward({logits, parent, next, sums});
    return {divergence, nll};
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor& logits = saved[0];
    const auto gradient = [&](int i) {
      return gradients[i].defined()
                 ? gradients[i].to(at::kFloat).contiguous()
                 : at::zeros({logits.size(0)}, logits.options().dtype(at::kFloat));
    };
    const at::Tensor divergence = gradient(0), nll = gradient(1);
    const at::Tensor out = at::empty_like(logits);
    Check(fused::LossesBack(LossShapeOf(logits), Data<__nv_bfloat16>(logits),
                            Data<__nv_bfloat16>(saved[1]), Data<int64_t>(saved[2]),
                            Data<float>(saved[3]), Data<float>(divergence), Data<float>(nll),
                            Data<__nv_bfloat16>(out), Stream()));
    return {out, {}, {}};
  }
};

struct StoredFunction : Function<StoredFunction> {
  static at::Tensor forward(AutogradContext*, const at::Tensor& weight, const at::Tensor& dense,
                            const at::Tensor& scale, double middle) {
    at::Tensor out = at::empty(weight.sizes(), weight.options().dtype(at::kBFloat16));
    Check(fused::Stored({.rows = weight.size(0),
                         .columns = static_cast<int>(weight.size(1)),
                         .middle = static_cast<float>(middle)},
                        Data<float>(weight), Data<float>(dense), Data<float>(scale),
                        Data<__nv_bfloat16>(out), Stream()));
    return out;
  }
  static variable_list backward(AutogradContext*, const variable_list& gradients) {
    return {gradients[0].to(at::kFloat), {}, {}, {}};
  }
};

}  // namespace

int64_t FreeCardBytes() {
  size_t free = 0, all = 0;
  Check(cudaMemGetInfo(&free, &all));
  return static_cast<int64_t>(free);
}

int64_t PeakCardBytes() {
  if (!c10::cuda::CUDACachingAllocator::get()->initialized()) return 0;  // nothing was in use
  return c10::cuda::CUDACachingAllocator::getDeviceStats(c10::cuda::current_device())
      .allocated_bytes[0]
      .peak;
}

bool TakesFused(const at::Tensor& x, int64_t last) {
  return x.is_cuda() && x.scalar_type() == at::kBFloat16 && last % kVector == 0;
}

at::Tensor FusedRope(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin,
                     int64_t first) {
  return RopeFunction::apply(x, cos.contiguous(), sin.contiguous(), first);
}

at::Tensor FusedGated(const at::Tensor& gate, const at::Tensor& up, const at::Tensor& gains,
                      const at::Tensor& routes) {
  return GatedFunction::apply(gate.contiguous(), up.contiguous(), MaybeOf(gains),
                              MaybeOf(routes.defined() ? routes.contiguous() : routes));
}

RowLosses FusedLosses(const at::Tensor& logits, const at::Tensor& parent, const at::Tensor& next) {
  const variable_list losses =
      LossesFunction::apply(logits.contiguous(), MaybeOf(parent), next.contiguous());
  return {parent.defined() ? losses[0] : at::Tensor(), losses[1]};
}

bool TakesFusedStored(const at::Tensor& weight) {
  return weight.is_cuda() && weight.scalar_type() == at::kFloat && weight.is_contiguous() &&
         weight.size(1) % 4 == 0;
}

at::Tensor FusedStored(const at::Tensor& weight, const at::Tensor& dense, const at::Tensor& scale,
                       double middle) {
  return StoredFunction::apply(weight, dense, scale, middle);
}

#else

namespace {

[[noreturn]] void NotHere() {
  CheckFailed(__FILE__, __LINE__, "TakesFused", "built for a LibTorch without CUDA");
}

}  // namespace

int64_t FreeCardBytes() { return 0; }
int64_t PeakCardBytes() { return 0; }

bool TakesFused(const at::Tensor&, int64_t) { return false; }

at::Tensor FusedRope(const at::Tensor&, const at::Tensor&, const at::Tensor&, int64_t) {
  NotHere();
}
at::Tensor FusedGated(const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&) {
  NotHere();
}
RowLosses FusedLosses(const at::Tensor&, const at::Tensor&, const at::Tensor&) { NotHere(); }
bool TakesFusedStored(const at::Tensor&) { return false; }
at::Tensor FusedStored(const at::Tensor&, const at::Tensor&, const at::Tensor&, double) {
  NotHere();
}

#endif

}  // namespace pregate
