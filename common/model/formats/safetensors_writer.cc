#include "common/model/formats/safetensors_writer.h"

#include <cstring>

#include "common/base/status.h"
#include "nlohmann/json.hpp"

namespace pregate {
namespace {

constexpr size_t kHeaderAlignment = 64;  // the data begin at a multiple of it

std::string LittleEndian64(uint64_t value) {
  std::string out(sizeof value, '\0');
  std::memcpy(out.data(), &value, sizeof value);
  return out;
}

}  // namespace

absl::StatusOr<std::unique_ptr<SafetensorsWriter>> SafetensorsWriter::Create(
    const std::string& path, absl::Span<const SafetensorsEntry> entries,
    const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  uint64_t at = 0;
  for (const SafetensorsEntry& entry : entries) {
    PREGATE_CHECK(BlockLayoutOf(entry.type).elements == 1, "safetensors holds no blocks");
    ASSIGN_OR_RETURN(const uint64_t bytes,
                     CheckedBytes(entry.type, entry.shape, absl::StrCat(path, ": ", entry.name)));
    header[entry.name] = {{"dtype", StoredTypeName(entry.type)},
                          {"shape", entry.shape},
                          {"data_offsets", {at, at + bytes}}};
    at += bytes;
  }
  std::string text = header.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  text.append(
      (kHeaderAlignment - (sizeof(uint64_t) + text.size()) % kHeaderAlignment) % kHeaderAlignment,
      ' ');
  ASSIGN_OR_RETURN(OutputFile out, OutputFile::Open(path));
  RETURN_IF_ERROR(out.Append(LittleEndian64(text.size()) + text));
  return std::unique_ptr<SafetensorsWriter>(new SafetensorsWriter(path, std::move(out), at));
}

absl::Status SafetensorsWriter::Append(std::string_view bytes) {
  appended_ += bytes.size();
  PREGATE_CHECK(appended_ <= data_bytes_, "file ", path_);
  return out_.Append({bytes.data(), bytes.size()});
}

absl::Status SafetensorsWriter::Finish() {
  PREGATE_CHECK(appended_ == data_bytes_, "file ", path_);
  return out_.Commit();
}

OutputTensor FloatTensor(std::string name, std::vector<int64_t> shape,
                         absl::Span<const float> values, DType dtype) {
  OutputTensor out{.entry = {std::move(name), StoredTypeOf(dtype), std::move(shape)}};
  EncodeElements(values, dtype, &out.bytes);
  return out;
}

OutputTensor IntTensor(std::string name, std::vector<int64_t> shape,
                       absl::Span<const int32_t> values) {
  OutputTensor out{.entry = {std::move(name), StoredType::kI32, std::move(shape)}};
  out.bytes.assign(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(int32_t));
  return out;
}

OutputTensor Int8Tensor(std::string name, std::vector<int64_t> shape,
                        absl::Span<const int8_t> values) {
  OutputTensor out{.entry = {std::move(name), StoredType::kI8, std::move(shape)}};
  out.bytes.assign(reinterpret_cast<const char*>(values.data()), values.size());
  return out;
}

absl::Status WriteSafetensors(const std::string& path, absl::Span<const OutputTensor> tensors,
                              const std::map<std::string, std::string>& metadata) {
  std::vector<SafetensorsEntry> entries;
  for (const OutputTensor& tensor : tensors) entries.push_back(tensor.entry);
  ASSIGN_OR_RETURN(const auto writer, SafetensorsWriter::Create(path, entries, metadata));
  for (const OutputTensor& tensor : tensors) RETURN_IF_ERROR(writer->Append(tensor.bytes));
  return writer->Finish();
}

}  // namespace pregate
