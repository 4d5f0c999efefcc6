// Model files for tests: made on the spot in a directory that vanishes, valid or broken in one
// place.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "common/model/formats/checkpoint.h"
#include "common/model/formats/safetensors_writer.h"
#include "common/model/formats/stored_tensor.h"
#include "nlohmann/json.hpp"

namespace pregate {

class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  std::string path(std::string_view name = "") const;  // of a file in it

 private:
  std::string path_;
};

// Where golden cases lie: $PREGATE_SHARED_DIR, else ../shared. Empty where there is none.
std::string SharedDir();

void WriteFile(const std::string& path, std::string_view bytes);
std::string ReadFile(const std::string& path);

// Length, header and data, with no check whatsoever.
std::string RawSafetensors(const std::string& header, std::string_view data);

using FloatTensors = std::map<std::string, OutputTensor>;  // by name, F32

// A small dense Llama: 2 layers, hidden 16, 4 heads on 2, head 4, FFN 10, vocabulary 24, untied.
nlohmann::json SmallConfig();
FloatTensors RandomTensors(const ModelSpec& spec, uint64_t seed);
FloatTensors RandomSmallTensors(uint64_t seed);  // of SmallConfig
OutputTensor RandomTensor(const std::string& name, std::vector<int64_t> shape, uint64_t seed);
// Shapes that differ from `shape`: more and fewer rows and columns, other ranks, swapped, empty.
std::vector<std::vector<int64_t>> OtherShapes(const std::vector<int64_t>& shape,
                                              std::mt19937_64& random);
std::vector<float> Values(const OutputTensor& tensor);

void WriteModel(const std::string& dir, const nlohmann::json& config, const FloatTensors& tensors);

// The whole of one tensor; fails the test on an error.
std::vector<float> ReadTensor(const Checkpoint& checkpoint, const std::string& name);

// Writes GGUF version 3, or what it is told to.
class GgufBuilder {
 public:
  explicit GgufBuilder(uint32_t version = 3) : version_(version) {}
  GgufBuilder& U32(const std::string& key, uint32_t value);
  GgufBuilder& F32(const std::string& key, float value);
  GgufBuilder& Str(const std::string& key, const std::string& value);
  GgufBuilder& Strings(const std::string& key, const std::vector<std::string>& values);
  GgufBuilder& Raw(const std::string& key, uint32_t type, std::string_view bytes);
  // `type` is GGUF's number; axes as in the file, fastest first. Each tensor begins where the one
  // before it ends, aligned to 32, unless `offset` says otherwise.
  GgufBuilder& Tensor(const std::string& name, uint32_t type, const std::vector<uint64_t>& axes,
                      std::string_view bytes, int64_t offset = -1);
  std::string Build() const;

 private:
  uint32_t version_;
  uint64_t num_keys_ = 0, num_tensors_ = 0;
  std::string keys_, infos_, data_;
};

}  // namespace pregate
