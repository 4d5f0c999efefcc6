#include "refactor/baselines.h"

#include <algorithm>
#include <numeric>
#include <random>

#include "common/base/json.h"
#include "common/base/status.h"
#include "refactor/split.h"

namespace pregate {
namespace {

std::vector<int32_t> AllNeurons(int intermediate) {
  std::vector<int32_t> all(intermediate);
  std::iota(all.begin(), all.end(), 0);
  return all;
}

LayerNeurons OneSet(std::vector<int32_t> neurons, int num_experts) {
  return {.shared = std::move(neurons), .own = std::vector<std::vector<int32_t>>(num_experts)};
}

// The first `num` of `from` in a random order, ascending.
std::vector<int32_t> Draw(std::vector<int32_t>& from, size_t num, std::mt19937_64& random) {
  std::shuffle(from.begin(), from.end(), random);
  std::vector<int32_t> drawn(from.begin(), from.begin() + static_cast<int64_t>(num));
  std::sort(drawn.begin(), drawn.end());
  return drawn;
}

LayerNeurons RandomSets(const ArtifactLayer& like, int intermediate, std::mt19937_64& random) {
  std::vector<int32_t> rest = AllNeurons(intermediate);
  LayerNeurons layer;
  layer.shared = Draw(rest, like.shared.size(), random);
  rest.erase(rest.begin(), rest.begin() + static_cast<int64_t>(like.shared.size()));
  for (const std::vector<int32_t>& own : like.own) {
    layer.own.push_back(Draw(rest, own.size(), random));
  }
  return layer;
}

}  // namespace

std::vector<LayerNeurons> BaselineNeurons(const std::string& name, const Artifact& split,
                                          const std::vector<std::vector<int32_t>>& one_set,
                                          int intermediate, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<LayerNeurons> layers;
  for (size_t l = 0; l < split.layers.size(); ++l) {
    const ArtifactLayer& like = split.layers[l];
    if (name == "parent" || name == "parent-text") {
      layers.push_back(OneSet(AllNeurons(intermediate), split.num_experts()));
    } else if (name == "dense") {
      layers.push_back(OneSet(one_set[l], split.num_experts()));
    } else if (name == "random") {
      layers.push_back(RandomSets(like, intermediate, random));
    } else {
      layers.push_back({like.shared, like.own});
    }
  }
  return layers;
}

absl::StatusOr<std::vector<std::vector<int32_t>>> OneSetFromRecord(const nlohmann::json& record,
                                                                   const std::string& where,
                                                                   const ModelSpec& dense) {
  const auto sets = record.find("one_set");
  if (sets == record.end()) {
    return absl::FailedPreconditionError(absl::StrCat(
        where,
        ": is of an earlier version, from which baselines cannot go on: give another --work"));
  }
  if (!sets->is_array() || sets->size() != static_cast<size_t>(dense.num_layers)) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": one_set is not of ", dense.num_layers,
                                                   " layers but of ",
                                                   sets->is_array() ? sets->size() : 0));
  }
  std::vector<std::vector<int32_t>> out;
  for (const nlohmann::json& layer : *sets) {
    const nlohmann::json named = {{"one_set", layer}};
    ASSIGN_OR_RETURN(const JsonObject object, JsonObject::From(named, where));
    ASSIGN_OR_RETURN(const auto neurons,
                     object.Ints("one_set", 0, dense.intermediate - 1, dense.intermediate));
    if (neurons.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, ": one_set has an empty layer, ", out.size()));
    }
    out.emplace_back(neurons.begin(), neurons.end());
  }
  return out;
}

std::vector<ArtifactLayer> BaselineLayers(std::vector<LayerNeurons> neurons,
                                          std::vector<LayerScales> scales, int step) {
  std::vector<ArtifactLayer> layers = MakeLayers(std::move(neurons), std::move(scales));
  for (ArtifactLayer& layer : layers) {
    if (!layer.own[0].empty()) continue;
    PREGATE_CHECK(!layer.shared.empty());
    const auto first = static_cast<int64_t>(layer.shared.size()) - step;
    for (auto& own : layer.own) own.assign(layer.shared.begin() + first, layer.shared.end());
    layer.shared.resize(first);
    if (layer.shared_scale.empty()) continue;
    for (auto& scale : layer.own_scale) {
      scale.assign(layer.shared_scale.begin() + first, layer.shared_scale.end());
    }
    layer.shared_scale.resize(first);
  }
  return layers;
}

}  // namespace pregate
