// Writes tokenizer.json and tokenizer_config.json for HF tokenizers, transformers and ourselves.
#include <algorithm>
#include <fstream>

#include "common/base/json.h"
#include "common/base/status.h"
#include "common/base/utf8.h"
#include "common/model/tokenizer/post_processor.h"
#include "common/model/tokenizer/tokenizer.h"
#include "common/model/tokenizer/tokenizer_config.h"
#include "common/model/tokenizer/tokenizer_parts.h"

namespace pregate {
namespace {

using nlohmann::json;

json ToJson(const AddedToken& token) {
  return {{"id", token.id},          {"content", token.text},  {"single_word", token.single_word},
          {"lstrip", token.lstrip},  {"rstrip", token.rstrip}, {"normalized", token.normalized},
          {"special", token.special}};
}

const std::string& TextOfToken(const PipelineTokenizerSpec& spec, TokenId id) {
  for (const AddedToken& token : spec.added) {
    if (token.id == id) return token.text;
  }
  return spec.tokens[id];
}

json UnigramJson(const PipelineTokenizerSpec& spec) {
  json vocab = json::array();
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    vocab.push_back({spec.tokens[id], spec.scores[id]});
  }
  return {{"type", "Unigram"},
          {"unk_id", *spec.unknown},
          {"vocab", std::move(vocab)},
          {"byte_fallback", spec.byte_fallback}};
}

// A merge of parts with spaces can only be written as a pair.
json MergesJson(const PipelineTokenizerSpec& spec) {
  const auto has_space = [](const auto& merge) {
    return (merge.first + merge.second).find(' ') != std::string::npos;
  };
  if (std::any_of(spec.merges.begin(), spec.merges.end(), has_space)) return spec.merges;
  json merges = json::array();
  for (const auto& [left, right] : spec.merges) merges.push_back(left + " " + right);
  return merges;
}

json BpeJson(const PipelineTokenizerSpec& spec) {
  json vocab = json::object();
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    if (!spec.tokens[id].empty()) vocab[spec.tokens[id]] = id;
  }
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", spec.unknown ? json(TextOfToken(spec, *spec.unknown)) : json()},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", spec.fuse_unknown},
          {"byte_fallback", spec.byte_fallback},
          {"ignore_merges", spec.ignore_merges},
          {"vocab", std::move(vocab)},
          {"merges", MergesJson(spec)}};
}

json TokenizerJson(const PipelineTokenizerSpec& spec, const PartsJson& parts) {
  json added = json::array();
  for (const AddedToken& token : spec.added) added.push_back(ToJson(token));
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", std::move(added)},
          {"normalizer", parts.normalizer},
          {"pre_tokenizer", parts.pre_tokenizer},
          {"post_processor",
           spec.add_bos ? FirstTokenToJson(TextOfToken(spec, *spec.bos), *spec.bos) : json()},
          {"decoder", parts.decoder},
          {"model", spec.scores.empty() ? BpeJson(spec) : UnigramJson(spec)}};
}

absl::StatusOr<json> ConfigJson(const PipelineTokenizerSpec& spec) {
  json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                 {"clean_up_tokenization_spaces", false},
                 {"add_bos_token", spec.add_bos}};
  if (spec.bos) config["bos_token"] = TextOfToken(spec, *spec.bos);
  if (spec.eos) config["eos_token"] = TextOfToken(spec, *spec.eos);
  RETURN_IF_ERROR(PutChatTemplates(spec.chat_template, spec.chat_variables, &config));
  return config;
}

absl::Status Write(const std::string& path, const json& value, int indent) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << value.dump(indent) << "\n";
  file.close();
  if (file) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(path, ": cannot be written"));
}

}  // namespace

absl::Status SaveTokenizerJson(const PipelineTokenizerSpec& spec, const std::string& dir) {
  RETURN_IF_ERROR(MakePipelineTokenizer(spec).status());
  ASSIGN_OR_RETURN(const PartsJson parts, PartsJsonOf(spec));
  ASSIGN_OR_RETURN(const json config, ConfigJson(spec));
  if (PlaceAddedTokens(spec.tokens, spec.added) != spec.added) {
    return absl::UnimplementedError(
        "an added token's text is another token's too, or its id is not the next one: readers of "
        "tokenizer.json would give it another");
  }
  RETURN_IF_ERROR(Write(dir + "/tokenizer.json", TokenizerJson(spec, parts), 0));
  return Write(dir + "/tokenizer_config.json", config, 2);
}

}  // namespace pregate
