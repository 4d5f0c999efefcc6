// Inputs of readers that want a path.
#pragma once

#include <functional>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "common/model/testing/model_files.h"
#include "tests/fuzz/format.h"

namespace pregate::fuzz {

// One file in memory, written anew for each input.
class MemoryFile {
 public:
  MemoryFile();
  ~MemoryFile();
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  // The path of a file that holds `bytes` until the next call.
  const std::string& Holding(std::string_view bytes);

 private:
  const int fd_;
  const std::string path_;
};

// Directories of which an input replaces one file: its first byte chooses directory and file, the
// others are what stands in it.
class ReplacedFile {
 public:
  ReplacedFile() = default;
  ReplacedFile(const ReplacedFile&) = delete;
  ReplacedFile& operator=(const ReplacedFile&) = delete;

  // A path that does not exist yet, for a directory to be filled.
  std::string NewDirectory();
  // An input may replace `name` in `dir`, which need not be there.
  void Add(const std::string& dir, const std::string& name);

  // What is there, as inputs.
  std::vector<std::string> Seeds() const;
  // Writes the file, calls `read` with the directory and puts back what was there.
  bool Read(std::string_view input, const std::function<bool(const std::string& dir)>& read) const;
  // As the name ends: JSON and safetensors keep their structure.
  std::string Mutate(std::string_view input, std::mt19937_64& random) const;

 private:
  struct Slot {
    std::string dir, name;
    std::optional<std::string> bytes;  // nothing: not there

    std::string path() const { return dir + "/" + name; }
  };
  const Slot& Find(std::string_view input) const;

  const TempDir temp_;
  int num_directories_ = 0;
  std::vector<Slot> slots_;
};

}  // namespace pregate::fuzz
