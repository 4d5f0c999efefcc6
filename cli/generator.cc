#include "cli/generator.h"

#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace pregate::cli {
namespace {

constexpr absl::Duration kRateSpanMin = absl::Milliseconds(1);

}  // namespace

GenerateChoice& ChoiceOf(GenerateOutcome* outcome, int32_t index) {
  if (index == 0) return *outcome;
  if (outcome->others.size() < static_cast<size_t>(index)) outcome->others.resize(index);
  return outcome->others[index - 1];
}

std::vector<ChatMessage> Conversation(const GenerateJob& job) {
  if (job.messages.empty() && job.chat) return {{"user", job.prompt}};
  return job.messages;
}

std::string SummaryText(const GenerateOutcome& o) {
  const std::string rate = o.tokens_per_s ? absl::StrFormat("%.1f", *o.tokens_per_s) : "-";
  return absl::StrFormat(
      "prompt %d tokens · answer %d tokens (%s) · TTFT %.1f ms · %s tokens/s · seed %d",
      o.prompt_tokens, o.ids.size(), o.finish_reason, o.ttft_s * 1e3, rate, o.seed);
}

std::string RoutesText(const GenerateOutcome& outcome) {
  std::vector<ExpertId> all = outcome.prompt_routes;
  all.insert(all.end(), outcome.routes.begin(), outcome.routes.end());
  if (all.empty()) return "";
  std::string text = "routes (prompt | answer): ";
  for (size_t i = 0; i < all.size(); ++i) {
    absl::StrAppend(&text, i == outcome.prompt_routes.size() ? "|" : "", all[i]);
  }
  size_t changes = 0;
  for (size_t i = 1; i < all.size(); ++i) changes += all[i] != all[i - 1];
  absl::StrAppendFormat(
      &text, "\nexperts used: %d · expert changed %d times in %d tokens (%.0f%% kept)",
      std::set<ExpertId>(all.begin(), all.end()).size(), changes, all.size(),
      all.size() > 1 ? 100.0 * (all.size() - 1 - changes) / (all.size() - 1) : 100.0);
  return text;
}

void TokenTimer::Add(size_t num_tokens) {
  if (num_tokens == 0) return;
  last_ = absl::Now();
  if (num_tokens_ == 0) {
    first_ = last_;
    num_first_ = num_tokens;
  }
  num_tokens_ += num_tokens;
}

void TokenTimer::Report(GenerateOutcome* outcome) const {
  if (num_tokens_ == 0) return;
  outcome->ttft_s = absl::ToDoubleSeconds(first_ - start_);
  if (last_ - first_ < kRateSpanMin) return;
  outcome->tokens_per_s =
      static_cast<double>(num_tokens_ - num_first_) / absl::ToDoubleSeconds(last_ - first_);
}

}  // namespace pregate::cli
