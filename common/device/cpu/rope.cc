#include <algorithm>
#include <cmath>

#include "common/base/status.h"
#include "common/device/cpu/attention.h"
#include "common/device/rounding.h"

namespace pregate::cpu {
namespace {

void Rotate(const float* in, const float* angles, int half, int head_dim, float* out) {
  for (int i = 0; i < half; ++i) {
    const float a = in[i], b = in[i + half], c = angles[i], s = angles[half + i];
    out[i] = a * c - b * s;
    out[i + half] = b * c + a * s;
  }
  std::copy(in + 2 * half, in + head_dim, out + 2 * half);
}

// out[i * stride] = in[i], rounded.
void StoreStrided(const float* in, int n, int64_t stride, KvType type, char* base, int64_t at) {
  if (type == KvType::kBF16) {
    auto* out = reinterpret_cast<uint16_t*>(base) + at;
    for (int i = 0; i < n; ++i) out[i * stride] = Bf16Bits(in[i]);
  } else {
    auto* out = reinterpret_cast<float*>(base) + at;
    for (int i = 0; i < n; ++i) out[i * stride] = in[i];
  }
}

}  // namespace

size_t KvImageBytes(int num_blocks, int num_kv_heads, int head_dim, KvType type) {
  const KvView view = {nullptr, type, num_kv_heads, head_dim};
  return size_t(num_blocks) * num_kv_heads * view.head_elements() * ElementBytes(type);
}

bool RopeTable::Holds(const RopeShape& rope) const {
  return rope.dims == 2 * half_ && rope.scale == scale_ &&
         std::equal(inv_freq_.begin(), inv_freq_.end(), rope.inv_freq);
}

void RopeTable::Reserve(int64_t num_positions) {
  if (filled_.size() >= static_cast<size_t>(num_positions)) return;
  filled_.resize(num_positions);
  values_.resize(num_positions * 2 * half_);
}

void RopeTable::Fill(int32_t position) {
  PREGATE_CHECK(position >= 0 && static_cast<size_t>(position) < filled_.size(), "position ",
                position, " of ", filled_.size());
  if (filled_[position]) return;
  float* row = values_.data() + int64_t{position} * 2 * half_;
  for (int i = 0; i < half_; ++i) {
    const float angle = static_cast<float>(position) * inv_freq_[i];
    row[i] = std::cos(angle) * scale_;
    row[half_ + i] = std::sin(angle) * scale_;
  }
  filled_[position] = true;
}

const RopeTable& AttentionOps::PrepareRope(const TokenBatch& batch, const RopeShape& rope) {
  auto table =
      std::find_if(ropes_.begin(), ropes_.end(), [&](const RopeTable& t) { return t.Holds(rope); });
  if (table == ropes_.end()) table = ropes_.insert(table, RopeTable(rope));
  table->Reserve(int64_t{batch.blocks_per_seq} * kKvBlockTokens);
  for (int r = 0; r < *batch.rows.num; ++r) table->Fill(batch.positions[r]);
  return *table;
}

void AttentionOps::RotateAndStore(const TokenBatch& batch, const AttentionShape& shape,
                                  const HeadNorms& norms, const float* qkv, const KvLayer& kv,
                                  float* q_out) {
  const RopeTable& rope = PrepareRope(batch, shape.rope);
  const int d = shape.head_dim, half = shape.rope.dims / 2;
  const KvView view = {nullptr, kv.type, kv.num_kv_heads, d};
  char* data = static_cast<char*>(kv.data);
  const auto turn = [&](const float* head, const float* norm, const float* angles, float* out) {
    float normed[kHeadDimMax];
    if (norm != nullptr) RmsNormRow(head, norm, d, shape.norm_eps, ActType::kF32, normed);
    Rotate(norm != nullptr ? normed : head, angles, half, d, out);
  };
  const auto run = [&](int64_t r, int) {
    const float* in = qkv + r * (shape.num_heads + 2 * shape.num_kv_heads) * d;
    const int32_t position = batch.positions[r];
    const float* angles = rope.Row(position);
    float* q = q_out + r * shape.num_heads * d;
    for (int h = 0; h < shape.num_heads; ++h, in += d) turn(in, norms.q, angles, q + h * d);
    const int64_t block = batch.block_tables[int64_t{batch.seq_slots[r]} * batch.blocks_per_seq +
                                             position / kKvBlockTokens];
    PREGATE_CHECK(block >= 0 && block < kv.num_blocks, "block ", block, " of ", kv.num_blocks);
    const int64_t slot = position % kKvBlockTokens;
    for (int h = 0; h < shape.num_kv_heads; ++h) {
      const int64_t at = (block * shape.num_kv_heads + h) * view.head_elements();
      const float* key = in + h * d;
      float turned[kHeadDimMax];
      turn(key, norms.k, angles, turned);
      StoreStrided(turned, d, kKvBlockTokens, kv.type, data, at + slot);
      StoreStrided(key + shape.num_kv_heads * d, d, 1, kv.type, data,
                   at + view.key_elements() + slot * view.padded_dim());
    }
  };
  PREGATE_CHECK(d <= kHeadDimMax && shape.rope.dims % 2 == 0 && shape.rope.dims <= d, "head_dim ",
                d, " dims ", shape.rope.dims);
  pool_.Run(*batch.rows.num, run);
}

}  // namespace pregate::cpu
