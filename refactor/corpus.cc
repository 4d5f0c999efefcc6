#include "refactor/corpus.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>

#include "common/base/status.h"

namespace pregate {
namespace {

namespace fs = std::filesystem;

absl::Status AppendFile(const fs::path& path, std::string& text) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return absl::NotFoundError(absl::StrCat("cannot read ", path.string()));
  const size_t before = text.size();
  std::error_code error;
  const uintmax_t bytes = fs::file_size(path, error);
  if (error) return absl::NotFoundError(absl::StrCat(path.string(), ": ", error.message()));
  text.resize(before + std::min<uintmax_t>(bytes, kDomainBytesMax - before));
  in.read(text.data() + before, static_cast<std::streamsize>(text.size() - before));
  if (static_cast<size_t>(in.gcount()) != text.size() - before) {
    return absl::DataLossError(absl::StrCat(path.string(), " ended early"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadDomain(const fs::path& path) {
  std::vector<fs::path> files;
  if (fs::is_directory(path)) {
    std::error_code error;
    fs::recursive_directory_iterator entry(path, error);
    for (; !error && entry != fs::recursive_directory_iterator(); entry.increment(error)) {
      if (entry->is_regular_file(error)) files.push_back(entry->path());
    }
    if (error) return absl::NotFoundError(absl::StrCat(path.string(), ": ", error.message()));
    std::sort(files.begin(), files.end());
  } else {
    files.push_back(path);
  }
  std::string text;
  for (const fs::path& file : files) {
    if (text.size() == kDomainBytesMax) break;
    RETURN_IF_ERROR(AppendFile(file, text));
  }
  return text;
}

// Name → path, in the order of names.
absl::StatusOr<std::map<std::string, fs::path>> FindDomains(const std::string& dir) {
  std::error_code error;
  std::map<std::string, fs::path> domains;
  fs::directory_iterator entry(dir, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    const fs::path& path = entry->path();
    if (path.filename().string().front() == '.') continue;
    if (entry->is_directory(error)) {
      domains.emplace(path.filename().string(), path);
    } else if (path.extension() == ".txt") {
      domains.emplace(path.stem().string(), path);
    }
  }
  if (error) return absl::NotFoundError(absl::StrCat("corpus ", dir, ": ", error.message()));
  if (domains.size() < 2 || domains.size() > kDomainsMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("corpus ", dir, " has ", domains.size(),
                     " domains (sub-folders or .txt files), not 2 to ", kDomainsMax));
  }
  return domains;
}

absl::Status CheckOptions(const CorpusOptions& options) {
  if (!(options.hold_out >= 0 && options.hold_out < 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("hold_out ", options.hold_out, " is not in [0, 1)"));
  }
  if (options.window_tokens < 2 || options.windows_per_domain < 1) {
    return absl::InvalidArgumentError(absl::StrCat("window_tokens ", options.window_tokens,
                                                   " or windows_per_domain ",
                                                   options.windows_per_domain, " is too small"));
  }
  return absl::OkStatus();
}

}  // namespace

std::string_view WithoutHeldOut(std::string_view text, double hold_out) {
  auto cut = static_cast<size_t>(static_cast<double>(text.size()) * (1 - hold_out));
  while (cut < text.size() && (static_cast<unsigned char>(text[cut]) & 0xC0) == 0x80) ++cut;
  return text.substr(0, cut);
}

absl::StatusOr<Corpus> ReadCorpus(const std::string& dir, const Tokenizer& tokenizer,
                                  const CorpusOptions& options) {
  RETURN_IF_ERROR(CheckOptions(options));
  ASSIGN_OR_RETURN(const auto domains, FindDomains(dir));
  Corpus corpus;
  corpus.window_tokens = options.window_tokens;
  for (const auto& [name, path] : domains) {
    ASSIGN_OR_RETURN(const std::string text, ReadDomain(path));
    const std::vector<TokenId> ids = tokenizer.Encode(WithoutHeldOut(text, options.hold_out));
    const auto whole = static_cast<int64_t>(ids.size()) / options.window_tokens;
    if (whole == 0) {
      return absl::InvalidArgumentError(absl::StrCat("domain ", name, " in ", path.string(),
                                                     " has ", ids.size(), " tokens, a window ",
                                                     options.window_tokens));
    }
    const int64_t taken = std::min<int64_t>(whole, options.windows_per_domain);
    for (int64_t i = 0; i < taken; ++i) {
      const int64_t window = (2 * i + 1) * whole / (2 * taken);
      const auto begin = ids.begin() + window * options.window_tokens;
      corpus.tokens.insert(corpus.tokens.end(), begin, begin + options.window_tokens);
      corpus.window_domain.push_back(static_cast<int32_t>(corpus.domains.size()));
    }
    corpus.domains.push_back(name);
    corpus.tokens_in_text += static_cast<int64_t>(ids.size());
  }
  return corpus;
}

}  // namespace pregate
