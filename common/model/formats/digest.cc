#include "common/model/formats/digest.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <utility>
#include <vector>

#include "absl/numeric/bits.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/limits.h"
#include "common/base/sha256.h"
#include "common/base/xxh3.h"

namespace pregate {
namespace {

// One "field=value" line each, in this order; floats by their exact shortest form.
std::string CanonicalFields(const ModelSpec& spec) {
  std::string out = "pregate-digest-1\n";
  const auto add = [&out](const char* field, const auto& value) {
    absl::StrAppend(&out, field, "=", value, "\n");
  };
  const auto add_float = [&out](const char* field, float value) {
    absl::StrAppend(&out, field, "=", absl::Hex(absl::bit_cast<uint32_t>(value)), "\n");
  };
  add("vocab_size", spec.vocab_size);
  add("hidden", spec.hidden);
  add("num_layers", spec.num_layers);
  add("num_heads", spec.num_heads);
  add("num_kv_heads", spec.num_kv_heads);
  add("head_dim", spec.head_dim);
  add("max_position", spec.max_position);
  add("tie_embeddings", spec.tie_embeddings ? 1 : 0);
  add_float("rms_eps", spec.rms_eps);
  add_float("rope_theta", spec.rope_theta);
  if (spec.rope_scaling && !spec.rope_scaling->factors.empty()) {
    for (const float factor : spec.rope_scaling->factors) add_float("rope_factor", factor);
  } else if (spec.rope_scaling) {
    add_float("rope_scaling.factor", spec.rope_scaling->factor);
    add_float("rope_scaling.low", spec.rope_scaling->low_freq_factor);
    add_float("rope_scaling.high", spec.rope_scaling->high_freq_factor);
    add("rope_scaling.original", spec.rope_scaling->original_max_position);
  }
  add("num_experts", spec.num_experts);
  if (spec.router) {
    add("router.num_layers", spec.router->num_layers);
    add("router.num_heads", spec.router->num_heads);
    add_float("router.rms_eps", spec.router->rms_eps);
    add_float("router.rope_theta", spec.router->rope_theta);
    add_float("router.normalizer", spec.router->normalizer);
    add("router.activation", spec.router->activation == RouterActivation::kSilu ? "silu" : "relu");
  }
  return out;
}

TensorHash HashView(const TensorView& view) {
  return {StoredTypeName(view.stored.type), view.shape(), Sha256Hex(view.stored.bytes),
          Xxh3Hex(view.stored.bytes)};
}

}  // namespace

std::string ModelDigest(const ModelSpec& spec, const std::map<std::string, TensorHash>& hashes) {
  Sha256 sha;
  sha.Update(CanonicalFields(spec));
  for (const auto& [name, hash] : hashes) {
    sha.Update(absl::StrCat(name, " ", hash.stored_type, " [", absl::StrJoin(hash.shape, ","), "] ",
                            hash.sha256, "\n"));
  }
  return sha.HexDigest();
}

std::map<std::string, TensorHash> HashViews(
    const std::map<std::string, TensorView, std::less<>>& views) {
  std::vector<std::pair<const TensorView*, TensorHash*>> work;
  std::map<std::string, TensorHash> hashes;
  for (const auto& [name, view] : views) work.emplace_back(&view, &hashes[name]);
  std::atomic<size_t> next{0};
  const auto run = [&] {
    for (size_t i = next++; i < work.size(); i = next++) *work[i].second = HashView(*work[i].first);
  };
  {
    std::vector<std::jthread> helpers;
    const unsigned threads = std::min(std::thread::hardware_concurrency(), kHashThreadsMax);
    for (unsigned i = 1; i < threads; ++i) helpers.emplace_back(run);
    run();
  }
  return hashes;
}

}  // namespace pregate
