#include "refactor/corpus.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <unordered_set>

#include "common/base/hash.h"
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

namespace {

template <typename Visit>
void ForEachLine(std::string_view text, const Visit& visit) {
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    visit(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

// The line, and as many before it as make kRepeatBytes; empty where there are not so many.
std::string_view WithLinesBefore(std::string_view text, std::string_view line) {
  const size_t end = static_cast<size_t>(line.data() - text.data()) + line.size();
  size_t begin = end - line.size();
  while (end - begin < kRepeatBytes) {
    if (begin == 0) return {};
    const size_t before = begin == 1 ? std::string_view::npos : text.rfind('\n', begin - 2);
    begin = before == std::string_view::npos ? 0 : before + 1;
  }
  return text.substr(begin, end - begin);
}

absl::Status CheckRepeats(const std::vector<std::string>& domains,
                          const std::vector<std::string>& texts, const CorpusOptions& options) {
  std::vector<std::string_view> kept;
  for (const std::string& text : texts) kept.push_back(WithoutHeldOut(text, options.hold_out));
  for (size_t d = 0; d < texts.size(); ++d) {
    const std::string_view held_out = std::string_view(texts[d]).substr(kept[d].size());
    const double share = RepeatedShare(kept, held_out);
    if (share <= kRepeatsMax) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "domain ", domains[d], ": ", std::lround(100 * share),
        "% of its held-out text are lines that the kept text has too: what is measured "
        "there would be memory; --repeats drop leaves them out"));
  }
  return absl::OkStatus();
}

}  // namespace

double RepeatedShare(absl::Span<const std::string_view> kept, std::string_view held_out) {
  std::unordered_set<std::string_view> lines;
  for (const std::string_view text : kept) {
    ForEachLine(text, [&](std::string_view line) {
      if (line.size() >= kRepeatBytes) lines.insert(line);
    });
  }
  size_t all = 0, repeated = 0;
  ForEachLine(held_out, [&](std::string_view line) {
    if (line.size() < kRepeatBytes) return;
    all += line.size();
    if (lines.contains(line)) repeated += line.size();
  });
  return all == 0 ? 0 : static_cast<double>(repeated) / static_cast<double>(all);
}

std::string WithoutRepeats(std::string_view text, std::unordered_set<std::string>& seen) {
  std::string kept;
  kept.reserve(text.size());
  ForEachLine(text, [&](std::string_view line) {
    const std::string_view passage = WithLinesBefore(text, line);
    if (!passage.empty() && !seen.insert(Xxh3Hex(passage)).second) return;
    kept.append(line);
    kept.push_back('\n');
  });
  if (!kept.empty() && !text.ends_with('\n')) kept.pop_back();
  return kept;
}

absl::StatusOr<Texts> ReadTexts(const std::string& dir, const Tokenizer& tokenizer,
                                const CorpusOptions& options) {
  RETURN_IF_ERROR(CheckOptions(options));
  ASSIGN_OR_RETURN(const auto domains, FindDomains(dir));
  Texts texts;
  std::vector<std::string> raw;
  std::unordered_set<std::string> seen;
  for (const auto& [name, path] : domains) {
    ASSIGN_OR_RETURN(std::string text, ReadDomain(path));
    const double bytes = std::max<double>(1, static_cast<double>(text.size()));
    if (options.repeats == "drop") text = WithoutRepeats(text, seen);
    texts.dropped.push_back(1 - static_cast<double>(text.size()) / bytes);
    const std::string_view kept = WithoutHeldOut(text, options.hold_out);
    texts.domains.push_back(name);
    texts.kept.push_back(tokenizer.Encode(kept));
    texts.held_out.push_back(tokenizer.Encode(std::string_view(text).substr(kept.size())));
    const size_t ids = texts.kept.back().size();
    if (ids < static_cast<size_t>(options.window_tokens)) {
      return absl::InvalidArgumentError(
          absl::StrCat("domain ", name, " in ", path.string(), " has ", ids, " tokens, a window ",
                       options.window_tokens,
                       texts.dropped.back() > 0 ? "; lines that stood before are left out" : ""));
    }
    raw.push_back(std::move(text));
  }
  if (options.repeats == "refuse") RETURN_IF_ERROR(CheckRepeats(texts.domains, raw, options));
  return texts;
}

Corpus CutWindows(const Texts& texts, const std::vector<std::vector<TokenId>>& ids,
                  int window_tokens, int windows_max) {
  Corpus corpus{.domains = texts.domains, .window_tokens = window_tokens};
  for (size_t d = 0; d < ids.size(); ++d) {
    const auto whole = static_cast<int64_t>(ids[d].size()) / window_tokens;
    const int64_t taken = windows_max == 0 ? whole : std::min<int64_t>(whole, windows_max);
    for (int64_t i = 0; i < taken; ++i) {
      const int64_t window = (2 * i + 1) * whole / (2 * taken);
      const auto begin = ids[d].begin() + window * window_tokens;
      corpus.tokens.insert(corpus.tokens.end(), begin, begin + window_tokens);
      corpus.window_domain.push_back(static_cast<int32_t>(d));
    }
    corpus.tokens_in_text += static_cast<int64_t>(ids[d].size());
  }
  return corpus;
}

absl::StatusOr<Corpus> ReadCorpus(const std::string& dir, const Tokenizer& tokenizer,
                                  const CorpusOptions& options) {
  ASSIGN_OR_RETURN(const Texts texts, ReadTexts(dir, tokenizer, options));
  return CutWindows(texts, texts.kept, options.window_tokens, options.windows_per_domain);
}

Corpus WithSomeOfTheLast(const Corpus& corpus, const Corpus& other, int last, int num) {
  Corpus all = corpus;
  const int64_t first = other.num_windows() - last, take = std::min(num, last);
  for (int64_t i = 0; i < take; ++i) {
    const auto w = static_cast<int>(first + i * last / take);
    const auto window = other.Window(w);
    all.tokens.insert(all.tokens.end(), window.begin(), window.end());
    all.window_domain.push_back(other.window_domain[w]);
  }
  return all;
}

std::vector<int> Corpus::SomeOfEach(int per_domain) const {
  std::vector<int> in_domain(domains.size(), 0);
  for (int32_t d : window_domain) ++in_domain[d];
  std::vector<int> chosen, seen(domains.size(), 0);
  for (int w = 0; w < num_windows(); ++w) {
    const int32_t d = window_domain[w];
    const int64_t i = seen[d]++, n = in_domain[d], take = std::min<int64_t>(per_domain, n);
    if ((i + 1) * take / n != i * take / n) chosen.push_back(w);
  }
  return chosen;
}

}  // namespace pregate
