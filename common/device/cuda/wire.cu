// Rows on their way between ranks. Both sides mostly have one element type, so most of it is copying.
#include "common/device/cuda/launch.cuh"

namespace pregate::cuda {
namespace {

constexpr int kThreads = 256;

// Row r of `in` or `out` is row index[r]; a null index is r itself.
template <bool kScatter, class In, class Out>
__global__ void MoveRowsKernel(Rows rows, int width, const In* in, const int32_t* index, Out* out) {
  const int64_t r = blockIdx.x;
  if (r >= *rows.num) return;
  const int64_t other = index == nullptr ? r : index[r];
  if (other < 0) return;
  const In* from = in + (kScatter ? r : other) * width;
  Out* to = out + (kScatter ? other : r) * width;
  for (int i = threadIdx.x; i < width; i += kThreads) to[i] = FromFloat<Out>(ToFloat(from[i]));
}

template <bool kScatter, class In, class Out>
void MoveRows(Stream& stream, Rows rows, int width, const void* in, const int32_t* index,
              void* out) {
  Launch(stream, rows.max, kThreads, 0, MoveRowsKernel<kScatter, In, Out>, rows, width,
         static_cast<const In*>(in), index, static_cast<Out*>(out));
}

}  // namespace

void CopyToWire(Stream& stream, Rows rows, int width, bool act_bf16, const void* act,
                const int32_t* index, bool wire_bf16, void* wire) {
  ForElement(act_bf16, [&](auto in) {
    ForElement(wire_bf16, [&](auto out) {
      MoveRows<false, decltype(in), decltype(out)>(stream, rows, width, act, index, wire);
    });
  });
}

void RoundRows(Stream& stream, Rows rows, int width, const float* x, bool wire_bf16, void* wire) {
  CopyToWire(stream, rows, width, false, x, nullptr, wire_bf16, wire);
}

void WidenToRows(Stream& stream, Rows rows, int width, bool wire_bf16, const void* wire,
                 const int32_t* index, float* out) {
  ForElement(wire_bf16, [&](auto element) {
    MoveRows<true, decltype(element), float>(stream, rows, width, wire, index, out);
  });
}

}  // namespace pregate::cuda
