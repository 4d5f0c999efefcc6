#include "scheduler_service/engine/request_desk.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace pregate::scheduler {
namespace {

AdmissionRequest FieldsOf(const GenerateRequest& request) {
  AdmissionRequest fields;
  fields.prompt = request.prompt;
  fields.resume_tokens = request.resume_tokens;
  fields.resume_routes = request.resume_routes;
  fields.max_tokens = request.max_tokens;
  fields.sampling = request.sampling;
  fields.stop_strings = request.stop_strings;
  fields.stop_tokens = request.stop_tokens;
  return fields;
}

absl::Duration Between(absl::Time from, absl::Time to) {
  return from == absl::InfinitePast() || to == absl::InfinitePast() ? absl::ZeroDuration()
                                                                    : to - from;
}

}  // namespace

RequestDesk::RequestDesk(const Tokenizer* tokenizer, RandomSource* random, EngineObserver* observer)
    : tokenizer_(tokenizer),
      random_(random),
      observer_(observer),
      model_stop_tokens_(tokenizer->StopTokens()) {}

LiveRequest* RequestDesk::Admit(SubmitEvent event, const AdmissionLimits& limits, absl::Time now) {
  const absl::StatusOr<int32_t> max_tokens = Check(event, limits, now);
  if (!max_tokens.ok()) {
    Refuse(event.sink.get(), max_tokens.status(), now);
    return nullptr;
  }
  return table_.Add(Make(std::move(event), *max_tokens, limits.num_experts == 0, now));
}

absl::StatusOr<int32_t> RequestDesk::Check(const SubmitEvent& event, const AdmissionLimits& limits,
                                           absl::Time now) {
  if (table_.FindByClient(event.client_key)) {
    return absl::InternalError(absl::StrCat("client_key ", event.client_key, " is in use"));
  }
  if (event.request.deadline <= now)
    return absl::DeadlineExceededError("the deadline has passed before admission");
  ASSIGN_OR_RETURN(const int32_t max_tokens, CheckRequest(FieldsOf(event.request), limits));
  RETURN_IF_ERROR(CheckQueue(table_.QueueOf(event.request.connection), limits));
  return max_tokens;
}

std::unique_ptr<LiveRequest> RequestDesk::Make(SubmitEvent event, int32_t max_tokens, bool dense,
                                               absl::Time now) {
  GenerateRequest& request = event.request;
  TokenOutput::Rules rules;
  rules.stop_strings = std::move(request.stop_strings);
  rules.stop_tokens = std::move(request.stop_tokens);
  rules.max_tokens = max_tokens;
  if (!request.ignore_eos) {
    rules.stop_tokens.insert(rules.stop_tokens.end(), model_stop_tokens_.begin(),
                             model_stop_tokens_.end());
  }
  auto live = std::make_unique<LiveRequest>(*tokenizer_, std::move(rules));
  Sequence& s = live->sequence;
  s.id = next_id_++;
  s.connection = request.connection;
  s.turn = turns_.Next(request.connection);
  s.prompt_len = static_cast<int32_t>(request.prompt.size());
  s.max_len = s.prompt_len + max_tokens;
  s.dense = dense;
  s.sampling = request.sampling;
  s.seed = request.seed ? *request.seed : random_->Next();
  s.tokens = std::move(request.prompt);
  s.tokens.insert(s.tokens.end(), request.resume_tokens.begin(), request.resume_tokens.end());
  s.routes.assign(s.tokens.size(), kNoRoute);
  s.RecordRoutes(s.prompt_len, request.resume_routes);
  live->client_key = event.client_key;
  live->sink = std::move(event.sink);
  live->deadline = request.deadline;
  live->num_delivered = s.num_tokens();
  live->accepted = now;
  return live;
}

std::optional<FinishReason> RequestDesk::ReplayResumed(LiveRequest* request) {
  const Sequence& s = request->sequence;
  for (int32_t i = s.prompt_len; i < s.num_tokens(); ++i) {
    if (const auto reason = request->output.Accept(s.tokens[i])) return reason;
  }
  request->output.TakeText();  // the client has it
  return std::nullopt;
}

void RequestDesk::Start(LiveRequest* request, const std::string& model_digest,
                        const std::string& numerics_id) {
  if (std::exchange(request->started, true)) return;
  const Sequence& s = request->sequence;
  StartInfo info;
  info.seed = s.seed;
  info.model_digest = model_digest;
  info.numerics_id = numerics_id;
  info.prompt_tokens = s.prompt_len;
  if (!s.dense) info.prompt_routes.assign(s.routes.begin(), s.routes.begin() + s.prompt_len);
  request->sink->OnStart(info);
}

void RequestDesk::Enter(LiveRequest* request, absl::Time now) {
  turns_.Entered(request->sequence.turn);
  if (request->first_row == absl::InfinitePast()) request->first_row = now;
}

void RequestDesk::Deliver(LiveRequest* request, absl::Time now) {
  const Sequence& s = request->sequence;
  if (request->num_delivered == s.num_tokens()) return;
  TokensOut out;
  out.tokens.assign(s.tokens.begin() + request->num_delivered, s.tokens.end());
  out.routes.assign(s.routes.begin() + request->num_delivered, s.routes.end());
  out.text = request->output.TakeText();
  request->num_delivered = s.num_tokens();
  if (request->first_token == absl::InfinitePast()) {
    request->first_token = now;
    observer_->OnFirstToken(now - request->accepted);
  } else {
    observer_->OnNextToken(now - request->last_token);
  }
  request->last_token = now;
  request->sink->OnTokens(out);
}

void RequestDesk::Close(LiveRequest* request, absl::Status status, FinishReason reason,
                        absl::Time now) {
  const std::unique_ptr<LiveRequest> r = table_.Take(request->sequence.id);
  DoneInfo info;
  info.status = std::move(status);
  info.reason = reason;
  info.stop_string = r->output.stop_string().value_or("");
  info.prompt_tokens = r->sequence.prompt_len;
  info.generated_tokens = r->sequence.num_generated();
  info.preemptions = r->sequence.preemptions;
  info.route_time = Between(r->accepted, r->routed);
  info.queue_time = Between(r->enqueued, r->first_row);
  info.ttft = Between(r->accepted, r->first_token);
  info.total = now - r->accepted;
  retry_after_.RequestLeft(now);
  observer_->OnDone(info);
  r->sink->OnDone(info);
}

void RequestDesk::Refuse(ResponseSink* sink, absl::Status status, absl::Time now) {
  DoneInfo info;
  info.reason = absl::IsDeadlineExceeded(status) ? FinishReason::kDeadline : FinishReason::kError;
  if (absl::IsResourceExhausted(status)) info.retry_after = retry_after_.Estimate();
  info.status = std::move(status);
  observer_->OnDone(info);
  sink->OnDone(info);
}

}  // namespace pregate::scheduler
