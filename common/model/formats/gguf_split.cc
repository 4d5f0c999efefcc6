// Models that llama.cpp's gguf-split or a converter has cut: PREFIX-00001-of-00003.gguf and so on,
// each a whole GGUF file that says by split.no (from 0) and split.count which it is.
#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/strip.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/model/formats/gguf.h"
#include "common/model/formats/shard_files.h"

namespace pregate {
namespace {

struct Split {
  int64_t number = 0;  // from 0
  int64_t count = 1;
};

absl::StatusOr<Split> ReadSplit(const GgufFile& file) {
  Split split;
  ASSIGN_OR_RETURN(split.number, file.Int("split.no", 0, UINT16_MAX, 0));
  ASSIGN_OR_RETURN(split.count, file.Int("split.count", 0, kShardsMax, 0));
  split.count = std::max<int64_t>(split.count, 1);  // 0 and 1 say that it is whole
  if (split.number < split.count) return split;
  return absl::InvalidArgumentError(absl::StrCat(file.path(), ": split.no = ", split.number,
                                                 " is not below split.count = ", split.count));
}

// "-00001-of-00003.gguf"
std::string Suffix(const Split& split) {
  return absl::StrCat("-", absl::Dec(split.number + 1, absl::kZeroPad5), "-of-",
                      absl::Dec(split.count, absl::kZeroPad5), ".gguf");
}

// The file's name up to the suffix, by which the others are found.
absl::StatusOr<std::string> Prefix(const std::string& path, const Split& split) {
  const std::string name = std::filesystem::path(path).filename().string();
  const std::string suffix = Suffix(split);
  if (absl::EndsWith(name, suffix)) return std::string(absl::StripSuffix(name, suffix));
  return absl::InvalidArgumentError(
      absl::StrCat(path, ": is part ", split.number + 1, " of ", split.count,
                   " of a split model by split.no and split.count, but its name does not end in ",
                   suffix, ", so the other parts cannot be found"));
}

std::vector<std::string> NamesAfterFirst(const std::string& prefix, int64_t count) {
  std::vector<std::string> names;
  for (Split split{.number = 1, .count = count}; split.number < count; ++split.number) {
    names.push_back(prefix + Suffix(split));
  }
  return names;
}

absl::Status CheckIsFirst(const std::string& prefix, const GgufFile& file, const Split& split) {
  if (split.number == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      file.path(), ": is part ", split.number + 1, " of ", split.count,
      " of a split model: give the first, ", prefix, Suffix({.number = 0, .count = split.count})));
}

absl::Status CheckPlace(const GgufFile& file, const Split& expected, const GgufFile& first) {
  ASSIGN_OR_RETURN(const Split split, ReadSplit(file));
  if (split.number == expected.number && split.count == expected.count) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      file.path(), ": split.no = ", split.number, " and split.count = ", split.count, ", but ",
      first.path(), " and its name ask for ", expected.number, " and ", expected.count));
}

}  // namespace

absl::Status GgufFile::CheckSameMetadata(const GgufFile& first) const {
  for (const auto& [key, value] : metadata_) {
    if (key == "split.no" || absl::StartsWith(key, "general.")) continue;
    const Value* other = first.Find(key);
    if (other != nullptr && other->type == value.type &&
        other->element_type == value.element_type && other->raw == value.raw) {
      continue;
    }
    return absl::InvalidArgumentError(absl::StrCat(path(), ": key ", key, " at byte ", value.offset,
                                                   " is not as in ", first.path(),
                                                   ", of which it is a part"));
  }
  return absl::OkStatus();
}

absl::Status GgufFile::AddPart(const GgufFile& part, int64_t tensors_max) {
  for (const auto& [name, tensor] : part.tensors_) {
    const auto [it, inserted] = tensors_.emplace(name, tensor);
    if (inserted) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(tensor.Where(), ": occurs twice, also in ", it->second.file));
  }
  if (static_cast<int64_t>(tensors_.size()) > tensors_max) {
    return absl::InvalidArgumentError(
        absl::StrCat(part.path(), ": with the parts before it holds ", tensors_.size(),
                     " tensors, more than split.tensors.count = ", tensors_max));
  }
  parts_.push_back(part.file_);
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const GgufFile>> GgufFile::OpenModel(const std::string& path) {
  ASSIGN_OR_RETURN(const std::shared_ptr<const GgufFile> first, Open(path));
  ASSIGN_OR_RETURN(Split split, ReadSplit(*first));
  if (split.count == 1) return first;
  ASSIGN_OR_RETURN(const std::string prefix, Prefix(path, split));
  RETURN_IF_ERROR(CheckIsFirst(prefix, *first, split));
  ASSIGN_OR_RETURN(const int64_t num_tensors, first->Int("split.tensors.count", 0, kTensorsMax));
  const std::filesystem::path dir = std::filesystem::path(path).parent_path();
  const std::vector<std::string> names = NamesAfterFirst(prefix, split.count);
  RETURN_IF_ERROR(CheckShardsExist(dir.string(), {names.begin(), names.end()}, path));
  const std::shared_ptr<GgufFile> model(new GgufFile(*first));
  for (split.number = 1; split.number < split.count; ++split.number) {
    ASSIGN_OR_RETURN(const auto part, Open((dir / names[split.number - 1]).string()));
    RETURN_IF_ERROR(CheckPlace(*part, split, *first));
    RETURN_IF_ERROR(part->CheckSameMetadata(*first));
    RETURN_IF_ERROR(model->AddPart(*part, num_tensors));
  }
  const auto found = static_cast<int64_t>(model->tensors_.size());
  if (found == num_tensors) return model;
  return absl::InvalidArgumentError(absl::StrCat(path, ": split.tensors.count = ", num_tensors,
                                                 ", but the ", split.count, " parts hold ", found));
}

}  // namespace pregate
