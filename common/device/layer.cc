#include "common/device/layer.h"

#include <algorithm>

namespace pregate {
namespace {

// Hands out pieces of one buffer, each aligned to 256 bytes. Without a buffer it only counts.
class Carver {
 public:
  explicit Carver(void* base) : base_(static_cast<char*>(base)) {}
  template <class T>
  void Take(size_t rows, size_t row_bytes, T*& out) {
    out = base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + used_);
    used_ += (rows * row_bytes + 255) / 256 * 256;
  }
  size_t used() const { return used_; }

 private:
  char* base_;
  size_t used_ = 0;
};

size_t Carve(void* base, const WorkspaceShape& s, LayerWorkspace& w) {
  const size_t hidden = s.attention.hidden, q_width = s.attention.q_width();
  const size_t tokens = s.tokens_max, logits_rows = s.logits_rows_max, mlp_width = s.mlp_width;
  const size_t act_width = std::max({hidden, q_width, mlp_width});
  const size_t wide = std::max({hidden, size_t(s.attention.qkv_width()), mlp_width});
  Carver carver(base);
  char* act = nullptr;
  carver.Take(std::max(tokens, logits_rows), act_width * s.act_bytes, act);
  w.act = act;
  carver.Take(tokens, wide * sizeof(float), w.wide);
  carver.Take(tokens, q_width * sizeof(float), w.q);
  carver.Take(s.has_own ? tokens : 0, hidden * sizeof(float), w.own);
  carver.Take(s.emit_picks ? logits_rows : 0, hidden * sizeof(float), w.picked);
  carver.Take(logits_rows, s.vocab_size * sizeof(float), w.logits);
  return carver.used();
}

}  // namespace

size_t LayerWorkspace::Bytes(const WorkspaceShape& shape) {
  LayerWorkspace counted;
  return Carve(nullptr, shape, counted);
}

LayerWorkspace LayerWorkspace::At(void* base, const WorkspaceShape& shape) {
  LayerWorkspace workspace;
  Carve(base, shape, workspace);
  return workspace;
}

}  // namespace pregate
