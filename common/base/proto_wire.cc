#include "common/base/proto_wire.h"

#include <bit>

#include "common/base/status.h"

namespace pregate {
namespace {

constexpr uint64_t kFieldNumberMax = (uint64_t{1} << 29) - 1;

void AppendVarint(uint64_t value, std::string* out) {
  for (; value >= 0x80; value >>= 7) out->push_back(static_cast<char>(value | 0x80));
  out->push_back(static_cast<char>(value));
}

void AppendTag(uint32_t number, WireType type, std::string* out) {
  AppendVarint(uint64_t{number} << 3 | static_cast<uint64_t>(type), out);
}

// Small numbers of either sign are small.
uint64_t ZigZag(int32_t value) {
  return (static_cast<uint32_t>(value) << 1) ^ static_cast<uint32_t>(value >> 31);
}

template <typename ToVarint>
void AppendPacked(uint32_t number, absl::Span<const int32_t> values, ToVarint to_varint,
                  std::string* out) {
  if (values.empty()) return;
  size_t bytes = 0;
  for (const int32_t value : values) {
    bytes += static_cast<size_t>(std::bit_width(to_varint(value) | 1) + 6) / 7;
  }
  AppendTag(number, WireType::kBytes, out);
  AppendVarint(bytes, out);
  for (const int32_t value : values) AppendVarint(to_varint(value), out);
}

uint64_t LittleEndian(std::string_view bytes) {
  uint64_t value = 0;
  for (size_t i = bytes.size(); i-- > 0;) value = value << 8 | static_cast<uint8_t>(bytes[i]);
  return value;
}

}  // namespace

float WireField::AsFloat() const { return std::bit_cast<float>(static_cast<uint32_t>(value)); }

absl::Status WireReader::Bad(const char* what) const {
  return absl::InvalidArgumentError(absl::StrCat(where_, ": byte ", offset_ + pos_, ": ", what));
}

absl::StatusOr<uint64_t> WireReader::Varint() {
  uint64_t value = 0;
  for (int shift = 0; shift < 70 && pos_ < message_.size(); shift += 7) {
    const auto byte = static_cast<uint8_t>(message_[pos_++]);
    if (shift < 64) value |= uint64_t{byte & 0x7Fu} << shift;
    if (byte < 0x80) return value;
  }
  return Bad("no end of a varint");
}

absl::StatusOr<std::string_view> WireReader::Take(uint64_t size) {
  if (size > message_.size() - pos_) return Bad("a field is longer than what is left");
  const std::string_view bytes = message_.substr(pos_, size);
  pos_ += size;
  return bytes;
}

absl::StatusOr<WireField> WireReader::Next() {
  ASSIGN_OR_RETURN(const uint64_t tag, Varint());
  WireField field;
  if (tag >> 3 == 0 || tag >> 3 > kFieldNumberMax) return Bad("no field number");
  field.number = static_cast<uint32_t>(tag >> 3);
  field.type = static_cast<WireType>(tag & 7);
  switch (field.type) {
    case WireType::kVarint: {
      ASSIGN_OR_RETURN(field.value, Varint());
      return field;
    }
    case WireType::kFixed32:
    case WireType::kFixed64: {
      ASSIGN_OR_RETURN(const auto bytes, Take(field.type == WireType::kFixed32 ? 4 : 8));
      field.value = LittleEndian(bytes);
      return field;
    }
    case WireType::kBytes: {
      ASSIGN_OR_RETURN(const uint64_t size, Varint());
      ASSIGN_OR_RETURN(field.bytes, Take(size));
      return field;
    }
  }
  return Bad("a field of unknown wire type");
}

WireReader WireReader::Inner(const WireField& field) const {
  const auto begin = static_cast<size_t>(field.bytes.data() - message_.data());
  return WireReader(field.bytes, where_, offset_ + begin);
}

absl::Status WireReader::Expect(const WireField& field, WireType type) const {
  return field.type == type ? absl::OkStatus() : Bad("a field ends that has another wire type");
}

void AppendWireVarint(uint32_t number, uint64_t value, std::string* out) {
  AppendTag(number, WireType::kVarint, out);
  AppendVarint(value, out);
}

void AppendWireFloat(uint32_t number, float value, std::string* out) {
  AppendTag(number, WireType::kFixed32, out);
  const auto bits = std::bit_cast<uint32_t>(value);
  for (int shift = 0; shift < 32; shift += 8) out->push_back(static_cast<char>(bits >> shift));
}

void AppendWireBytes(uint32_t number, std::string_view bytes, std::string* out) {
  AppendTag(number, WireType::kBytes, out);
  AppendVarint(bytes.size(), out);
  out->append(bytes);
}

void AppendWireInt32s(uint32_t number, absl::Span<const int32_t> values, std::string* out) {
  AppendPacked(number, values, WireInt32, out);
}

void AppendWireSint32s(uint32_t number, absl::Span<const int32_t> values, std::string* out) {
  AppendPacked(number, values, ZigZag, out);
}

}  // namespace pregate
