#include "common/model/formats/checkpoint_writer.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <deque>
#include <filesystem>
#include <future>
#include <utility>

#include "common/base/files.h"
#include "common/base/hash.h"
#include "common/base/remove_on_signal.h"
#include "common/base/status.h"
#include "common/model/formats/digest.h"
#include "common/model/formats/pregate_config.h"
#include "common/model/formats/safetensors_writer.h"

namespace pregate {
namespace {

namespace fs = std::filesystem;

// A directory that vanishes unless it is renamed to where it belongs.
class StagingDirectory {
 public:
  explicit StagingDirectory(std::string target)
      : target_(std::move(target)), path_(absl::StrCat(target_, ".tmp-", getpid())) {}
  ~StagingDirectory() {
    std::error_code ignored;
    if (created_) fs::remove_all(path_, ignored);
    KeepOnSignal(path_);
  }
  StagingDirectory(const StagingDirectory&) = delete;
  StagingDirectory& operator=(const StagingDirectory&) = delete;

  absl::Status Create() {
    std::error_code error;
    if (fs::exists(target_, error) &&
        !(fs::is_directory(target_, error) && fs::is_empty(target_, error))) {
      return absl::AlreadyExistsError(
          absl::StrCat(target_, ": exists and is not an empty directory"));
    }
    const fs::path parent = fs::path(path_).parent_path();
    if (!parent.empty()) fs::create_directories(parent, error);
    created_ = fs::create_directory(path_, error);
    if (created_) RemoveOnSignal(path_);
    if (created_) return absl::OkStatus();
    return absl::UnavailableError(
        absl::StrCat(path_, ": cannot create: ", error ? error.message() : "exists"));
  }

  absl::Status Commit() {
    // rename replaces an empty directory, and fails on one that was filled meanwhile.
    if (std::rename(path_.c_str(), target_.c_str()) != 0) {
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot rename ", path_, " to ", target_));
    }
    created_ = false;
    return absl::OkStatus();
  }

  const std::string& path() const { return path_; }

 private:
  std::string target_, path_;
  bool created_ = false;
};

StoredType StoredTypeFor(const CanonicalTensor& tensor, DType dtype) {
  const bool exact = tensor.shape.size() == 1 || tensor.part == TensorPart::kRouter;
  return StoredTypeOf(exact ? DType::kF32 : dtype);
}

struct EncodedTensor {
  std::string bytes;
  TensorHash hash;
};

absl::StatusOr<EncodedTensor> EncodeTensor(const CanonicalTensor& tensor, StoredType type,
                                           const TensorSource& source, DType backbone) {
  std::vector<float> values(tensor.num_elements());
  RETURN_IF_ERROR(source(tensor, absl::MakeSpan(values)));
  const DType dtype = type == StoredType::kF32 ? DType::kF32 : backbone;
  RETURN_IF_ERROR(CheckFits(tensor.name, tensor.shape, values, dtype));
  EncodedTensor out;
  out.bytes.reserve(values.size() * DTypeBytes(dtype));
  EncodeElements(values, dtype, &out.bytes);
  Sha256 sha;
  Xxh3 xxh3;
  sha.Update(out.bytes);
  xxh3.Update(out.bytes);
  out.hash = {.stored_type = StoredTypeName(type), .shape = tensor.shape};
  out.hash.sha256 = sha.HexDigest();
  out.hash.xxh3 = xxh3.HexDigest();
  return out;
}

absl::StatusOr<std::map<std::string, TensorHash>> WriteWeights(const std::string& path,
                                                               const ModelSpec& spec,
                                                               const TensorSource& source,
                                                               const WriteOptions& options) {
  PREGATE_CHECK(options.threads >= 1, "threads ", options.threads);
  const std::vector<CanonicalTensor> tensors = CanonicalTensors(spec);
  std::vector<SafetensorsEntry> entries;
  for (const CanonicalTensor& tensor : tensors) {
    entries.push_back({tensor.name, StoredTypeFor(tensor, options.dtype), tensor.shape});
  }
  ASSIGN_OR_RETURN(const auto writer, SafetensorsWriter::Create(path, entries, {{"format", "pt"}}));
  std::map<std::string, TensorHash> hashes;
  WriteProgress progress{.bytes_total = writer->data_bytes()};
  std::deque<std::future<absl::StatusOr<EncodedTensor>>> ahead;
  size_t next = 0;
  for (const CanonicalTensor& tensor : tensors) {
    for (; next < tensors.size() && ahead.size() < static_cast<size_t>(options.threads); ++next) {
      ahead.push_back(
          std::async(options.threads > 1 ? std::launch::async : std::launch::deferred, [&, next] {
            return EncodeTensor(tensors[next], entries[next].type, source, options.dtype);
          }));
    }
    ASSIGN_OR_RETURN(EncodedTensor encoded, ahead.front().get());
    ahead.pop_front();
    RETURN_IF_ERROR(writer->Append(encoded.bytes));
    hashes[tensor.name] = std::move(encoded.hash);
    progress.tensor = tensor.name;
    progress.bytes_done += encoded.bytes.size();
    if (options.progress) options.progress(progress);
  }
  RETURN_IF_ERROR(writer->Finish());
  return hashes;
}

}  // namespace

absl::StatusOr<std::string> WriteCheckpoint(const std::string& dir, const ModelSpec& spec,
                                            const TensorSource& source,
                                            const WriteOptions& options) {
  RETURN_IF_ERROR(ValidateSpec(spec));
  std::string target = fs::path(dir).lexically_normal().string();
  while (target.size() > 1 && target.back() == '/') target.pop_back();
  StagingDirectory staging(target);
  RETURN_IF_ERROR(staging.Create());
  ASSIGN_OR_RETURN(const auto hashes,
                   WriteWeights(staging.path() + "/model.safetensors", spec, source, options));
  const std::string digest = ModelDigest(spec, hashes);
  RETURN_IF_ERROR(
      WriteOutput(absl::StrCat(staging.path(), "/", kManifestFile), WriteManifest(hashes, digest)));
  RETURN_IF_ERROR(WriteOutput(staging.path() + "/config.json", WritePregateConfig(spec, digest)));
  if (options.write_tokenizer) RETURN_IF_ERROR(options.write_tokenizer(staging.path()));
  RETURN_IF_ERROR(staging.Commit());
  return digest;
}

DType NativeDType(const Checkpoint& checkpoint) {
  std::string common;
  for (const TensorInfo& tensor : checkpoint.Tensors()) {
    if (tensor.shape.size() == 1 || tensor.name.rfind("router.", 0) == 0) continue;
    if (common.empty()) common = tensor.stored_type;
    if (tensor.stored_type != common) return DType::kF32;
  }
  if (common == StoredTypeName(StoredType::kF16)) return DType::kF16;
  return common == StoredTypeName(StoredType::kBF16) ? DType::kBF16 : DType::kF32;
}

}  // namespace pregate
