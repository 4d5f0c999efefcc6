#include "common/model/formats/testing/model_files.h"

#include <stdlib.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include "common/base/status.h"
#include "common/model/formats/hf_config.h"
#include "common/model/spec/tensor_names.h"

namespace pregate {

TempDir::TempDir() {
  std::string name = (std::filesystem::temp_directory_path() / "pregate-XXXXXX").string();
  PREGATE_CHECK(mkdtemp(name.data()) != nullptr, "mkdtemp");
  path_ = name;
}

TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string TempDir::path(std::string_view name) const {
  return name.empty() ? path_ : path_ + "/" + std::string(name);
}

std::string SharedDir() {
  const char* from_environment = getenv("PREGATE_SHARED_DIR");
  const std::string dir = from_environment != nullptr ? from_environment : "../shared";
  return std::filesystem::is_directory(dir) ? dir : "";
}

void WriteFile(const std::string& path, std::string_view bytes) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  out.close();
  PREGATE_CHECK(static_cast<bool>(out), "cannot write ", path);
}

std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

namespace {

template <typename T>
void Put(std::string* out, T value) {
  char bytes[sizeof value];
  std::memcpy(bytes, &value, sizeof value);
  out->append(bytes, sizeof value);
}

void PutString(std::string* out, std::string_view text) {
  Put<uint64_t>(out, text.size());
  out->append(text);
}

}  // namespace

std::string RawSafetensors(const std::string& header, std::string_view data) {
  std::string out;
  PutString(&out, header);
  out.append(data);
  return out;
}

nlohmann::json SmallConfig() {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"hidden_act", "silu"},
          {"vocab_size", 24},
          {"hidden_size", 16},
          {"intermediate_size", 10},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"max_position_embeddings", 64},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", 10000.0},
          {"tie_word_embeddings", false},
          {"bos_token_id", 1},
          {"eos_token_id", 2}};
}

OutputTensor RandomTensor(const std::string& name, std::vector<int64_t> shape, uint64_t seed) {
  std::mt19937_64 random(seed ^ std::hash<std::string>()(name));
  std::normal_distribution<float> normal;
  size_t size = 1;
  for (const int64_t dim : shape) size *= dim;
  std::vector<float> values(size);
  for (float& x : values) x = normal(random);
  return FloatTensor(name, std::move(shape), values);
}

FloatTensors RandomTensors(const ModelSpec& spec, uint64_t seed) {
  FloatTensors out;
  for (const CanonicalTensor& tensor : CanonicalTensors(spec)) {
    out[tensor.name] = RandomTensor(tensor.name, tensor.shape, seed);
  }
  return out;
}

FloatTensors RandomSmallTensors(uint64_t seed) {
  const nlohmann::json config = SmallConfig();
  const auto object = JsonObject::From(config, "config");
  return RandomTensors(*ParseDenseConfig(*object), seed);
}

std::vector<std::vector<int64_t>> OtherShapes(const std::vector<int64_t>& shape,
                                              std::mt19937_64& random) {
  std::vector<std::vector<int64_t>> shapes = {{}, {0}, shape, shape};
  shapes[2].push_back(1);
  shapes[3].insert(shapes[3].begin(), 1);
  for (size_t axis = 0; axis < shape.size(); ++axis) {
    for (const int64_t dim : {int64_t{0}, int64_t{1}, shape[axis] - 1, shape[axis] + 1,
                              2 * shape[axis], 1 + static_cast<int64_t>(random() % 40)}) {
      shapes.push_back(shape);
      shapes.back()[axis] = dim;
    }
  }
  if (shape.size() == 2) {
    shapes.push_back({shape[1], shape[0]});
    shapes.push_back({shape[0] * shape[1]});
  }
  std::erase(shapes, shape);
  return shapes;
}

std::vector<float> Values(const OutputTensor& tensor) {
  std::vector<float> out(tensor.bytes.size() / sizeof(float));
  std::memcpy(out.data(), tensor.bytes.data(), tensor.bytes.size());
  return out;
}

void WriteModel(const std::string& dir, const nlohmann::json& config, const FloatTensors& tensors) {
  std::filesystem::create_directories(dir);
  WriteFile(dir + "/config.json", config.dump());
  std::vector<OutputTensor> list;
  for (const auto& [name, tensor] : tensors) list.push_back(tensor);
  const absl::Status status = WriteSafetensors(dir + "/model.safetensors", list);
  PREGATE_CHECK(status.ok(), "", status.ToString());
}

std::vector<float> ReadTensor(const Checkpoint& checkpoint, const std::string& name) {
  for (const TensorInfo& tensor : checkpoint.Tensors()) {
    if (tensor.name != name) continue;
    size_t size = 1;
    for (const int64_t dim : tensor.shape) size *= dim;
    std::vector<float> out(size);
    const absl::Status status = checkpoint.Read(name, absl::MakeSpan(out));
    PREGATE_CHECK(status.ok(), "", status.ToString());
    return out;
  }
  PREGATE_CHECK(false, "no tensor ", name);
}

GgufBuilder& GgufBuilder::Raw(const std::string& key, uint32_t type, std::string_view bytes) {
  ++num_keys_;
  PutString(&keys_, key);
  Put<uint32_t>(&keys_, type);
  keys_.append(bytes);
  return *this;
}

GgufBuilder& GgufBuilder::U32(const std::string& key, uint32_t value) {
  std::string bytes;
  Put(&bytes, value);
  return Raw(key, 4, bytes);
}

GgufBuilder& GgufBuilder::F32(const std::string& key, float value) {
  std::string bytes;
  Put(&bytes, value);
  return Raw(key, 6, bytes);
}

GgufBuilder& GgufBuilder::Str(const std::string& key, const std::string& value) {
  std::string bytes;
  PutString(&bytes, value);
  return Raw(key, 8, bytes);
}

GgufBuilder& GgufBuilder::Strings(const std::string& key, const std::vector<std::string>& values) {
  std::string bytes;
  Put<uint32_t>(&bytes, 8);
  Put<uint64_t>(&bytes, values.size());
  for (const std::string& value : values) PutString(&bytes, value);
  return Raw(key, 9, bytes);
}

GgufBuilder& GgufBuilder::Tensor(const std::string& name, uint32_t type,
                                 const std::vector<uint64_t>& axes, std::string_view bytes,
                                 int64_t offset) {
  ++num_tensors_;
  data_.resize((data_.size() + 31) / 32 * 32);
  PutString(&infos_, name);
  Put<uint32_t>(&infos_, static_cast<uint32_t>(axes.size()));
  for (const uint64_t axis : axes) Put(&infos_, axis);
  Put(&infos_, type);
  Put<uint64_t>(&infos_, offset < 0 ? data_.size() : static_cast<uint64_t>(offset));
  data_.append(bytes);
  return *this;
}

std::string GgufBuilder::Build() const {
  std::string out = "GGUF";
  Put(&out, version_);
  Put(&out, num_tensors_);
  Put(&out, num_keys_);
  out += keys_ + infos_;
  out.resize((out.size() + 31) / 32 * 32);
  return out + data_;
}

}  // namespace pregate
