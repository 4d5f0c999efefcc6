// Every request that is admitted and not done, with the client's side of it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "common/grammar/matcher.h"
#include "common/step/peer.h"
#include "scheduler_service/core/admission.h"
#include "scheduler_service/core/request.h"
#include "scheduler_service/core/sequence.h"
#include "scheduler_service/engine/token_output.h"

namespace pregate::scheduler {

struct LiveRequest {
  LiveRequest(const Tokenizer& tokenizer, TokenOutput::Rules rules)
      : output(tokenizer, std::move(rules)) {}

  Sequence sequence;
  LinkId link = 0;
  std::function<void(ToClient)> send;
  TokenOutput output;
  std::optional<Matcher> matcher;  // of a constraint: has read all generated tokens
  bool started = false;            // StartInfo was sent
  int32_t num_delivered = 0;       // tokens of the sequence that the client has
  std::vector<std::vector<TokenLogprob>> logprobs;         // of the tokens that it does not have
  std::vector<std::vector<TokenLogprob>> prompt_logprobs;  // the same of the prompt's
  int32_t prompt_delivered = 0;                            // of them, from position 1 on
  int32_t draft_tokens = 0;                                // run
  int32_t accepted_tokens = 0;                             // of them: those that were right
  int32_t recoveries_without_token = 0;
  absl::Time deadline = absl::InfiniteFuture();
  absl::Time accepted;
  absl::Time enqueued = absl::InfinitePast();  // InfinitePast: not yet; so are the others
  absl::Time routed = absl::InfinitePast();    // the whole prompt
  absl::Time first_row = absl::InfinitePast();
  absl::Time first_token = absl::InfinitePast();
  absl::Time last_token = absl::InfinitePast();
  int32_t tokens_after_first = 0;  // sent later than first_token
};

// Owns the requests. Iterates by age. Not thread-safe.
class RequestTable {
 public:
  // REQUIRES: neither its sequence id nor its link is in use.
  LiveRequest* Add(std::unique_ptr<LiveRequest> request);
  std::unique_ptr<LiveRequest> Take(SeqId id);

  LiveRequest* Find(SeqId id);
  LiveRequest* FindByLink(LinkId link);
  QueueLength QueueOf(uint64_t client) const;  // what is not in the batch
  absl::Time NextDeadline() const;
  std::vector<SeqId> Expired(absl::Time now) const;
  std::vector<SeqId> Ids() const;

  bool empty() const { return requests_.empty(); }
  int32_t size() const { return static_cast<int32_t>(requests_.size()); }

 private:
  absl::btree_map<SeqId, std::unique_ptr<LiveRequest>> requests_;
  absl::flat_hash_map<LinkId, SeqId> by_link_;
  absl::btree_set<std::pair<absl::Time, SeqId>> deadlines_;
};

}  // namespace pregate::scheduler
