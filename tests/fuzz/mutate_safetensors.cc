#include <cstring>

#include "common/model/formats/testing/model_files.h"
#include "tests/fuzz/mutators.h"

namespace pregate::fuzz {
namespace {

using nlohmann::json;

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kTensorBytesMax = 4096;  // of one that is made to fit

// Bytes of a tensor as type and shape have it; 0 where they make no sense.
uint64_t TensorBytes(const json& tensor) {
  if (!tensor.is_object() || !tensor.contains("shape") || !tensor["shape"].is_array()) return 0;
  const json dtype = tensor.value("dtype", json());
  uint64_t bytes = dtype == "I8" ? 1 : dtype == "F16" || dtype == "BF16" ? 2 : 4;
  for (const json& axis : tensor["shape"]) {
    if (!axis.is_number_unsigned() || axis.get<uint64_t>() > kTensorBytesMax) return 0;
    bytes *= axis.get<uint64_t>();
    if (bytes > kTensorBytesMax) return 0;
  }
  return bytes;
}

// Lays the tensors out one behind the other.
void Refit(json* header, std::string* data) {
  uint64_t at = 0;
  for (const auto& [name, tensor] : header->items()) {
    if (name == "__metadata__" || !tensor.is_object()) continue;
    const uint64_t end = at + TensorBytes(tensor);
    tensor["data_offsets"] = {at, end};
    at = end;
  }
  data->resize(at);
}

}  // namespace

std::string MutateSafetensors(std::string_view bytes, std::mt19937_64& random) {
  if (bytes.size() < kLengthBytes) return "";
  uint64_t header_size = 0;
  std::memcpy(&header_size, bytes.data(), kLengthBytes);
  if (header_size > bytes.size() - kLengthBytes) return "";
  const std::string text(bytes.substr(kLengthBytes, header_size));
  std::string data(bytes.substr(kLengthBytes + header_size));
  if (random() % 8 == 0) {
    data.resize(random() % 2 == 0 ? random() % (data.size() + 1) : data.size() + random() % 9);
    return RawSafetensors(text, data);
  }
  json header = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (header.is_discarded()) return "";
  ChangeJson(&header, random);
  if (random() % 2 == 0 && header.is_object()) Refit(&header, &data);
  return RawSafetensors(header.dump(-1, ' ', false, json::error_handler_t::replace), data);
}

}  // namespace pregate::fuzz
