// `pregate generate`: one prompt, from a model on disk or a running cluster.
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "cli/command.h"
#include "cli/generator.h"
#include "cli/read_file.h"
#include "cli/terminal.h"
#include "common/base/limits.h"
#include "common/base/process.h"
#include "common/base/request_limits.h"
#include "common/base/status.h"
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
  int32_t max_tokens = 0, threads = 0, top_k = 0;
  std::optional<int32_t> expert_slots;
  int32_t logprobs = -1, prompt_logprobs = -1;
  std::string drafts = "ngram";
  double temperature = 0, top_p = 1, min_p = 0, repetition_penalty = 1;
  double frequency_penalty = 0, presence_penalty = 0;
  std::vector<std::string> logit_bias, choices;
  std::string json_schema, regex;
  bool json_object = false;
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
  set.Int("min-tokens", &o->job.min_tokens, 0, 1 << 20, "tokens",
          "of an answer before it may end by an end token or a stop string");
  set.Strings("stop", &o->job.stop_strings, "texts before which an answer ends");
  set.Double("temperature", &o->temperature, 0, 100, "", "0: greedy");
  set.Int("top-k", &o->top_k, 0, 1 << 20, "tokens", "keep the k most likely; 0: all");
  set.Double("top-p", &o->top_p, 0, 1, "", "keep the smallest set that reaches this probability");
  set.Double("min-p", &o->min_p, 0, 1, "", "drop below this share of the most likely");
  set.Double("repetition-penalty", &o->repetition_penalty, 1, 100, "", "1: off");
  set.Double("frequency-penalty", &o->frequency_penalty, -2, 2, "",
             "off a token's logit for each time that it was generated");
  set.Double("presence-penalty", &o->presence_penalty, -2, 2, "",
             "off the logits of tokens that were generated");
  set.Strings("logit-bias", &o->logit_bias, "ID=BIAS: added to single tokens' logits, -100 to 100");
  set.OptionalUint64("seed", &o->job.seed, "same seed, same tokens; drawn if missing");
  set.Switch("ignore-eos", &o->job.ignore_eos, "go on past the model's own end tokens");
  set.Switch("json-object", &o->json_object, "the answer is a JSON object");
  set.String(
      "json-schema", &o->json_schema,
      "file with a JSON Schema that the answer is valid for (docs/API.md has what is understood)");
  set.String("regex", &o->regex, "regular expression that matches the whole answer");
  set.Strings("choice", &o->choices, "texts, without a comma in them, of which the answer is one");
  set.Alternatives({"json-object", "json-schema", "regex", "choice"});
  set.Int(
      "logprobs", &o->logprobs, -1, kLogprobsMax, "tokens",
      "with --json: each token's log-probability, and so many of the likeliest in its place; -1: "
      "none");
  set.Int("prompt-logprobs", &o->prompt_logprobs, -1, kLogprobsMax, "tokens",
          "the same of the prompt's tokens");
  set.Int("n", &o->job.n, 1, kChoicesMax, "answers", "to one prompt");
  set.Int("best-of", &o->job.best_of, 0, kChoicesMax, "answers",
          "of which the --n likeliest are given; 0: --n");
  set.Switch("echo", &o->job.echo, "print the prompt before the answer");
  set.Int("priority", &o->job.priority, -kPriorityMax, kPriorityMax, "",
          "with --server: higher ones are served first");
  set.String("tenant", &o->job.tenant, "with --server: for whom this runs");
  set.Choice("drafts", &o->drafts, {"ngram", "off"},
             "guess tokens from what the text repeats and check several in one step (a server may "
             "have it off); the tokens are the same");
  set.Choice("dtype", &o->dtype, DTypeChoices(), "of weights and KV, with --model");
  set.Int("threads", &o->threads, 0, kThreadsMax, "threads", "with --model; 0: all cores");
  set.IntOrAuto("expert-slots", &o->expert_slots, 0, 1 << 20, "experts",
                "with --model: whose units fit on the device at once; 0: all, auto: as many as its "
                "memory has room for");
  set.Switch("require-text", &o->require_text, "fail when the answer holds no text");
  set.Switch("show-routes", &o->show_routes, "print the routes and how often the expert changed");
  set.Switch("json", &o->as_json, "print one JSON object");
  set.Alternatives({"model", "server"});
  set.OnlyWith("model", {"dtype", "threads", "expert-slots"});
  set.OnlyWith("server",
               {"tls-dir", "tls-trust-domain", "wait-s", "timeout-s", "priority", "tenant"});
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

// "ID=BIAS" items; the server checks ranges.
absl::StatusOr<std::vector<LogitBias>> ParseBiases(const std::vector<std::string>& items) {
  std::map<TokenId, float> biases;
  for (const std::string& item : items) {
    const std::pair<std::string, std::string> parts = absl::StrSplit(item, absl::MaxSplits('=', 1));
    TokenId token = 0;
    float bias = 0;
    if (!absl::SimpleAtoi(parts.first, &token) || !absl::SimpleAtof(parts.second, &bias)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--logit-bias: '", item, "' is not ID=BIAS, like 42=-1.5"));
    }
    if (!biases.emplace(token, bias).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("--logit-bias: token ", token, " comes twice"));
    }
  }
  std::vector<LogitBias> sorted;
  for (const auto& [token, bias] : biases) sorted.push_back({token, bias});
  return sorted;
}

absl::StatusOr<std::optional<Constraint>> ConstraintOf(const Options& o) {
  if (o.json_object) return JsonObjectConstraint{};
  if (!o.regex.empty()) return RegexConstraint{o.regex};
  if (!o.choices.empty()) return ChoiceConstraint{o.choices};
  if (o.json_schema.empty()) return std::nullopt;
  ASSIGN_OR_RETURN(std::string schema, ReadTextFile("json-schema", o.json_schema));
  return JsonSchemaConstraint{std::move(schema)};
}

absl::StatusOr<GenerateJob> MakeJob(const Options& o) {
  GenerateJob job = o.job;
  ASSIGN_OR_RETURN(job.constraint, ConstraintOf(o));
  ASSIGN_OR_RETURN(job.logit_bias, ParseBiases(o.logit_bias));
  if (o.logprobs >= 0) job.logprobs = o.logprobs;
  if (o.prompt_logprobs >= 0) job.prompt_logprobs = o.prompt_logprobs;
  if (o.max_tokens > 0) job.max_tokens = o.max_tokens;
  job.no_drafts = o.drafts == "off";
  job.sampling.temperature = static_cast<float>(o.temperature);
  job.sampling.top_k = o.top_k;
  job.sampling.top_p = static_cast<float>(o.top_p);
  job.sampling.min_p = static_cast<float>(o.min_p);
  job.sampling.repetition_penalty = static_cast<float>(o.repetition_penalty);
  job.sampling.frequency_penalty = static_cast<float>(o.frequency_penalty);
  job.sampling.presence_penalty = static_cast<float>(o.presence_penalty);
  return job;
}

void PrintSummary(const GenerateOutcome& o, bool show_routes) {
  std::cerr << "\n" << SummaryText(o) << "\n";
  const std::string routes = show_routes ? RoutesText(o) : "";
  if (!routes.empty()) std::cerr << routes << "\n";
}

nlohmann::json ToJson(const TokenProbability& one) {
  const std::vector<uint8_t> bytes(one.bytes.begin(), one.bytes.end());
  return {{"id", one.id}, {"logprob", one.logprob}, {"bytes", bytes}};
}

nlohmann::json ToJson(const std::vector<TokenProbabilities>& all) {
  nlohmann::json list = nlohmann::json::array();
  for (const TokenProbabilities& of_token : all) {
    nlohmann::json entry = ToJson(of_token[0]);
    entry["top"] = nlohmann::json::array();
    for (size_t i = 1; i < of_token.size(); ++i) entry["top"].push_back(ToJson(of_token[i]));
    list.push_back(std::move(entry));
  }
  return list;
}

nlohmann::json ToJson(const GenerateChoice& choice, const GenerateJob& job) {
  nlohmann::json out = {{"text", choice.text},
                        {"ids", choice.ids},
                        {"routes", choice.routes},
                        {"finish_reason", choice.finish_reason}};
  if (job.logprobs) out["logprobs"] = ToJson(choice.logprobs);
  return out;
}

// The first choice is the object itself; "choices" has all where there are several.
void PrintAsJson(const GenerateOutcome& o, const GenerateJob& job) {
  nlohmann::json out = ToJson(o, job);
  out.update({{"prompt_routes", o.prompt_routes},
              {"prompt_tokens", o.prompt_tokens},
              {"generated_tokens", o.generated_tokens},
              {"cached_tokens", o.cached_tokens},
              {"ttft_s", o.ttft_s},
              {"tokens_per_s", o.tokens_per_s ? nlohmann::json(*o.tokens_per_s) : nlohmann::json()},
              {"draft_tokens", o.draft_tokens},
              {"accepted_tokens", o.accepted_tokens},
              {"seed", o.seed}});
  if (job.prompt_logprobs) out["prompt_logprobs"] = ToJson(o.prompt_logprobs);
  if (job.echo) out.update({{"prompt_ids", o.prompt_ids}, {"prompt_text", o.prompt_text}});
  if (job.n > 1) {
    out["choices"] = {ToJson(o, job)};
    for (const GenerateChoice& choice : o.others) out["choices"].push_back(ToJson(choice, job));
  }
  PrintJson(out);
}

// The first choice is printed as it comes.
void PrintOthers(const GenerateOutcome& o) {
  for (size_t i = 0; i < o.others.size(); ++i) {
    PrintAnswer(absl::StrFormat("\n--- choice %d (%s)\n", i + 1, o.others[i].finish_reason));
    PrintAnswer(o.others[i].text);
  }
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
  const auto job = MakeJob(options);
  if (!job.ok()) return Fail("generate", job.status());
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
  if (options.job.echo && !options.as_json) print(options.job.prompt);
  const auto outcome = (*generator)->Generate(*job, print);
  if (!outcome.ok()) {
    if (options.as_json && !received.empty()) {
      PrintJson({{"text", received}, {"error", outcome.status().message()}});
    } else if (!received.empty()) {
      PrintAnswer("\n");
    }
    return Fail("generate", outcome.status());
  }
  if (options.as_json) {
    PrintAsJson(*outcome, *job);
  } else {
    PrintOthers(*outcome);
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
