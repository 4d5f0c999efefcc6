// Clients in virtual time: they ask, are refused and come back, cancel, resume, and remember what
// they got.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "sim/testing/reference.h"
#include "sim/testing/sim_world.h"

namespace pregate::scheduler {

struct SimClient {
  GenerateRequest request;
  size_t num_resumed = 0;  // tokens of the reference that it sends along
  std::optional<absl::Duration> cancel_after;

  // What it got.
  StartInfo start;
  int num_starts = 0;
  std::vector<TokenId> tokens;
  std::vector<ExpertId> routes;
  std::string text;
  std::optional<DoneInfo> done;
  int refusals = 0;
};

struct SimLoad {
  int num_clients = 12;
  absl::Duration spread = absl::Seconds(1);  // arrivals
  int32_t prompt_max = 50;
  int32_t max_tokens_max = 60;
  int percent_cancelled = 0;
  int percent_deadline = 0;
  int percent_resumed = 0;
};

// Makes random requests of the world's seed, drives them, and sends DrainEvent when all are done.
class SimClients {
 public:
  SimClients(SimWorld* world, const FakeModel& model, const SimLoad& load);

  void Start();
  // Empty, or what is wrong with a client's answer. `service_routes`: the last token has no route.
  std::string Check(const SimClient& client, bool service_routes) const;
  const std::vector<std::unique_ptr<SimClient>>& clients() const { return clients_; }
  int64_t num_reference_tokens() const;
  const LetterTokenizer& tokenizer() const { return tokenizer_; }

 private:
  class Taker;
  GenerateRequest RandomRequest(const SimLoad& load);
  void Resume(SimClient* client);
  void Submit(SimClient* client);
  void OnDone(SimClient* client, const DoneInfo& info);

  SimWorld* const world_;
  const FakeModel model_;
  const LetterTokenizer tokenizer_;
  std::vector<std::unique_ptr<SimClient>> clients_;
  std::vector<absl::Duration> arrivals_;
  LinkId next_link_ = 1;
  size_t num_done_ = 0;
};

}  // namespace pregate::scheduler
