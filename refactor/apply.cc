#include "refactor/apply.h"

#include <algorithm>

#include "common/base/status.h"

namespace pregate {
namespace {

// Answers for the refactored model's tensors. The writer asks layer by layer, so the dense FFN of
// one layer at a time is decoded once and cut up from memory.
class RefactoredTensors {
 public:
  RefactoredTensors(const Checkpoint& dense, const Artifact& artifact)
      : dense_(dense),
        artifact_(artifact),
        hidden_(dense.spec().hidden),
        width_(dense.spec().intermediate) {}

  absl::Status Fill(const CanonicalTensor& tensor, absl::Span<float> out) {
    switch (tensor.part) {
      case TensorPart::kShared:
      case TensorPart::kExpert:
        return FillFfn(tensor, out);
      case TensorPart::kRouter:
        return FillRouter(tensor, out);
      default:
        return ReadTuned(tensor.name, out);
    }
  }

 private:
  absl::Status ReadTuned(const std::string& name, absl::Span<float> out) const {
    RETURN_IF_ERROR(dense_.Read(name, out));
    const auto delta = artifact_.deltas.find(name);
    if (delta != artifact_.deltas.end()) AddDelta(delta->second, out);
    return absl::OkStatus();
  }

  absl::Status FillFfn(const CanonicalTensor& tensor, absl::Span<float> out) {
    RETURN_IF_ERROR(LoadLayer(tensor.layer));
    const ArtifactLayer& layer = artifact_.layers[tensor.layer];
    const bool shared = tensor.part == TensorPart::kShared;
    const std::vector<int32_t>& neurons = shared ? layer.shared : layer.own[tensor.expert];
    if (tensor.name.ends_with("gate_proj.weight")) {
      CutRows(gate_, neurons, out);
    } else if (tensor.name.ends_with("up_proj.weight")) {
      CutRows(up_, neurons, out);
    } else {
      static const std::vector<float> kUnscaled;
      const bool own_scaled = !shared && !layer.own_scale.empty();
      const std::vector<float>& scale = own_scaled ? layer.own_scale[tensor.expert]
                                        : shared   ? layer.shared_scale
                                                   : kUnscaled;
      CutColumns(neurons, scale, out);
    }
    return absl::OkStatus();
  }

  absl::Status LoadLayer(int layer) {
    if (layer == layer_) return absl::OkStatus();
    const std::string prefix = absl::StrCat("model.layers.", layer, ".mlp.");
    for (const auto& [name, buffer] : {std::pair("gate_proj", &gate_), std::pair("up_proj", &up_),
                                       std::pair("down_proj", &down_)}) {
      buffer->resize(static_cast<size_t>(hidden_) * width_);
      RETURN_IF_ERROR(ReadTuned(absl::StrCat(prefix, name, ".weight"), absl::MakeSpan(*buffer)));
    }
    layer_ = layer;
    return absl::OkStatus();
  }

  void CutRows(const std::vector<float>& matrix, const std::vector<int32_t>& neurons,
               absl::Span<float> out) const {
    for (size_t i = 0; i < neurons.size(); ++i) {
      std::copy_n(matrix.begin() + static_cast<int64_t>(neurons[i]) * hidden_, hidden_,
                  out.begin() + i * hidden_);
    }
  }

  // Of the down projection; `scale` is empty or has a factor for each neuron.
  void CutColumns(const std::vector<int32_t>& neurons, const std::vector<float>& scale,
                  absl::Span<float> out) const {
    for (int64_t h = 0; h < hidden_; ++h) {
      const float* row = &down_[h * width_];
      float* target = &out[h * neurons.size()];
      for (size_t i = 0; i < neurons.size(); ++i) {
        target[i] = row[neurons[i]] * (scale.empty() ? 1.0f : scale[i]);
      }
    }
  }

  absl::Status FillRouter(const CanonicalTensor& tensor, absl::Span<float> out) const {
    const auto it = artifact_.router_tensors.find(tensor.name);
    if (it != artifact_.router_tensors.end()) {
      std::copy(it->second.values.begin(), it->second.values.end(), out.begin());
      return absl::OkStatus();
    }
    std::vector<float> embedding(static_cast<size_t>(dense_.spec().vocab_size) * hidden_);
    RETURN_IF_ERROR(dense_.Read("model.embed_tokens.weight", absl::MakeSpan(embedding)));
    const std::vector<int32_t>& columns = artifact_.embed_columns;
    for (int64_t token = 0; token < dense_.spec().vocab_size; ++token) {
      for (size_t c = 0; c < columns.size(); ++c) {
        out[token * columns.size() + c] =
            embedding[token * hidden_ + columns[c]] * artifact_.embed_scale;
      }
    }
    return absl::OkStatus();
  }

  const Checkpoint& dense_;
  const Artifact& artifact_;
  const int64_t hidden_, width_;
  int layer_ = -1;
  std::vector<float> gate_, up_, down_;  // of layer_
};

}  // namespace

absl::Status ApplyArtifact(const Checkpoint& dense, const Artifact& artifact,
                           const std::string& out, const ApplyOptions& options) {
  const std::string& source_digest = artifact.provenance.source_digest;
  // An import has another digest than what it was imported from, but the same neurons.
  const bool same_model =
      !source_digest.empty() &&
      (source_digest == dense.digest() || source_digest == dense.spec().provenance.source_digest);
  if (!same_model && !options.force) {
    return absl::FailedPreconditionError(
        absl::StrCat("artifact: was made from a model with digest ", source_digest.substr(0, 64),
                     ", but ", dense.path(), " has ", dense.digest()));
  }
  ASSIGN_OR_RETURN(const ModelSpec spec, RefactoredSpec(dense.spec(), artifact));
  WriteOptions write{.dtype = options.dtype.value_or(NativeDType(dense)),
                     .progress = options.progress};
  write.write_tokenizer = [&](const std::string& dir) { return CopyTokenizer(dense.path(), dir); };
  RefactoredTensors tensors(dense, artifact);
  const auto fill = [&](const CanonicalTensor& tensor, absl::Span<float> values) {
    return tensors.Fill(tensor, values);
  };
  return WriteCheckpoint(out, spec, fill, write).status();
}

absl::Status ApplyArtifact(const Checkpoint& dense, const std::string& artifact_path,
                           const std::string& out, const ApplyOptions& options) {
  ASSIGN_OR_RETURN(const Artifact artifact, ReadArtifact(artifact_path));
  return ApplyArtifact(dense, artifact, out, options);
}

}  // namespace pregate
