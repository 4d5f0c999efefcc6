// `pregate chat`: a conversation with the model of a running cluster, line by line.
#include <unistd.h>

#include <cstdio>
#include <thread>

#include "absl/strings/str_cat.h"
#include "cli/chat_lines.h"
#include "cli/command.h"
#include "cli/generator.h"
#include "cli/printable.h"
#include "cli/terminal.h"
#include "common/base/limits.h"
#include "common/base/process.h"
#include "common/base/request_limits.h"
#include "common/base/status.h"
#include "common/config/option_set.h"

namespace pregate::cli {
namespace {

struct ChatOptions {
  TlsOptions tls;
  std::string server = "127.0.0.1:7600", system;
  absl::Duration wait = absl::ZeroDuration(), timeout = absl::ZeroDuration();
  int32_t max_tokens = 0;
  double temperature = 0, top_p = 1, frequency_penalty = 0, presence_penalty = 0;
  std::optional<uint64_t> seed;
  std::string tenant;
  int32_t priority = 0;
  bool show_routes = false;
};

void Declare(OptionSet& set, ChatOptions* o) {
  set.String("server", &o->server, "HOST:PORT or unix:PATH of a running scheduler");
  DeclareTlsOptions(set, &o->tls);
  set.Duration("wait-s", &o->wait, absl::ZeroDuration(), absl::Hours(1),
               "wait this long for the server to be ready");
  set.Duration("timeout-s", &o->timeout, absl::ZeroDuration(), absl::Hours(24),
               "for a whole answer; 0: as long as it takes");
  set.String("system", &o->system, "how to answer: the conversation's system message");
  set.Int("max-tokens", &o->max_tokens, 0, 1 << 20, "tokens",
          "most tokens of an answer; 0: what remains of the context");
  set.Double("temperature", &o->temperature, 0, 100, "", "0: greedy");
  set.Double("top-p", &o->top_p, 0, 1, "", "keep the smallest set that reaches this probability");
  set.Double("frequency-penalty", &o->frequency_penalty, -2, 2, "",
             "off a token's logit for each time that it was generated");
  set.Double("presence-penalty", &o->presence_penalty, -2, 2, "",
             "off the logits of tokens that were generated");
  set.OptionalUint64("seed", &o->seed, "same seed, same answer; drawn if missing");
  set.Int("priority", &o->priority, -kPriorityMax, kPriorityMax, "",
          "higher ones are served first");
  set.String("tenant", &o->tenant, "for whom this runs");
  set.Switch("show-routes", &o->show_routes, "print the routes and how often the expert changed");
}

constexpr char kFull[] =
    "the context is full (%d of %d tokens): /reset forgets the conversation and starts anew\n";

// Answers go to stdout, everything about them to stderr. Prompts and colour on a terminal only.
class ChatSession {
 public:
  ChatSession(RemoteClient* client, RemoteClient::Model model, const ChatOptions& options)
      : client_(*client), model_(std::move(model)), options_(options), history_(options.system) {}

  // Returns at /quit or the end of stdin: what failed last, if nobody was there to see it.
  absl::Status Run() {
    if (prompts_) {
      std::fprintf(stderr, "%s · context %d tokens · /help lists the commands\n",
                   Printable(model_.name, Layout::kCell).c_str(), model_.context_tokens);
    }
    std::string line;
    while (true) {
      if (prompts_) std::fprintf(stderr, "> ");
      const LineReader::Outcome outcome = lines_.Read(&line);
      if (outcome == LineReader::Outcome::kInterrupted) {
        std::fprintf(stderr, "\n(/quit or Ctrl-D ends)\n");
        continue;
      }
      if (outcome == LineReader::Outcome::kEnd) {
        if (prompts_) std::fprintf(stderr, "\n");
        break;
      }
      if (const absl::Status text = CheckUtf8(line, "the line"); !text.ok()) {
        Say(text);
      } else if (!Obey(ParseChatLine(line))) {
        break;
      }
    }
    if (!prompts_) return failed_;
    return FlushStandardOutput();
  }

 private:
  // False: the session is over.
  bool Obey(const ChatLine& line) {
    switch (line.kind) {
      case ChatLine::kNothing:
        break;
      case ChatLine::kMessage:
        Ask(line.text);
        return FlushStandardOutput().ok();
      case ChatLine::kQuit:
        return false;
      case ChatLine::kReset:
        history_.Reset();
        break;
      case ChatLine::kSystem:
        history_.SetSystem(line.text);
        break;
      case ChatLine::kSeed:
        options_.seed = line.seed;
        break;
      case ChatLine::kHelp:
        std::fputs(ChatHelp(), stderr);
        break;
      case ChatLine::kMistake:
        std::fprintf(stderr, "%s\n", line.text.c_str());
        break;
    }
    return true;
  }

  void Ask(const std::string& question) {
    GenerateJob job;
    job.messages = history_.WithQuestion(question);
    job.sampling.temperature = static_cast<float>(options_.temperature);
    job.sampling.top_p = static_cast<float>(options_.top_p);
    job.sampling.frequency_penalty = static_cast<float>(options_.frequency_penalty);
    job.sampling.presence_penalty = static_cast<float>(options_.presence_penalty);
    job.priority = options_.priority;
    job.tenant = options_.tenant;
    job.seed = options_.seed;
    job.timeout = options_.timeout;
    const auto tokens = client_.CountTokens(job.messages);
    if (!tokens.ok()) return Say(tokens.status());
    job.max_tokens = AnswerRoom(*tokens, model_.context_tokens, options_.max_tokens);
    if (!job.max_tokens) {
      std::fprintf(stderr, kFull, *tokens, model_.context_tokens);
      return;
    }
    Answer(question, job);
  }

  // What came of an answer that was cancelled or broke off is part of the conversation too.
  void Answer(const std::string& question, const GenerateJob& job) {
    std::string answer;
    const auto outcome = Generate(job, [&](std::string_view text) {
      answer += text;
      PrintAnswer(text);
    });
    PrintAnswer("\n");
    if (!answer.empty()) history_.Add(question, answer);
    if (!outcome.ok()) return Say(outcome.status());
    Dim(SummaryText(*outcome));
    const std::string routes = options_.show_routes ? RoutesText(*outcome) : "";
    if (!routes.empty()) Dim(routes);
    const int32_t used = outcome->prompt_tokens + static_cast<int32_t>(outcome->ids.size());
    if (used >= model_.context_tokens) std::fprintf(stderr, kFull, used, model_.context_tokens);
  }

  // Ctrl-C cancels the answer.
  absl::StatusOr<GenerateOutcome> Generate(const GenerateJob& job, const OnText& on_text) {
    const std::jthread watch([this, cancel = false](std::stop_token over) mutable {
      while (!over.stop_requested()) {
        cancel |= Interrupts::Take();
        if (cancel) client_.Cancel();  // again and again: the call may not have begun yet
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
      }
    });
    return client_.Generate(job, on_text);
  }

  void Say(const absl::Status& status) {
    if (!absl::IsCancelled(status)) failed_ = status;
    const std::string why = absl::IsCancelled(status) ? "cancelled" : std::string(status.message());
    std::fprintf(stderr, "(%s)\n", Printable(why, Layout::kFlow).c_str());
  }

  void Dim(const std::string& text) {
    std::fprintf(stderr, colour_ ? "\x1b[2m%s\x1b[0m\n" : "%s\n", text.c_str());
  }

  RemoteClient& client_;
  const RemoteClient::Model model_;
  ChatOptions options_;
  ChatHistory history_;
  absl::Status failed_;
  LineReader lines_{STDIN_FILENO};
  const bool colour_ = TakesColour(STDERR_FILENO);
  const bool prompts_ = isatty(STDERR_FILENO) != 0 && isatty(STDIN_FILENO) != 0;
};

absl::Status RunChat(const ChatOptions& options) {
  ASSIGN_OR_RETURN(const auto client,
                   MakeRemoteGenerator(options.server, options.tls, options.wait));
  ASSIGN_OR_RETURN(RemoteClient::Model model, client->Describe());
  const Interrupts interrupts;
  return ChatSession(client.get(), std::move(model), options).Run();
}

}  // namespace

int Chat(int argc, const char* const* argv) {
  ChatOptions options;
  OptionSet set("pregate chat",
                "A conversation with the model of a running cluster. /help lists what can be "
                "typed; Ctrl-C ends an answer, Ctrl-D the conversation.");
  Declare(set, &options);
  PARSE_OPTIONS_OR_RETURN(set, "chat", argc, argv);
  const absl::Status status = RunChat(options);
  return status.ok() ? kExitOk : Fail("chat", status);
}

}  // namespace pregate::cli
