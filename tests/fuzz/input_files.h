// Inputs of readers that want a path.
#pragma once

#include <functional>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "common/model/formats/testing/model_files.h"
#include "tests/fuzz/format.h"

namespace pregate::fuzz {

// One file in memory, written anew for each input.
class MemoryFile {
 public:
  MemoryFile();
  ~MemoryFile();
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  // The path of the file, which holds `bytes` until the next call.
  const std::string& Holding(std::string_view bytes) const;
  const std::string& path() const { return path_; }

 private:
  const int fd_;
  const std::string path_;
};

// Directories of which an input replaces one file: its first byte chooses directory and file, the
// others are what stands in it. For each such file there is a copy of its directory, in which it is
// a link to a file in memory: an input costs one write.
class ReplacedFile {
 public:
  ReplacedFile() = default;
  ReplacedFile(const ReplacedFile&) = delete;
  ReplacedFile& operator=(const ReplacedFile&) = delete;

  // A path that does not exist yet, for a directory to be filled.
  std::string NewDirectory();
  // An input may replace `name` in `dir`, which is filled, but need not have it.
  void Add(const std::string& dir, const std::string& name);

  // What is there, as inputs.
  std::vector<std::string> Seeds() const;
  // Calls `read` with the directory that holds the input.
  bool Read(std::string_view input, const std::function<bool(const std::string& dir)>& read) const;
  // As the name ends: JSON, GGUF and safetensors keep their structure.
  std::string Mutate(std::string_view input, std::mt19937_64& random) const;

 private:
  struct Slot {
    std::string dir, name;
    std::optional<std::string> bytes;  // nothing: not there
  };
  const Slot& Find(std::string_view input) const;

  const TempDir temp_;
  const MemoryFile input_;
  int num_directories_ = 0;
  std::vector<Slot> slots_;
};

}  // namespace pregate::fuzz
