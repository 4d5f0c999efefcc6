// The folder of a run that goes on after a kill. What stands in it under its own name is whole:
// everything is written beside, synced and renamed. A record says what its stage was asked for, so
// that what another run left there is refused by name, never used.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "common/base/files.h"
#include "nlohmann/json.hpp"

namespace pregate {

// FailedPrecondition names the first of `now` that `was` has not or has otherwise, with both
// values. `where` is the file that `was` comes from.
absl::Status CheckInputs(const std::string& where, const nlohmann::json& was,
                         const nlohmann::json& now);

// Not thread-safe. Errors name the file.
class WorkFolder {
 public:
  // Makes the folder where it is not there, locks it until this object or the process ends, and
  // removes what a kill left half-written; FailedPrecondition where another process has it.
  static absl::StatusOr<std::unique_ptr<WorkFolder>> Open(const std::string& path);

  const std::string& path() const { return path_; }
  std::string File(const std::string& name) const { return path_ + "/" + name; }
  bool Has(const std::string& name) const;
  absl::Status Remove(const std::string& name) const;  // OK where it is not there

  // A record is a JSON object with "inputs" and more. Nothing where there is none; the errors of
  // CheckInputs.
  absl::StatusOr<std::optional<nlohmann::json>> Read(const std::string& name,
                                                     const nlohmann::json& inputs) const;
  absl::Status Write(const std::string& name, const nlohmann::json& record) const;

  // Where a file is written before it is published under `name`, which replaces the one before.
  std::string Draft(const std::string& name) const;
  absl::Status Publish(const std::string& name) const;

 private:
  WorkFolder(std::string path, UniqueFd folder)
      : path_(std::move(path)), folder_(std::move(folder)) {}

  const std::string path_;
  const UniqueFd folder_;
};

}  // namespace pregate
