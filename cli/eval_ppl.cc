// `pregate eval ppl`: the file's ids cut into windows without overlap, the last partial one
// dropped, each window predicting its ids 2 .. context.
#include <cmath>
#include <iostream>
#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"
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
};

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
  ASSIGN_OR_RETURN(auto loaded, LoadOffline(flags));
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
  for (const TokenScores& window : scores) {
    for (const float logprob : window.logprobs) result.nll -= logprob;
    result.tokens += window.logprobs.size();
  }
  result.nll /= result.tokens;
  return result;
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
  const double ppl = std::exp(result->nll);
  if (flags.as_json) {
    PrintJson({{"tokens", result->tokens}, {"nll", result->nll}, {"ppl", ppl}});
  } else {
    std::cout << absl::StrFormat("%d tokens, nll %.4f, perplexity %.3f\n", result->tokens,
                                 result->nll, ppl);
  }
  return kExitOk;
}

}  // namespace pregate::cli
