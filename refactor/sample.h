// Text that the parent writes, to be tuned on beside the domains' text (tune.h): it holds experts to
// what the parent says where that text, which is short and seen many times, would not lead.
//
//   a domain's text ─▶ prefix ─▶ parent, token by token ─▶ window
//
//   chat template  ─▶ opening of a user's first message ─▶ the same, for a share of the windows
//
// Domains come in turn. A prefix is any kPrefixTokens consecutive tokens of the domain's tuning
// windows; behind the opening a parent that was taught to chat invents question and answer (Xu et al.
// 2024, arXiv 2406.08464), and such windows are no domain's. What follows is drawn from the parent's
// own distribution, unfiltered, and may end a
// document and begin another as the parent's own training text did. Window n's prefix and numbers
// are of seed and n. Only LibTorch's users include this.
#pragma once

#include <functional>

#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "common/model/formats/checkpoint.h"
#include "refactor/calibrate.h"
#include "refactor/causal_model.h"
#include "refactor/corpus.h"
#include "refactor/tune.h"
#include "refactor/work_folder.h"

namespace pregate {

// A sentence or two: enough to set the domain's manner, and little of a window, since experts are
// tuned on that text anyway.
inline constexpr int kPrefixTokens = 32;
// That, or half of a window where this is less.
int PrefixTokens(int window_tokens);

// The tokens that every conversation begins with, up to its first message; none where the tokenizer has no
// chat template, or one that cannot lay out a message.
std::vector<TokenId> ChatOpening(const Tokenizer& tokenizer);

// As many whole windows as have the tokens that are asked for, prefixes included, and as many of
// each domain that `text` has.
int64_t SampledWindows(int32_t tokens, const Corpus& text);
// Of these the last so many are conversations, as many for each domain's place.
int64_t ChatWindows(const TuneOptions& options, const Corpus& text,
                    absl::Span<const TokenId> chat_opening);
// Written at a time: as many as have room for their keys and values, which decides speed.
int64_t SampledAtATime(const CausalModel& parent);

// `last` [windows, tokens] of longs, behind what the cache has → the token after them,
// [windows, 1]: the one whose share of the distribution, in the order of ids, holds uniforms
// [windows], of [0, 1) in f64.
at::Tensor WriteToken(const CausalModel& parent, const at::Tensor& last, const at::Tensor& uniforms,
                      KeyValueCache& cache);
// `prefixes` [windows, tokens] of longs → [windows, window_tokens]; token n behind the prefix is drawn
// by uniforms[.., n]. `progress` is called with the tokens that are done.
at::Tensor ContinueText(const CausalModel& parent, const at::Tensor& prefixes,
                        const at::Tensor& uniforms, const std::function<void(int)>& progress);

// Goes on from the record "sample.json", with the seconds it took, and "samples.bin" in `work`,
// which are synced with each lot of windows. False: `stop` said so. REQUIRES: `chat_opening` is shorter
// than a window.
absl::StatusOr<bool> SampleParent(const Checkpoint& dense, const Corpus& text,
                                  absl::Span<const TokenId> chat_opening,
                                  const TuneOptions& options, const nlohmann::json& inputs,
                                  WorkFolder& work, Clock& clock, const StageHooks& hooks);

// `text`, and behind it the windows that SampleParent wrote. DataLoss where these are not whole.
absl::StatusOr<Corpus> WithSamples(const Corpus& text, const TuneOptions& options, int vocab_size,
                                   const WorkFolder& work);

}  // namespace pregate
