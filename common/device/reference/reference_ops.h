// The operations of the reference device that deserve a file of their own.
#pragma once

#include "common/device/device.h"

namespace pregate::reference {

// Keys, then values: [2][num_blocks * 16][num_kv_heads][head_dim] floats, rounded to the type.
float* KvRow(const KvLayer& kv, bool value, const TokenBatch& batch, int row, int position,
             int kv_head);

void RotateAndStore(const TokenBatch& batch, const AttentionShape& shape, const HeadNorms& norms,
                    const float* qkv, const KvLayer& kv, float* q_out);
void Attention(const TokenBatch& batch, const AttentionShape& shape, const float* q,
               const KvLayer& kv, float* act_out);

void BuildExchange(RowCount tokens, const ExchangeArgs& args, const ExchangeArrays& out);
void StoreWire(float value, int64_t index, WireType type, void* wire);
float LoadWire(const void* wire, int64_t index, WireType type);

// The token that common/step/sampling.h prescribes for row r, whose logits these are.
int32_t SampleToken(const float* logits, int vocab_size, const SampleArgs& args, int r);

}  // namespace pregate::reference
