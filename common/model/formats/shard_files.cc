#include "common/model/formats/shard_files.h"

#include <filesystem>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace pregate {

absl::Status CheckShardsExist(const std::string& dir, const std::set<std::string>& names,
                              const std::string& where) {
  std::vector<std::string> missing;
  std::error_code error;
  for (const std::string& name : names) {
    if (!std::filesystem::exists(std::filesystem::path(dir) / name, error)) missing.push_back(name);
  }
  if (missing.empty()) return absl::OkStatus();
  constexpr size_t kNamedMax = 8;
  const size_t total = missing.size();
  if (total > kNamedMax) missing.resize(kNamedMax);
  return absl::NotFoundError(absl::StrCat(where, ": names ", absl::StrJoin(missing, ", "),
                                          total > kNamedMax ? ", ..." : "", ": ", total, " of ",
                                          names.size(), " shards are not there"));
}

}  // namespace pregate
