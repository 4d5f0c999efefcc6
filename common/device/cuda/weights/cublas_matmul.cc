#include "common/device/cuda/weights/cublas_matmul.h"

#include <bit>
#include <vector>

#include "common/base/status.h"
#include "common/device/cuda/cuda_status.h"
#include "common/device/cuda/weights/image.h"

#define RETURN_IF_CUBLAS(call) RETURN_IF_ERROR(CublasStatus((call), #call))

namespace pregate::cuda {
namespace {

constexpr int kCandidates = 32;

// cuBLAS counts columns first: our [rows, width] is its width x rows. w^T · x^T = out^T.
class Layout {
 public:
  absl::Status Init(bool bf16, int width, int rows) {
    return CublasStatus(
        cublasLtMatrixLayoutCreate(&layout_, bf16 ? CUDA_R_16BF : CUDA_R_32F, width, rows, width),
        "cublasLtMatrixLayoutCreate");
  }
  absl::Status SetRows(int rows) {
    const uint64_t cols = rows;
    return CublasStatus(
        cublasLtMatrixLayoutSetAttribute(layout_, CUBLASLT_MATRIX_LAYOUT_COLS, &cols, sizeof(cols)),
        "cublasLtMatrixLayoutSetAttribute");
  }
  ~Layout() {
    if (layout_ != nullptr) cublasLtMatrixLayoutDestroy(layout_);
  }
  cublasLtMatrixLayout_t get() const { return layout_; }

 private:
  cublasLtMatrixLayout_t layout_ = nullptr;
};

template <class T>
T Attribute(const cublasLtMatmulAlgo_t& algorithm, cublasLtMatmulAlgoConfigAttributes_t which) {
  T value = {};
  size_t written = 0;
  cublasLtMatmulAlgoConfigGetAttribute(&algorithm, which, &value, sizeof(value), &written);
  return value;
}

}  // namespace

struct CublasMatmul::Plan {
  cublasLtMatmulDesc_t product = nullptr;
  mutable Layout w, x, out;
  cublasLtMatmulAlgo_t algorithm = {};

  ~Plan() {
    if (product != nullptr) cublasLtMatmulDescDestroy(product);
  }
  absl::Status Describe(const Matrix& matrix);
  absl::Status SetRows(int rows) const {
    RETURN_IF_ERROR(x.SetRows(rows));
    return out.SetRows(rows);
  }
  absl::Status Choose(cublasLtHandle_t handle, int rows);
  absl::StatusOr<std::vector<cublasLtMatmulHeuristicResult_t>> Candidates(cublasLtHandle_t handle);
};

absl::Status CublasMatmul::Plan::Describe(const Matrix& matrix) {
  RETURN_IF_CUBLAS(cublasLtMatmulDescCreate(&product, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  const cublasOperation_t transpose = CUBLAS_OP_T;
  RETURN_IF_CUBLAS(cublasLtMatmulDescSetAttribute(product, CUBLASLT_MATMUL_DESC_TRANSA, &transpose,
                                                  sizeof(transpose)));
  RETURN_IF_ERROR(w.Init(true, matrix.inputs, matrix.outputs));
  RETURN_IF_ERROR(x.Init(true, matrix.inputs, 1));
  return out.Init(false, matrix.outputs, 1);
}

absl::StatusOr<std::vector<cublasLtMatmulHeuristicResult_t>> CublasMatmul::Plan::Candidates(
    cublasLtHandle_t handle) {
  cublasLtMatmulPreference_t preference;
  RETURN_IF_CUBLAS(cublasLtMatmulPreferenceCreate(&preference));
  const uint64_t workspace = 0;
  std::vector<cublasLtMatmulHeuristicResult_t> found(kCandidates);
  int count = 0;
  cublasStatus_t status = cublasLtMatmulPreferenceSetAttribute(
      preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof(workspace));
  if (status == CUBLAS_STATUS_SUCCESS) {
    status = cublasLtMatmulAlgoGetHeuristic(handle, product, w.get(), x.get(), out.get(), out.get(),
                                            preference, kCandidates, found.data(), &count);
  }
  cublasLtMatmulPreferenceDestroy(preference);
  RETURN_IF_ERROR(CublasStatus(status, "cublasLtMatmulAlgoGetHeuristic"));
  found.resize(count);
  return found;
}

absl::Status CublasMatmul::Plan::Choose(cublasLtHandle_t handle, int rows) {
  RETURN_IF_ERROR(SetRows(rows));
  ASSIGN_OR_RETURN(const auto candidates, Candidates(handle));
  for (const cublasLtMatmulHeuristicResult_t& candidate : candidates) {
    if (candidate.state != CUBLAS_STATUS_SUCCESS || candidate.workspaceSize > 0) continue;
    if (Attribute<int32_t>(candidate.algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM) > 1) continue;
    algorithm = candidate.algo;
    return absl::OkStatus();
  }
  return absl::InternalError(absl::StrCat("cuBLASLt: none of ", candidates.size(),
                                          " algorithms keeps the inputs in one piece"));
}

absl::StatusOr<std::unique_ptr<CublasMatmul>> CublasMatmul::Create(CudaRuntime* runtime) {
  std::unique_ptr<CublasMatmul> matmul(new CublasMatmul(runtime));
  RETURN_IF_CUBLAS(cublasLtCreate(&matmul->handle_));
  return matmul;
}

CublasMatmul::CublasMatmul(CudaRuntime* runtime) : runtime_(*runtime) {}

CublasMatmul::~CublasMatmul() {
  plans_.clear();
  if (handle_ != nullptr) cublasLtDestroy(handle_);
}

bool CublasMatmul::Takes(const Matrix& w) {
  return IsBf16(w.format) && w.inputs > 0 && w.inputs % 8 == 0 && w.outputs % 4 == 0;
}

absl::StatusOr<const CublasMatmul::Plan*> CublasMatmul::PlanFor(const Matrix& w, int rows) {
  const int bucket = static_cast<int>(std::bit_ceil(static_cast<uint32_t>(rows)));
  std::unique_ptr<Plan>& plan = plans_[{w.outputs, w.inputs, bucket}];
  if (plan != nullptr) return plan.get();
  auto made = std::make_unique<Plan>();
  RETURN_IF_ERROR(made->Describe(w));
  RETURN_IF_ERROR(made->Choose(handle_, bucket));
  plan = std::move(made);
  return plan.get();
}

void CublasMatmul::Run(int rows, const void* x, const Matrix& w, float* out) {
  const auto run = [&]() -> absl::Status {
    ASSIGN_OR_RETURN(const Plan* plan, PlanFor(w, rows));
    RETURN_IF_ERROR(plan->SetRows(rows));
    const float one = 1, zero = 0;
    RETURN_IF_CUBLAS(cublasLtMatmul(
        handle_, plan->product, &one, w.data, plan->w.get(), x, plan->x.get(), &zero, out,
        plan->out.get(), out, plan->out.get(), &plan->algorithm, nullptr, 0, runtime_.handle()));
    return absl::OkStatus();
  };
  if (rows > 0) runtime_.NoteMatmul(run());
}

}  // namespace pregate::cuda
