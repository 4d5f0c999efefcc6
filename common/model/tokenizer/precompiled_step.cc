#include "common/model/tokenizer/precompiled_step.h"

#include <utf8proc.h>

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "common/base/status.h"
#include "common/base/utf8.h"
#include "common/model/tokenizer/json_steps.h"
#include "common/model/tokenizer/precompiled_charsmap.h"

namespace pregate {
namespace {

constexpr size_t kWholeClusterBytesMax = 5;  // longer ones are taken character by character

// The grapheme cluster (UAX #29) that a text begins with, in bytes.
size_t ClusterBytes(std::string_view text) {
  utf8proc_int32_t state = 0, last = -1;
  size_t pos = 0;
  while (pos < text.size()) {
    utf8proc_int32_t value = 0;
    const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data() + pos);
    const utf8proc_ssize_t length =
        utf8proc_iterate(bytes, static_cast<utf8proc_ssize_t>(text.size() - pos), &value);
    if (last >= 0 && utf8proc_grapheme_break_stateful(last, value, &state)) break;
    last = value;
    pos += static_cast<size_t>(length);
  }
  return pos;
}

class PrecompiledStep final : public NormalizerStep {
 public:
  explicit PrecompiledStep(PrecompiledCharsmap charsmap) : charsmap_(std::move(charsmap)) {}

  // A rule for a cluster's beginning, the shortest there is, stands for all of the cluster.
  std::string Apply(std::string_view text) const override {
    std::string out;
    while (!text.empty()) {
      const std::string_view cluster = text.substr(0, ClusterBytes(text));
      text.remove_prefix(cluster.size());
      const bool whole = cluster.size() <= kWholeClusterBytesMax;
      const auto rule = whole ? charsmap_.Shortest(cluster) : PrecompiledCharsmap::Rule{{}, 0};
      if (rule.length > 0) {
        out.append(rule.normal);
      } else {
        AppendCharacters(cluster, &out);
      }
    }
    return out;
  }
  double growth() const override {
    return std::max(1.0, static_cast<double>(charsmap_.rule_bytes_max()));
  }

 private:
  void AppendCharacters(std::string_view text, std::string* out) const {
    while (!text.empty()) {
      const std::string_view character = text.substr(0, NextUtf8(text, 0).length);
      const auto rule = charsmap_.Shortest(character);
      out->append(rule.length > 0 ? rule.normal : character);
      text.remove_prefix(character.size());
    }
  }

  const PrecompiledCharsmap charsmap_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<const NormalizerStep>> MakePrecompiledStep(const JsonObject& step) {
  RETURN_IF_ERROR(CheckKeys(step, {"type", "precompiled_charsmap"}));
  ASSIGN_OR_RETURN(const std::string base64, step.String("precompiled_charsmap"));
  std::string bytes;
  if (!absl::Base64Unescape(base64, &bytes)) {
    return absl::InvalidArgumentError(
        absl::StrCat(step.where(), ": precompiled_charsmap is no base64"));
  }
  auto charsmap = PrecompiledCharsmap::Read(bytes);
  if (!charsmap.ok()) return AtPlace(step.where(), charsmap.status());
  return std::make_unique<PrecompiledStep>(*std::move(charsmap));
}

}  // namespace pregate
