// What the scheduler tells every worker for one step (docs/CONTRACTS.md, "Step plan"). Plain
// structs; the gRPC codec is in common/rpc, and the in-process link carries them as they are.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "common/base/ids.h"
#include "common/step/sampling.h"

namespace pregate {

// What a row's last token is for.
enum class Emit : uint8_t {
  kNone,    // prefill that goes on
  kSample,  // one sample at position + count
  kScore,   // log-probability of targets[i] after each of the row's tokens
  kLogits,  // raw logits of each of the row's tokens; in-process links only
};

// What every service asks of sampling parameters. INVALID_ARGUMENT names the field that is out of
// range, or NaN, and its value.
absl::Status CheckSampling(const SamplingParams& sampling);
// The same of biases: how many, which tokens, in which range.
absl::Status CheckLogitBias(absl::Span<const LogitBias> biases, int32_t vocab_size);

// Opens a slot. The worker keeps sampling state from add to drop.
struct SequenceAdd {
  int32_t seq_slot = 0;
  SeqId seq_id = 0;
  int32_t home_rank = 0;
  SamplingParams sampling;
  uint64_t seed = 0;
  std::vector<TokenId> history;       // every token below the sequence's first row
  int32_t generated_from = 0;         // position from which tokens count as generated
  std::vector<LogitBias> logit_bias;  // ascending by token
  // No token of `banned` is drawn at a position below banned_until.
  int32_t banned_until = 0;
  std::vector<TokenId> banned;  // ascending
  std::string traceparent;      // of the call that asks; empty: of no trace
};

// Sets entries [first_index, first_index + ids.size()) of a sequence's block table.
struct BlockTableUpdate {
  int32_t seq_slot = 0;
  int32_t first_index = 0;
  std::vector<BlockId> ids;
};

// Consecutive tokens of one sequence. A late row has count 1 and no tokens: it means "the sample of
// the previous step, on the route that the worker's replica gave it". The last `drafts` tokens of a
// row that samples are guesses: the worker's replica routes them, a sample is drawn after each and
// after the token before them, and those count that follow right guesses (docs/CONTRACTS.md,
// "Drafts"). A row with `allowed` draws one of those tokens, whatever is banned; it is not late and
// has no drafts, for what may follow depends on the tokens before.
struct Row {
  int32_t seq_slot = 0;
  int32_t position = 0;  // of the first token
  int32_t count = 0;
  bool late = false;
  Emit emit = Emit::kNone;
  std::vector<TokenId> tokens;   // [count]; empty when late
  std::vector<ExpertId> routes;  // [committed()]; empty when late or dense
  std::vector<TokenId> targets;  // [count] for kScore
  int32_t logprobs_k = 0;
  int32_t drafts = 0;  // of the tokens; below count
  // Bit t % 32 of word t / 32: token t may be drawn. Empty: any may.
  std::vector<uint32_t> allowed;

  int32_t committed() const { return count - drafts; }
};

struct UnitId {
  int32_t layer = 0;
  ExpertId expert = 0;
  bool operator==(const UnitId&) const = default;
};

// What should be resident on one rank, most urgent first. Replaces the list before.
struct Wanted {
  int32_t rank = 0;
  std::vector<UnitId> units;
  int32_t load_first = 0;  // load the first n, in order
};

struct StepPlan {
  Epoch epoch = 0;
  StepId step_id = 0;
  std::vector<int32_t> drop;  // slots; applied before add
  std::vector<SequenceAdd> add;
  std::vector<BlockTableUpdate> blocks;
  std::vector<Row> rows;
  std::vector<Wanted> wanted;
};

}  // namespace pregate
