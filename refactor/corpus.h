// The text of a run: one domain a sub-folder or .txt file, cut into windows of tokens. The last part
// of each domain is held out: nothing is calibrated or tuned on it.
#pragma once

#include <string>
#include <unordered_set>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/model/tokenizer/tokenizer.h"

namespace pregate {

struct CorpusOptions {
  double hold_out = 0.15;       // the last part of each domain: for evaluation
  int window_tokens = 512;      // context of one forward pass
  int windows_per_domain = 40;  // evenly spread over the domain
  // What to do with lines that stood before (WithoutRepeats), in this domain or an earlier one:
  // "drop" them, so that what is held out was never seen; "refuse" a domain whose held-out text is
  // more than kRepeatsMax such long lines; or "keep" them all.
  std::string repeats = "drop";
};
inline constexpr size_t kRepeatBytes = 64;  // what a long line has at least
inline constexpr double kRepeatsMax = 0.1;

// Bytes of one domain that are read; what lies beyond is left out.
inline constexpr size_t kDomainBytesMax = size_t{256} << 20;
inline constexpr size_t kDomainsMax = 256;

// All ids of the kept and of the held-out text, by domain in ascending order of names.
struct Texts {
  std::vector<std::string> domains;
  std::vector<std::vector<TokenId>> kept, held_out;
  std::vector<double> dropped;  // share of each domain's bytes, in lines that stood before
};

struct Corpus {
  std::vector<std::string> domains;  // names, in ascending order: domain d trains expert d
  int window_tokens = 0;
  std::vector<TokenId> tokens;         // [windows, window_tokens], domain after domain
  std::vector<int32_t> window_domain;  // [windows]
  int64_t tokens_in_text = 0;          // that the kept text has in all

  int num_windows() const { return static_cast<int>(window_domain.size()); }
  absl::Span<const TokenId> Window(int w) const {
    return absl::MakeConstSpan(tokens).subspan(static_cast<size_t>(w) * window_tokens,
                                               window_tokens);
  }
  // [domains] of the windows of each among the first `num`, ascending.
  std::vector<std::vector<int32_t>> WindowsByDomain(int num) const {
    std::vector<std::vector<int32_t>> windows(domains.size());
    for (int32_t w = 0; w < num; ++w) windows[window_domain[w]].push_back(w);
    return windows;
  }
  // Of each domain so many windows, evenly spread over it, or all; ascending.
  std::vector<int> SomeOfEach(int per_domain) const;
};

// InvalidArgument names the domain that is empty, too short for one window, whose held-out text
// repeats what is kept, or one of fewer than two; sub-folders are read recursively in the order of
// their paths.
absl::StatusOr<Texts> ReadTexts(const std::string& dir, const Tokenizer& tokenizer,
                                const CorpusOptions& options);

// At most `windows_max` whole windows of each domain, evenly spread; 0: all. `ids` is a member of
// Texts. Domains without a whole window have none.
Corpus CutWindows(const Texts& texts, const std::vector<std::vector<TokenId>>& ids,
                  int window_tokens, int windows_max);

// `corpus` and behind it `num` of the last `last` windows of `other`, evenly spread, or all of them.
// REQUIRES: both have the same domains and window_tokens.
Corpus WithSomeOfTheLast(const Corpus& corpus, const Corpus& other, int last, int num);

// The calibration windows of the kept text. InvalidArgument names the domain that is empty, too
// short for one window, or one of fewer than two; sub-folders are read recursively in the order of
// their paths.
absl::StatusOr<Corpus> ReadCorpus(const std::string& dir, const Tokenizer& tokenizer,
                                  const CorpusOptions& options);

// `text` without the lines that are in `seen`, where the others go. A line of less than kRepeatBytes
// counts with as many lines before it as make so many: else the short lines of a copy would stay, and
// what is held out at the end would be made of them. The lines stay in memory as digests.
std::string WithoutRepeats(std::string_view text, std::unordered_set<std::string>& seen);

// Of the bytes of `held_out` in long lines, the share whose line is one of `kept` too.
double RepeatedShare(absl::Span<const std::string_view> kept, std::string_view held_out);

// `text` without its last `hold_out`, cut at a UTF-8 character's border.
std::string_view WithoutHeldOut(std::string_view text, double hold_out);

}  // namespace pregate
