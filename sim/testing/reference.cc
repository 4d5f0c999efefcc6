#include "sim/testing/reference.h"

#include <algorithm>

namespace pregate::scheduler {

NaiveMatch FindStop(const std::string& text, const std::vector<std::string>& stops) {
  for (size_t end = 1; end <= text.size(); ++end) {
    NaiveMatch match;
    for (const std::string& stop : stops) {
      const bool ends_here =
          stop.size() <= end && text.compare(end - stop.size(), stop.size(), stop) == 0;
      if (ends_here && stop.size() > match.stop.size()) match = {stop, end - stop.size()};
    }
    if (match.begin != std::string::npos) return match;
  }
  return {};
}

ReferenceAnswer Generate(const FakeModel& model, const LetterTokenizer& tokenizer,
                         const GenerateRequest& request) {
  ReferenceAnswer answer;
  FakeModel::State state;
  for (TokenId token : request.prompt) {
    answer.prompt_logprobs.push_back(model.LogprobOf(state, token));
    answer.prompt_routes.push_back(model.RouteOf(state, token));
    state = model.After(state, token, answer.prompt_routes.back());
  }
  answer.prompt_logprobs.erase(answer.prompt_logprobs.begin());
  const int32_t prompt_len = static_cast<int32_t>(request.prompt.size());
  std::vector<TokenId> stop_tokens = request.stop_tokens;
  if (!request.ignore_eos) stop_tokens.push_back(tokenizer.StopTokens()[0]);
  IncrementalDecoder decoder(tokenizer);
  bool ended = false;
  size_t unscanned = 0;  // bytes of the text in which no stop string is looked for
  while (!ended) {
    const auto generated = static_cast<int32_t>(answer.tokens.size());
    const bool early = generated < request.min_tokens;
    const TokenId token =
        model.SampleAt(state, prompt_len + generated,
                       *request.seed + (request.sampling.counts_tokens() ? generated : 0),
                       early ? stop_tokens : std::vector<TokenId>());
    answer.tokens.push_back(token);
    answer.logprobs.push_back(model.LogprobOf(state, token));
    answer.routes.push_back(model.RouteOf(state, token));
    state = model.After(state, token, answer.routes.back());
    ended = true;
    if (std::find(stop_tokens.begin(), stop_tokens.end(), token) != stop_tokens.end()) {
      answer.reason = FinishReason::kStopToken;
      answer.text += decoder.Finish();
    } else {
      answer.text += decoder.Add(token);
      if (early) unscanned = answer.text.size();
      if (static_cast<int32_t>(answer.tokens.size()) == *request.max_tokens) {
        answer.reason = FinishReason::kLength;
        if (FindStop(answer.text.substr(unscanned), request.stop_strings).stop.empty())
          answer.text += decoder.Finish();
      } else {
        ended = false;
      }
    }
    if (early) unscanned = answer.text.size();
    const NaiveMatch match = FindStop(answer.text.substr(unscanned), request.stop_strings);
    if (match.stop.empty()) continue;
    ended = true;
    answer.reason = FinishReason::kStopString;
    answer.stop_string = match.stop;
    answer.text.resize(unscanned + match.begin);
  }
  return answer;
}

}  // namespace pregate::scheduler
