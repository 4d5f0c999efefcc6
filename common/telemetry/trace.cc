#include "common/telemetry/trace.h"

#include <algorithm>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace pregate {
namespace {

constexpr size_t kHeaderChars = 55;  // 2 + 1 + 32 + 1 + 16 + 1 + 2

bool IsLowerHex(absl::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

// Whether `hex` is a valid, non-zero id; then it is in `id`.
template <size_t kBytes>
bool ParseId(absl::string_view hex, std::array<uint8_t, kBytes>* id) {
  if (!IsLowerHex(hex)) return false;
  const std::string bytes = absl::HexStringToBytes(hex);
  std::copy(bytes.begin(), bytes.end(), id->begin());
  return *id != std::array<uint8_t, kBytes>{};
}

template <size_t kBytes>
std::string Hex(const std::array<uint8_t, kBytes>& id) {
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(id.data()), id.size()));
}

template <size_t kBytes>
void PutBigEndian(uint64_t bits, size_t at, std::array<uint8_t, kBytes>* id) {
  for (size_t i = 0; i < 8; ++i) (*id)[at + i] = static_cast<uint8_t>(bits >> (56 - 8 * i));
}

}  // namespace

std::optional<TraceContext> ParseTraceparent(absl::string_view header) {
  if (header.size() < kHeaderChars) return std::nullopt;
  const absl::string_view version = header.substr(0, 2), flags = header.substr(53, 2);
  if (header[2] != '-' || header[35] != '-' || header[52] != '-') return std::nullopt;
  if (!IsLowerHex(version) || version == "ff" || !IsLowerHex(flags)) return std::nullopt;
  const bool ends = header.size() == kHeaderChars;
  if (!ends && (version == "00" || header[kHeaderChars] != '-')) return std::nullopt;
  TraceContext context;
  if (!ParseId(header.substr(3, 32), &context.trace_id)) return std::nullopt;
  if (!ParseId(header.substr(36, 16), &context.parent)) return std::nullopt;
  context.sampled = (absl::HexStringToBytes(flags)[0] & 1) != 0;
  return context;
}

std::string Traceparent(const TraceContext& context) {
  return absl::StrCat("00-", Hex(context.trace_id), "-", Hex(context.parent),
                      context.sampled ? "-01" : "-00");
}

std::string TraceIdText(const TraceId& id) { return Hex(id); }

TraceId MakeTraceId(uint64_t high, uint64_t low) {
  TraceId id;
  PutBigEndian(high, 0, &id);
  PutBigEndian(low | 1, 8, &id);  // never all zero
  return id;
}

SpanId MakeSpanId(uint64_t bits) {
  SpanId id;
  PutBigEndian(bits == 0 ? 1 : bits, 0, &id);
  return id;
}

}  // namespace pregate
