#include "common/model/safetensors_writer.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
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

absl::Status WriteFailed(const std::string& path) {
  return absl::ErrnoToStatus(errno == 0 ? EIO : errno, absl::StrCat(path, ": cannot write"));
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
  std::unique_ptr<SafetensorsWriter> writer(new SafetensorsWriter(path, at));
  errno = 0;
  writer->out_.open(path, std::ios::binary | std::ios::trunc);
  writer->out_ << LittleEndian64(text.size()) << text;
  if (!writer->out_) return WriteFailed(path);
  return writer;
}

absl::Status SafetensorsWriter::Append(std::string_view bytes) {
  appended_ += bytes.size();
  PREGATE_CHECK(appended_ <= data_bytes_, "file ", path_);
  errno = 0;
  out_.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  return out_ ? absl::OkStatus() : WriteFailed(path_);
}

absl::Status SafetensorsWriter::Finish() {
  PREGATE_CHECK(appended_ == data_bytes_, "file ", path_);
  errno = 0;
  out_.close();
  return out_ ? absl::OkStatus() : WriteFailed(path_);
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

absl::Status WriteSafetensors(const std::string& path, absl::Span<const OutputTensor> tensors,
                              const std::map<std::string, std::string>& metadata) {
  std::vector<SafetensorsEntry> entries;
  for (const OutputTensor& tensor : tensors) entries.push_back(tensor.entry);
  const std::string temporary = absl::StrCat(path, ".tmp-", getpid());
  const auto write = [&]() -> absl::Status {
    ASSIGN_OR_RETURN(const auto writer, SafetensorsWriter::Create(temporary, entries, metadata));
    for (const OutputTensor& tensor : tensors) RETURN_IF_ERROR(writer->Append(tensor.bytes));
    return writer->Finish();
  };
  absl::Status status = write();
  if (status.ok() && std::rename(temporary.c_str(), path.c_str()) != 0) status = WriteFailed(path);
  if (!status.ok()) std::remove(temporary.c_str());
  return status;
}

}  // namespace pregate
