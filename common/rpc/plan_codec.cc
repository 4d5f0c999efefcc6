// Scheduler to worker.

#include "common/base/limits.h"
#include "common/base/request_limits.h"
#include "common/base/status.h"
#include "common/rpc/decode.h"
#include "common/rpc/sampling_codec.h"
#include "common/rpc/worker_codec.h"

namespace pregate {
namespace {

void Encode(const Form& form, v1::Form* out) {
  out->set_epoch(form.epoch);
  out->set_scheduler_id(form.scheduler_id);
  out->mutable_members()->Add(form.members.begin(), form.members.end());
  for (const auto& ranks : form.placement.ranks) {
    out->add_placement()->mutable_ranks()->Add(ranks.begin(), ranks.end());
  }
  out->set_rendezvous(form.rendezvous);
}

absl::StatusOr<Form> Decode(const v1::Form& in) {
  RETURN_IF_ERROR(CheckBytes("form.scheduler_id", in.scheduler_id(), kIdBytesMax));
  RETURN_IF_ERROR(CheckCount("form.members", in.members_size(), kWorkersMax));
  RETURN_IF_ERROR(CheckCount("form.placement", in.placement_size(), kExpertsMax));
  RETURN_IF_ERROR(CheckBytes("form.rendezvous", in.rendezvous(), kRendezvousBytesMax));
  Form form{.epoch = in.epoch(),
            .scheduler_id = in.scheduler_id(),
            .members = ToVector(in.members()),
            .rendezvous = in.rendezvous()};
  for (const v1::ExpertRanks& ranks : in.placement()) {
    RETURN_IF_ERROR(CheckCount("form.placement.ranks", ranks.ranks_size(), kWorkersMax));
    form.placement.ranks.push_back(ToVector(ranks.ranks()));
  }
  return form;
}

void Encode(const SequenceAdd& add, v1::SequenceAdd* out) {
  out->set_seq_slot(add.seq_slot);
  out->set_seq_id(add.seq_id);
  out->set_home_rank(add.home_rank);
  EncodeSampling(add.sampling, out->mutable_sampling());
  EncodeLogitBias(add.logit_bias, out->mutable_sampling());
  out->set_seed(add.seed);
  out->mutable_history()->Add(add.history.begin(), add.history.end());
  out->set_generated_from(add.generated_from);
  out->set_banned_until(add.banned_until);
  out->mutable_banned()->Add(add.banned.begin(), add.banned.end());
  if (!add.traceparent.empty()) out->set_traceparent(add.traceparent);
}

absl::StatusOr<SequenceAdd> Decode(const v1::SequenceAdd& in) {
  RETURN_IF_ERROR(CheckCount("plan.add.history", in.history_size(), kContextTokensMax));
  RETURN_IF_ERROR(CheckCount("plan.add.sampling.logit_bias",
                             static_cast<int64_t>(in.sampling().logit_bias().size()),
                             kLogitBiasMax));
  RETURN_IF_ERROR(CheckCount("plan.add.banned", in.banned_size(), kBannedTokensMax));
  RETURN_IF_ERROR(CheckBytes("plan.add.traceparent", in.traceparent(), kIdBytesMax));
  return SequenceAdd{.seq_slot = in.seq_slot(),
                     .seq_id = in.seq_id(),
                     .home_rank = in.home_rank(),
                     .sampling = DecodeSampling(in.sampling()),
                     .seed = in.seed(),
                     .history = ToVector(in.history()),
                     .generated_from = in.generated_from(),
                     .logit_bias = DecodeLogitBias(in.sampling()),
                     .banned_until = in.banned_until(),
                     .banned = ToVector(in.banned()),
                     .traceparent = in.traceparent()};
}

v1::Emit EncodeEmit(Emit emit) {
  switch (emit) {
    case Emit::kNone:
      return v1::EMIT_NONE;
    case Emit::kSample:
      return v1::EMIT_SAMPLE;
    case Emit::kScore:
      return v1::EMIT_SCORE;
    case Emit::kLogits:
      break;
  }
  PREGATE_CHECK(false, "logits rows stay in one process");
}

absl::StatusOr<Emit> DecodeEmit(v1::Emit emit) {
  switch (emit) {
    case v1::EMIT_NONE:
      return Emit::kNone;
    case v1::EMIT_SAMPLE:
      return Emit::kSample;
    case v1::EMIT_SCORE:
      return Emit::kScore;
    default:
      return BadField("plan.rows.emit", absl::StrCat("is ", static_cast<int>(emit)));
  }
}

void Encode(const Row& row, v1::Row* out) {
  out->set_seq_slot(row.seq_slot);
  out->set_position(row.position);
  out->set_count(row.count);
  out->set_drafts(row.drafts);
  out->set_late(row.late);
  out->set_emit(EncodeEmit(row.emit));
  out->mutable_tokens()->Add(row.tokens.begin(), row.tokens.end());
  out->mutable_routes()->Add(row.routes.begin(), row.routes.end());
  out->mutable_targets()->Add(row.targets.begin(), row.targets.end());
  out->set_logprobs_k(row.logprobs_k);
  out->mutable_allowed()->Add(row.allowed.begin(), row.allowed.end());
}

absl::StatusOr<Row> Decode(const v1::Row& in) {
  RETURN_IF_ERROR(CheckBetween("plan.rows.position", in.position(), 0, kContextTokensMax));
  RETURN_IF_ERROR(CheckBetween("plan.rows.count", in.count(), 0, kStepTokensMax));
  RETURN_IF_ERROR(CheckBetween("plan.rows.drafts", in.drafts(), 0, kStepTokensMax));
  RETURN_IF_ERROR(CheckCount("plan.rows.tokens", in.tokens_size(), kStepTokensMax));
  RETURN_IF_ERROR(CheckCount("plan.rows.routes", in.routes_size(), kStepTokensMax));
  RETURN_IF_ERROR(CheckCount("plan.rows.targets", in.targets_size(), kStepTokensMax));
  RETURN_IF_ERROR(CheckBetween("plan.rows.logprobs_k", in.logprobs_k(), 0, kLogprobsMax));
  RETURN_IF_ERROR(CheckCount("plan.rows.allowed", in.allowed_size(), kVocabSizeMax / 32));
  ASSIGN_OR_RETURN(const Emit emit, DecodeEmit(in.emit()));
  return Row{.seq_slot = in.seq_slot(),
             .position = in.position(),
             .count = in.count(),
             .late = in.late(),
             .emit = emit,
             .tokens = ToVector(in.tokens()),
             .routes = ToVector(in.routes()),
             .targets = ToVector(in.targets()),
             .logprobs_k = in.logprobs_k(),
             .drafts = in.drafts(),
             .allowed = ToVector(in.allowed())};
}

void Encode(const BlockTableUpdate& update, v1::BlockTableUpdate* out) {
  out->set_seq_slot(update.seq_slot);
  out->set_first_index(update.first_index);
  out->mutable_ids()->Add(update.ids.begin(), update.ids.end());
}

absl::StatusOr<BlockTableUpdate> Decode(const v1::BlockTableUpdate& in) {
  constexpr int kTableMax = kContextTokensMax / kKvBlockTokens + 1;
  RETURN_IF_ERROR(CheckBetween("plan.blocks.first_index", in.first_index(), 0, kTableMax));
  RETURN_IF_ERROR(CheckCount("plan.blocks.ids", in.ids_size(), kTableMax));
  return BlockTableUpdate{
      .seq_slot = in.seq_slot(), .first_index = in.first_index(), .ids = ToVector(in.ids())};
}

void Encode(const Wanted& wanted, v1::Wanted* out) {
  out->set_rank(wanted.rank);
  out->set_load_first(wanted.load_first);
  for (const UnitId& unit : wanted.units) {
    v1::UnitId* id = out->add_units();
    id->set_layer(unit.layer);
    id->set_expert(unit.expert);
  }
}

absl::StatusOr<Wanted> Decode(const v1::Wanted& in) {
  RETURN_IF_ERROR(CheckCount("plan.wanted.units", in.units_size(), kResidentUnitsMax));
  RETURN_IF_ERROR(CheckBetween("plan.wanted.load_first", in.load_first(), 0, in.units_size()));
  Wanted wanted{.rank = in.rank(), .load_first = in.load_first()};
  for (const v1::UnitId& unit : in.units()) wanted.units.push_back({unit.layer(), unit.expert()});
  return wanted;
}

// Encodes or decodes all of a repeated field.
template <typename Struct, typename Repeated>
void EncodeAll(const std::vector<Struct>& from, Repeated* to) {
  to->Reserve(static_cast<int>(from.size()));
  for (const Struct& item : from) Encode(item, to->Add());
}
template <typename Struct, typename Repeated>
absl::Status DecodeAll(absl::string_view field, const Repeated& from, int max,
                       std::vector<Struct>* to) {
  RETURN_IF_ERROR(CheckCount(field, from.size(), max));
  to->reserve(from.size());
  for (const auto& item : from) {
    ASSIGN_OR_RETURN(Struct decoded, Decode(item));
    to->push_back(std::move(decoded));
  }
  return absl::OkStatus();
}

void Encode(const StepPlan& plan, v1::StepPlan* out) {
  out->set_epoch(plan.epoch);
  out->set_step_id(plan.step_id);
  out->mutable_drop()->Add(plan.drop.begin(), plan.drop.end());
  EncodeAll(plan.add, out->mutable_add());
  EncodeAll(plan.blocks, out->mutable_blocks());
  EncodeAll(plan.rows, out->mutable_rows());
  EncodeAll(plan.wanted, out->mutable_wanted());
}

absl::StatusOr<StepPlan> Decode(const v1::StepPlan& in) {
  RETURN_IF_ERROR(CheckCount("plan.drop", in.drop_size(), kSeqSlotsMax));
  StepPlan plan{.epoch = in.epoch(), .step_id = in.step_id(), .drop = ToVector(in.drop())};
  RETURN_IF_ERROR(DecodeAll("plan.add", in.add(), kPlanRowsMax, &plan.add));
  RETURN_IF_ERROR(DecodeAll("plan.blocks", in.blocks(), kPlanRowsMax, &plan.blocks));
  RETURN_IF_ERROR(DecodeAll("plan.rows", in.rows(), kPlanRowsMax, &plan.rows));
  RETURN_IF_ERROR(DecodeAll("plan.wanted", in.wanted(), kWorkersMax, &plan.wanted));
  return plan;
}

}  // namespace

v1::AttachRequest EncodeToWorker(const ToWorker& message) {
  v1::AttachRequest out;
  if (const auto* form = std::get_if<Form>(&message)) Encode(*form, out.mutable_form());
  if (const auto* plan = std::get_if<std::shared_ptr<const StepPlan>>(&message)) {
    Encode(**plan, out.mutable_plan());
  }
  if (const auto* renew = std::get_if<Renew>(&message)) {
    out.mutable_renew()->set_void_through(renew->void_through);
  }
  return out;
}

absl::StatusOr<ToWorker> DecodeToWorker(const v1::AttachRequest& message) {
  switch (message.message_case()) {
    case v1::AttachRequest::kForm:
      return Decode(message.form());
    case v1::AttachRequest::kPlan: {
      ASSIGN_OR_RETURN(StepPlan plan, Decode(message.plan()));
      return std::make_shared<const StepPlan>(std::move(plan));
    }
    case v1::AttachRequest::kRenew:
      return Renew{.void_through = message.renew().void_through()};
    case v1::AttachRequest::MESSAGE_NOT_SET:
      break;
  }
  return BadField("message", "is not set");
}

}  // namespace pregate
