#include "cli/model/import.h"

#include <filesystem>

#include "cli/model/authors_layout.h"
#include "common/base/status.h"

namespace pregate {

absl::StatusOr<std::string> ImportCheckpoint(const ImportOptions& options) {
  if (options.from != "authors" && options.from != "hf" && options.from != "gguf") {
    return absl::InvalidArgumentError(
        absl::StrCat("from = \"", options.from, "\" is none of authors, hf, gguf"));
  }
  ASSIGN_OR_RETURN(const auto source, OpenCheckpoint(options.in));
  if (source->layout() != options.from) {
    return absl::InvalidArgumentError(absl::StrCat(
        options.in, ": is of layout \"", source->layout(), "\", not \"", options.from, "\""));
  }
  ModelSpec spec = source->spec();
  // The name alone: where a file lay on some machine is of no use to others.
  spec.provenance.source = std::filesystem::path(options.in).filename().string();
  spec.provenance.source_digest = source->digest();
  spec.provenance.method = "import from " + options.from;
  WriteOptions write;
  write.dtype = options.dtype.value_or(NativeDType(*source));
  write.write_tokenizer = [&](const std::string& dir) { return CopyTokenizer(options.in, dir); };
  write.progress = options.progress;
  const auto read = [&](const CanonicalTensor& tensor, absl::Span<float> out) {
    return source->Read(tensor.name, out);
  };
  return WriteCheckpoint(options.out, spec, read, write);
}

}  // namespace pregate
