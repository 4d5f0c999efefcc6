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
    answer.prompt_routes.push_back(model.RouteOf(state, token));
    state = model.After(state, token, answer.prompt_routes.back());
  }
  const int32_t prompt_len = static_cast<int32_t>(request.prompt.size());
  std::vector<TokenId> stop_tokens = request.stop_tokens;
  if (!request.ignore_eos) stop_tokens.push_back(tokenizer.StopTokens()[0]);
  IncrementalDecoder decoder(tokenizer);
  bool ended = false;
  while (!ended) {
    const int32_t position = prompt_len + static_cast<int32_t>(answer.tokens.size());
    const TokenId token = model.SampleAt(state, position, *request.seed);
    answer.tokens.push_back(token);
    answer.routes.push_back(model.RouteOf(state, token));
    state = model.After(state, token, answer.routes.back());
    ended = true;
    if (std::find(stop_tokens.begin(), stop_tokens.end(), token) != stop_tokens.end()) {
      answer.reason = FinishReason::kStopToken;
      answer.text += decoder.Finish();
    } else {
      answer.text += decoder.Add(token);
      if (static_cast<int32_t>(answer.tokens.size()) == *request.max_tokens) {
        answer.reason = FinishReason::kLength;
        if (FindStop(answer.text, request.stop_strings).stop.empty())
          answer.text += decoder.Finish();
      } else {
        ended = false;
      }
    }
    const NaiveMatch match = FindStop(answer.text, request.stop_strings);
    if (match.stop.empty()) continue;
    ended = true;
    answer.reason = FinishReason::kStopString;
    answer.stop_string = match.stop;
    answer.text.resize(match.begin);
  }
  return answer;
}

}  // namespace pregate::scheduler
