// `pregate generate`: one prompt, from a model on disk or a running cluster.
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "cli/command.h"
#include "cli/generator.h"
#include "cli/terminal.h"
#include "common/base/limits.h"
#include "common/base/process.h"
#include "common/base/text.h"
#include "common/config/option_set.h"
#include "common/device/types.h"

namespace pregate::cli {
namespace {

struct Options {
  std::string model, server, dtype = "f32";
  TlsOptions tls;  // with `server`
  absl::Duration wait = absl::ZeroDuration();
  GenerateJob job;
  int32_t max_tokens = 0, threads = 0, expert_slots = 0, top_k = 0;
  std::string drafts = "ngram";
  double temperature = 0, top_p = 1, min_p = 0, repetition_penalty = 1;
  bool require_text = false, show_routes = false, as_json = false;
};

void Declare(OptionSet& set, Options* o) {
  set.String("model", &o->model, "pregate or HF directory, or GGUF file; runs in this process");
  set.String("server", &o->server, "HOST:PORT or unix:PATH of a running scheduler");
  DeclareTlsOptions(set, &o->tls);
  set.Duration("wait-s", &o->wait, absl::ZeroDuration(), absl::Hours(1),
               "wait this long for the server to be ready");
  set.Duration("timeout-s", &o->job.timeout, absl::ZeroDuration(), absl::Hours(24),
               "with --server: for the whole answer; 0: as long as it takes");
  set.String("prompt", &o->job.prompt, "the text to go on from").Required();
  set.Switch("chat", &o->job.chat, "the prompt is a user's message: apply the chat template");
  set.Int("max-tokens", &o->max_tokens, 0, 1 << 20, "tokens",
          "most tokens to generate; 0: what remains of the context");
  set.Double("temperature", &o->temperature, 0, 100, "", "0: greedy");
  set.Int("top-k", &o->top_k, 0, 1 << 20, "tokens", "keep the k most likely; 0: all");
  set.Double("top-p", &o->top_p, 0, 1, "", "keep the smallest set that reaches this probability");
  set.Double("min-p", &o->min_p, 0, 1, "", "drop below this share of the most likely");
  set.Double("repetition-penalty", &o->repetition_penalty, 1, 100, "", "1: off");
  set.OptionalUint64("seed", &o->job.seed, "same seed, same tokens; drawn if missing");
  set.Switch("ignore-eos", &o->job.ignore_eos, "go on past the model's own end tokens");
  set.Choice("drafts", &o->drafts, {"ngram", "off"},
             "guess tokens from what the text repeats and check several in one step (a server may "
             "have it off); the tokens are the same");
  set.Choice("dtype", &o->dtype, DTypeChoices(), "of weights and KV, with --model");
  set.Int("threads", &o->threads, 0, kThreadsMax, "threads", "with --model; 0: all cores");
  set.Int("expert-slots", &o->expert_slots, 0, 1 << 20, "experts",
          "with --model: whose units fit on the device at once; 0: all");
  set.Switch("require-text", &o->require_text, "fail when the answer holds no text");
  set.Switch("show-routes", &o->show_routes, "print the routes and how often the expert changed");
  set.Switch("json", &o->as_json, "print one JSON object");
  set.Alternatives({"model", "server"});
  set.OnlyWith("model", {"dtype", "threads", "expert-slots"});
  set.OnlyWith("server", {"tls-dir", "tls-trust-domain", "wait-s", "timeout-s"});
}

absl::StatusOr<std::unique_ptr<Generator>> MakeGenerator(const Options& o) {
  if (o.model.empty() && o.server.empty()) {
    return absl::InvalidArgumentError("give either --model or --server");
  }
#ifdef PREGATE_WITH_GRPC
  if (!o.server.empty()) return MakeRemoteGenerator(o.server, o.tls, o.wait);
#else
  if (!o.server.empty()) {
    return absl::UnimplementedError("--server: this build has no gRPC (PREGATE_GRPC=OFF)");
  }
#endif
  return MakeLocalGenerator({o.model, o.dtype, o.threads, o.expert_slots});
}

GenerateJob MakeJob(const Options& o) {
  GenerateJob job = o.job;
  if (o.max_tokens > 0) job.max_tokens = o.max_tokens;
  job.no_drafts = o.drafts == "off";
  job.sampling.temperature = static_cast<float>(o.temperature);
  job.sampling.top_k = o.top_k;
  job.sampling.top_p = static_cast<float>(o.top_p);
  job.sampling.min_p = static_cast<float>(o.min_p);
  job.sampling.repetition_penalty = static_cast<float>(o.repetition_penalty);
  return job;
}

void PrintSummary(const GenerateOutcome& o, bool show_routes) {
  std::cerr << "\n" << SummaryText(o) << "\n";
  const std::string routes = show_routes ? RoutesText(o) : "";
  if (!routes.empty()) std::cerr << routes << "\n";
}

void PrintAsJson(const GenerateOutcome& o) {
  PrintJson({{"text", o.text},
             {"ids", o.ids},
             {"routes", o.routes},
             {"prompt_routes", o.prompt_routes},
             {"prompt_tokens", o.prompt_tokens},
             {"ttft_s", o.ttft_s},
             {"tokens_per_s", o.tokens_per_s ? nlohmann::json(*o.tokens_per_s) : nlohmann::json()},
             {"draft_tokens", o.draft_tokens},
             {"accepted_tokens", o.accepted_tokens},
             {"finish_reason", o.finish_reason},
             {"seed", o.seed}});
}

}  // namespace

int Generate(int argc, const char* const* argv) {
  Options options;
  OptionSet set("pregate generate", "Generates text from a model on disk or a running cluster.");
  Declare(set, &options);
  PARSE_OPTIONS_OR_RETURN(set, "generate", argc, argv);
  if (const absl::Status text = CheckUtf8(options.job.prompt, "--prompt"); !text.ok()) {
    return Fail("generate", text);
  }
  auto generator = MakeGenerator(options);
  if (!generator.ok()) return Fail("generate", generator.status());

  std::string received;
  const OnText print = [&](std::string_view text) {
    received += text;
    if (options.as_json) return;
    PrintAnswer(text);
    // Nobody reads on. What generates ends with the process; a server sees the call go.
    if (const absl::Status s = FlushStandardOutput(); !s.ok()) std::_Exit(Fail("generate", s));
  };
  const auto outcome = (*generator)->Generate(MakeJob(options), print);
  if (!outcome.ok()) {
    if (options.as_json && !received.empty()) {
      PrintJson({{"text", received}, {"error", outcome.status().message()}});
    } else if (!received.empty()) {
      PrintAnswer("\n");
    }
    return Fail("generate", outcome.status());
  }
  if (options.as_json) {
    PrintAsJson(*outcome);
  } else {
    PrintSummary(*outcome, options.show_routes);
  }
  if (options.require_text && absl::StripAsciiWhitespace(outcome->text).empty()) {
    return Fail("generate",
                absl::NotFoundError(absl::StrFormat(
                    "--require-text: the answer's %d tokens hold no text", outcome->ids.size())));
  }
  return kExitOk;
}

}  // namespace pregate::cli
