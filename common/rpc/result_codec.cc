// Worker to scheduler.
#include <algorithm>

#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/rpc/decode.h"
#include "common/rpc/worker_codec.h"

namespace pregate {
namespace {

constexpr int kStatusCodeMax = 16;
constexpr int64_t kStallUsMax = int64_t{3600} * 1000 * 1000;

// Of figures that are shown to people only: none is worth refusing a result for.
int64_t Plausible(int64_t figure, int64_t max) { return std::clamp<int64_t>(figure, 0, max); }

void Encode(const absl::Status& status, v1::WorkerStatus* out) {
  out->set_code(static_cast<int>(status.code()));
  out->set_message(std::string(Clip(status.message(), kErrorTextBytesMax)));
}

// Any unknown code is an unknown error, never OK.
absl::Status DecodeStatus(const v1::WorkerStatus& in) {
  const bool known = in.code() >= 0 && in.code() <= kStatusCodeMax;
  return absl::Status(known ? static_cast<absl::StatusCode>(in.code()) : absl::StatusCode::kUnknown,
                      Clip(in.message(), kErrorTextBytesMax));
}

void Encode(const UnitId& unit, v1::UnitId* out) {
  out->set_layer(unit.layer);
  out->set_expert(unit.expert);
}

void Encode(const WorkerFacts& facts, v1::WorkerFacts* out) {
  out->set_model_digest(facts.model_digest);
  out->set_router_digest(facts.router_digest);
  out->set_numerics_id(facts.numerics_id);
  out->set_vocab_size(facts.vocab_size);
  out->set_num_experts(facts.num_experts);
  out->set_kv_blocks(facts.kv_blocks);
  out->set_seq_slots(facts.seq_slots);
  out->set_step_tokens(facts.step_tokens);
  out->set_context_tokens(facts.context_tokens);
  out->set_device(facts.device);
  out->set_num_layers(facts.num_layers);
  out->set_unit_slots(facts.unit_slots);
}

absl::StatusOr<WorkerFacts> Decode(const v1::WorkerFacts& in) {
  for (const auto& [field, text] :
       {std::pair<const char*, const std::string*>{"facts.model_digest", &in.model_digest()},
        {"facts.router_digest", &in.router_digest()},
        {"facts.numerics_id", &in.numerics_id()},
        {"facts.device", &in.device()}}) {
    RETURN_IF_ERROR(CheckBytes(field, *text, kErrorTextBytesMax));
  }
  RETURN_IF_ERROR(CheckBetween("facts.vocab_size", in.vocab_size(), 0, kVocabSizeMax));
  RETURN_IF_ERROR(CheckBetween("facts.num_experts", in.num_experts(), 0, kExpertsMax));
  RETURN_IF_ERROR(CheckBetween("facts.kv_blocks", in.kv_blocks(), 0, kKvBlocksMax));
  RETURN_IF_ERROR(CheckBetween("facts.seq_slots", in.seq_slots(), 0, kSeqSlotsMax));
  RETURN_IF_ERROR(CheckBetween("facts.step_tokens", in.step_tokens(), 0, kStepTokensMax));
  RETURN_IF_ERROR(CheckBetween("facts.context_tokens", in.context_tokens(), 0, kContextTokensMax));
  RETURN_IF_ERROR(CheckBetween("facts.num_layers", in.num_layers(), 0, kLayersMax));
  RETURN_IF_ERROR(CheckBetween("facts.unit_slots", in.unit_slots(), 0, kResidentUnitsMax));
  return WorkerFacts{.model_digest = in.model_digest(),
                     .router_digest = in.router_digest(),
                     .numerics_id = in.numerics_id(),
                     .vocab_size = in.vocab_size(),
                     .num_experts = in.num_experts(),
                     .kv_blocks = in.kv_blocks(),
                     .seq_slots = in.seq_slots(),
                     .step_tokens = in.step_tokens(),
                     .context_tokens = in.context_tokens(),
                     .device = in.device(),
                     .num_layers = in.num_layers(),
                     .unit_slots = in.unit_slots()};
}

void Encode(const Hello& hello, v1::Hello* out) {
  out->set_incarnation(hello.incarnation);
  out->set_protocol(hello.protocol);
  out->set_rank(hello.rank);
  Encode(hello.facts, out->mutable_facts());
  for (const UnitId& unit : hello.resident_units) Encode(unit, out->add_resident_units());
  out->set_highest_epoch(hello.highest_epoch);
  out->set_rendezvous(hello.rendezvous);
  out->set_lease_ms(hello.lease_ms);
}

absl::StatusOr<Hello> Decode(const v1::Hello& in) {
  Hello hello{.incarnation = in.incarnation(), .protocol = in.protocol(), .rank = in.rank()};
  RETURN_IF_ERROR(CheckBetween("hello.rank", in.rank(), 0, kWorkersMax - 1));
  ASSIGN_OR_RETURN(hello.facts, Decode(in.facts()));
  RETURN_IF_ERROR(CheckCount("hello.resident_units", in.resident_units_size(), kResidentUnitsMax));
  for (const v1::UnitId& unit : in.resident_units()) {
    hello.resident_units.push_back({unit.layer(), unit.expert()});
  }
  hello.highest_epoch = in.highest_epoch();
  RETURN_IF_ERROR(CheckBytes("hello.rendezvous", in.rendezvous(), kRendezvousBytesMax));
  hello.rendezvous = in.rendezvous();
  RETURN_IF_ERROR(CheckBetween("hello.lease_ms", in.lease_ms(), 0, kLeaseMsMax));
  hello.lease_ms = in.lease_ms();
  return hello;
}

void Encode(const Formed& formed, v1::Formed* out) {
  out->set_epoch(formed.epoch);
  Encode(formed.status, out->mutable_status());
  out->set_rendezvous(formed.rendezvous);
  out->set_kv_since(formed.kv_since);
}

absl::StatusOr<Formed> Decode(const v1::Formed& in) {
  RETURN_IF_ERROR(CheckBytes("formed.rendezvous", in.rendezvous(), kRendezvousBytesMax));
  return Formed{.epoch = in.epoch(),
                .status = DecodeStatus(in.status()),
                .rendezvous = in.rendezvous(),
                .kv_since = in.kv_since()};
}

void Encode(const Progress& progress, v1::Progress* out) {
  out->set_epoch(progress.epoch);
  out->set_step_id(progress.step_id);
}

void Encode(const UnitEvent& event, v1::UnitEvent* out) {
  out->set_number(event.number);
  Encode(event.unit, out->mutable_unit());
  out->set_state(static_cast<v1::UnitState>(static_cast<int>(event.state) + 1));
}

absl::Status DecodeUnitEvents(const google::protobuf::RepeatedPtrField<v1::UnitEvent>& in,
                              std::vector<UnitEvent>* events) {
  RETURN_IF_ERROR(CheckCount("unit_events", in.size(), kResidentUnitsMax));
  for (const v1::UnitEvent& event : in) {
    RETURN_IF_ERROR(CheckBetween("unit_events.state", event.state(), v1::UNIT_STATE_ABSENT,
                                 v1::UNIT_STATE_FAILED));
    events->push_back({.number = event.number(),
                       .unit = {event.unit().layer(), event.unit().expert()},
                       .state = static_cast<UnitState>(event.state() - 1)});
  }
  return absl::OkStatus();
}

void Encode(const UnitEvents& events, v1::UnitEvents* out) {
  out->set_epoch(events.epoch);
  for (const UnitEvent& event : events.events) Encode(event, out->add_events());
}

absl::StatusOr<UnitEvents> Decode(const v1::UnitEvents& in) {
  UnitEvents events{.epoch = in.epoch()};
  RETURN_IF_ERROR(DecodeUnitEvents(in.events(), &events.events));
  return events;
}

template <typename Repeated>
void EncodeLogprobs(const std::vector<TokenLogprob>& logprobs, Repeated* out) {
  for (const TokenLogprob& logprob : logprobs) {
    v1::TokenLogprob* entry = out->Add();
    entry->set_token(logprob.token);
    entry->set_logprob(logprob.logprob);
  }
}

template <typename Repeated>
absl::StatusOr<std::vector<TokenLogprob>> DecodeLogprobs(absl::string_view field,
                                                         const Repeated& in) {
  RETURN_IF_ERROR(CheckCount(field, in.size(), kLogprobsMax + 1));
  std::vector<TokenLogprob> logprobs;
  for (const v1::TokenLogprob& entry : in) logprobs.push_back({entry.token(), entry.logprob()});
  return logprobs;
}

void Encode(const Sample& sample, v1::Sample* out) {
  out->set_seq_id(sample.seq_id);
  out->set_position(sample.position);
  out->set_token(sample.token);
  out->set_route(sample.route);
  EncodeLogprobs(sample.logprobs, out->mutable_logprobs());
}

absl::StatusOr<Sample> Decode(const v1::Sample& in) {
  RETURN_IF_ERROR(CheckBetween("samples.position", in.position(), 0, kContextTokensMax));
  RETURN_IF_ERROR(CheckBetween("samples.token", in.token(), 0, kVocabSizeMax));
  RETURN_IF_ERROR(CheckBetween("samples.route", in.route(), kNoRoute, kExpertsMax));
  ASSIGN_OR_RETURN(auto logprobs, DecodeLogprobs("samples.logprobs", in.logprobs()));
  return Sample{.seq_id = in.seq_id(),
                .position = in.position(),
                .token = in.token(),
                .route = in.route(),
                .logprobs = std::move(logprobs)};
}

void Encode(const RowScores& scores, v1::RowScores* out) {
  out->set_seq_id(scores.seq_id);
  out->set_position(scores.position);
  out->mutable_logprobs()->Add(scores.logprobs.begin(), scores.logprobs.end());
  out->set_greedy(scores.greedy.data(), scores.greedy.size());
  for (const auto& top : scores.top) EncodeLogprobs(top, out->add_top()->mutable_logprobs());
}

absl::StatusOr<RowScores> Decode(const v1::RowScores& in) {
  RETURN_IF_ERROR(CheckCount("scores.logprobs", in.logprobs_size(), kStepTokensMax));
  RETURN_IF_ERROR(CheckBetween("scores.greedy's size", in.greedy().size(), in.logprobs_size(),
                               in.logprobs_size()));
  const int32_t top_size = in.top_size() > 0 ? in.logprobs_size() : 0;
  RETURN_IF_ERROR(CheckBetween("scores.top's size", in.top_size(), top_size, top_size));
  RowScores scores{.seq_id = in.seq_id(),
                   .position = in.position(),
                   .logprobs = ToVector(in.logprobs()),
                   .greedy = {in.greedy().begin(), in.greedy().end()}};
  for (const v1::TokenLogprobs& top : in.top()) {
    ASSIGN_OR_RETURN(scores.top.emplace_back(), DecodeLogprobs("scores.top", top.logprobs()));
  }
  return scores;
}

void Encode(const StepResult& result, v1::StepResult* out) {
  PREGATE_CHECK(result.logits.empty(), "logits stay in one process");
  out->set_epoch(result.epoch);
  out->set_rank(result.rank);
  out->set_incarnation(result.incarnation);
  out->set_step_id(result.step_id);
  Encode(result.status, out->mutable_status());
  for (const Sample& sample : result.samples) Encode(sample, out->add_samples());
  for (const RowScores& scores : result.scores) Encode(scores, out->add_scores());
  for (const RowError& error : result.row_errors) {
    v1::RowError* row_error = out->add_row_errors();
    row_error->set_seq_id(error.seq_id);
    row_error->set_message(std::string(Clip(error.message, kErrorTextBytesMax)));
  }
  for (const UnitEvent& event : result.unit_events) Encode(event, out->add_unit_events());
  out->set_step_us(result.step_us);
  out->set_unique_experts(result.unique_experts);
  out->set_stall_us(result.stall_us);
  out->set_unit_hits(result.unit_hits);
  out->set_unit_misses(result.unit_misses);
  out->mutable_experts()->Add(result.experts.begin(), result.experts.end());
  out->set_begin_us(result.begin_us);
  for (const ActivitySpan& span : result.activities) {
    EncodeActivity(span, out->add_activities());
  }
  out->set_device_clock(result.device_clock);
}

// An activity of a newer version is left out, and so is what there is too much of.
std::vector<ActivitySpan> DecodeActivities(
    const google::protobuf::RepeatedPtrField<v1::ActivitySpan>& in) {
  std::vector<ActivitySpan> spans;
  for (const v1::ActivitySpan& span : in) {
    if (spans.size() == kStepActivitiesMax) break;
    const int activity = span.activity() - 1;
    if (activity < 0 || activity >= kNumActivities) continue;
    spans.push_back({static_cast<Activity>(activity),
                     std::clamp(span.begin_us(), -kStallUsMax, kStallUsMax),
                     Plausible(span.duration_us(), kStallUsMax)});
  }
  return spans;
}

absl::StatusOr<StepResult> Decode(const v1::StepResult& in) {
  RETURN_IF_ERROR(CheckBetween("result.rank", in.rank(), 0, kWorkersMax - 1));
  RETURN_IF_ERROR(CheckBetween("result.unique_experts", in.unique_experts(), 0, kExpertsMax));
  RETURN_IF_ERROR(CheckCount("result.experts", in.experts_size(), kExpertsMax));
  RETURN_IF_ERROR(CheckCount("result.samples", in.samples_size(), kPlanRowsMax));
  RETURN_IF_ERROR(CheckCount("result.scores", in.scores_size(), kPlanRowsMax));
  RETURN_IF_ERROR(CheckCount("result.row_errors", in.row_errors_size(), kPlanRowsMax));
  StepResult result{.epoch = in.epoch(),
                    .rank = in.rank(),
                    .incarnation = in.incarnation(),
                    .step_id = in.step_id(),
                    .status = DecodeStatus(in.status()),
                    .step_us = in.step_us(),
                    .unique_experts = in.unique_experts(),
                    .stall_us = Plausible(in.stall_us(), kStallUsMax),
                    .unit_hits = Plausible(in.unit_hits(), kResidentUnitsMax),
                    .unit_misses = Plausible(in.unit_misses(), kResidentUnitsMax),
                    .experts = ToVector(in.experts()),
                    .begin_us = in.begin_us(),
                    .activities = DecodeActivities(in.activities()),
                    .device_clock = in.device_clock()};
  for (const v1::Sample& sample : in.samples()) {
    ASSIGN_OR_RETURN(Sample decoded, Decode(sample));
    result.samples.push_back(std::move(decoded));
  }
  for (const v1::RowScores& scores : in.scores()) {
    ASSIGN_OR_RETURN(RowScores decoded, Decode(scores));
    result.scores.push_back(std::move(decoded));
  }
  for (const v1::RowError& error : in.row_errors()) {
    result.row_errors.push_back(
        {error.seq_id(), std::string(Clip(error.message(), kErrorTextBytesMax))});
  }
  RETURN_IF_ERROR(DecodeUnitEvents(in.unit_events(), &result.unit_events));
  return result;
}

}  // namespace

void EncodeActivity(const ActivitySpan& span, v1::ActivitySpan* out) {
  out->set_activity(static_cast<v1::Activity>(static_cast<int>(span.activity) + 1));
  out->set_begin_us(span.begin_us);
  out->set_duration_us(span.duration_us);
}

v1::AttachResponse EncodeFromWorker(const FromWorker& message) {
  v1::AttachResponse out;
  if (const auto* hello = std::get_if<Hello>(&message)) Encode(*hello, out.mutable_hello());
  if (const auto* formed = std::get_if<Formed>(&message)) Encode(*formed, out.mutable_formed());
  if (const auto* progress = std::get_if<Progress>(&message)) {
    Encode(*progress, out.mutable_progress());
  }
  if (const auto* result = std::get_if<StepResult>(&message)) Encode(*result, out.mutable_result());
  if (const auto* events = std::get_if<UnitEvents>(&message)) {
    Encode(*events, out.mutable_unit_events());
  }
  if (const auto* alive = std::get_if<Alive>(&message)) {
    out.mutable_alive()->set_waits_for_peers(alive->waits_for_peers);
  }
  return out;
}

absl::StatusOr<FromWorker> DecodeFromWorker(const v1::AttachResponse& message) {
  switch (message.message_case()) {
    case v1::AttachResponse::kHello:
      return Decode(message.hello());
    case v1::AttachResponse::kFormed:
      return Decode(message.formed());
    case v1::AttachResponse::kProgress:
      return Progress{.epoch = message.progress().epoch(), .step_id = message.progress().step_id()};
    case v1::AttachResponse::kResult:
      return Decode(message.result());
    case v1::AttachResponse::kUnitEvents:
      return Decode(message.unit_events());
    case v1::AttachResponse::kAlive:
      return Alive{.waits_for_peers = message.alive().waits_for_peers()};
    case v1::AttachResponse::MESSAGE_NOT_SET:
      break;
  }
  return BadField("message", "is not set");
}

}  // namespace pregate
