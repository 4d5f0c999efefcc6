#include "refactor/sample.h"

#include <ATen/Context.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <random>

#include "absl/strings/str_format.h"
#include "common/base/files.h"
#include "common/base/status.h"
#include "refactor/expert_model.h"
#include "refactor/fused_ops.h"
#include "refactor/torch_ops.h"

namespace pregate {
namespace {

constexpr const char* kSamplesFile = "samples.bin";  // TokenIds, [windows, window_tokens]
constexpr const char* kSamplesRecord = "sample.json";
// Of keys and values at a time: of a card's free memory a third, which is at least so much; on a CPU,
// where a kill costs a minute, no more than that. On a card a token of a model of 0.1B weights takes
// as long for a thousand windows as for a hundred.
constexpr int64_t kCardCacheBytes = int64_t{8} << 30, kCpuCacheBytes = int64_t{512} << 20;
// At a time: the distributions of as many tokens are in memory.
constexpr int64_t kWindowsMax = 4096;

// That have a window.
std::vector<int32_t> DomainsIn(const Corpus& text) {
  const auto by_domain = text.WindowsByDomain(text.num_windows());
  std::vector<int32_t> domains;
  for (size_t d = 0; d < by_domain.size(); ++d) {
    if (!by_domain[d].empty()) domains.push_back(static_cast<int32_t>(d));
  }
  return domains;
}

struct Prompts {
  at::Tensor prefixes, uniforms;  // as ContinueText takes them
};

// `chat_opening`: what all begin with; or they begin with their domain's text.
Prompts MakePrompts(const Corpus& text, absl::Span<const TokenId> chat_opening, uint64_t seed,
                    int64_t first, int64_t num) {
  const auto by_domain = text.WindowsByDomain(text.num_windows());
  const std::vector<int32_t> domains = DomainsIn(text);
  const int prefix = chat_opening.empty() ? PrefixTokens(text.window_tokens)
                                          : static_cast<int>(chat_opening.size());
  const int rest = text.window_tokens - prefix;
  Prompts prompts{at::empty({num, prefix}, at::kLong), at::empty({num, rest}, at::kDouble)};
  for (int64_t i = 0; i < num; ++i) {
    const auto n = static_cast<uint64_t>(first + i);
    std::seed_seq words{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32),
                        static_cast<uint32_t>(n), static_cast<uint32_t>(n >> 32)};
    std::mt19937_64 random(words);
    int64_t* const out = prompts.prefixes[i].data_ptr<int64_t>();
    if (chat_opening.empty()) {
      const std::vector<int32_t>& windows = by_domain[domains[n % domains.size()]];
      const auto window = text.Window(windows[random() % windows.size()]);
      const size_t begin = random() % (rest + 1);
      std::copy_n(window.begin() + begin, prefix, out);
    } else {
      std::copy(chat_opening.begin(), chat_opening.end(), out);
    }
    double* const uniforms = prompts.uniforms[i].data_ptr<double>();
    // 52 bits: times the sum of a distribution it stays below that sum.
    for (int t = 0; t < rest; ++t) uniforms[t] = static_cast<double>(random() >> 12) * 0x1p-52;
  }
  return prompts;
}

// [windows, 1]: of each row of logits the token that its number falls on.
at::Tensor Draw(const at::Tensor& logits, const at::Tensor& uniforms) {
  const at::Tensor sums = logits.softmax(-1).cumsum(-1, at::kDouble);
  const at::Tensor drawn = uniforms.unsqueeze(1) * sums.narrow(1, sums.size(1) - 1, 1);
  return at::searchsorted(sums, drawn, /*out_int32=*/false, /*right=*/true)
      .clamp_max(sums.size(1) - 1);
}

// cuDNN plans attention anew for each number of tokens before the one that is drawn, which takes longer
// than drawing it.
class WithoutCudnnAttention {
#if PREGATE_TORCH_FUSES
 public:
  WithoutCudnnAttention() { at::globalContext().setSDPUseCuDNN(false); }
  ~WithoutCudnnAttention() { at::globalContext().setSDPUseCuDNN(before_); }

 private:
  const bool before_ = at::globalContext().userEnabledCuDNNSDP();
#endif
};

absl::Status SamplesFailed(const WorkFolder& work, const std::string& what) {
  return absl::ErrnoToStatus(errno, absl::StrCat(work.File(kSamplesFile), ": ", what));
}

// Says at the start that the disk is too small.
absl::StatusOr<UniqueFd> OpenSamples(const WorkFolder& work, int64_t bytes) {
  UniqueFd fd(open(work.File(kSamplesFile).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
  if (!fd.ok()) return SamplesFailed(work, "cannot open");
  if (const int error = posix_fallocate(fd.get(), 0, bytes); error != 0) {
    errno = error;
    return SamplesFailed(work, absl::StrCat("cannot reserve ", bytes, " bytes"));
  }
  return fd;
}

absl::Status WriteSamples(const WorkFolder& work, int fd, int64_t at,
                          const std::vector<TokenId>& tokens) {
  absl::Span<const char> bytes(reinterpret_cast<const char*>(tokens.data()),
                               tokens.size() * sizeof(TokenId));
  while (!bytes.empty()) {
    const ssize_t n = pwrite(fd, bytes.data(), bytes.size(), at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return SamplesFailed(work, "cannot write");
    bytes.remove_prefix(n);
    at += n;
  }
  return fdatasync(fd) == 0 ? absl::OkStatus() : SamplesFailed(work, "cannot sync");
}

}  // namespace

std::vector<TokenId> ChatOpening(const Tokenizer& tokenizer) {
  // Two messages that begin with other characters; only their texts differ.
  const ChatMessage one[] = {{"user", "a"}}, other[] = {{"user", "7"}};
  const auto first = tokenizer.ApplyChatTemplate(one, /*add_generation_prompt=*/false);
  const auto second = tokenizer.ApplyChatTemplate(other, /*add_generation_prompt=*/false);
  if (!first.ok() || !second.ok()) return {};
  const auto [end, unused] =
      std::mismatch(first->begin(), first->end(), second->begin(), second->end());
  return {first->begin(), end};
}

int PrefixTokens(int window_tokens) { return std::min(kPrefixTokens, window_tokens / 2); }

int64_t SampledWindows(int32_t tokens, const Corpus& text) {
  const auto each = static_cast<int64_t>(DomainsIn(text).size());
  const int64_t turn = each * text.window_tokens;
  return (tokens + turn - 1) / turn * each;
}

int64_t ChatWindows(const TuneOptions& options, const Corpus& text,
                    absl::Span<const TokenId> chat_opening) {
  if (chat_opening.empty()) return 0;
  const int64_t num = SampledWindows(options.parent_samples, text);
  const auto each = static_cast<int64_t>(DomainsIn(text).size());
  return std::llround(options.chat_share * static_cast<double>(num / each)) * each;
}

int64_t SampledAtATime(const CausalModel& parent) {
  const bool on_cpu = parent.weights().begin()->second.device().is_cpu();
  const int64_t bytes = on_cpu ? kCpuCacheBytes : std::max(kCardCacheBytes, FreeCardBytes() / 3);
  return std::clamp<int64_t>(bytes / parent.CacheBytes(), 1, kWindowsMax);
}

at::Tensor WriteToken(const CausalModel& parent, const at::Tensor& last, const at::Tensor& uniforms,
                      KeyValueCache& cache) {
  const at::NoGradGuard no_grad;
  const int64_t tokens = last.size(1);
  const at::Tensor hidden =
      parent.Hidden(last, {}, nullptr, &cache).view({last.size(0), tokens, -1});
  return Draw(parent.Logits(hidden.select(1, tokens - 1)), uniforms);
}

at::Tensor ContinueText(const CausalModel& parent, const at::Tensor& prefixes,
                        const at::Tensor& uniforms, const std::function<void(int)>& progress) {
  KeyValueCache cache = parent.MakeCache(prefixes.size(0));
  std::vector<at::Tensor> pieces = {prefixes};
  for (int64_t t = prefixes.size(1); t < parent.window_tokens(); ++t) {
    const at::Tensor uniform = uniforms.select(1, t - prefixes.size(1));
    pieces.push_back(WriteToken(parent, pieces.back(), uniform, cache));
    progress(static_cast<int>(t + 1));
  }
  return at::cat(pieces, 1);
}

absl::StatusOr<bool> SampleParent(const Checkpoint& dense, const Corpus& text,
                                  absl::Span<const TokenId> chat_opening,
                                  const TuneOptions& options, const nlohmann::json& inputs,
                                  WorkFolder& work, Clock& clock, const StageHooks& hooks) {
  const int64_t num = SampledWindows(options.parent_samples, text), window = text.window_tokens;
  const int64_t window_bytes = window * static_cast<int64_t>(sizeof(TokenId));
  ASSIGN_OR_RETURN(const auto record, work.Read(kSamplesRecord, inputs));
  if (!record) RETURN_IF_ERROR(work.Remove(kSamplesFile));
  const bool goes_on = record && work.Has(kSamplesFile);
  int64_t done = goes_on ? record->value("windows", int64_t{0}) : 0;
  if (done >= num) return true;
  double seconds = goes_on ? record->value("seconds", 0.0) : 0;
  ASSIGN_OR_RETURN(const UniqueFd fd, OpenSamples(work, num * window_bytes));
  ASSIGN_OR_RETURN(const TorchPlace place, PlaceOf(options.device));
  ASSIGN_OR_RETURN(
      const CausalModel parent,
      CausalModel::Load(dense, text.window_tokens, place.device, place.compute, place.compute));
  [[maybe_unused]] const WithoutCudnnAttention flash;
  const int64_t chunk = SampledAtATime(parent);
  const int64_t num_text = num - ChatWindows(options, text, chat_opening);
  while (done < num) {
    if (hooks.stop()) return false;
    const absl::Time begin = clock.Now();
    const bool chats = done >= num_text;
    const int64_t now = std::min(chunk, (chats ? num : num_text) - done);
    const Prompts prompts = MakePrompts(text, chats ? chat_opening : absl::Span<const TokenId>(),
                                        options.seed, done, now);
    const auto progress = [&](int tokens) {
      hooks.progress((static_cast<double>(done) +
                      static_cast<double>(now * tokens) / static_cast<double>(window)) /
                         static_cast<double>(num),
                     "");
    };
    const at::Tensor ids = ContinueText(parent, prompts.prefixes.to(place.device),
                                        prompts.uniforms.to(place.device), progress)
                               .to(at::kCPU, at::kInt)
                               .contiguous();
    const TokenId* const first = ids.data_ptr<TokenId>();
    RETURN_IF_ERROR(
        WriteSamples(work, fd.get(), done * window_bytes, {first, first + ids.numel()}));
    done += now;
    seconds += absl::ToDoubleSeconds(clock.Now() - begin);
    RETURN_IF_ERROR(work.Write(
        kSamplesRecord,
        {{"inputs", inputs}, {"windows", done}, {"tokens", done * window}, {"seconds", seconds}}));
  }
  return true;
}

absl::StatusOr<Corpus> WithSamples(const Corpus& text, const TuneOptions& options, int vocab_size,
                                   const WorkFolder& work) {
  const int64_t num = SampledWindows(options.parent_samples, text);
  const auto bytes = static_cast<size_t>(num) * text.window_tokens * sizeof(TokenId);
  ASSIGN_OR_RETURN(const std::string read, ReadInput(work.File(kSamplesFile), bytes));
  Corpus all = text;
  const size_t before = all.tokens.size();
  all.tokens.resize(before + read.size() / sizeof(TokenId));
  std::memcpy(all.tokens.data() + before, read.data(), read.size());
  const bool known =
      std::all_of(all.tokens.begin() + static_cast<int64_t>(before), all.tokens.end(),
                  [&](TokenId id) { return id >= 0 && id < vocab_size; });
  if (read.size() != bytes || !known) {
    return absl::DataLossError(
        absl::StrCat(work.File(kSamplesFile), ": is not what was sampled: ",
                     known ? absl::StrCat("has ", read.size(), " bytes of ", bytes)
                           : absl::StrCat("has ids that are not below ", vocab_size),
                     "; remove it, and it is made again"));
  }
  const std::vector<int32_t> domains = DomainsIn(text);
  for (int64_t n = 0; n < num; ++n) all.window_domain.push_back(domains[n % domains.size()]);
  return all;
}

}  // namespace pregate
