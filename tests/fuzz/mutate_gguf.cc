#include <array>
#include <cstring>
#include <limits>
#include <optional>

#include "common/model/formats/testing/model_files.h"
#include "tests/fuzz/mutators.h"

namespace pregate::fuzz {
namespace {

constexpr uint32_t kString = 8, kArray = 9, kTypes = 13;
constexpr uint64_t kAlignment = 32;

// By type; strings and arrays have sizes of their own.
constexpr std::array<uint64_t, kTypes> kScalarBytes = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

struct Key {
  std::string name;
  uint32_t type = 0;
  std::string value;
};
struct Tensor {
  std::string name;
  std::vector<uint64_t> axes;
  uint32_t type = 0;
  uint64_t offset = 0;
};
struct File {
  uint32_t version = 3;
  std::vector<Key> keys;
  std::vector<Tensor> tensors;
  std::string data;
};

// Reads what GgufBuilder writes; a file that is cut or otherwise off yields nothing.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}

  std::optional<File> Read() {
    File file;
    Take(4);
    file.version = Number<uint32_t>();
    const auto num_tensors = Number<uint64_t>(), num_keys = Number<uint64_t>();
    for (uint64_t i = 0; ok_ && i < num_keys; ++i) file.keys.push_back(ReadKey());
    for (uint64_t i = 0; ok_ && i < num_tensors; ++i) file.tensors.push_back(ReadTensor());
    Take((kAlignment - at_ % kAlignment) % kAlignment);
    if (!ok_) return std::nullopt;
    file.data = bytes_.substr(at_);
    return file;
  }

 private:
  std::string_view Take(uint64_t size) {
    ok_ = ok_ && size <= bytes_.size() - at_;
    if (!ok_) return {};
    at_ += size;
    return bytes_.substr(at_ - size, size);
  }
  template <typename T>
  T Number() {
    T value = 0;
    const std::string_view raw = Take(sizeof value);
    if (ok_) std::memcpy(&value, raw.data(), sizeof value);
    return value;
  }
  std::string_view String() { return Take(Number<uint64_t>()); }

  Key ReadKey() {
    Key key;
    key.name = String();
    key.type = Number<uint32_t>();
    const uint64_t begin = at_;
    if (key.type == kArray) {
      const auto type = Number<uint32_t>();
      const auto count = Number<uint64_t>();
      for (uint64_t i = 0; ok_ && i < count; ++i) SkipValue(type);
    } else {
      SkipValue(key.type);
    }
    if (ok_) key.value = bytes_.substr(begin, at_ - begin);
    return key;
  }
  void SkipValue(uint32_t type) {
    ok_ = ok_ && type < kTypes && type != kArray;
    if (ok_) type == kString ? String() : Take(kScalarBytes[type]);
  }
  Tensor ReadTensor() {
    Tensor tensor;
    tensor.name = String();
    const auto rank = Number<uint32_t>();
    for (uint32_t i = 0; ok_ && i < rank; ++i) tensor.axes.push_back(Number<uint64_t>());
    tensor.type = Number<uint32_t>();
    tensor.offset = Number<uint64_t>();
    return tensor;
  }

  std::string_view bytes_;
  uint64_t at_ = 0;
  bool ok_ = true;
};

std::string Write(const File& file) {
  GgufBuilder builder(file.version);
  for (const Key& key : file.keys) builder.Raw(key.name, key.type, key.value);
  for (const Tensor& tensor : file.tensors) {
    builder.Tensor(tensor.name, tensor.type, tensor.axes, "", static_cast<int64_t>(tensor.offset));
  }
  return builder.Build() + file.data;
}

class Changer {
 public:
  explicit Changer(std::mt19937_64& random) : random_(random) {}

  void Change(File* file) {
    const bool tensor = !file->tensors.empty() && Below(2) == 0;
    if (tensor) return ChangeEntry(&file->tensors);
    if (!file->keys.empty()) ChangeEntry(&file->keys);
  }

 private:
  uint64_t Below(uint64_t n) { return random_() % n; }
  uint64_t Number() {
    static constexpr uint64_t kNumbers[] = {0, 1, 2, 3, 4, 5, 8, 16, 31, 32, 33, 64, 1000};
    switch (Below(3)) {
      case 0:
        return uint64_t{1} << Below(64);
      case 1:
        return ~uint64_t{0} >> Below(64);
      default:
        return kNumbers[Below(std::size(kNumbers))];
    }
  }

  template <typename Entry>
  void ChangeEntry(std::vector<Entry>* entries) {
    const size_t at = Below(entries->size());
    const Entry other = (*entries)[Below(entries->size())];
    switch (Below(8)) {
      case 0:
        entries->erase(entries->begin() + static_cast<ptrdiff_t>(at));
        return;
      case 1:
        entries->push_back(other);
        return;
      case 2:
        (*entries)[at].name = other.name;
        return;
      default:
        ChangeValue(&(*entries)[at], other);
    }
  }

  void ChangeValue(Key* key, const Key& other) {
    if (Below(4) == 0) {
      key->type = other.type;
      key->value = other.value;
    } else if (key->type == kArray) {
      ChangeArray(&key->value);
    } else if (key->type == kString) {
      std::string text = key->value.substr(8);
      text.resize(Below(2) == 0 ? Below(text.size() + 1) : text.size() + Below(4), 'x');
      const uint64_t size = text.size();
      key->value = std::string(reinterpret_cast<const char*>(&size), 8) + text;
    } else {
      const uint64_t number = Number();
      key->type = Below(4) == 0 ? Below(7) : key->type;
      key->value.assign(reinterpret_cast<const char*>(&number), kScalarBytes[key->type]);
    }
  }

  // Type and count come first, then the elements.
  void ChangeArray(std::string* value) {
    if (value->size() < 12) return;
    if (Below(2) == 0 || value->size() == 12) {
      uint64_t count = 0;
      std::memcpy(&count, &(*value)[4], sizeof count);
      count = Below(4) == 0 ? Number() : count - 1 + Below(3);
      std::memcpy(&(*value)[4], &count, sizeof count);
    } else {
      (*value)[12 + Below(value->size() - 12)] = static_cast<char>(random_());
    }
  }

  void ChangeValue(Tensor* tensor, const Tensor& other) {
    switch (Below(5)) {
      case 0:
        tensor->axes = other.axes;
        return;
      case 1:
        if (tensor->axes.size() < 6) tensor->axes.push_back(Number());
        return;
      case 2:
        tensor->type = static_cast<uint32_t>(Below(42));
        return;
      case 3:
        tensor->offset = Below(2) == 0 ? other.offset : Number();
        return;
      default:
        if (!tensor->axes.empty()) tensor->axes[Below(tensor->axes.size())] = Number();
    }
  }

  std::mt19937_64& random_;
};

}  // namespace

std::string MutateGguf(std::string_view bytes, std::mt19937_64& random) {
  std::optional<File> file = Reader(bytes).Read();
  if (!file) return "";
  for (uint64_t changes = 1 + random() % 3; changes > 0; --changes) Changer(random).Change(&*file);
  return Write(*file);
}

}  // namespace pregate::fuzz
