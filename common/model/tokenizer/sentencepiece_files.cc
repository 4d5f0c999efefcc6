// SentencePiece tokenizers in Hugging Face directories: tokenizer.model and its companions.
#include <fstream>
#include <utility>

#include "common/base/json.h"
#include "common/base/limits.h"
#include "common/base/mapped_file.h"
#include "common/base/status.h"
#include "common/model/tokenizer/tokenizer.h"
#include "common/model/tokenizer/tokenizer_config.h"

namespace pregate {
namespace {

// Tokens that a fine-tune has added behind the model's pieces, or named among them.
absl::Status AddTokenPieces(const std::string& dir, SentencePieceTokenizerSpec* spec) {
  SentencePieceModel* const model = &spec->model;
  ASSIGN_OR_RETURN(const auto added, ReadAddedTokenFiles(dir));
  for (const auto& [id, token] : added) {
    const auto index = static_cast<size_t>(id);
    const bool is_new = index == model->pieces.size();
    if (is_new) model->pieces.push_back({.text = token.text, .type = PieceType::kUserDefined});
    if (index >= model->pieces.size() || model->pieces[index].text != token.text) {
      return absl::InvalidArgumentError(
          absl::StrCat(dir, ": the added token \"", token.text.substr(0, 64), "\" has the id ", id,
                       ", expected ", model->pieces.size(), " or that of the piece of its name"));
    }
    PieceType& type = model->pieces[index].type;
    if (token.special && type == PieceType::kUserDefined) type = PieceType::kControl;
    if (type == PieceType::kControl && (token.lstrip || token.rstrip)) {
      spec->stripping.push_back({.id = id,
                                 .text = token.text,
                                 .special = true,
                                 .lstrip = token.lstrip,
                                 .rstrip = token.rstrip});
    }
  }
  return CheckSentencePieceModel(*model);
}

std::optional<TokenId> FindPiece(const SentencePieceModel& model, const std::string& text,
                                 bool control_only) {
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const SentencePiece& piece = model.pieces[id];
    if (piece.text != text) continue;
    if (!control_only || piece.type == PieceType::kControl) return static_cast<TokenId>(id);
  }
  return std::nullopt;
}

// What every model has is no further token.
void DropUnknownPiece(const SentencePieceModel& model, ChatVariables* variables) {
  const auto it = variables->tokens.find("unk_token");
  if (it == variables->tokens.end()) return;
  const auto id = FindPiece(model, it->second, false);
  if (id && model.pieces[*id].type == PieceType::kUnknown) variables->tokens.erase(it);
}

absl::StatusOr<nlohmann::json> ConfigOf(const SentencePieceTokenizerSpec& spec) {
  nlohmann::json config = {{"tokenizer_class", "LlamaTokenizer"},
                           {"clean_up_tokenization_spaces", false},
                           {"legacy", spec.prefix_behind_specials},
                           {"add_bos_token", spec.add_bos},
                           {"add_eos_token", false}};
  for (const SentencePiece& piece : spec.model.pieces) {
    if (piece.type == PieceType::kUnknown) config["unk_token"] = piece.text;
  }
  if (spec.bos) config["bos_token"] = spec.model.pieces[*spec.bos].text;
  if (spec.eos) config["eos_token"] = spec.model.pieces[*spec.eos].text;
  for (const AddedToken& token : spec.stripping) {
    config["added_tokens_decoder"][absl::StrCat(token.id)] = {{"content", token.text},
                                                              {"special", token.special},
                                                              {"lstrip", token.lstrip},
                                                              {"rstrip", token.rstrip}};
  }
  RETURN_IF_ERROR(PutChatTemplates(spec.chat_template, spec.chat_variables, &config));
  return config;
}

absl::Status WriteWhole(const std::string& path, const std::string& bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  if (file) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(path, ": cannot be written"));
}

}  // namespace

absl::StatusOr<SentencePieceTokenizerSpec> LoadSentencePieceSpec(const std::string& dir) {
  const std::string path = dir + "/tokenizer.model";
  ASSIGN_OR_RETURN(const std::string bytes, ReadSmallFile(path, kSentencePieceModelBytesMax));
  SentencePieceTokenizerSpec spec;
  ASSIGN_OR_RETURN(spec.model, ParseSentencePieceModel(bytes, path));
  RETURN_IF_ERROR(AddTokenPieces(dir, &spec));
  ASSIGN_OR_RETURN(TokenizerConfig config, ReadTokenizerConfig(dir));
  const auto find = [&](const std::string& text) { return FindPiece(spec.model, text, false); };
  ASSIGN_OR_RETURN(spec.bos, FindNamedToken(config, "bos_token", config.bos, find));
  ASSIGN_OR_RETURN(spec.eos, FindNamedToken(config, "eos_token", config.eos, find));
  if (!config.bos) spec.bos = FindPiece(spec.model, spec.model.bos_piece, true);
  if (!config.eos) spec.eos = FindPiece(spec.model, spec.model.eos_piece, true);
  spec.add_bos = config.add_bos.value_or(spec.bos.has_value());
  spec.chat_template = std::move(config.chat_template);
  spec.chat_variables = std::move(config.chat_variables);
  DropUnknownPiece(spec.model, &spec.chat_variables);
  spec.prefix_behind_specials = config.legacy;
  return spec;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(const std::string& dir) {
  auto spec = LoadSentencePieceSpec(dir);
  if (!spec.ok()) {
    // Some models keep another kind of file under this name, beside a tokenizer.json that counts.
    auto json = LoadTokenizerJson(dir);
    if (json.ok() || absl::IsNotFound(spec.status())) return json;
    return spec.status();
  }
  return MakeSentencePieceTokenizer(*std::move(spec));
}

absl::Status SaveSentencePieceModel(const SentencePieceTokenizerSpec& spec,
                                    const std::string& dir) {
  RETURN_IF_ERROR(MakeSentencePieceTokenizer(spec).status());
  ASSIGN_OR_RETURN(const nlohmann::json config, ConfigOf(spec));
  RETURN_IF_ERROR(WriteWhole(dir + "/tokenizer.model", SerializeSentencePieceModel(spec.model)));
  return WriteWhole(dir + "/tokenizer_config.json", config.dump(2) + "\n");
}

}  // namespace pregate
