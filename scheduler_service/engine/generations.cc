#include "scheduler_service/engine/generations.h"

#include <algorithm>
#include <numeric>
#include <utility>
#include <variant>

namespace pregate {
namespace {

template <typename T>
void Append(const std::vector<T>& from, std::vector<T>* to) {
  to->insert(to->end(), from.begin(), from.end());
}

}  // namespace

bool Generations::Submit(GenerateRequest request) {
  const int32_t count = std::max({request.n, request.best_of, 1});
  n_ = std::max(request.n, 1);
  holds_ = request.best_of > n_;
  drops_logprobs_ = holds_ && !request.logprobs;
  if (holds_) request.logprobs = request.logprobs.value_or(0);
  {
    absl::MutexLock lock(&mutex_);
    choices_.resize(count);
  }
  if (count == 1) return SubmitOne(0, std::move(request));
  seed_ = *request.seed;
  for (int32_t index = 0; index < count; ++index) {
    GenerateRequest one = request;
    one.seed = SeedOfChoice(seed_, index);
    if (index > 0) one.prompt_logprobs = std::nullopt;  // they are the same
    if (!SubmitOne(index, std::move(one))) return false;
  }
  return true;
}

bool Generations::SubmitOne(int32_t index, GenerateRequest request) {
  const LinkId link = engine_.Attach(
      [self = shared_from_this(), index](const ToClient& message) { self->Take(index, message); });
  {
    absl::MutexLock lock(&links_mutex_);
    links_.push_back(link);
  }
  if (engine_.Submit(link, std::move(request))) return true;
  Send over;  // ends outside of the lock
  {
    absl::MutexLock lock(&mutex_);
    ended_ = true;
    over = std::move(send_);
  }
  Detach();
  return false;
}

void Generations::Detach() {
  std::vector<LinkId> links;
  {
    absl::MutexLock lock(&links_mutex_);
    links = links_;
  }
  for (const LinkId link : links) engine_.Detach(link);
}

void Generations::Take(int32_t index, const ToClient& message) {
  bool others_go_on = false;
  Send over;  // ends outside of the lock
  {
    absl::MutexLock lock(&mutex_);
    if (ended_) {
      // Should the engine's inbox have been full when it was told.
      others_go_on = !std::holds_alternative<DoneInfo>(message);
    } else if (index == 0 && !holds_ && std::holds_alternative<TokensOut>(message)) {
      return send_(message);  // as it is: there is one a token
    } else {
      std::visit([&](const auto& m) { TakeOne(index, m); }, message);
      if (!ended_) return;
      others_go_on = num_done_ < choices_.size();
      over = std::move(send_);
    }
  }
  if (others_go_on) Detach();
}

void Generations::TakeOne(int32_t index, const StartInfo& info) {
  if (std::exchange(started_, true)) return;
  StartInfo start = info;
  if (choices_.size() > 1) start.seed = seed_;
  send_(start);
}

void Generations::TakeOne(int32_t index, const PromptOut& out) { send_(out); }

void Generations::TakeOne(int32_t index, const TokensOut& out) {
  if (!holds_) {
    TokensOut indexed = out;
    indexed.index = index;
    return send_(std::move(indexed));
  }
  Choice& choice = choices_[index];
  Append(out.tokens, &choice.held.tokens);
  Append(out.routes, &choice.held.routes);
  choice.held.text += out.text;
  for (const auto& logprobs : out.logprobs) {
    if (!logprobs.empty()) choice.sum_logprobs += logprobs[0].logprob;
  }
  if (!drops_logprobs_) Append(out.logprobs, &choice.held.logprobs);
}

void Generations::TakeOne(int32_t index, const DoneInfo& info) {
  if (!info.status.ok() || choices_.size() == 1) {
    ended_ = true;
    ++num_done_;
    return send_(info);
  }
  choices_[index].done = info;
  if (!holds_) SendEnd(index, choices_[index]);
  if (++num_done_ < choices_.size()) return;
  if (holds_) return SendBest();
  EndAll(choices_[0]);
}

void Generations::SendEnd(int32_t index, const Choice& choice) {
  const auto drawn_as = static_cast<int32_t>(&choice - choices_.data());
  send_(ChoiceDone{.index = index,
                   .reason = choice.done->reason,
                   .stop_string = choice.done->stop_string,
                   .generated_tokens = choice.done->generated_tokens,
                   .seed = SeedOfChoice(seed_, drawn_as)});
}

void Generations::SendBest() {
  std::vector<Choice*> ranked;
  for (Choice& choice : choices_) ranked.push_back(&choice);
  std::stable_sort(ranked.begin(), ranked.end(), [](const Choice* a, const Choice* b) {
    return a->mean_logprob() > b->mean_logprob();
  });
  for (int32_t index = 0; index < n_; ++index) {
    Choice& choice = *ranked[index];
    choice.held.index = index;
    send_(std::move(choice.held));
    SendEnd(index, choice);
  }
  EndAll(*ranked[0]);
}

void Generations::EndAll(const Choice& first) {
  DoneInfo all = *first.done;
  all.generated_tokens = all.draft_tokens = all.accepted_tokens = all.preemptions = 0;
  for (const Choice& choice : choices_) {
    const DoneInfo& one = *choice.done;
    all.generated_tokens += one.generated_tokens;
    all.draft_tokens += one.draft_tokens;
    all.accepted_tokens += one.accepted_tokens;
    all.preemptions += one.preemptions;
    all.cached_tokens = std::min(all.cached_tokens, one.cached_tokens);
    all.queue_time = std::max(all.queue_time, one.queue_time);
    all.route_time = std::max(all.route_time, one.route_time);
    all.ttft = std::min(all.ttft, one.ttft);
    all.total = std::max(all.total, one.total);
    all.first_row = std::min(all.first_row, one.first_row);
    all.token_gap = std::max(all.token_gap, one.token_gap);
  }
  ended_ = true;
  send_(all);
}

}  // namespace pregate
