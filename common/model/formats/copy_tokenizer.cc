#include <filesystem>

#include "common/base/status.h"
#include "common/model/formats/checkpoint_writer.h"
#include "common/model/formats/gguf_tokenizer.h"

namespace pregate {
namespace {

namespace fs = std::filesystem;

absl::Status CopyFiles(const std::string& source, const std::string& dir) {
  for (const char* name :
       {"tokenizer.model", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
        "added_tokens.json", "chat_template.jinja", "chat_template.json"}) {
    const fs::path from = fs::path(source) / name;
    std::error_code error;
    if (!fs::exists(from, error)) continue;
    if (!fs::copy_file(from, fs::path(dir) / name, error)) {
      return absl::UnavailableError(
          absl::StrCat("cannot copy ", from.string(), ": ", error.message()));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CopyTokenizer(const std::string& source_path, const std::string& dir) {
  if (fs::is_directory(source_path)) return CopyFiles(source_path, dir);
  ASSIGN_OR_RETURN(const std::shared_ptr<const GgufFile> file, GgufFile::Open(source_path));
  const absl::Status status = SaveGgufTokenizer(*file, dir);
  return absl::IsNotFound(status) ? absl::OkStatus() : status;
}

}  // namespace pregate
