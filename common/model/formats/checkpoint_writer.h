// Writes a checkpoint in our own format (docs/CONTRACTS.md, "Checkpoint"): config.json,
// model.safetensors, manifest.json and the tokenizer's files. Streams tensor by tensor: memory
// holds a tensor for each thread, never the model.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/model/formats/checkpoint.h"
#include "common/model/spec/tensor_names.h"

namespace pregate {

// Fills one tensor. Called once for each: in the order of CanonicalTensors, layer by layer, or by
// WriteOptions::threads at once.
using TensorSource =
    std::function<absl::Status(const CanonicalTensor& tensor, absl::Span<float> out)>;

struct WriteProgress {
  std::string tensor;  // just written
  uint64_t bytes_done = 0;
  uint64_t bytes_total = 0;
};

struct WriteOptions {
  DType dtype = DType::kF32;  // of the backbone's matrices; norms and router are always f32
  int threads = 1;            // >= 1: that fill, encode and hash tensors; the file is the same
  std::function<absl::Status(const std::string& dir)> write_tokenizer;  // empty: none
  std::function<void(const WriteProgress&)> progress;                   // empty: silent
};

// All or nothing: writes into a temporary directory beside `dir` and renames it. AlreadyExists when
// `dir` is there and not empty; InvalidArgument where a finite value is beyond the dtype. Returns
// the model digest.
absl::StatusOr<std::string> WriteCheckpoint(const std::string& dir, const ModelSpec& spec,
                                            const TensorSource& source,
                                            const WriteOptions& options);

// The smallest dtype that holds the backbone's matrices exactly: f16 or bf16 where all are of that
// type, else f32.
DType NativeDType(const Checkpoint& checkpoint);

// Copies tokenizer.model, tokenizer.json and their companions from a directory, or writes them from
// a GGUF file's metadata. OK and no files where the source has no tokenizer.
absl::Status CopyTokenizer(const std::string& source_path, const std::string& dir);

}  // namespace pregate
