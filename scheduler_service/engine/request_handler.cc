#include "scheduler_service/engine/request_handler.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace pregate::scheduler {
namespace {

absl::Duration Between(absl::Time from, absl::Time to) {
  return from == absl::InfinitePast() || to == absl::InfinitePast() ? absl::ZeroDuration()
                                                                    : to - from;
}

// What may come next, for the plan.
void FillMask(LiveRequest* request) {
  Sequence& s = request->sequence;
  s.allowed.resize(request->matcher->trie().mask_words());
  request->matcher->FillMask(absl::MakeSpan(s.allowed), s.num_generated() >= s.min_tokens);
}

}  // namespace

RequestHandler::RequestHandler(const Tokenizer* tokenizer, RandomSource* random,
                               SchedulerObserver* observer, int32_t queue_max)
    : tokenizer_(tokenizer),
      random_(random),
      observer_(observer),
      queue_max_(queue_max),
      model_stop_tokens_(tokenizer->StopTokens()) {}

LiveRequest* RequestHandler::Admit(SubmitEvent event, const WorkerFacts& cell, absl::Time now) {
  const absl::StatusOr<int32_t> max_tokens = Check(event, cell, now);
  if (!max_tokens.ok()) {
    Refuse(event.send, max_tokens.status(), now);
    return nullptr;
  }
  return table_.Add(Make(std::move(event), *max_tokens, cell, now));
}

absl::StatusOr<int32_t> RequestHandler::Check(const SubmitEvent& event, const WorkerFacts& cell,
                                              absl::Time now) {
  if (table_.FindByLink(event.link)) {
    return absl::InternalError(absl::StrCat("link ", event.link, " is in use"));
  }
  if (event.request.deadline <= now)
    return absl::DeadlineExceededError("the deadline has passed before admission");
  ASSIGN_OR_RETURN(const int32_t max_tokens, CheckRequest(event.request, cell));
  RETURN_IF_ERROR(CheckQueue(table_.QueueOf(event.request.client), queue_max_));
  return max_tokens;
}

std::unique_ptr<LiveRequest> RequestHandler::Make(SubmitEvent event, int32_t max_tokens,
                                                  const WorkerFacts& cell, absl::Time now) {
  GenerateRequest& request = event.request;
  TokenOutput::Rules rules;
  rules.stop_strings = std::move(request.stop_strings);
  rules.stop_tokens = std::move(request.stop_tokens);
  rules.max_tokens = max_tokens;
  rules.shown_token = std::move(request.shown_token);
  rules.min_tokens = request.min_tokens;
  if (!request.ignore_eos) {
    rules.stop_tokens.insert(rules.stop_tokens.end(), model_stop_tokens_.begin(),
                             model_stop_tokens_.end());
  }
  std::vector<TokenId> end_tokens = rules.stop_tokens;
  std::sort(end_tokens.begin(), end_tokens.end());
  end_tokens.erase(std::unique(end_tokens.begin(), end_tokens.end()), end_tokens.end());
  auto live = std::make_unique<LiveRequest>(*tokenizer_, std::move(rules));
  Sequence& s = live->sequence;
  s.id = next_id_++;
  s.client = request.client;
  s.priority = request.priority;
  s.turn = turns_[s.priority].Next(s.client);
  s.prompt_len = static_cast<int32_t>(request.prompt.size());
  s.max_len = s.prompt_len + max_tokens;
  s.dense = cell.num_experts == 0;
  s.no_drafts = request.no_drafts;
  s.sampling = request.sampling;
  s.logit_bias = std::move(request.logit_bias);
  s.min_tokens = request.min_tokens;
  s.end_tokens = std::move(end_tokens);
  s.logprobs = request.logprobs.value_or(-1);
  // Who resumes with tokens has the prompt's, which came before them.
  if (request.prompt_logprobs && request.resume_tokens.empty()) {
    s.prompt_logprobs = *request.prompt_logprobs;
    s.score_end = s.prompt_len - 1;
  }
  s.seed = request.seed ? *request.seed : random_->Next();
  s.empty_prefix = EmptyPrefix(cell.model_digest, request.tenant);
  s.traceparent = std::move(request.traceparent);
  s.tokens = std::move(request.prompt);
  s.tokens.insert(s.tokens.end(), request.resume_tokens.begin(), request.resume_tokens.end());
  s.routes.assign(s.tokens.size(), kNoRoute);
  s.RecordRoutes(s.prompt_len, request.resume_routes);
  if (request.grammar != nullptr) {
    s.masked = true;
    live->matcher.emplace(std::move(request.grammar));
  }
  live->link = event.link;
  live->send = std::move(event.send);
  live->deadline = request.deadline;
  live->num_delivered = s.num_tokens();
  live->accepted = now;
  return live;
}

absl::StatusOr<std::optional<FinishReason>> RequestHandler::ReplayResumed(LiveRequest* request) {
  const Sequence& s = request->sequence;
  for (int32_t i = s.prompt_len; i < s.num_tokens(); ++i) {
    const auto reason = request->output.Accept(s.tokens[i]);
    if (reason == FinishReason::kStopToken && request->matcher && !request->matcher->CanEnd()) {
      return absl::InvalidArgumentError("resume_tokens end before the constraint allows it");
    }
    if (reason) return reason;
    RETURN_IF_ERROR(Follow(request, s.tokens[i], i - s.prompt_len));
  }
  request->output.TakeText();  // the client has it
  if (request->matcher) FillMask(request);
  return std::nullopt;
}

absl::Status RequestHandler::Follow(LiveRequest* request, TokenId token, int32_t index) {
  if (!request->matcher) return absl::OkStatus();
  const std::string_view bytes = tokenizer_->TokenBytes(token);
  if (!bytes.empty() && request->matcher->Advance(bytes)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("token ", token, ", generated as number ", index,
                                                 ", is not what the constraint allows"));
}

absl::Status RequestHandler::Constrain(LiveRequest* request) {
  if (!request->matcher) return absl::OkStatus();
  const Sequence& s = request->sequence;
  RETURN_IF_ERROR(Follow(request, s.tokens.back(), s.num_generated() - 1));
  FillMask(request);
  return absl::OkStatus();
}

void RequestHandler::Start(LiveRequest* request, const WorkerFacts& cell) {
  if (std::exchange(request->started, true)) return;
  const Sequence& s = request->sequence;
  StartInfo info;
  info.seed = s.seed;
  info.model_digest = cell.model_digest;
  info.numerics_id = cell.numerics_id;
  info.prompt_tokens = s.prompt_len;
  if (!s.dense) info.prompt_routes.assign(s.routes.begin(), s.routes.begin() + s.prompt_len);
  request->send(std::move(info));
  DeliverPrompt(request);
}

void RequestHandler::DeliverPrompt(LiveRequest* request) {
  if (!request->started || request->prompt_logprobs.empty()) return;
  PromptOut out;
  out.position = request->prompt_delivered + 1;
  out.logprobs = std::exchange(request->prompt_logprobs, {});
  request->prompt_delivered += static_cast<int32_t>(out.logprobs.size());
  request->send(std::move(out));
}

void RequestHandler::Enter(LiveRequest* request, absl::Time now) {
  turns_[request->sequence.priority].Entered(request->sequence.turn);
  if (request->first_row == absl::InfinitePast()) request->first_row = now;
}

void RequestHandler::Deliver(LiveRequest* request, absl::Time now) {
  const Sequence& s = request->sequence;
  if (request->num_delivered == s.num_tokens()) return;
  TokensOut out;
  out.tokens.assign(s.tokens.begin() + request->num_delivered, s.tokens.end());
  out.routes.assign(s.routes.begin() + request->num_delivered, s.routes.end());
  out.logprobs = std::exchange(request->logprobs, {});
  out.text = request->output.TakeText();
  request->num_delivered = s.num_tokens();
  if (request->first_token == absl::InfinitePast()) {
    request->first_token = now;
    observer_->OnFirstToken(now - request->accepted);
  } else {
    observer_->OnNextTokens(now - request->last_token, out.tokens.size());
    request->tokens_after_first += static_cast<int32_t>(out.tokens.size());
  }
  request->last_token = now;
  request->send(std::move(out));
}

void RequestHandler::Close(LiveRequest* request, absl::Status status, FinishReason reason,
                           absl::Time now) {
  const std::unique_ptr<LiveRequest> r = table_.Take(request->sequence.id);
  DoneInfo info;
  info.status = std::move(status);
  info.reason = reason;
  info.stop_string = r->output.stop_string().value_or("");
  info.prompt_tokens = r->sequence.prompt_len;
  info.generated_tokens = r->sequence.num_generated();
  info.cached_tokens = std::clamp(r->sequence.reused, 0, r->sequence.prompt_len);
  info.preemptions = r->sequence.preemptions;
  info.draft_tokens = r->draft_tokens;
  info.accepted_tokens = r->accepted_tokens;
  info.route_time = Between(r->accepted, r->routed);
  info.queue_time = Between(r->enqueued, r->first_row);
  info.ttft = Between(r->accepted, r->first_token);
  info.total = now - r->accepted;
  info.first_row = Between(r->accepted, r->first_row);
  if (r->tokens_after_first > 0) {
    info.token_gap = (r->last_token - r->first_token) / r->tokens_after_first;
  }
  retry_after_.RequestLeft(now);
  observer_->OnDone(info);
  r->send(std::move(info));
}

void RequestHandler::Refuse(const std::function<void(ToClient)>& send, absl::Status status,
                            absl::Time now) {
  DoneInfo info;
  info.reason = absl::IsDeadlineExceeded(status) ? FinishReason::kDeadline : FinishReason::kError;
  if (absl::IsResourceExhausted(status)) info.retry_after = retry_after_.Estimate();
  info.status = std::move(status);
  observer_->OnDone(info);
  send(std::move(info));
}

}  // namespace pregate::scheduler
