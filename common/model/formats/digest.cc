#include "common/model/formats/digest.h"

#include <algorithm>
#include <atomic>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/numeric/bits.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/limits.h"
#include "common/base/mapped_file.h"
#include "common/base/status.h"
#include "common/model/spec/traits.h"

namespace pregate {

namespace {

void AddRopeScaling(const RopeScaling& scaling, const auto& add, const auto& add_float) {
  using enum RopeScalingKind;
  if (scaling.kind == kFactors) {
    for (const float factor : scaling.factors) add_float("rope_factor", factor);
    return;
  }
  add_float("rope_scaling.factor", scaling.factor);
  if (scaling.kind == kLlama3) {
    add_float("rope_scaling.low", scaling.low_freq_factor);
    add_float("rope_scaling.high", scaling.high_freq_factor);
    add("rope_scaling.original", scaling.original_max_position);
    return;
  }
  add("rope_scaling.kind", static_cast<int>(scaling.kind));
  add_float("rope_scaling.beta_fast", scaling.beta_fast);
  add_float("rope_scaling.beta_slow", scaling.beta_slow);
  add("rope_scaling.truncate", scaling.truncate ? 1 : 0);
  add_float("rope_scaling.attention_factor", scaling.attention_factor);
  add("rope_scaling.original", scaling.original_max_position);
  for (const float factor : scaling.factors) add_float("rope_factor", factor);
  for (const float factor : scaling.long_factors) add_float("rope_long_factor", factor);
}

// A trait that is not there has no line: digests of before stay.
void AddTraits(const ModelSpec& spec, const auto& add, const auto& add_float) {
  for (const Trait& trait : TraitsOf(spec)) {
    if (const float* number = std::get_if<float>(&trait.value)) {
      add_float(trait.name, *number);
    } else if (const bool* flag = std::get_if<bool>(&trait.value)) {
      add(trait.name, *flag ? 1 : 0);
    } else {
      add(trait.name, std::get<int>(trait.value));
    }
  }
}

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
  if (spec.rope_scaling) AddRopeScaling(*spec.rope_scaling, add, add_float);
  AddTraits(spec, add, add_float);
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

// Bytes are told apart by where they lie, not by what they are.
struct ByPlace {
  bool operator()(std::string_view a, std::string_view b) const {
    return std::pair(a.data(), a.size()) < std::pair(b.data(), b.size());
  }
};

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
    const std::map<std::string, TensorView, std::less<>>& views, bool with_xxh3) {
  struct Contents {
    std::string sha256, xxh3;
  };
  std::map<std::string_view, Contents, ByPlace> contents;  // views of a fused tensor share its own
  for (const auto& [name, view] : views) contents.try_emplace(view.stored.bytes);
  std::vector<std::pair<const std::string_view, Contents>*> work;
  for (auto& entry : contents) work.push_back(&entry);
  std::atomic<size_t> next{0};
  const auto run = [&] {
    for (size_t i = next++; i < work.size(); i = next++) {
      const std::string_view bytes = work[i]->first;
      work[i]->second = {Sha256Hex(bytes), with_xxh3 ? Xxh3Hex(bytes) : ""};
    }
  };
  {
    std::vector<std::jthread> helpers;
    const unsigned threads = std::min(std::thread::hardware_concurrency(), kHashThreadsMax);
    for (unsigned i = 1; i < threads; ++i) helpers.emplace_back(run);
    run();
  }
  std::map<std::string, TensorHash> hashes;
  for (const auto& [name, view] : views) {
    const Contents& hash = contents.at(view.stored.bytes);
    hashes[name] = {StoredTypeName(view.stored.type), view.shape(), hash.sha256, hash.xxh3};
  }
  return hashes;
}

absl::StatusOr<std::map<std::string, TensorHash>> ReadManifest(const std::string& dir) {
  const std::string path = absl::StrCat(dir, "/", kManifestFile);
  ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(path, kIndexBytesMax));
  ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(text, path));
  ASSIGN_OR_RETURN(const JsonObject manifest, JsonObject::From(json, path));
  ASSIGN_OR_RETURN(const JsonObject tensors, manifest.Object("tensors"));
  std::map<std::string, TensorHash> hashes;
  for (const auto& item : tensors.json().items()) {
    ASSIGN_OR_RETURN(const JsonObject entry, tensors.Object(item.key()));
    TensorHash& hash = hashes[item.key()];
    ASSIGN_OR_RETURN(hash.stored_type, entry.String("type"));
    ASSIGN_OR_RETURN(hash.shape, entry.Ints("shape", 0, INT64_MAX, kTensorRankMax));
    ASSIGN_OR_RETURN(hash.sha256, entry.String("sha256"));
    ASSIGN_OR_RETURN(hash.xxh3, entry.String("xxh3", ""));
  }
  return hashes;
}

absl::Status CheckContent(const StoredTensor& stored, const TensorHash& recorded) {
  ContentCheck check(&recorded);
  check.Update(stored.bytes);
  return check.Finish(stored);
}

ContentCheck::ContentCheck(const TensorHash* recorded) : recorded_(*recorded) {
  if (recorded_.xxh3.empty()) {
    sha256_.emplace();
  } else {
    xxh3_.emplace();
  }
}

void ContentCheck::Update(std::string_view bytes) {
  if (xxh3_) return xxh3_->Update(bytes);
  sha256_->Update(bytes);
}

absl::Status ContentCheck::Finish(const StoredTensor& stored) {
  const std::string& expected = xxh3_ ? recorded_.xxh3 : recorded_.sha256;
  const std::string found = xxh3_ ? xxh3_->HexDigest() : sha256_->HexDigest();
  if (found == expected) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(stored.Where(), ": content differs from ", kManifestFile,
                                          ": ", xxh3_ ? "XXH3 " : "SHA-256 ", found, ", recorded ",
                                          expected.substr(0, 64)));
}

std::string WriteManifest(const std::map<std::string, TensorHash>& hashes,
                          const std::string& digest) {
  nlohmann::ordered_json tensors = nlohmann::ordered_json::object();
  for (const auto& [name, hash] : hashes) {
    tensors[name] = {{"type", hash.stored_type},
                     {"shape", hash.shape},
                     {"sha256", hash.sha256},
                     {"xxh3", hash.xxh3}};
  }
  const nlohmann::ordered_json out = {{"digest", digest}, {"tensors", std::move(tensors)}};
  return out.dump(1) + "\n";
}

}  // namespace pregate
