// The wire format of protocol buffers, as far as a SentencePiece model and a stream of tokens need
// it: varints, 32 and 64 bit numbers, strings of bytes. https://protobuf.dev/programming-guides/encoding
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace pregate {

enum class WireType : uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

struct WireField {
  uint32_t number = 0;
  WireType type = WireType::kVarint;
  uint64_t value = 0;      // of a number, its bits
  std::string_view bytes;  // of kBytes; borrowed from the message

  float AsFloat() const;  // REQUIRES: type == kFixed32
};

// Reads the fields of one message in order. Not thread-safe; borrows the bytes.
class WireReader {
 public:
  // `where` names the message in errors, `offset` is where it begins in the file.
  WireReader(std::string_view message, std::string where, size_t offset = 0)
      : message_(message), where_(std::move(where)), offset_(offset) {}

  bool AtEnd() const { return pos_ == message_.size(); }
  // REQUIRES: !AtEnd(). InvalidArgument names the byte at fault: a cut field, a group, number 0.
  absl::StatusOr<WireField> Next();
  // A reader of the message that `field` (of this one) holds.
  WireReader Inner(const WireField& field) const;
  // InvalidArgument unless `field` is of `type`.
  absl::Status Expect(const WireField& field, WireType type) const;

 private:
  absl::Status Bad(const char* what) const;
  absl::StatusOr<uint64_t> Varint();
  absl::StatusOr<std::string_view> Take(uint64_t size);

  std::string_view message_;
  std::string where_;
  size_t offset_;
  size_t pos_ = 0;
};

void AppendWireVarint(uint32_t number, uint64_t value, std::string* out);
void AppendWireFloat(uint32_t number, float value, std::string* out);
void AppendWireBytes(uint32_t number, std::string_view bytes, std::string* out);

// The varint of an int32, whose sign goes on to 64 bits.
constexpr uint64_t WireInt32(int32_t value) {
  return static_cast<uint64_t>(static_cast<int64_t>(value));
}
// Packed, as `repeated int32` and `repeated sint32` have them; nothing for none.
void AppendWireInt32s(uint32_t number, absl::Span<const int32_t> values, std::string* out);
void AppendWireSint32s(uint32_t number, absl::Span<const int32_t> values, std::string* out);

}  // namespace pregate
