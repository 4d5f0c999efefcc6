// Reads tokenizer.json, tokenizer_config.json and chat_template.jinja of a Hugging Face directory.
#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "common/base/json.h"
#include "common/base/limits.h"
#include "common/base/mapped_file.h"
#include "common/base/status.h"
#include "common/model/tokenizer/json_steps.h"
#include "common/model/tokenizer/post_processor.h"
#include "common/model/tokenizer/tokenizer.h"
#include "common/model/tokenizer/tokenizer_alphabet.h"
#include "common/model/tokenizer/tokenizer_config.h"
#include "common/model/tokenizer/tokenizer_parts.h"

namespace pregate {
namespace {

using nlohmann::json;
constexpr size_t kTokenizerBytesMax = size_t{64} << 20;  // of a tokenizer.json

absl::Status SetToken(const JsonObject& model, int64_t id, const std::string& text,
                      PipelineTokenizerSpec* spec) {
  if (spec->tokens.size() <= static_cast<size_t>(id)) spec->tokens.resize(id + 1);
  if (!spec->tokens[id].empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(model.where(), ": vocab: id ", id, " belongs to two tokens"));
  }
  spec->tokens[id] = text;
  return absl::OkStatus();
}

absl::Status ReadVocab(const JsonObject& model, PipelineTokenizerSpec* spec) {
  ASSIGN_OR_RETURN(const JsonObject vocab, model.Object("vocab"));
  spec->tokens.reserve(std::min(vocab.json().size(), static_cast<size_t>(kVocabSizeMax)));
  for (const auto& [text, json_id] : vocab.json().items()) {
    const bool plain = json_id.is_number_unsigned() && json_id.get<uint64_t>() < kVocabSizeMax;
    if (!plain) RETURN_IF_ERROR(vocab.Int(text, 0, kVocabSizeMax - 1).status());
    RETURN_IF_ERROR(SetToken(model, json_id.get<int64_t>(), text, spec));
  }
  return absl::OkStatus();
}

std::optional<TokenId> FindToken(const PipelineTokenizerSpec& spec, const std::string& text) {
  const auto added = std::find_if(spec.added.begin(), spec.added.end(),
                                  [&](const AddedToken& token) { return token.text == text; });
  if (added != spec.added.end()) return added->id;
  const auto it = std::find(spec.tokens.begin(), spec.tokens.end(), text);
  if (it == spec.tokens.end() || text.empty()) return std::nullopt;
  return static_cast<TokenId>(it - spec.tokens.begin());
}

// Words of other models are no bytes.
bool LastStepIsByteLevel(const JsonObject& root) {
  const auto part = root.json().find("pre_tokenizer");
  const auto steps = StepsOf(part == root.json().end() ? json() : *part, "", "pretokenizers");
  return steps.ok() && !steps->empty() && steps->back().type == "ByteLevel";
}

bool HasAllBytes(const std::vector<std::string>& tokens) {
  std::set<std::string> bytes;
  for (const std::string& token : tokens) {
    if (BytesFromAlphabet(token).value_or("").size() == 1) bytes.insert(token);
  }
  return bytes.size() == 256;
}

// A byte-level vocabulary of all bytes needs no token for unknown ones, and some name one that is
// none.
absl::Status ReadUnknown(const JsonObject& root, const JsonObject& model,
                         PipelineTokenizerSpec* spec) {
  ASSIGN_OR_RETURN(const bool fuse, model.Bool("fuse_unk", false));
  ASSIGN_OR_RETURN(const std::string text, model.String("unk_token", ""));
  const bool needless = LastStepIsByteLevel(root) && !spec->byte_fallback;
  if (text.empty() || (needless && HasAllBytes(spec->tokens))) return absl::OkStatus();
  spec->unknown = FindToken(*spec, text);
  spec->fuse_unknown = fuse;
  if (spec->unknown) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      model.where(), ": unk_token \"", text.substr(0, 64), "\" is not in the vocabulary"));
}

absl::StatusOr<std::pair<std::string, std::string>> ReadMerge(const json& merge,
                                                              const std::string& where) {
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
    return std::pair(merge[0].get<std::string>(), merge[1].get<std::string>());
  }
  const std::string text = merge.is_string() ? merge.get<std::string>() : "";
  const size_t space = text.find(' ');
  if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": expected \"left right\" or [left, right]"));
  }
  return std::pair(text.substr(0, space), text.substr(space + 1));
}

// Of two equal merges the later one counts, as in the `tokenizers` package.
void DropRepeatedMerges(PipelineTokenizerSpec* spec) {
  absl::flat_hash_set<std::pair<std::string, std::string>> seen;
  std::vector<std::pair<std::string, std::string>> kept;
  for (auto it = spec->merges.rbegin(); it != spec->merges.rend(); ++it) {
    if (seen.insert(*it).second) kept.push_back(std::move(*it));
  }
  spec->merges.assign(std::make_move_iterator(kept.rbegin()), std::make_move_iterator(kept.rend()));
}

absl::Status ReadMerges(const JsonObject& model, PipelineTokenizerSpec* spec) {
  const auto merges = model.json().find("merges");
  if (merges == model.json().end() || !merges->is_array()) {
    return absl::InvalidArgumentError(absl::StrCat(model.where(), ": merges is no list"));
  }
  for (size_t i = 0; i < merges->size(); ++i) {
    const json& merge = (*merges)[i];
    if (merge.is_string() && merge.get_ref<const std::string&>().starts_with("#version")) continue;
    ASSIGN_OR_RETURN(auto pair, ReadMerge(merge, absl::StrCat(model.where(), ": merges[", i, "]")));
    spec->merges.push_back(std::move(pair));
  }
  DropRepeatedMerges(spec);
  return absl::OkStatus();
}

// Options that change tokens at random, or that byte-level and SentencePiece-like models leave off.
absl::Status CheckBpe(const JsonObject& model) {
  RETURN_IF_ERROR(CheckKeys(
      model, {"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
              "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges"}));
  for (const char* key : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) {
    const bool set =
        model.Has(key) && model.json()[key] != json("") && model.json()[key] != json(0);
    if (set) return absl::UnimplementedError(absl::StrCat(model.where(), ": ", key, " is set"));
  }
  return absl::OkStatus();
}

absl::Status ReadBpe(const JsonObject& root, const JsonObject& model, PipelineTokenizerSpec* spec) {
  RETURN_IF_ERROR(CheckBpe(model));
  RETURN_IF_ERROR(ReadVocab(model, spec));
  ASSIGN_OR_RETURN(spec->byte_fallback, model.Bool("byte_fallback", false));
  RETURN_IF_ERROR(ReadUnknown(root, model, spec));
  RETURN_IF_ERROR(ReadMerges(model, spec));
  ASSIGN_OR_RETURN(spec->ignore_merges, model.Bool("ignore_merges", false));
  return absl::OkStatus();
}

// "vocab" is a list of [text, score].
absl::Status ReadUnigram(const JsonObject& model, PipelineTokenizerSpec* spec) {
  RETURN_IF_ERROR(CheckKeys(model, {"type", "unk_id", "vocab", "byte_fallback"}));
  const auto vocab = model.json().find("vocab");
  if (vocab == model.json().end() || !vocab->is_array() || vocab->empty() ||
      vocab->size() > static_cast<size_t>(kVocabSizeMax)) {
    return absl::InvalidArgumentError(
        absl::StrCat(model.where(), ": vocab is no list of 1 to ", kVocabSizeMax, " entries"));
  }
  for (size_t id = 0; id < vocab->size(); ++id) {
    const json& entry = (*vocab)[id];
    const bool good = entry.is_array() && entry.size() == 2 && entry[0].is_string() &&
                      entry[0] != json("") && entry[1].is_number();
    if (!good) {
      return absl::InvalidArgumentError(
          absl::StrCat(model.where(), ": vocab[", id, "] is no text and score"));
    }
    spec->tokens.push_back(entry[0].get<std::string>());
    spec->scores.push_back(entry[1].get<double>());
  }
  ASSIGN_OR_RETURN(spec->byte_fallback, model.Bool("byte_fallback", false));
  ASSIGN_OR_RETURN(const int64_t unknown,
                   model.Int("unk_id", 0, static_cast<int64_t>(vocab->size()) - 1));
  spec->unknown = static_cast<TokenId>(unknown);
  return absl::OkStatus();
}

absl::Status ReadModel(const JsonObject& root, PipelineTokenizerSpec* spec) {
  ASSIGN_OR_RETURN(const JsonObject model, root.Object("model"));
  const std::string type_if_none = model.Has("merges") ? "BPE" : "";
  ASSIGN_OR_RETURN(const std::string type, model.String("type", type_if_none));
  if (type == "BPE") return ReadBpe(root, model, spec);
  if (type == "Unigram") return ReadUnigram(model, spec);
  return absl::UnimplementedError(absl::StrCat(model.where(), ": type \"", type.substr(0, 64),
                                               "\" (BPE and Unigram are supported)"));
}

// What is read is made, too, so that errors name the file.
absl::Status ReadParts(const JsonObject& root, PipelineTokenizerSpec* spec) {
  const auto part = [&](const char* name) {
    const auto it = root.json().find(name);
    return it == root.json().end() ? json() : *it;
  };
  const PartsJson parts = {part("normalizer"), part("pre_tokenizer"), part("decoder")};
  if (parts.decoder.is_null()) {
    return absl::UnimplementedError(absl::StrCat(
        root.where(), ": decoder null is not supported: texts of tokens between spaces"));
  }
  SetParts(parts, spec);
  return TokenizerParts::Make(*spec, root.where() + ": ").status();
}

absl::StatusOr<AddedToken> ReadAddedToken(const json& value, const std::string& where) {
  ASSIGN_OR_RETURN(const JsonObject object, JsonObject::From(value, where));
  RETURN_IF_ERROR(CheckKeys(
      object, {"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"}));
  AddedToken token;
  ASSIGN_OR_RETURN(const int64_t id, object.Int("id", 0, kVocabSizeMax - 1));
  token.id = static_cast<TokenId>(id);
  ASSIGN_OR_RETURN(token.text, object.String("content"));
  ASSIGN_OR_RETURN(token.single_word, object.Bool("single_word", false));
  ASSIGN_OR_RETURN(token.lstrip, object.Bool("lstrip", false));
  ASSIGN_OR_RETURN(token.rstrip, object.Bool("rstrip", false));
  ASSIGN_OR_RETURN(token.normalized, object.Bool("normalized", false));
  ASSIGN_OR_RETURN(token.special, object.Bool("special", false));
  return token;
}

absl::Status ReadAddedTokens(const JsonObject& root, PipelineTokenizerSpec* spec) {
  if (!root.Has("added_tokens")) return absl::OkStatus();
  const json& list = root.json()["added_tokens"];
  if (!list.is_array()) {
    return absl::InvalidArgumentError(absl::StrCat(root.where(), ": added_tokens is no list"));
  }
  std::vector<AddedToken> listed;
  for (size_t i = 0; i < list.size(); ++i) {
    const std::string where = absl::StrCat(root.where(), ": added_tokens[", i, "]");
    ASSIGN_OR_RETURN(AddedToken token, ReadAddedToken(list[i], where));
    if (!token.text.empty()) listed.push_back(std::move(token));
  }
  spec->added = PlaceAddedTokens(spec->tokens, std::move(listed));
  return absl::OkStatus();
}

absl::Status ReadConfig(const std::string& dir, PipelineTokenizerSpec* spec) {
  ASSIGN_OR_RETURN(TokenizerConfig config, ReadTokenizerConfig(dir));
  const auto find = [&](const std::string& text) { return FindToken(*spec, text); };
  ASSIGN_OR_RETURN(spec->bos, FindNamedToken(config, "bos_token", config.bos, find));
  ASSIGN_OR_RETURN(spec->eos, FindNamedToken(config, "eos_token", config.eos, find));
  spec->add_bos = config.add_bos.value_or(false);
  spec->chat_template = std::move(config.chat_template);
  spec->chat_variables = std::move(config.chat_variables);
  return absl::OkStatus();
}

// A token that the post-processor puts before a text is bos, whether or not the config names one.
absl::Status ReadFirstToken(const JsonObject& root, PipelineTokenizerSpec* spec) {
  ASSIGN_OR_RETURN(const std::optional<FirstToken> first, FirstTokenFromJson(root));
  if (!first) return absl::OkStatus();
  const std::optional<TokenId> id = FindToken(*spec, first->text);
  if (!id || id != first->id || (spec->bos && spec->bos != id)) {
    return absl::UnimplementedError(absl::StrCat(root.where(), ": post_processor puts \"",
                                                 first->text.substr(0, 64), "\" (id ", first->id,
                                                 ") first, which is not bos"));
  }
  spec->bos = id;
  spec->add_bos = true;
  return absl::OkStatus();
}

}  // namespace

// The `tokenizers` package gives added tokens their ids anew, whatever a file says: that of the
// same text, or the next one behind as many as the vocabulary has. Of several with one text the
// last counts, but each makes it special that is.
std::vector<AddedToken> PlaceAddedTokens(const std::vector<std::string>& tokens,
                                         std::vector<AddedToken> listed) {
  absl::flat_hash_map<std::string_view, TokenId> vocab;
  for (size_t id = 0; id < tokens.size(); ++id) {
    if (!tokens[id].empty()) vocab.emplace(tokens[id], static_cast<TokenId>(id));
  }
  auto next = static_cast<TokenId>(vocab.size());
  absl::flat_hash_map<std::string, TokenId> ids;
  absl::flat_hash_set<std::string> special;
  std::map<TokenId, AddedToken> placed;
  for (AddedToken& token : listed) {
    const auto in_vocab = vocab.find(token.text);
    const auto [it, is_new] =
        ids.try_emplace(token.text, in_vocab == vocab.end() ? next : in_vocab->second);
    if (is_new && in_vocab == vocab.end()) ++next;
    if (token.special) special.insert(token.text);
    token.id = it->second;
    placed[token.id] = std::move(token);
  }
  std::vector<AddedToken> out;
  for (auto& [id, token] : placed) {
    token.special = special.contains(token.text);
    out.push_back(std::move(token));
  }
  return out;
}

absl::StatusOr<PipelineTokenizerSpec> LoadPipelineSpec(const std::string& dir) {
  const std::string path = dir + "/tokenizer.json";
  ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(path, kTokenizerBytesMax));
  ASSIGN_OR_RETURN(const json parsed, ParseJson(text, path));
  ASSIGN_OR_RETURN(const JsonObject root, JsonObject::From(parsed, path));
  ASSIGN_OR_RETURN(const std::string version, root.String("version", "1.0"));
  if (version != "1.0") {
    return absl::UnimplementedError(
        absl::StrCat(path, ": version \"", version.substr(0, 64), "\" (1.0 is supported)"));
  }
  PipelineTokenizerSpec spec;
  RETURN_IF_ERROR(ReadModel(root, &spec));
  RETURN_IF_ERROR(ReadParts(root, &spec));
  RETURN_IF_ERROR(ReadAddedTokens(root, &spec));
  RETURN_IF_ERROR(ReadConfig(dir, &spec));
  RETURN_IF_ERROR(ReadFirstToken(root, &spec));
  return spec;
}

}  // namespace pregate
