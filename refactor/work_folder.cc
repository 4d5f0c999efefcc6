#include "refactor/work_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include "common/base/json.h"
#include "common/base/status.h"

namespace pregate {
namespace {

constexpr const char* kDraftEnd = ".part";
constexpr uint64_t kRecordBytesMax = uint64_t{64} << 20;

absl::Status Failed(const std::string& path, const char* what) {
  return absl::ErrnoToStatus(errno, absl::StrCat(path, ": ", what));
}

absl::Status SyncFile(const std::string& path) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.ok() || fsync(fd.get()) != 0) return Failed(path, "cannot sync");
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckInputs(const std::string& where, const nlohmann::json& was,
                         const nlohmann::json& now) {
  for (const auto& [key, value] : now.items()) {
    const auto before = was.find(key);
    if (before != was.end() && *before == value) continue;
    return absl::FailedPreconditionError(absl::StrCat(
        where, ": was made with ", key, " ", before == was.end() ? "unknown" : before->dump(),
        ", now it is ", value.dump(), ": give what it was, or another --work"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<WorkFolder>> WorkFolder::Open(const std::string& path) {
  if (mkdir(path.c_str(), 0777) != 0 && errno != EEXIST) return Failed(path, "cannot make it");
  UniqueFd folder(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder.ok()) return Failed(path, "cannot open it");
  if (flock(folder.get(), LOCK_EX | LOCK_NB) != 0) {
    return absl::FailedPreconditionError(absl::StrCat(path, ": another run works there"));
  }
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(path, error)) {
    const std::string name = entry.path().filename().string();
    const bool half_written = name.starts_with(".pregate-") || name.ends_with(kDraftEnd);
    if (half_written && unlink(entry.path().c_str()) != 0) {
      return Failed(entry.path().string(), "cannot remove");
    }
  }
  return std::unique_ptr<WorkFolder>(new WorkFolder(path, std::move(folder)));
}

std::string WorkFolder::Draft(const std::string& name) const { return File(name + kDraftEnd); }

bool WorkFolder::Has(const std::string& name) const {
  return access(File(name).c_str(), F_OK) == 0;
}

absl::Status WorkFolder::Remove(const std::string& name) const {
  if (unlink(File(name).c_str()) == 0 || errno == ENOENT) return absl::OkStatus();
  return Failed(File(name), "cannot remove");
}

absl::StatusOr<std::optional<nlohmann::json>> WorkFolder::Read(const std::string& name,
                                                               const nlohmann::json& inputs) const {
  if (!Has(name)) return std::nullopt;
  ASSIGN_OR_RETURN(const std::string text, ReadInput(File(name), kRecordBytesMax));
  ASSIGN_OR_RETURN(nlohmann::json record, ParseJson(text, File(name)));
  if (!record.is_object() || !record.contains("inputs")) {
    return absl::InvalidArgumentError(absl::StrCat(File(name), ": is no record of a run"));
  }
  RETURN_IF_ERROR(CheckInputs(File(name), record["inputs"], inputs));
  return record;
}

absl::Status WorkFolder::Write(const std::string& name, const nlohmann::json& record) const {
  RETURN_IF_ERROR(WriteOutput(
      Draft(name), record.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n"));
  return Publish(name);
}

absl::Status WorkFolder::Publish(const std::string& name) const {
  RETURN_IF_ERROR(SyncFile(Draft(name)));
  if (std::rename(Draft(name).c_str(), File(name).c_str()) != 0) {
    return Failed(File(name), "cannot replace");
  }
  if (fsync(folder_.get()) != 0) return Failed(path_, "cannot sync");
  return absl::OkStatus();
}

}  // namespace pregate
