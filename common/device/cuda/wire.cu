// Rows on their way between ranks: elements of the dtype on both sides, so most of it is copying.
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

void CopyToWire(Stream& stream, Rows rows, int width, const void* act, const int32_t* index,
                bool bf16, void* wire) {
  ForElement(bf16, [&](auto element) {
    using T = decltype(element);
    MoveRows<false, T, T>(stream, rows, width, act, index, wire);
  });
}

void CopyRows(Stream& stream, Rows rows, int width, const void* wire, bool bf16, void* act) {
  CopyToWire(stream, rows, width, wire, nullptr, bf16, act);
}

void RoundRows(Stream& stream, Rows rows, int width, const float* x, bool bf16, void* wire) {
  ForElement(bf16, [&](auto element) {
    MoveRows<false, float, decltype(element)>(stream, rows, width, x, nullptr, wire);
  });
}

void WidenToRows(Stream& stream, Rows rows, int width, const void* wire, const int32_t* index,
                 bool bf16, float* out) {
  ForElement(bf16, [&](auto element) {
    MoveRows<true, decltype(element), float>(stream, rows, width, wire, index, out);
  });
}

}  // namespace pregate::cuda
