#include "common/model/formats/gguf_tokenizer.h"

#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_replace.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/model/tokenizer/published_regexes.h"

namespace pregate {
namespace {

constexpr int64_t kTypeControl = 3, kTypeUserDefined = 4;

absl::Status ReadMerges(const GgufFile& file, PipelineTokenizerSpec* spec) {
  constexpr const char* kKey = "tokenizer.ggml.merges";
  ASSIGN_OR_RETURN(const auto merges, file.Strings(kKey));
  for (const std::string_view merge : merges) {
    // The first byte may itself be a space in odd vocabularies: the separator is never there.
    const size_t space = merge.find(' ', 1);
    if (space == std::string_view::npos || space + 1 == merge.size()) {
      return absl::InvalidArgumentError(absl::StrCat(file.path(), ": ", kKey, "[",
                                                     spec->merges.size(), "] is no pair: \"",
                                                     std::string(merge.substr(0, 64)), "\""));
    }
    spec->merges.emplace_back(merge.substr(0, space), merge.substr(space + 1));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> ReadTokens(const GgufFile& file) {
  ASSIGN_OR_RETURN(const auto tokens, file.Strings("tokenizer.ggml.tokens"));
  if (tokens.size() > static_cast<size_t>(kVocabSizeMax)) {
    return absl::InvalidArgumentError(absl::StrCat(
        file.path(), ": ", tokens.size(), " tokens, more than the limit of ", kVocabSizeMax));
  }
  return std::vector<std::string>(tokens.begin(), tokens.end());
}

absl::Status CheckPerToken(const GgufFile& file, const char* key, size_t size, size_t num_tokens) {
  if (size == num_tokens) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(file.path(), ": ", key, " has ", size, " entries for ", num_tokens, " tokens"));
}

// Control tokens have no text; user-defined ones are looked for in texts. One whose text is a
// normal token's too is no part of the model's own vocabulary.
absl::Status ReadAdded(const GgufFile& file, PipelineTokenizerSpec* spec) {
  constexpr const char* kKey = "tokenizer.ggml.token_type";
  if (!file.Has(kKey)) return absl::OkStatus();
  ASSIGN_OR_RETURN(const auto types, file.Ints(kKey));
  RETURN_IF_ERROR(CheckPerToken(file, kKey, types.size(), spec->tokens.size()));
  const auto is_added = [&](size_t id) {
    return types[id] == kTypeControl || types[id] == kTypeUserDefined;
  };
  absl::flat_hash_set<std::string> normal;
  for (size_t id = 0; id < types.size(); ++id) {
    if (!is_added(id)) normal.insert(spec->tokens[id]);
  }
  for (size_t id = 0; id < types.size(); ++id) {
    std::string& text = spec->tokens[id];
    if (!is_added(id) || text.empty()) continue;
    spec->added.push_back(
        {.id = static_cast<TokenId>(id), .text = text, .special = types[id] == kTypeControl});
    if (normal.contains(text)) text.clear();
  }
  return absl::OkStatus();
}

// bos and eos, by id.
absl::Status ReadEnds(const GgufFile& file, size_t num_tokens, std::optional<TokenId>* bos,
                      std::optional<TokenId>* eos) {
  const auto size = static_cast<int64_t>(num_tokens);
  ASSIGN_OR_RETURN(*bos, file.SpecialId("tokenizer.ggml.bos_token_id", size));
  ASSIGN_OR_RETURN(*eos, file.SpecialId("tokenizer.ggml.eos_token_id", size));
  return absl::OkStatus();
}

// The default template, and those by name.
absl::Status ReadTemplates(const GgufFile& file, std::string* chat_template,
                           ChatVariables* variables) {
  constexpr std::string_view kKey = "tokenizer.chat_template", kPrefix = "tokenizer.chat_template.";
  ASSIGN_OR_RETURN(*chat_template, file.String(std::string(kKey), ""));
  for (const std::string& key : file.Keys()) {
    if (!std::string_view(key).starts_with(kPrefix)) continue;
    if (variables->more_templates.size() == kTemplatesMax) {
      return absl::InvalidArgumentError(
          absl::StrCat(file.path(), ": more than ", kTemplatesMax, " named chat templates"));
    }
    ASSIGN_OR_RETURN(variables->more_templates[key.substr(kPrefix.size())], file.String(key));
  }
  return absl::OkStatus();
}

void ReplaceSpaces(std::string* piece) {
  absl::StrReplaceAll({{" ", absl::string_view(kSpacePiece.data(), kSpacePiece.size())}}, piece);
}

absl::Status ReadPieces(const GgufFile& file, SentencePieceModel* model) {
  constexpr const char *kScores = "tokenizer.ggml.scores", *kTypes = "tokenizer.ggml.token_type";
  ASSIGN_OR_RETURN(auto tokens, ReadTokens(file));
  ASSIGN_OR_RETURN(const auto scores, file.Floats(kScores));
  ASSIGN_OR_RETURN(const auto types, file.Ints(kTypes));
  RETURN_IF_ERROR(CheckPerToken(file, kScores, scores.size(), tokens.size()));
  RETURN_IF_ERROR(CheckPerToken(file, kTypes, types.size(), tokens.size()));
  for (size_t id = 0; id < tokens.size(); ++id) {
    if (types[id] < 0 || types[id] > 6) {
      return absl::InvalidArgumentError(absl::StrCat(file.path(), ": ", kTypes, "[", id, "] is ",
                                                     types[id], ", expected 0 to 6"));
    }
    // 0 is "undefined", which llama.cpp takes as normal.
    const auto type = types[id] == 0 ? PieceType::kNormal : static_cast<PieceType>(types[id]);
    // llama.cpp's converter writes the spaces of these as they are.
    if (type == PieceType::kUserDefined) ReplaceSpaces(&tokens[id]);
    model->byte_fallback |= type == PieceType::kByte;
    model->pieces.push_back({std::move(tokens[id]), scores[id], type});
  }
  return absl::OkStatus();
}

absl::Status CheckModelName(const GgufFile& file, std::string_view expected) {
  if (!file.Has("tokenizer.ggml.model")) {
    return absl::NotFoundError(absl::StrCat(file.path(), ": carries no tokenizer"));
  }
  ASSIGN_OR_RETURN(const std::string model, file.String("tokenizer.ggml.model"));
  return model == expected ? absl::OkStatus() : file.Unsupported("tokenizer.ggml.model");
}

bool IsSentencePiece(const GgufFile& file) {
  return file.String("tokenizer.ggml.model", "").value_or("") == "llama";
}

}  // namespace

absl::StatusOr<PipelineTokenizerSpec> GgufPipelineSpec(const GgufFile& file) {
  RETURN_IF_ERROR(CheckModelName(file, "gpt2"));
  PipelineTokenizerSpec spec;
  ASSIGN_OR_RETURN(spec.tokens, ReadTokens(file));
  RETURN_IF_ERROR(ReadMerges(file, &spec));
  RETURN_IF_ERROR(ReadAdded(file, &spec));
  ASSIGN_OR_RETURN(spec.pre_tokenizer, file.String("tokenizer.ggml.pre", "default"));
  RETURN_IF_ERROR(ReadTemplates(file, &spec.chat_template, &spec.chat_variables));
  RETURN_IF_ERROR(ReadEnds(file, spec.tokens.size(), &spec.bos, &spec.eos));
  // Files of Llama-3 and Tekken leave the key out and mean yes; of other models, no.
  const bool means = MeansWholeWordsAndBos(spec.pre_tokenizer);
  ASSIGN_OR_RETURN(spec.add_bos, file.Bool("tokenizer.ggml.add_bos_token", means && spec.bos));
  spec.ignore_merges = means;
  return spec;
}

// What the format leaves open is as in Llama-2: no rules of normalisation, every space kept.
absl::StatusOr<SentencePieceTokenizerSpec> GgufSentencePieceSpec(const GgufFile& file) {
  RETURN_IF_ERROR(CheckModelName(file, "llama"));
  SentencePieceTokenizerSpec spec;
  SentencePieceModel& model = spec.model;
  RETURN_IF_ERROR(ReadPieces(file, &model));
  ASSIGN_OR_RETURN(model.add_dummy_prefix, file.Bool("tokenizer.ggml.add_space_prefix", true));
  ASSIGN_OR_RETURN(model.remove_extra_whitespaces,
                   file.Bool("tokenizer.ggml.remove_extra_whitespaces", false));
  if (file.Has("tokenizer.ggml.precompiled_charsmap")) {
    return absl::UnimplementedError(
        absl::StrCat(file.path(), ": tokenizer.ggml.precompiled_charsmap is not supported"));
  }
  const absl::Status status = CheckSentencePieceModel(model);
  if (!status.ok()) {
    return absl::Status(status.code(), absl::StrCat(file.path(), ": ", status.message()));
  }
  RETURN_IF_ERROR(ReadEnds(file, model.pieces.size(), &spec.bos, &spec.eos));
  if (spec.bos) model.bos_piece = model.pieces[*spec.bos].text;
  if (spec.eos) model.eos_piece = model.pieces[*spec.eos].text;
  ASSIGN_OR_RETURN(spec.add_bos, file.Bool("tokenizer.ggml.add_bos_token", spec.bos.has_value()));
  RETURN_IF_ERROR(ReadTemplates(file, &spec.chat_template, &spec.chat_variables));
  return spec;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadGgufTokenizer(const GgufFile& file) {
  if (IsSentencePiece(file)) {
    ASSIGN_OR_RETURN(SentencePieceTokenizerSpec spec, GgufSentencePieceSpec(file));
    return MakeSentencePieceTokenizer(std::move(spec));
  }
  ASSIGN_OR_RETURN(PipelineTokenizerSpec spec, GgufPipelineSpec(file));
  return MakePipelineTokenizer(std::move(spec));
}

absl::Status SaveGgufTokenizer(const GgufFile& file, const std::string& dir) {
  if (IsSentencePiece(file)) {
    ASSIGN_OR_RETURN(const SentencePieceTokenizerSpec spec, GgufSentencePieceSpec(file));
    return SaveSentencePieceModel(spec, dir);
  }
  ASSIGN_OR_RETURN(const PipelineTokenizerSpec spec, GgufPipelineSpec(file));
  return SaveTokenizerJson(spec, dir);
}

}  // namespace pregate
