// `pregate logits`: for list k of token ids, `k.logits` [n, vocab] f32 and, with a router,
// `k.router_logits` [n, E] f32 and `k.expert_ids` [n] i32.
#include <algorithm>
#include <iostream>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/offline.h"
#include "cli/progress.h"
#include "cli/read_file.h"
#include "common/base/json.h"
#include "common/base/status.h"
#include "common/model/formats/safetensors_writer.h"

namespace pregate::cli {
namespace {

absl::StatusOr<std::vector<TokenId>> ParseList(const nlohmann::json& list, size_t k) {
  std::vector<TokenId> tokens;
  if (list.is_array()) {
    for (const auto& id : list) {
      if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() > INT32_MAX) {
        return absl::InvalidArgumentError(
            absl::StrCat("--tokens: list ", k, " holds ", id.dump(), ", which is no token id"));
      }
      tokens.push_back(id.get<TokenId>());
    }
  }
  if (tokens.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("--tokens: entry ", k, " is no list of ids"));
  }
  return tokens;
}

absl::StatusOr<std::vector<std::vector<TokenId>>> ReadLists(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadTextFile("tokens", path));
  const std::string where = absl::StrCat("--tokens: '", path, "'");
  ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(text, where));
  if (!json.is_array()) {
    return absl::InvalidArgumentError(absl::StrCat(where, " is not a JSON list of lists of ids"));
  }
  std::vector<std::vector<TokenId>> lists;
  for (const auto& entry : json) {
    ASSIGN_OR_RETURN(std::vector<TokenId> tokens, ParseList(entry, lists.size()));
    lists.push_back(std::move(tokens));
  }
  return lists;
}

void AddTensors(const TokenLogits& logits, size_t k, int64_t num_tokens,
                std::vector<OutputTensor>* out) {
  const auto add = [&](const char* name, const std::vector<float>& values) {
    const int64_t width = static_cast<int64_t>(values.size()) / num_tokens;
    out->push_back(FloatTensor(absl::StrCat(k, ".", name), {num_tokens, width}, values));
  };
  add("logits", logits.logits);
  if (logits.router_logits.empty()) return;
  add("router_logits", logits.router_logits);
  out->push_back(IntTensor(absl::StrCat(k, ".expert_ids"), {num_tokens}, logits.routes));
}

absl::Status WriteLogits(const OfflineFlags& flags, const std::string& tokens_path,
                         const std::string& out) {
  ASSIGN_OR_RETURN(const auto lists, ReadLists(tokens_path));
  size_t longest = 0;
  for (const auto& list : lists) longest = std::max(longest, list.size());
  ASSIGN_OR_RETURN(auto loaded, LoadOffline(flags, longest));
  ProgressLine progress("logits", flags.as_json);
  std::vector<OutputTensor> tensors;
  for (size_t k = 0; k < lists.size(); ++k) {
    ASSIGN_OR_RETURN(const TokenLogits logits, loaded->model->Logits(lists[k]));
    AddTensors(logits, k, static_cast<int64_t>(lists[k].size()), &tensors);
    progress.Update(k + 1, lists.size());
  }
  return WriteSafetensors(out, tensors);
}

}  // namespace

int Logits(int argc, const char* const* argv) {
  OfflineFlags flags;
  std::string tokens, out;
  OptionSet options("pregate logits",
                    "Writes logits, router logits and expert ids of token lists.");
  DeclareOfflineFlags(options, &flags);
  DeclareExpertFlag(options, &flags);
  options.String("tokens", &tokens, "JSON file: a list of lists of token ids").Required();
  options.String("out", &out, "safetensors file to write").Required();
  PARSE_OPTIONS_OR_RETURN(options, "logits", argc, argv);
  if (absl::Status s = WriteLogits(flags, tokens, out); !s.ok()) return Fail("logits", s);
  if (flags.as_json) {
    PrintJson({{"out", out}});
  } else {
    std::cerr << "wrote " << out << "\n";
  }
  return kExitOk;
}

}  // namespace pregate::cli
