#include "common/model/formats/checkpoint.h"

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <map>

#include "absl/strings/str_join.h"
#include "common/base/clock.h"
#include "common/base/status.h"
#include "common/model/formats/checkpoint_parts.h"
#include "common/model/formats/digest.h"
#include "common/model/spec/tensor_names.h"

namespace pregate {
namespace {

absl::Status CheckTensors(const std::string& path, const CheckpointParts& parts) {
  for (const CanonicalTensor& wanted : CanonicalTensors(parts.spec)) {
    const auto it = parts.views.find(wanted.name);
    if (it == parts.views.end()) {
      return absl::NotFoundError(absl::StrCat(path, ": missing tensor ", wanted.name));
    }
    const TensorView& view = it->second;
    RETURN_IF_ERROR(view.stored.CheckFloats());
    RETURN_IF_ERROR(CheckShape(view.stored, view.shape(), wanted.name, wanted.shape));
  }
  return absl::OkStatus();
}

absl::Status Visited(const MatrixRead& read, bool more_wanted) {
  if (more_wanted) return absl::OkStatus();
  return absl::AbortedError(absl::StrCat("reading ", read.name, " was stopped"));
}

// Adds its lifetime to `total_ns`.
class Stopwatch {
 public:
  explicit Stopwatch(std::atomic<int64_t>* total_ns) : total_ns_(*total_ns), start_(clock_.Now()) {}
  ~Stopwatch() { total_ns_ += absl::ToInt64Nanoseconds(clock_.Now() - start_); }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  std::atomic<int64_t>& total_ns_;
  SystemClock clock_;
  const absl::Time start_;
};

class MappedCheckpoint final : public Checkpoint {
 public:
  MappedCheckpoint(std::string path, CheckpointParts parts) : parts_(std::move(parts)) {
    spec_ = parts_.spec;
    path_ = std::move(path);
    layout_ = parts_.layout;
    digest_ = parts_.digest;
    if (digest_.empty()) {
      const Stopwatch checking(&checking_ns_);
      digest_ = ModelDigest(spec_, HashViews(parts_.views, /*with_xxh3=*/false));
    }
    for (const auto& [name, hash] : parts_.recorded) verified_[name] = false;
  }

  std::vector<TensorInfo> Tensors() const override {
    std::vector<TensorInfo> out;
    for (const CanonicalTensor& tensor : CanonicalTensors(spec_)) {
      const TensorView& view = parts_.views.at(tensor.name);
      out.push_back(
          {tensor.name, tensor.shape, StoredTypeName(view.stored.type), view.stored_bytes()});
    }
    return out;
  }

  bool Has(const std::string& name) const override { return parts_.views.contains(name); }

  absl::Status Read(const std::string& name, absl::Span<float> out) const override {
    const auto it = parts_.views.find(name);
    if (it == parts_.views.end()) {
      return absl::NotFoundError(absl::StrCat(path_, ": no tensor ", name));
    }
    RETURN_IF_ERROR(Verify(name, it->second.stored));
    ReadView(it->second, out);
    read_bytes_ += static_cast<int64_t>(it->second.stored_bytes());
    return absl::OkStatus();
  }

  absl::Status ReadRows(const MatrixRead& read, VisitRows visit) const override {
    const auto it = parts_.views.find(read.name);
    if (it == parts_.views.end()) {
      return absl::NotFoundError(absl::StrCat(path_, ": no tensor ", read.name));
    }
    const TensorView& view = it->second;
    RETURN_IF_ERROR(CheckShape(view.stored, view.shape(), read.name, {read.rows, read.width}));
    read_bytes_ += static_cast<int64_t>(view.stored_bytes());
    const auto recorded = parts_.recorded.find(read.name);
    if (recorded == parts_.recorded.end() || verified_.at(read.name)) {
      return VisitPieces(read, view, nullptr, visit);
    }
    ContentCheck check(&recorded->second);
    const absl::Status status = VisitPieces(read, view, &check, visit);
    if (absl::IsAborted(status)) return status;  // not all of it was read
    RETURN_IF_ERROR(check.Finish(view.stored));  // says more than what damaged values lead to
    verified_.at(read.name) = true;
    return status;
  }

  ReadCost read_cost() const override {
    return {read_bytes_.load(), absl::Nanoseconds(checking_ns_.load())};
  }

  absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer() const override {
    ASSIGN_OR_RETURN(std::unique_ptr<Tokenizer> tokenizer, parts_.load_tokenizer());
    tokenizer->AddStopTokens(spec_.eos_tokens);
    return tokenizer;
  }

 private:
  // Once a tensor, before its first use. Where there is no manifest the digest is the contents'
  // own.
  absl::Status Verify(const std::string& name, const StoredTensor& stored) const {
    const auto it = parts_.recorded.find(name);
    if (it == parts_.recorded.end()) return absl::OkStatus();
    std::atomic<bool>& verified = verified_.at(name);
    if (verified) return absl::OkStatus();
    const Stopwatch checking(&checking_ns_);
    RETURN_IF_ERROR(CheckContent(stored, it->second));
    verified = true;
    return absl::OkStatus();
  }

  // Shows `check`, unless null, all bytes of the tensor, each piece before it is used, which then
  // finds it in the cache. (Views of a layout with a manifest are of whole tensors.)
  absl::Status VisitPieces(const MatrixRead& read, const TensorView& view, ContentCheck* check,
                           VisitRows visit) const {
    const int64_t row_bytes = static_cast<int64_t>(view.stored.bytes.size()) / read.rows;
    PREGATE_CHECK(check == nullptr || (view.rows.empty() && view.cols.empty()), "tensor ",
                  read.name);
    std::vector<float> decoded;
    absl::Status status;
    for (int64_t first = 0; first < read.rows; first += read.piece_rows) {
      const int64_t n = std::min(read.piece_rows, read.rows - first);
      if (check != nullptr) {
        const Stopwatch checking(&checking_ns_);
        check->Update(view.stored.bytes.substr(first * row_bytes, n * row_bytes));
      }
      if (status.ok()) status = VisitPiece(read, view, first, n, decoded, visit);
      if (absl::IsAborted(status)) break;
    }
    return status;
  }

  absl::Status VisitPiece(const MatrixRead& read, const TensorView& view, int64_t first, int64_t n,
                          std::vector<float>& decoded, VisitRows visit) const {
    WeightRows rows;
    if (auto stored = StoredElements(view, read.dtype, first * read.width, n * read.width)) {
      rows = *stored;  // within the dtype's range, as it is its own
    } else {
      decoded.resize(n * read.width);
      ReadViewRows(view, first, read.width, absl::MakeSpan(decoded));
      RETURN_IF_ERROR(
          CheckRange(read.dtype, read.name, {read.rows, read.width}, decoded, first * read.width));
      rows = absl::MakeConstSpan(decoded);
    }
    return Visited(read, visit(first, rows));
  }

  CheckpointParts parts_;
  mutable std::map<std::string, std::atomic<bool>> verified_;  // keys are fixed
  mutable std::atomic<int64_t> read_bytes_{0}, checking_ns_{0};
};

}  // namespace

absl::Status CheckShape(const StoredTensor& stored, absl::Span<const int64_t> shape,
                        const std::string& wanted_name, absl::Span<const int64_t> wanted) {
  if (shape == wanted) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(stored.Where(), ": wrong shape for ", wanted_name,
                                                 ": [", absl::StrJoin(shape, ","), "], expected [",
                                                 absl::StrJoin(wanted, ","), "]"));
}

absl::Status Checkpoint::ReadAs(DType dtype, const std::string& name, absl::Span<float> out) const {
  RETURN_IF_ERROR(Read(name, out));
  return CheckRange(dtype, name, {static_cast<int64_t>(out.size())}, out, 0);
}

absl::Status Checkpoint::ReadRows(const MatrixRead& read, VisitRows visit) const {
  std::vector<float> all(read.rows * read.width);
  RETURN_IF_ERROR(ReadAs(read.dtype, read.name, absl::MakeSpan(all)));
  for (int64_t first = 0; first < read.rows; first += read.piece_rows) {
    const int64_t n = std::min(read.piece_rows, read.rows - first);
    RETURN_IF_ERROR(Visited(
        read, visit(first, absl::MakeConstSpan(all).subspan(first * read.width, n * read.width))));
  }
  return absl::OkStatus();
}

absl::Status Checkpoint::CheckRange(DType dtype, const std::string& name,
                                    absl::Span<const int64_t> shape, absl::Span<const float> values,
                                    int64_t first) const {
  const absl::Status status = CheckFits(name, shape, values, dtype, first);
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(path_, ": ", status.message()));
}

absl::StatusOr<std::unique_ptr<Checkpoint>> Checkpoint::Open(const std::string& path,
                                                             const ForeignLayout* foreign) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) {
    return absl::NotFoundError(absl::StrCat(path, ": no such file or directory"));
  }
  if (!std::filesystem::is_directory(status) && !std::filesystem::is_regular_file(status)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": neither a directory nor a regular file; a model is read repeatedly"));
  }
  ASSIGN_OR_RETURN(CheckpointParts parts, std::filesystem::is_directory(status)
                                              ? ReadDirectory(path, foreign)
                                              : ReadGguf(path));
  RETURN_IF_ERROR(ValidateSpec(parts.spec));
  RETURN_IF_ERROR(CheckTensors(path, parts));
  return std::make_unique<MappedCheckpoint>(path, std::move(parts));
}

}  // namespace pregate
