#include "common/model/tokenizer/tokenizer_parts.h"

#include <utility>

#include "common/base/json.h"
#include "common/base/status.h"

namespace pregate {
namespace {

using nlohmann::json;

const json& ByteLevelDecoder() {
  static const auto& decoder = *new json{{"type", "ByteLevel"},
                                         {"add_prefix_space", false},
                                         {"trim_offsets", true},
                                         {"use_regex", true}};
  return decoder;
}

absl::StatusOr<json> PartOf(const std::string& text, const char* name, const json& if_empty) {
  if (text.empty()) return if_empty;
  return ParseJson(text, name);
}

// Where a text begins is not known any more behind steps that may take away its beginning.
absl::Status CheckFirst(const PartsJson& parts, const std::string& prefix) {
  if (parts.normalizer.is_null()) return absl::OkStatus();
  if (parts.pre_tokenizer.dump().find("\"prepend_scheme\":\"first\"") == std::string::npos) {
    return absl::OkStatus();
  }
  return absl::UnimplementedError(
      absl::StrCat(prefix,
                   "pre_tokenizer: prepend_scheme \"first\" beside a normalizer is not "
                   "supported"));
}

}  // namespace

absl::StatusOr<PartsJson> PartsJsonOf(const PipelineTokenizerSpec& spec) {
  PartsJson parts;
  ASSIGN_OR_RETURN(parts.normalizer, PartOf(spec.normalizer, "normalizer", json()));
  ASSIGN_OR_RETURN(parts.decoder, PartOf(spec.decoder, "decoder", ByteLevelDecoder()));
  const bool is_json = spec.pre_tokenizer.starts_with('{') || spec.pre_tokenizer == "null";
  if (is_json) {
    ASSIGN_OR_RETURN(parts.pre_tokenizer, ParseJson(spec.pre_tokenizer, "pre_tokenizer"));
  } else {
    ASSIGN_OR_RETURN(parts.pre_tokenizer, PreTokenizerFromName(spec.pre_tokenizer));
  }
  return parts;
}

void SetParts(const PartsJson& parts, PipelineTokenizerSpec* spec) {
  const std::string name = NameOfPreTokenizer(parts.pre_tokenizer);
  spec->pre_tokenizer = name.empty() ? parts.pre_tokenizer.dump() : name;
  spec->normalizer = parts.normalizer.is_null() ? "" : parts.normalizer.dump();
  const bool is_byte_level =
      parts.decoder.is_object() && parts.decoder.value("type", json()) == "ByteLevel";
  spec->decoder = is_byte_level ? "" : parts.decoder.dump();
}

absl::StatusOr<TokenizerParts> TokenizerParts::Make(const PipelineTokenizerSpec& spec,
                                                    const std::string& prefix) {
  ASSIGN_OR_RETURN(const PartsJson json, PartsJsonOf(spec));
  TokenizerParts parts;
  ASSIGN_OR_RETURN(parts.normalizer, Normalizer::Make(json.normalizer, prefix + "normalizer"));
  ASSIGN_OR_RETURN(parts.pre_tokenizer,
                   PreTokenizer::Make(json.pre_tokenizer, prefix + "pre_tokenizer"));
  ASSIGN_OR_RETURN(parts.decoder, TokenDecoder::Make(json.decoder, prefix + "decoder"));
  RETURN_IF_ERROR(CheckFirst(json, prefix));
  return parts;
}

}  // namespace pregate
