// `pregate eval ppl`: the file's ids cut into windows without overlap, the last partial one
// dropped, each window predicting its ids 2 .. context.
#include <algorithm>
#include <cmath>
#include <iostream>
#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "cli/command.h"
#include "cli/offline.h"
#include "cli/progress.h"
#include "cli/read_file.h"
#include "common/base/status.h"

namespace pregate::cli {
namespace {

struct Perplexity {
  int64_t tokens = 0;  // predicted
  double nll = 0;      // mean, nats
  // Of an MoE; without experts the first is empty.
  std::vector<int64_t> expert_tokens;  // [experts]
  int64_t tokens_with_previous = 0, tokens_keeping_route = 0;
};

void CountRoutes(const std::vector<ExpertId>& routes, Perplexity& result) {
  for (size_t i = 0; i < routes.size(); ++i) {
    ++result.expert_tokens[routes[i]];
    result.tokens_with_previous += i > 0;
    result.tokens_keeping_route += i > 0 && routes[i] == routes[i - 1];
  }
}

std::vector<ScoreRequest> Windows(const std::vector<TokenId>& ids, int32_t context,
                                  int32_t windows_max) {
  std::vector<ScoreRequest> windows;
  for (size_t at = 0; at + context <= ids.size(); at += context) {
    if (windows_max > 0 && static_cast<int32_t>(windows.size()) == windows_max) break;
    windows.push_back({{ids.begin() + at, ids.begin() + at + context}, 1});
  }
  return windows;
}

absl::StatusOr<Perplexity> Measure(const OfflineFlags& flags, const std::string& text_path,
                                   int32_t context, int32_t windows_max) {
  ASSIGN_OR_RETURN(const std::string text, ReadTextFile("text", text_path));
  ASSIGN_OR_RETURN(auto loaded, LoadOffline(flags, context));
  ASSIGN_OR_RETURN(const auto tokenizer, loaded->checkpoint->LoadTokenizer());
  const std::vector<ScoreRequest> windows = Windows(tokenizer->Encode(text), context, windows_max);
  if (windows.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--text: '", text_path, "' has fewer than ", context, " tokens"));
  }
  ProgressLine progress("windows", flags.as_json);
  ASSIGN_OR_RETURN(const auto scores, loaded->model->Score(windows, [&](int done) {
    progress.Update(done, windows.size());
  }));
  Perplexity result;
  result.expert_tokens.resize(loaded->checkpoint->spec().num_experts);
  for (const TokenScores& window : scores) {
    for (const float logprob : window.logprobs) result.nll -= logprob;
    result.tokens += window.logprobs.size();
    CountRoutes(window.routes, result);
  }
  result.nll /= result.tokens;
  return result;
}

void Print(const Perplexity& result, bool as_json) {
  const double ppl = std::exp(result.nll);
  const double kept = static_cast<double>(result.tokens_keeping_route) /
                      std::max<int64_t>(1, result.tokens_with_previous);
  if (as_json) {
    nlohmann::json json = {{"tokens", result.tokens}, {"nll", result.nll}, {"ppl", ppl}};
    if (!result.expert_tokens.empty()) {
      json["expert_tokens"] = result.expert_tokens;
      json["kept_routes"] = kept;
    }
    PrintJson(json);
    return;
  }
  std::cout << absl::StrFormat("%d tokens, nll %.4f, perplexity %.3f\n", result.tokens, result.nll,
                               ppl);
  if (result.expert_tokens.empty()) return;
  std::cout << absl::StrFormat("tokens by expert %s; %.1f%% keep the route of the one before\n",
                               absl::StrJoin(result.expert_tokens, " "), 100 * kept);
}

}  // namespace

int EvalPpl(int argc, const char* const* argv) {
  OfflineFlags flags;
  std::string text;
  int32_t context = 512, windows_max = 0;
  OptionSet options("pregate eval ppl", "Perplexity of a text file.");
  DeclareOfflineFlags(options, &flags);
  DeclareExpertFlag(options, &flags);
  options.String("text", &text, "UTF-8 text").Required();
  options.Int("context", &context, 2, 1 << 20, "tokens", "length of a window");
  options.Int("windows-max", &windows_max, 0, 1 << 30, "windows", "stop after these; 0: all");
  PARSE_OPTIONS_OR_RETURN(options, "eval ppl", argc, argv);
  const auto result = Measure(flags, text, context, windows_max);
  if (!result.ok()) return Fail("eval ppl", result.status());
  Print(*result, flags.as_json);
  return kExitOk;
}

}  // namespace pregate::cli
