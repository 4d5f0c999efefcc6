#include "tests/fuzz/input_files.h"

#include <sys/mman.h>
#include <unistd.h>

#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "tests/fuzz/mutators.h"

namespace pregate::fuzz {

MemoryFile::MemoryFile()
    : fd_(memfd_create("pregate-fuzz", MFD_CLOEXEC)), path_(absl::StrCat("/proc/self/fd/", fd_)) {
  PREGATE_CHECK(fd_ >= 0, "memfd_create");
}

MemoryFile::~MemoryFile() { close(fd_); }

const std::string& MemoryFile::Holding(std::string_view bytes) const {
  PREGATE_CHECK(ftruncate(fd_, static_cast<off_t>(bytes.size())) == 0);
  PREGATE_CHECK(pwrite(fd_, bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
  return path_;
}

std::string ReplacedFile::NewDirectory() {
  return temp_.path(absl::StrCat("dir-", num_directories_++));
}

void ReplacedFile::Add(const std::string& dir, const std::string& name) {
  Slot slot{.dir = NewDirectory(), .name = name};
  std::filesystem::copy(dir, slot.dir);
  const std::string path = slot.dir + "/" + name;
  if (std::filesystem::exists(path)) slot.bytes = ReadFile(path);
  std::filesystem::remove(path);
  std::filesystem::create_symlink(input_.path(), path);
  slots_.push_back(std::move(slot));
}

std::vector<std::string> ReplacedFile::Seeds() const {
  std::vector<std::string> seeds;
  for (size_t i = 0; i < slots_.size(); ++i) {
    if (slots_[i].bytes) seeds.push_back(std::string(1, static_cast<char>(i)) + *slots_[i].bytes);
  }
  return seeds;
}

const ReplacedFile::Slot& ReplacedFile::Find(std::string_view input) const {
  return slots_[static_cast<unsigned char>(input[0]) % slots_.size()];
}

bool ReplacedFile::Read(std::string_view input,
                        const std::function<bool(const std::string& dir)>& read) const {
  if (input.empty()) return false;
  input_.Holding(input.substr(1));
  return read(Find(input).dir);
}

std::string ReplacedFile::Mutate(std::string_view input, std::mt19937_64& random) const {
  if (input.empty()) return "";
  const std::string& name = Find(input).name;
  const std::string_view bytes = input.substr(1);
  std::string changed;
  if (absl::EndsWith(name, ".json")) changed = MutateJson(bytes, random);
  if (absl::EndsWith(name, ".gguf")) changed = MutateGguf(bytes, random);
  if (absl::EndsWith(name, ".safetensors")) changed = MutateSafetensors(bytes, random);
  return changed.empty() ? "" : input[0] + changed;
}

}  // namespace pregate::fuzz
