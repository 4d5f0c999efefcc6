// Which cuBLASLt algorithms give a row the same bits whatever the number of rows, and how fast they
// are beside the device's own kernels: the ground for the choice in common/device/cuda. Prints one
// line per algorithm. All rows of x are equal, so all rows of a result should be.
// usage: gpu_matmul_probe [--own]    (--own: the device's kernels alone)
#include <cublasLt.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "common/device/cuda/cuda_status.h"
#include "common/device/cuda/kernels.h"
#include "common/device/rounding.h"

namespace pregate::cuda {
namespace {

constexpr int kRowsMax = 4096;
constexpr int kRowCounts[] = {1, 8, 16, 32, 64, 128, 256, 512, 4096};
constexpr size_t kWorkspaceBytes = size_t{32} << 20;
constexpr int kWeightCopies = 4;  // so that no product finds its weights in the L2

void Check(cudaError_t error) {
  PREGATE_CHECK(error == cudaSuccess, "", CudaStatus(error, "cuda").ToString());
}
void Check(cublasStatus_t error) {
  PREGATE_CHECK(error == CUBLAS_STATUS_SUCCESS, "", CublasStatus(error, "cublas").ToString());
}

std::vector<uint16_t> RandomBf16(size_t n, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<uint16_t> values(n);
  for (uint16_t& v : values) {
    v = Bf16Bits(static_cast<float>(static_cast<int64_t>(random())) * 0x1p-63f);
  }
  return values;
}

struct Case {
  int outputs, inputs;
  uint16_t* w = nullptr;  // [copies, outputs, inputs]
  uint16_t* x = nullptr;  // [rows max, inputs]
  float* out = nullptr;   // [rows max, outputs]
  int32_t* num = nullptr;
  void* workspace = nullptr;

  Case(int outputs, int inputs) : outputs(outputs), inputs(inputs) {
    const size_t elements = size_t(outputs) * inputs;
    Check(cudaMalloc(&w, kWeightCopies * elements * 2));
    Check(cudaMalloc(&x, size_t{kRowsMax} * inputs * 2));
    Check(cudaMalloc(&out, size_t{kRowsMax} * outputs * 4));
    Check(cudaMalloc(&num, 4));
    Check(cudaMalloc(&workspace, kWorkspaceBytes));
    const std::vector<uint16_t> weights = RandomBf16(elements, 1), row = RandomBf16(inputs, 2);
    for (int c = 0; c < kWeightCopies; ++c) {
      Check(cudaMemcpy(w + c * elements, weights.data(), elements * 2, cudaMemcpyHostToDevice));
    }
    for (int r = 0; r < kRowsMax; ++r) {
      Check(cudaMemcpy(x + size_t(r) * inputs, row.data(), inputs * 2, cudaMemcpyHostToDevice));
    }
  }
  ~Case() {
    for (void* p : {(void*)w, (void*)x, (void*)out, (void*)num, workspace}) cudaFree(p);
  }
  const uint16_t* weights(int i) const { return w + size_t(i % kWeightCopies) * outputs * inputs; }
  // A digest of row 0, or 0 when the rows differ.
  uint32_t Digest(int rows) const {
    std::vector<uint32_t> bits(size_t(rows) * outputs);
    Check(cudaMemcpy(bits.data(), out, bits.size() * 4, cudaMemcpyDeviceToHost));
    for (int r = 1; r < rows; ++r) {
      if (std::memcmp(bits.data(), bits.data() + size_t(r) * outputs, size_t(outputs) * 4) != 0) {
        return 0;
      }
    }
    uint32_t digest = 2166136261u;
    for (int i = 0; i < outputs; ++i) digest = (digest ^ bits[i]) * 16777619u;
    return digest | 1;
  }
};

// Microseconds of run(i), the median of single timings.
template <class Run>
double Time(cudaStream_t stream, const Run& run) {
  constexpr int kRepeats = 7;
  cudaEvent_t events[kRepeats + 1];
  for (cudaEvent_t& e : events) Check(cudaEventCreate(&e));
  run(0);
  Check(cudaEventRecord(events[0], stream));
  for (int i = 0; i < kRepeats; ++i) {
    run(i + 1);
    Check(cudaEventRecord(events[i + 1], stream));
  }
  Check(cudaStreamSynchronize(stream));
  std::vector<float> ms(kRepeats);
  for (int i = 0; i < kRepeats; ++i) Check(cudaEventElapsedTime(&ms[i], events[i], events[i + 1]));
  for (cudaEvent_t e : events) cudaEventDestroy(e);
  std::nth_element(ms.begin(), ms.begin() + kRepeats / 2, ms.end());
  return ms[kRepeats / 2] * 1e3;
}

class Lt {
 public:
  Lt(cublasLtHandle_t handle, const Case& c) : handle_(handle), c_(c) {
    const cublasOperation_t transpose = CUBLAS_OP_T;
    Check(cublasLtMatmulDescCreate(&desc_, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    Check(cublasLtMatmulDescSetAttribute(desc_, CUBLASLT_MATMUL_DESC_TRANSA, &transpose,
                                         sizeof(transpose)));
    Check(cublasLtMatrixLayoutCreate(&w_, CUDA_R_16BF, c.inputs, c.outputs, c.inputs));
    Check(cublasLtMatrixLayoutCreate(&x_, CUDA_R_16BF, c.inputs, 1, c.inputs));
    Check(cublasLtMatrixLayoutCreate(&out_, CUDA_R_32F, c.outputs, 1, c.outputs));
  }
  void SetRows(int rows) {
    const uint64_t n = rows;
    for (const auto layout : {x_, out_}) {
      Check(cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_COLS, &n, sizeof(n)));
    }
  }
  std::vector<cublasLtMatmulHeuristicResult_t> Heuristic(int rows, uint64_t workspace) {
    SetRows(rows);
    cublasLtMatmulPreference_t preference;
    Check(cublasLtMatmulPreferenceCreate(&preference));
    Check(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                               &workspace, sizeof(workspace)));
    std::vector<cublasLtMatmulHeuristicResult_t> found(8);
    int count = 0;
    cublasLtMatmulAlgoGetHeuristic(handle_, desc_, w_, x_, out_, out_, preference, 8, found.data(),
                                   &count);
    cublasLtMatmulPreferenceDestroy(preference);
    found.resize(count);
    return found;
  }
  bool Check1(const cublasLtMatmulAlgo_t& algo, int rows, size_t* workspace) {
    SetRows(rows);
    cublasLtMatmulHeuristicResult_t result = {};
    const auto status = cublasLtMatmulAlgoCheck(handle_, desc_, w_, x_, out_, out_, &algo, &result);
    *workspace = result.workspaceSize;
    return status == CUBLAS_STATUS_SUCCESS && result.workspaceSize <= kWorkspaceBytes;
  }
  cublasStatus_t Run(const cublasLtMatmulAlgo_t& algo, int i, size_t workspace) {
    const float one = 1, zero = 0;
    return cublasLtMatmul(handle_, desc_, &one, c_.weights(i), w_, c_.x, x_, &zero, c_.out, out_,
                          c_.out, out_, &algo, c_.workspace, workspace, nullptr);
  }

 private:
  cublasLtHandle_t handle_;
  const Case& c_;
  cublasLtMatmulDesc_t desc_;
  cublasLtMatrixLayout_t w_, x_, out_;
};

std::string Describe(const cublasLtMatmulAlgo_t& algo) {
  const auto get = [&](cublasLtMatmulAlgoConfigAttributes_t which) {
    int32_t value = 0;
    size_t written = 0;
    cublasLtMatmulAlgoConfigGetAttribute(&algo, which, &value, sizeof(value), &written);
    return value;
  };
  char text[120];
  std::snprintf(text, sizeof(text),
                "id %d tile %d stages %d split %d reduce %d swizzle %d custom %d",
                get(CUBLASLT_ALGO_CONFIG_ID), get(CUBLASLT_ALGO_CONFIG_TILE_ID),
                get(CUBLASLT_ALGO_CONFIG_STAGES_ID), get(CUBLASLT_ALGO_CONFIG_SPLITK_NUM),
                get(CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME), get(CUBLASLT_ALGO_CONFIG_CTA_SWIZZLING),
                get(CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION));
  return text;
}

void ProbeLibrary(cublasLtHandle_t handle, Case& c) {
  Lt lt(handle, c);
  std::set<std::string> seen;
  for (const int chosen_for : {1, 32, 64, 4096}) {
    for (const uint64_t workspace : {uint64_t{0}, uint64_t{kWorkspaceBytes}}) {
      for (const auto& candidate : lt.Heuristic(chosen_for, workspace)) {
        const std::string bytes(reinterpret_cast<const char*>(&candidate.algo),
                                sizeof(candidate.algo));
        if (!seen.insert(bytes).second) continue;
        std::string line;
        for (const int rows : kRowCounts) {
          char cell[64];
          size_t needs = 0;
          if (!lt.Check1(candidate.algo, rows, &needs)) {
            std::snprintf(cell, sizeof(cell), " %d:no", rows);
          } else if (const auto status = lt.Run(candidate.algo, 0, needs);
                     status != CUBLAS_STATUS_SUCCESS) {
            std::snprintf(cell, sizeof(cell), " %d:err%d", rows, status);
          } else {
            const uint32_t digest = c.Digest(rows);
            const double us = Time(nullptr, [&](int i) { lt.Run(candidate.algo, i, needs); });
            std::snprintf(cell, sizeof(cell), " %d:%04x/%.1fus/%zuK", rows, digest & 0xFFFF, us,
                          needs >> 10);
          }
          line += cell;
        }
        std::printf("%dx%d for %d ws %zuM | %s |%s\n", c.outputs, c.inputs, chosen_for,
                    size_t(workspace >> 20), Describe(candidate.algo).c_str(), line.c_str());
      }
    }
  }
}

void ProbeOwn(Case& c) {
  Stream stream;
  Check(cudaStreamCreate(&stream.handle));
  std::string line;
  for (const int rows : kRowCounts) {
    Check(cudaMemcpy(c.num, &rows, 4, cudaMemcpyHostToDevice));
    GroupedMatmul p;
    p.rows = {c.num, rows};
    p.x = c.x;
    p.x_stride = p.inputs = c.inputs;
    p.weight_stride = c.inputs;
    p.outputs = p.out_columns = c.outputs;
    p.bf16 = true;
    p.out = c.out;
    p.out_stride = c.outputs;
    const double us = Time(stream.handle, [&](int i) {
      p.weight = c.weights(i);
      GroupedLinear(stream, p);
    });
    Check(stream.error);
    char cell[64];
    std::snprintf(cell, sizeof(cell), " %d:%04x/%.1fus", rows, c.Digest(rows) & 0xFFFF, us);
    line += cell;
  }
  std::printf("%dx%d own |%s\n", c.outputs, c.inputs, line.c_str());
}

void CopyBandwidth() {
  const size_t bytes = size_t{4} << 30;
  void *a, *b;
  Check(cudaMalloc(&a, bytes));
  Check(cudaMalloc(&b, bytes));
  Check(cudaMemset(a, 1, bytes));
  const double us =
      Time(nullptr, [&](int) { cudaMemcpyAsync(b, a, bytes, cudaMemcpyDeviceToDevice, nullptr); });
  std::printf("copy %.2f TB/s\n", 2.0 * bytes / us / 1e6);
  cudaFree(a);
  cudaFree(b);
}

void Main(bool own_only) {
  CopyBandwidth();
  cublasLtHandle_t handle;
  Check(cublasLtCreate(&handle));
  for (const auto& [outputs, inputs] :
       {std::pair{12288, 4096}, {4096, 4096}, {32000, 4096}, {960, 576}}) {
    Case c(outputs, inputs);
    ProbeOwn(c);
    if (!own_only) ProbeLibrary(handle, c);
  }
}

}  // namespace
}  // namespace pregate::cuda

int main(int argc, char** argv) {
  pregate::cuda::Main(argc > 1 && std::strcmp(argv[1], "--own") == 0);
  return 0;
}
