// A sequence: one request's tokens and routes, and what the workers hold of it in this epoch.
//
//   tokens     0 ........................ num_tokens()   committed: prompt, then generated
//   routes     0 ............. routed                    known without a hole
//   rows sent  0 ..... planned                           KV that this epoch has or will have
//   computed   0 .. computed                             KV that its home is known to have
//   drafts                                 0 .. drafts   guesses of what comes next
//
// planned <= routed, so a prompt may start while its tail is still at the router. planned is beyond
// num_tokens() by one at most: a late row stands on a sample that is not committed yet. Drafts that
// were sent do not count: planned grows by those that were right when the answer comes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "common/base/ids.h"
#include "common/step/prefix_key.h"
#include "common/step/sampling.h"

namespace pregate::scheduler {

//   routing ─▶ queued ─▶ running ─▶ finished            (any state may go to finished)
//                          │  ▲
//                          ▼  │
//                       preempted       by KV exhaustion or by a new epoch
enum class SequenceState : uint8_t { kRouting, kQueued, kRunning, kPreempted, kFinished };
const char* SequenceStateName(SequenceState state);

// A guess of a token to come.
struct Draft {
  TokenId token = 0;
  float chance = 0;  // that it is right, if those before it are
};

// Plain state; Batch alone writes what stands under "at the workers".
struct Sequence {
  // Fixed at admission.
  SeqId id = 0;  // ascending with age: a smaller id is older
  // Waiting sequences of one priority enter the batch by ascending turn (fair_turns.h), then age.
  int64_t turn = 0;
  uint64_t client = 0;  // whose it is (request.h)
  int32_t priority = 0;
  int32_t prompt_len = 0;
  int32_t max_len = 0;  // prompt_len + max_tokens
  bool dense = false;   // needs no routes
  bool no_drafts = false;
  SamplingParams sampling;
  std::vector<LogitBias> logit_bias;  // ascending by token
  int32_t min_tokens = 0;             // that are generated before one of end_tokens may be
  std::vector<TokenId> end_tokens;    // ascending
  int32_t logprobs = -1;  // alternatives reported beside each generated token; -1: nothing
  bool masked = false;    // each token is drawn from `allowed`: no late rows, no drafts
  uint64_t seed = 0;
  // Positions below are scored on the way, each for the token behind it; 0: none.
  int32_t score_end = 0;
  int32_t prompt_logprobs = 0;  // alternatives reported of each
  PrefixKey empty_prefix;       // of its model and tenant
  std::string traceparent;      // empty: of no trace

  // Committed.
  std::vector<TokenId> tokens;
  std::vector<ExpertId> routes;        // [tokens]; kNoRoute where unknown
  int32_t routed = 0;                  // leading positions whose route is known
  int32_t scored = 0;                  // leading positions that are scored
  std::vector<int32_t> expert_tokens;  // [expert] those of them that name it; up to the highest one
  SequenceState state = SequenceState::kRouting;
  int32_t preemptions = 0;        // by KV exhaustion; a new epoch does not count
  std::vector<Draft> drafts;      // of the positions from num_tokens() on; never up to max_len - 1
  std::vector<uint32_t> allowed;  // the mask of the next token, when masked: set with each token
  std::vector<PrefixKey> keys;    // of its leading full blocks, as far as they were needed yet
  int32_t found = 0;    // of one that waits: leading tokens that some rank has, at the last look
  int32_t reused = -1;  // leading tokens that it found when it entered first; -1: not yet

  // At the workers, in this epoch.
  int32_t slot = -1;
  int32_t home_rank = -1;
  std::vector<BlockId> blocks;
  int32_t planned = 0;
  int32_t computed = 0;
  int32_t published = 0;  // leading blocks that were offered to the cache
  int32_t samples_in_flight = 0;
  int32_t drafts_in_flight = 0;
  StepId sample_step = 0;  // the last step that samples it
  StepId idle_since = 0;   // the last step that has a row of it, or after which it was enqueued

  int32_t num_tokens() const { return static_cast<int32_t>(tokens.size()); }
  int32_t num_generated() const { return num_tokens() - prompt_len; }
  int32_t num_blocks() const { return static_cast<int32_t>(blocks.size()); }
  // Leading tokens that may be sent: those with a route, all of a dense model's.
  int32_t num_routed() const { return dense ? num_tokens() : routed; }
  bool all_routed() const { return num_routed() == num_tokens(); }
  // Where its next row begins, be it in the batch or not.
  int32_t next_row() const { return slot >= 0 ? planned : found; }
  // Of the next token to run. That of a late row is not known yet: the guess that the last one
  // stays.
  ExpertId NextRoute() const { return routes[std::min(next_row(), num_tokens() - 1)]; }

  // `route` may be kNoRoute: RecordRoute follows. Drafts are guesses no more: they go.
  void Append(TokenId token, ExpertId route);
  // Routes of positions base, base + 1, ...; one that is recorded already stands
  // (docs/CONTRACTS.md, "Recovery"). Positions beyond the tokens are ignored.
  void RecordRoutes(int32_t base, absl::Span<const ExpertId> values);
  // The keys of all full blocks whose routes are known.
  void ExtendKeys();
  // Of the blocks that it need not compute if they are found: not the last token's, for that one
  // gives the sample, nor those of tokens that are still to be scored.
  absl::Span<const PrefixKey> keys_to_find() const;

 private:
  void AdvanceRouted();
};

// Blocks that hold positions 0 .. position.
constexpr int32_t BlocksThrough(int32_t position) { return position / kKvBlockTokens + 1; }
// Blocks that a sequence needs at its end: its last sample at max_len - 1 has one too.
inline int32_t BlocksAtEnd(const Sequence& sequence) { return BlocksThrough(sequence.max_len - 1); }

}  // namespace pregate::scheduler
