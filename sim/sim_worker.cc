#include "sim/sim_worker.h"

#include <algorithm>
#include <utility>

namespace pregate::sim {

SimWorker::SimWorker(Agenda* agenda, const Costs* costs, const SimRoutes* routes,
                     const WorkerShape& shape)
    : agenda_(agenda),
      costs_(costs),
      routes_(routes),
      shape_(shape),
      cache_({costs->layers, costs->experts, shape.expert_slots * costs->layers,
              absl::Seconds(costs->unit_load_s)}),
      slots_(shape.seq_slots) {}

void SimWorker::SayHello() {
  Hello hello;
  hello.incarnation = 1;
  hello.facts.model_digest = "simulated";
  hello.facts.router_digest = "simulated";
  hello.facts.numerics_id = "simulated";
  hello.facts.device = costs_->machine;
  hello.facts.kv_blocks = shape_.kv_blocks;
  hello.facts.seq_slots = shape_.seq_slots;
  hello.facts.step_tokens = shape_.step_tokens;
  hello.facts.context_tokens = shape_.context_tokens;
  hello.facts.vocab_size = RouteChain::kVocab;
  hello.facts.num_experts = costs_->experts;
  hello.facts.num_layers = costs_->layers;
  hello.facts.unit_slots = cache_.all_fit() ? 0 : shape_.expert_slots * costs_->layers;
  hello.resident_units = cache_.Resident();
  agenda_->Deliver(WorkerEvent{0, std::move(hello)});
}

void SimWorker::Send(ToWorker message) {
  const absl::Duration link = absl::Seconds(costs_->link_s);
  if (const auto* form = std::get_if<Form>(&message)) {
    agenda_->DeliverAt(agenda_->now() + 2 * link,
                       WorkerEvent{0, Formed{form->epoch, absl::OkStatus(), ""}});
  }
  if (auto* plan = std::get_if<std::shared_ptr<const StepPlan>>(&message)) {
    agenda_->After(link, [this, p = *plan]() {
      plans_.push_back(p);
      if (!busy_) Begin();
    });
  }
}

void SimWorker::Begin() {
  if (plans_.empty()) return;
  busy_ = true;
  const std::shared_ptr<const StepPlan> sent = std::move(plans_.front());
  const StepPlan& plan = *sent;
  plans_.pop_front();
  const absl::Time begin = agenda_->now();
  for (const Wanted& wanted : plan.wanted) {
    cache_.SetWanted(wanted.units, wanted.load_first);
  }
  StepResult result;
  result.epoch = plan.epoch;
  result.incarnation = 1;
  result.step_id = plan.step_id;
  const Load load = Apply(plan, &result);
  const absl::Time end = plan.rows.empty() ? begin : Run(load, begin);
  result.step_us = absl::ToInt64Microseconds(end - begin);
  result.unique_experts = static_cast<int32_t>(load.experts.size());
  agenda_->At(end, [this, r = std::move(result)]() mutable {
    busy_ = false;
    cache_.AdvanceTo(agenda_->now());
    r.unit_events = cache_.TakeEvents();
    agenda_->DeliverAt(agenda_->now() + absl::Seconds(costs_->link_s),
                       WorkerEvent{0, std::move(r)});
    Begin();
  });
}

SimWorker::Load SimWorker::Apply(const StepPlan& plan, StepResult* result) {
  Load load;
  std::vector<bool> named(costs_->experts);
  for (const SequenceAdd& add : plan.add) slots_[add.seq_slot] = {add.seq_id, add.seed};
  for (const Row& row : plan.rows) {
    Slot& slot = slots_[row.seq_slot];
    load.tokens += row.count;
    load.keys += row.position + row.count;
    load.pairs += row.count * (row.position + (row.count - 1) / 2.0);
    for (const ExpertId e : row.routes) named[e] = true;
    if (row.late) named[slot.sample_route] = true;
    if (row.emit != Emit::kSample) continue;
    load.emits += 1 + row.drafts;
    ExpertId last = row.late ? slot.sample_route : row.routes.back();
    for (int32_t i = row.committed();; ++i) {
      slot.sample = routes_->TokenAt(slot.seed, row.position + i);
      slot.sample_route = routes_->RouteOf({last}, slot.sample);
      result->samples.push_back(
          {slot.seq_id, row.position + i, slot.sample, slot.sample_route, {}});
      if (i == row.count || row.tokens[i] != slot.sample) break;
      last = slot.sample_route;
      named[last] = true;
    }
  }
  for (ExpertId e = 0; e < costs_->experts; ++e) {
    if (named[e]) load.experts.push_back(e);
  }
  return load;
}

absl::Time SimWorker::Run(const Load& load, absl::Time begin) {
  const double seconds = costs_->base_s + costs_->token_s * load.tokens +
                         costs_->expert_read_s * static_cast<double>(load.experts.size()) +
                         costs_->key_s * load.keys + costs_->pair_s * load.pairs;
  const absl::Duration layer_time = absl::Seconds(seconds / costs_->layers);
  absl::Time t = begin;
  cache_.BeginStep(load.experts, begin);
  for (int32_t layer = 0; layer < costs_->layers; ++layer) {
    t = cache_.RunLayer(layer, t) + layer_time;
    Record(layer, load.experts);
  }
  cache_.EndStep(t);
  t += absl::Seconds(costs_->sample_s * load.emits);
  ++counts_.steps;
  counts_.tokens += load.tokens;
  counts_.experts += load.experts.size();
  counts_.busy += t - begin;
  return t;
}

void SimWorker::Record(int32_t layer, const std::vector<ExpertId>& experts) {
  if (references_.size() + experts.size() > references_max_) {
    references_max_ = 0;
    return;
  }
  for (const ExpertId e : experts) references_.push_back(layer * costs_->experts + e);
  recorded_loads_ = cache_.counts().loads;
}

}  // namespace pregate::sim
