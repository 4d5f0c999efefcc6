#include "common/model/formats/gguf.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "absl/strings/escaping.h"
#include "common/base/limits.h"
#include "common/base/status.h"

namespace pregate {
namespace {

// Value types of the metadata.
enum : uint32_t {
  kUint8,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kUint64,
  kInt64,
  kFloat64,
};
constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr uint64_t kStringLengthBytes = 8;

// Bytes of a scalar; 0 for strings, arrays and unknown types.
uint64_t ScalarBytes(uint32_t type) {
  switch (type) {
    case kUint8:
    case kInt8:
    case kBool:
      return 1;
    case kUint16:
    case kInt16:
      return 2;
    case kUint32:
    case kInt32:
    case kFloat32:
      return 4;
    case kUint64:
    case kInt64:
    case kFloat64:
      return 8;
    default:
      return 0;
  }
}

template <typename T>
T Load(const char* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

bool IsInteger(uint32_t type) {
  return ScalarBytes(type) != 0 && type != kFloat32 && type != kFloat64 && type != kBool;
}

// False where an unsigned value does not fit.
bool LoadInteger(uint32_t type, const char* p, int64_t* out) {
  switch (type) {
    case kUint8:
      *out = Load<uint8_t>(p);
      return true;
    case kInt8:
      *out = Load<int8_t>(p);
      return true;
    case kUint16:
      *out = Load<uint16_t>(p);
      return true;
    case kInt16:
      *out = Load<int16_t>(p);
      return true;
    case kUint32:
      *out = Load<uint32_t>(p);
      return true;
    case kInt32:
      *out = Load<int32_t>(p);
      return true;
    case kInt64:
      *out = Load<int64_t>(p);
      return true;
    default:
      break;
  }
  const uint64_t value = Load<uint64_t>(p);
  *out = static_cast<int64_t>(value);
  return value <= static_cast<uint64_t>(INT64_MAX);
}

absl::StatusOr<StoredType> ParseTensorType(uint32_t number, const std::string& where) {
  const StoredFormat* format = FindGgufFormat(number);
  if (format != nullptr) return format->type;
  return absl::UnimplementedError(absl::StrCat(where, ": element type ", GgufTypeName(number),
                                               " is not supported: give a file whose tensors are ",
                                               GgufTypesRead()));
}

}  // namespace

// Reads front to back; every read is checked against the end of the file.
class GgufParser {
 public:
  explicit GgufParser(GgufFile* file) : file_(file), bytes_(file->file_->bytes()) {}

  absl::Status Parse() {
    ASSIGN_OR_RETURN(const auto magic, Scalar<uint32_t>("magic"));
    if (magic != kMagic) return Bad("is no GGUF file");
    ASSIGN_OR_RETURN(const auto version, Scalar<uint32_t>("version"));
    if (version != 0 && (version & 0xFFFF) == 0) {  // swapped: versions are small numbers
      return absl::UnimplementedError(absl::StrCat(
          file_->path(), ": is big-endian by its version at byte 4, which is not supported"));
    }
    if (version != 2 && version != 3) {
      return absl::UnimplementedError(
          absl::StrCat(file_->path(), ": GGUF version ", version, " at byte 4 is not supported"));
    }
    ASSIGN_OR_RETURN(const auto num_tensors, Scalar<uint64_t>("tensor count"));
    ASSIGN_OR_RETURN(const auto num_keys, Scalar<uint64_t>("metadata count"));
    if (num_tensors > static_cast<uint64_t>(kTensorsMax))
      return Bad(absl::StrCat(num_tensors, " tensors are more than the limit of ", kTensorsMax));
    if (num_keys > static_cast<uint64_t>(kGgufKeysMax))
      return Bad(
          absl::StrCat(num_keys, " metadata keys are more than the limit of ", kGgufKeysMax));
    for (uint64_t i = 0; i < num_keys; ++i) RETURN_IF_ERROR(ReadKey());
    std::vector<StoredTensor*> order;
    for (uint64_t i = 0; i < num_tensors; ++i) {
      ASSIGN_OR_RETURN(StoredTensor * tensor, ReadTensorInfo());
      order.push_back(tensor);
    }
    return PlaceTensors(std::move(order));
  }

 private:
  absl::Status Bad(const std::string& what) const {
    return absl::InvalidArgumentError(absl::StrCat(file_->path(), ": ", what, ", at byte ", at_));
  }

  absl::StatusOr<std::string_view> Take(uint64_t size, const std::string& what) {
    if (size > bytes_.size() - at_) {
      return Bad(absl::StrCat("truncated: ", what, " of ", size,
                              " bytes does not fit into the remaining ", bytes_.size() - at_));
    }
    const std::string_view taken = bytes_.substr(at_, size);
    at_ += size;
    return taken;
  }

  template <typename T>
  absl::StatusOr<T> Scalar(const std::string& what) {
    ASSIGN_OR_RETURN(const std::string_view raw, Take(sizeof(T), what));
    return Load<T>(raw.data());
  }

  absl::StatusOr<std::string_view> ReadString(size_t bytes_max, const std::string& what) {
    ASSIGN_OR_RETURN(const auto size, Scalar<uint64_t>(what));
    if (size > bytes_max)
      return Bad(absl::StrCat(what, " of ", size, " bytes exceeds the limit of ", bytes_max));
    return Take(size, what);
  }

  absl::Status ReadKey() {
    ASSIGN_OR_RETURN(const std::string_view view, ReadString(kTensorNameBytesMax, "metadata key"));
    const std::string key(view);
    GgufFile::Value value;
    ASSIGN_OR_RETURN(value.type, Scalar<uint32_t>(key));
    value.offset = at_;
    if (value.type == kArray) {
      RETURN_IF_ERROR(ReadArray(key, &value));
    } else if (value.type == kString) {
      ASSIGN_OR_RETURN(value.raw, ReadString(kGgufStringBytesMax, key));
    } else {
      const uint64_t size = ScalarBytes(value.type);
      if (size == 0) return Bad(absl::StrCat("key ", key, " has unknown type ", value.type));
      ASSIGN_OR_RETURN(value.raw, Take(size, key));
    }
    if (!file_->metadata_.emplace(key, value).second)
      return Bad(absl::StrCat("key ", key, " occurs twice"));
    return absl::OkStatus();
  }

  absl::Status ReadArray(const std::string& key, GgufFile::Value* value) {
    ASSIGN_OR_RETURN(value->element_type, Scalar<uint32_t>(key));
    ASSIGN_OR_RETURN(value->count, Scalar<uint64_t>(key));
    value->offset = at_;
    const uint64_t remaining = bytes_.size() - at_;
    const bool strings = value->element_type == kString;
    const uint64_t size = strings ? kStringLengthBytes : ScalarBytes(value->element_type);
    if (size == 0)
      return Bad(
          absl::StrCat("key ", key, " is an array of unsupported type ", value->element_type));
    if (value->count > remaining / size) {
      return Bad(absl::StrCat("truncated: key ", key, " is an array of ", value->count,
                              " elements, but ", remaining, " bytes remain"));
    }
    if (!strings) {
      ASSIGN_OR_RETURN(value->raw, Take(value->count * size, key));
      return absl::OkStatus();
    }
    for (uint64_t i = 0; i < value->count; ++i)
      RETURN_IF_ERROR(ReadString(kGgufStringBytesMax, key).status());
    value->raw = bytes_.substr(value->offset, at_ - value->offset);
    return absl::OkStatus();
  }

  // Name, axes (fastest first), element type and offset; the offset is relative to the data section
  // until PlaceTensors.
  absl::StatusOr<StoredTensor*> ReadTensorInfo() {
    ASSIGN_OR_RETURN(const std::string_view view, ReadString(kTensorNameBytesMax, "tensor name"));
    StoredTensor tensor{.name = std::string(view), .file = file_->path()};
    const std::string where =
        absl::StrCat(file_->path(), ": tensor ", tensor.name, " (entry at byte ", at_, ")");
    ASSIGN_OR_RETURN(const auto rank, Scalar<uint32_t>(tensor.name));
    if (rank > static_cast<uint32_t>(kTensorRankMax))
      return Bad(absl::StrCat("tensor ", tensor.name, " has ", rank, " axes"));
    for (uint32_t i = 0; i < rank; ++i) {
      ASSIGN_OR_RETURN(const auto dim, Scalar<uint64_t>(tensor.name));
      if (dim > static_cast<uint64_t>(INT64_MAX))
        return Bad(absl::StrCat("tensor ", tensor.name, " has an axis of ", dim));
      tensor.shape.insert(tensor.shape.begin(), static_cast<int64_t>(dim));
    }
    ASSIGN_OR_RETURN(const auto type, Scalar<uint32_t>(tensor.name));
    ASSIGN_OR_RETURN(tensor.type, ParseTensorType(type, where));
    ASSIGN_OR_RETURN(tensor.offset, Scalar<uint64_t>(tensor.name));
    const auto [it, inserted] = file_->tensors_.emplace(tensor.name, std::move(tensor));
    if (!inserted) return Bad(absl::StrCat("tensor ", it->first, " occurs twice"));
    return &it->second;
  }

  // Resolves offsets, which are relative to the aligned end of the table, and refuses overlaps.
  absl::Status PlaceTensors(std::vector<StoredTensor*> tensors) {
    ASSIGN_OR_RETURN(const uint64_t alignment,
                     file_->Int("general.alignment", 1, kGgufAlignmentMax, 32));
    const uint64_t data_begin =
        std::min<uint64_t>((at_ + alignment - 1) / alignment * alignment, bytes_.size());
    const std::string_view data = bytes_.substr(data_begin);
    for (StoredTensor* tensor : tensors) {
      const uint64_t begin = tensor->offset;
      if (begin > data.size()) {
        return absl::InvalidArgumentError(absl::StrCat(
            tensor->file, ": tensor ", tensor->name, ": offset ", begin, " lies beyond the ",
            data.size(), " bytes of data from byte ", data_begin));
      }
      tensor->offset += data_begin;
      if (begin % alignment != 0)
        return absl::InvalidArgumentError(
            absl::StrCat(tensor->Where(), ": not aligned to ", alignment));
      ASSIGN_OR_RETURN(const uint64_t size,
                       CheckedBytes(tensor->type, tensor->shape, tensor->Where()));
      if (size > data.size() - begin) {
        return absl::InvalidArgumentError(absl::StrCat(tensor->Where(), ": truncated: ", size,
                                                       " bytes, but ", data.size() - begin,
                                                       " remain"));
      }
      tensor->bytes = data.substr(begin, size);
    }
    std::sort(tensors.begin(), tensors.end(),
              [](const auto* a, const auto* b) { return a->offset < b->offset; });
    for (size_t i = 1; i < tensors.size(); ++i) {
      if (tensors[i]->offset < tensors[i - 1]->offset + tensors[i - 1]->bytes.size()) {
        return absl::InvalidArgumentError(
            absl::StrCat(tensors[i]->Where(), ": overlaps tensor ", tensors[i - 1]->name));
      }
    }
    return absl::OkStatus();
  }

  GgufFile* file_;
  std::string_view bytes_;
  uint64_t at_ = 0;
};

absl::StatusOr<std::shared_ptr<const GgufFile>> GgufFile::Open(const std::string& path) {
  ASSIGN_OR_RETURN(auto mapped, MappedFile::Open(path));
  std::shared_ptr<GgufFile> file(new GgufFile(std::move(mapped)));
  RETURN_IF_ERROR(GgufParser(file.get()).Parse());
  return file;
}

const GgufFile::Value* GgufFile::Find(const std::string& key) const {
  const auto it = metadata_.find(key);
  return it == metadata_.end() ? nullptr : &it->second;
}

absl::Status GgufFile::Bad(const std::string& key, const char* expected) const {
  const Value* value = Find(key);
  if (value == nullptr)
    return absl::InvalidArgumentError(absl::StrCat(path(), ": missing key ", key));
  return absl::InvalidArgumentError(
      absl::StrCat(path(), ": key ", key, " at byte ", value->offset, " is not ", expected));
}

absl::StatusOr<int64_t> GgufFile::Int(const std::string& key, int64_t min, int64_t max,
                                      std::optional<int64_t> fallback) const {
  const Value* value = Find(key);
  if (value == nullptr && fallback) return *fallback;
  const std::string expected = absl::StrCat("an integer in [", min, ", ", max, "]");
  int64_t number = 0;
  if (value == nullptr || !IsInteger(value->type) ||
      !LoadInteger(value->type, value->raw.data(), &number) || number < min || number > max) {
    return Bad(key, expected.c_str());
  }
  return number;
}

absl::StatusOr<int64_t> GgufFile::UniformInt(const std::string& key, int64_t min, int64_t max,
                                             std::optional<int64_t> fallback) const {
  const Value* value = Find(key);
  if (value == nullptr || value->type != kArray) return Int(key, min, max, fallback);
  ASSIGN_OR_RETURN(const std::vector<int64_t> list, Ints(key));
  if (list.empty()) return Bad(key, "a list with entries");
  for (const int64_t number : list) {
    if (number != list[0]) {
      return absl::UnimplementedError(absl::StrCat(path(), ": ", key, " holds both ", list[0],
                                                   " and ", number,
                                                   ": layers that differ in it are not supported"));
    }
  }
  if (list[0] < min || list[0] > max) {
    return Bad(key, absl::StrCat("a list of integers in [", min, ", ", max, "]").c_str());
  }
  return list[0];
}

absl::StatusOr<std::optional<int64_t>> GgufFile::SpecialId(const std::string& key,
                                                           int64_t vocab_size) const {
  if (!Has(key)) return std::nullopt;
  ASSIGN_OR_RETURN(const int64_t id, Int(key, -1, UINT32_MAX));
  if (id == -1 || id == UINT32_MAX) return std::nullopt;
  if (id < vocab_size) return id;
  return absl::InvalidArgumentError(absl::StrCat(path(), ": key ", key, " = ", id,
                                                 " is no token id, for there are ", vocab_size));
}

absl::StatusOr<double> GgufFile::Float(const std::string& key,
                                       std::optional<double> fallback) const {
  const Value* value = Find(key);
  if (value == nullptr && fallback) return *fallback;
  int64_t integer = 0;
  if (value != nullptr && IsInteger(value->type) &&
      LoadInteger(value->type, value->raw.data(), &integer)) {
    return static_cast<double>(integer);
  }
  if (value == nullptr || (value->type != kFloat32 && value->type != kFloat64))
    return Bad(key, "a number");
  const double number =
      value->type == kFloat32 ? Load<float>(value->raw.data()) : Load<double>(value->raw.data());
  if (!std::isfinite(number)) return Bad(key, "a finite number");
  return number;
}

absl::StatusOr<bool> GgufFile::Bool(const std::string& key, std::optional<bool> fallback) const {
  const Value* value = Find(key);
  if (value == nullptr && fallback) return *fallback;
  if (value == nullptr || value->type != kBool) return Bad(key, "a boolean");
  return value->raw[0] != 0;
}

absl::StatusOr<std::string> GgufFile::String(const std::string& key,
                                             std::optional<std::string> fallback) const {
  const Value* value = Find(key);
  if (value == nullptr && fallback) return *fallback;
  if (value == nullptr || value->type != kString) return Bad(key, "a string");
  return std::string(value->raw);
}

absl::Status GgufFile::Unsupported(const std::string& key) const {
  return absl::UnimplementedError(
      absl::StrCat(path(), ": ", key, " = ", Text(key), " is not supported"));
}

std::vector<std::string> GgufFile::Keys() const {
  std::vector<std::string> keys;
  for (const auto& [key, value] : metadata_) keys.push_back(key);
  return keys;
}

std::string GgufFile::Text(const std::string& key) const {
  const Value* value = Find(key);
  if (value == nullptr) return "";
  switch (value->type) {
    case kString:
      return absl::StrCat("\"", absl::CHexEscape(std::string(value->raw.substr(0, 64))), "\"");
    case kArray:
      return absl::StrCat("an array of ", value->count);
    case kBool:
      return value->raw[0] != 0 ? "true" : "false";
    case kFloat32:
      return absl::StrCat(Load<float>(value->raw.data()));
    case kFloat64:
      return absl::StrCat(Load<double>(value->raw.data()));
    default:
      break;
  }
  int64_t number = 0;
  return LoadInteger(value->type, value->raw.data(), &number)
             ? absl::StrCat(number)
             : absl::StrCat(Load<uint64_t>(value->raw.data()));
}

absl::StatusOr<std::vector<std::string_view>> GgufFile::Strings(const std::string& key) const {
  const Value* value = Find(key);
  if (value == nullptr || value->type != kArray || value->element_type != kString) {
    return Bad(key, "an array of strings");
  }
  std::vector<std::string_view> out;
  out.reserve(value->count);  // the parser has seen that many in the file
  std::string_view rest = value->raw;
  for (uint64_t i = 0; i < value->count; ++i) {
    const uint64_t size = Load<uint64_t>(rest.data());
    out.push_back(rest.substr(kStringLengthBytes, size));
    rest.remove_prefix(kStringLengthBytes + size);
  }
  return out;
}

absl::StatusOr<std::vector<int64_t>> GgufFile::Ints(const std::string& key) const {
  const Value* value = Find(key);
  if (value == nullptr || value->type != kArray || !IsInteger(value->element_type)) {
    return Bad(key, "an array of integers");
  }
  const uint64_t size = ScalarBytes(value->element_type);
  std::vector<int64_t> out(value->count);
  for (uint64_t i = 0; i < value->count; ++i) {
    if (!LoadInteger(value->element_type, value->raw.data() + i * size, &out[i])) {
      return Bad(key, "an array of 63-bit integers");
    }
  }
  return out;
}

absl::StatusOr<std::vector<float>> GgufFile::Floats(const std::string& key) const {
  const Value* value = Find(key);
  if (value == nullptr || value->type != kArray || value->element_type != kFloat32) {
    return Bad(key, "an array of 32-bit floats");
  }
  std::vector<float> out(value->count);
  for (uint64_t i = 0; i < value->count; ++i) {
    out[i] = Load<float>(value->raw.data() + i * sizeof(float));
  }
  return out;
}

}  // namespace pregate
