#include "common/model/formats/safetensors.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/base/json.h"
#include "common/base/limits.h"
#include "common/base/status.h"

namespace pregate {
namespace {

constexpr size_t kLengthBytes = 8;

StoredType ParseType(const std::string& name) {
  for (const StoredType type :
       {StoredType::kF32, StoredType::kF16, StoredType::kBF16, StoredType::kI32, StoredType::kI8}) {
    if (name == StoredTypeName(type)) return type;
  }
  return StoredType::kOther;
}

// Bytes of an element that is not read; 0 for a name that the format does not have.
int OtherTypeBytes(const std::string& name) {
  static constexpr std::pair<const char*, int> kTypes[] = {
      {"BOOL", 1}, {"U8", 1},  {"F8_E5M2", 1}, {"F8_E4M3", 1}, {"F8_E8M0", 1}, {"I16", 2},
      {"U16", 2},  {"U32", 4}, {"F64", 8},     {"I64", 8},     {"U64", 8},     {"C64", 8}};
  for (const auto& [type, bytes] : kTypes) {
    if (name == type) return bytes;
  }
  return 0;
}

// One header entry: dtype, shape and data_offsets relative to the data section.
absl::StatusOr<StoredTensor> ParseTensor(const std::string& name, const nlohmann::json& entry,
                                         const std::string& file, std::string_view data,
                                         uint64_t data_begin) {
  const std::string where = absl::StrCat(file, ": tensor ", name.substr(0, kTensorNameBytesMax));
  if (name.empty() || name.size() > kTensorNameBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": name of ", name.size(), " bytes"));
  }
  ASSIGN_OR_RETURN(const JsonObject object, JsonObject::From(entry, where));
  ASSIGN_OR_RETURN(const std::string dtype, object.String("dtype"));
  StoredTensor tensor{.name = name, .type = ParseType(dtype), .file = file};
  BlockLayout element = BlockLayoutOf(tensor.type);
  if (tensor.type == StoredType::kOther) {
    tensor.other_type = dtype.substr(0, 32);
    element = {1, OtherTypeBytes(dtype)};
    if (element.bytes == 0) return UnsupportedType(where, tensor.other_type);
  }
  ASSIGN_OR_RETURN(tensor.shape, object.Ints("shape", 0, INT64_MAX, kTensorRankMax));
  ASSIGN_OR_RETURN(const auto offsets, object.Ints("data_offsets", 0, INT64_MAX, 2));
  if (offsets.size() != 2 || offsets[0] > offsets[1]) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": data_offsets are not an ascending pair"));
  }
  const auto begin = static_cast<uint64_t>(offsets[0]), end = static_cast<uint64_t>(offsets[1]);
  tensor.offset = data_begin + std::min<uint64_t>(begin, data.size());
  if (end > data.size()) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": data_offsets [", begin, ", ", end,
                                                   "] end beyond the file's ", data.size(),
                                                   " bytes of data from byte ", data_begin));
  }
  ASSIGN_OR_RETURN(const uint64_t bytes,
                   CheckedBytes(element, dtype, tensor.shape, tensor.Where()));
  if (bytes != end - begin) {
    return absl::InvalidArgumentError(absl::StrCat(tensor.Where(), ": ", end - begin,
                                                   " bytes, but type and shape ask for ", bytes));
  }
  tensor.bytes = data.substr(begin, bytes);
  return tensor;
}

// The format asks that the tensors tile the data section.
absl::Status CheckTiling(std::vector<const StoredTensor*> tensors, const std::string& file,
                         uint64_t data_begin, uint64_t data_size) {
  std::sort(tensors.begin(), tensors.end(), [](const StoredTensor* a, const StoredTensor* b) {
    return std::pair(a->offset, a->bytes.size()) < std::pair(b->offset, b->bytes.size());
  });
  uint64_t at = data_begin;
  for (const StoredTensor* tensor : tensors) {
    if (tensor->offset != at) {
      return absl::InvalidArgumentError(absl::StrCat(
          tensor->Where(), tensor->offset < at ? ": overlaps" : ": leaves a hole after",
          " the tensor that ends at byte ", at));
    }
    at += tensor->bytes.size();
  }
  if (at == data_begin + data_size) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(file, ": ", data_begin + data_size - at,
                                                 " bytes beyond the last tensor, from byte ", at));
}

}  // namespace

absl::StatusOr<std::shared_ptr<const SafetensorsFile>> SafetensorsFile::Open(
    const std::string& path) {
  ASSIGN_OR_RETURN(auto mapped, MappedFile::Open(path));
  std::shared_ptr<SafetensorsFile> file(new SafetensorsFile(std::move(mapped)));
  RETURN_IF_ERROR(file->Parse());
  return file;
}

absl::Status SafetensorsFile::Parse() {
  const std::string_view bytes = file_->bytes();
  if (bytes.size() < kLengthBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path(), ": ", bytes.size(), " bytes, too short for a safetensors file"));
  }
  uint64_t header_size = 0;
  std::memcpy(&header_size, bytes.data(), kLengthBytes);
  if (header_size > kSafetensorsHeaderBytesMax || header_size > bytes.size() - kLengthBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        path(), ": header length ", header_size, " at byte 0 exceeds the file's ",
        bytes.size() - kLengthBytes, " bytes or the limit of ", kSafetensorsHeaderBytesMax));
  }
  ASSIGN_OR_RETURN(const nlohmann::json header, ParseJson(bytes.substr(kLengthBytes, header_size),
                                                          path() + ": header at byte 8"));
  ASSIGN_OR_RETURN(const JsonObject object,
                   JsonObject::From(header, path() + ": header at byte 8"));
  if (header.size() > static_cast<size_t>(kTensorsMax)) {
    return absl::InvalidArgumentError(absl::StrCat(
        path(), ": ", header.size(), " tensors, more than the limit of ", kTensorsMax));
  }
  const uint64_t data_begin = kLengthBytes + header_size;
  const std::string_view data = bytes.substr(data_begin);
  std::vector<const StoredTensor*> order;
  for (const auto& [name, entry] : object.json().items()) {
    if (name == "__metadata__") {
      ASSIGN_OR_RETURN(const JsonObject metadata,
                       JsonObject::From(entry, path() + ": __metadata__"));
      for (const auto& item : entry.items()) {
        ASSIGN_OR_RETURN(metadata_[item.key()], metadata.String(item.key()));
      }
      continue;
    }
    ASSIGN_OR_RETURN(StoredTensor tensor, ParseTensor(name, entry, path(), data, data_begin));
    order.push_back(&tensors_.emplace(name, std::move(tensor)).first->second);
  }
  return CheckTiling(std::move(order), path(), data_begin, data.size());
}

absl::StatusOr<const StoredTensor*> SafetensorsFile::Find(const std::string& name) const {
  const auto it = tensors_.find(name);
  if (it != tensors_.end()) return &it->second;
  return absl::NotFoundError(absl::StrCat(path(), ": no tensor ", name));
}

absl::StatusOr<std::vector<float>> SafetensorsFile::ReadFloats(const std::string& name) const {
  ASSIGN_OR_RETURN(const StoredTensor* tensor, Find(name));
  RETURN_IF_ERROR(tensor->CheckFloats());
  std::vector<float> out(tensor->num_elements());
  DecodeElements(*tensor, 0, absl::MakeSpan(out));
  return out;
}

namespace {

template <typename T>
absl::StatusOr<std::vector<T>> ReadIntegers(const StoredTensor& tensor, StoredType type) {
  if (tensor.type != type) {
    return absl::InvalidArgumentError(absl::StrCat(tensor.Where(), ": holds ",
                                                   StoredTypeName(tensor.type), ", expected ",
                                                   StoredTypeName(type)));
  }
  std::vector<T> out(tensor.num_elements());
  if (!out.empty()) std::memcpy(out.data(), tensor.bytes.data(), tensor.bytes.size());
  return out;
}

}  // namespace

absl::StatusOr<std::vector<int32_t>> SafetensorsFile::ReadInts(const std::string& name) const {
  ASSIGN_OR_RETURN(const StoredTensor* tensor, Find(name));
  return ReadIntegers<int32_t>(*tensor, StoredType::kI32);
}

absl::StatusOr<std::vector<int8_t>> SafetensorsFile::ReadInt8s(const std::string& name) const {
  ASSIGN_OR_RETURN(const StoredTensor* tensor, Find(name));
  return ReadIntegers<int8_t>(*tensor, StoredType::kI8);
}

}  // namespace pregate
