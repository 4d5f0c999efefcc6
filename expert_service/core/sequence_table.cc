#include "expert_service/core/sequence_table.h"

#include <algorithm>
#include <utility>

namespace pregate {

RowError Sequence::Fail(std::string message) {
  error = message;
  return {seq_id, std::move(message)};
}

void SequenceTable::Clear() {
  for (Sequence& sequence : sequences_) sequence = Sequence();
}

void SequenceTable::Open(const SequenceAdd& add) {
  Sequence& sequence = sequences_[add.seq_slot];
  sequence = Sequence();
  sequence.open = true;
  sequence.seq_id = add.seq_id;
  sequence.home_rank = add.home_rank;
  sequence.sampling = add.sampling;
  sequence.seed = add.seed;
  sequence.length = static_cast<int32_t>(add.history.size());
  sequence.replica_length = sequence.length;
}

void SequenceTable::SetBlocks(const BlockTableUpdate& update) {
  std::vector<BlockId>& blocks = sequences_[update.seq_slot].blocks;
  const size_t end = update.first_index + update.ids.size();
  if (blocks.size() < end) blocks.resize(end);
  std::copy(update.ids.begin(), update.ids.end(), blocks.begin() + update.first_index);
}

int32_t ReplicaFillFrom(const Sequence& sequence, const Row& row) {
  const int32_t end = row.position + row.committed();
  if (row.late) return end;
  int32_t from = std::clamp(sequence.replica_length, row.position, end);
  const int32_t sampled = sequence.sampled_position;
  if (sampled >= row.position && sampled < from &&
      row.tokens[sampled - row.position] != sequence.sampled_token) {
    from = sampled;
  }
  return from;
}

}  // namespace pregate
