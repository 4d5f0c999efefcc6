// Where requests come in and answers go out: admission, seeds, text, times, the clients.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/model/tokenizer/tokenizer.h"
#include "scheduler_service/core/admission.h"
#include "scheduler_service/core/fair_turns.h"
#include "scheduler_service/core/random_source.h"
#include "scheduler_service/engine/links.h"
#include "scheduler_service/engine/request_table.h"
#include "scheduler_service/engine/scheduler_observer.h"

namespace pregate::scheduler {

// Owns the live requests; the engine moves them through routing and the batch in between. Not
// thread-safe.
class RequestHandler {
 public:
  // All outlive the handler. `queue_max`: requests that may wait.
  RequestHandler(const Tokenizer* tokenizer, RandomSource* random, SchedulerObserver* observer,
                 int32_t queue_max);

  // The new request, or null: it is refused and its client has been told.
  LiveRequest* Admit(SubmitEvent event, const WorkerFacts& cell, absl::Time now);
  void Refuse(const std::function<void(ToClient)>& send, absl::Status status, absl::Time now);

  // A resumed request may have ended with what the client has already. InvalidArgument where its
  // constraint does not allow that.
  absl::StatusOr<std::optional<FinishReason>> ReplayResumed(LiveRequest* request);
  // The constraint, if any, reads the last token and says what may follow it. InvalidArgument where
  // it does not allow the token.
  absl::Status Constrain(LiveRequest* request);
  // StartInfo, once.
  void Start(LiveRequest* request, const WorkerFacts& cell);
  // What is known of the prompt's log-probabilities, once StartInfo was sent.
  void DeliverPrompt(LiveRequest* request);
  // The workers get its first row.
  void Enter(LiveRequest* request, absl::Time now);
  // Gives the client the tokens that it does not have, with their text.
  void Deliver(LiveRequest* request, absl::Time now);
  // DoneInfo; the request is gone. REQUIRES: nothing else refers to its sequence.
  void Close(LiveRequest* request, absl::Status status, FinishReason reason, absl::Time now);

  RequestTable& table() { return table_; }
  const RequestTable& table() const { return table_; }

 private:
  absl::StatusOr<int32_t> Check(const SubmitEvent& event, const WorkerFacts& cell, absl::Time now);
  // `token` is the generated one of this index.
  absl::Status Follow(LiveRequest* request, TokenId token, int32_t index);
  std::unique_ptr<LiveRequest> Make(SubmitEvent event, int32_t max_tokens, const WorkerFacts& cell,
                                    absl::Time now);

  const Tokenizer* const tokenizer_;
  RandomSource* const random_;
  SchedulerObserver* const observer_;
  const int32_t queue_max_;
  const std::vector<TokenId> model_stop_tokens_;
  RequestTable table_;
  absl::flat_hash_map<int32_t, FairTurns> turns_;  // by priority
  RetryAfter retry_after_;
  SeqId next_id_ = 1;
};

}  // namespace pregate::scheduler
