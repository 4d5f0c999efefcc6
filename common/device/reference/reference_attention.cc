#include <algorithm>
#include <cmath>
#include <vector>

#include "common/base/status.h"
#include "common/device/reference/reference_ops.h"
#include "common/device/rounding.h"

namespace pregate::reference {
namespace {

// The angle is a float32 product, as in Hugging Face's implementation.
void Rotate(const float* in, int head_dim, const RopeShape& rope, int position, float* out) {
  const int half = rope.dims / 2;
  for (int i = 0; i < half; ++i) {
    const float angle = static_cast<float>(position) * rope.inv_freq[i];
    const float c = std::cos(angle) * rope.scale, s = std::sin(angle) * rope.scale;
    const float a = in[i], b = in[i + half];
    out[i] = a * c - b * s;
    out[i + half] = b * c + a * s;
  }
  std::copy(in + rope.dims, in + head_dim, out + rope.dims);
}

// One head, normed where there are weights.
std::vector<float> NormHead(const float* in, int head_dim, const float* weights, float eps) {
  std::vector<float> out(in, in + head_dim);
  if (weights == nullptr) return out;
  double squares = 0;
  for (const float x : out) squares += double{x} * x;
  const double inv = 1 / std::sqrt(squares / head_dim + eps);
  for (int i = 0; i < head_dim; ++i) out[i] = static_cast<float>(in[i] * inv * weights[i]);
  return out;
}

}  // namespace

float* KvRow(const KvLayer& kv, bool value, const TokenBatch& batch, int row, int position,
             int kv_head) {
  const int32_t* table = batch.block_tables + int64_t{batch.seq_slots[row]} * batch.blocks_per_seq;
  const int64_t block = table[position / kKvBlockTokens];
  PREGATE_CHECK(block >= 0 && block < kv.num_blocks, "block ", block, " of ", kv.num_blocks);
  const int64_t token = block * kKvBlockTokens + position % kKvBlockTokens +
                        (value ? int64_t{kv.num_blocks} * kKvBlockTokens : 0);
  return static_cast<float*>(kv.data) + (token * kv.num_kv_heads + kv_head) * kv.head_dim;
}

void RotateAndStore(const TokenBatch& batch, const AttentionShape& shape, const HeadNorms& norms,
                    const float* qkv, const KvLayer& kv, float* q_out) {
  const int d = shape.head_dim;
  std::vector<float> rotated(d);
  for (int r = 0; r < *batch.rows.num; ++r) {
    const float* in = qkv + int64_t{r} * (shape.num_heads + 2 * shape.num_kv_heads) * d;
    const int position = batch.positions[r];
    for (int h = 0; h < shape.num_heads; ++h, in += d) {
      const std::vector<float> head = NormHead(in, d, norms.q, shape.norm_eps);
      Rotate(head.data(), d, shape.rope, position, q_out + (int64_t{r} * shape.num_heads + h) * d);
    }
    for (int h = 0; h < shape.num_kv_heads; ++h, in += d) {
      const std::vector<float> head = NormHead(in, d, norms.k, shape.norm_eps);
      Rotate(head.data(), d, shape.rope, position, rotated.data());
      float* key = KvRow(kv, false, batch, r, position, h);
      for (int i = 0; i < d; ++i) key[i] = RoundTo(kv.type, rotated[i]);
    }
    for (int h = 0; h < shape.num_kv_heads; ++h, in += d) {
      float* value = KvRow(kv, true, batch, r, position, h);
      for (int i = 0; i < d; ++i) value[i] = RoundTo(kv.type, in[i]);
    }
  }
}

void Attention(const TokenBatch& batch, const AttentionShape& shape, const float* q,
               const KvLayer& kv, float* act_out) {
  const int d = shape.head_dim;
  const int queries_per_kv = shape.num_heads / shape.num_kv_heads;
  for (int r = 0; r < *batch.rows.num; ++r) {
    for (int h = 0; h < shape.num_heads; ++h) {
      const float* query = q + (int64_t{r} * shape.num_heads + h) * d;
      const int end = batch.positions[r] + 1;
      const int first = shape.window > 0 ? std::max(0, end - shape.window) : 0;
      const int num_keys = end - first;
      std::vector<double> p(num_keys);
      for (int j = 0; j < num_keys; ++j) {
        const float* key = KvRow(kv, false, batch, r, first + j, h / queries_per_kv);
        for (int i = 0; i < d; ++i) p[j] += double{query[i]} * key[i];
        p[j] *= shape.scale;
      }
      const double top = *std::max_element(p.begin(), p.end());
      double sum = 0;
      for (double& x : p) sum += x = std::exp(x - top);
      std::vector<double> out(d);
      for (int j = 0; j < num_keys; ++j) {
        const float* value = KvRow(kv, true, batch, r, first + j, h / queries_per_kv);
        for (int i = 0; i < d; ++i) out[i] += p[j] / sum * value[i];
      }
      float* dst = act_out + (int64_t{r} * shape.num_heads + h) * d;
      for (int i = 0; i < d; ++i) dst[i] = RoundTo(shape.act, static_cast<float>(out[i]));
    }
  }
}

}  // namespace pregate::reference
