// `pregate COMMAND ...`: finds the command and runs it.
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "cli/command.h"
#include "common/base/process.h"
#include "common/config/command_line.h"

namespace pregate::cli {

constexpr Command kCommands[] = {
#ifdef PREGATE_WITH_GRPC
    {"", "serve", "run router, worker and scheduler in one process", Serve},
    {"", "health", "say whether a service is ready", Health},
#endif
    {"", "generate", "generate text from a model or a running cluster", Generate},
#ifdef PREGATE_WITH_GRPC
    {"", "chat", "talk to the model of a running cluster", Chat},
#endif
    {"", "top", "watch a running cluster's metrics", Top},
#ifdef PREGATE_WITH_GRPC
    {"", "trace", "write a running cluster's last steps as a timeline", Trace},
#endif
    {"certs", "init", "make an authority and a certificate for each role", CertsInit},
    {"certs", "renew", "make new certificates from the same authority", CertsRenew},
    {"certs", "show", "show roles, lifetimes and fingerprints", CertsShow},
    {"api-token", "new", "make a bearer token for the HTTP API", ApiTokenNew},
    {"", "refactor", "cut a dense model into experts and tune them (run), or rebuild them",
     Refactor},
    {"", "import", "turn a Hugging Face, GGUF or authors' checkpoint into ours", Import},
    {"", "logits", "write logits, router logits and expert ids of token lists", Logits},
    {"", "tokenize", "turn a text file into token ids", Tokenize},
    {"eval", "ppl", "perplexity of a text file", EvalPpl},
    {"eval", "task", "accuracy on a task file", EvalTask},
    {"routes", "record", "write the routes that a model gives text files", RoutesRecord},
    {"", "simulate", "run a trace through the scheduler in virtual time", Simulate},
    {"", "inspect", "show what a checkpoint holds", Inspect},
    {"", "synth", "make a checkpoint with random weights", Synth},
    {"", "completion", "print a shell's completion of these commands", Completion},
};

absl::Span<const Command> Commands() { return kCommands; }

namespace {

// Of all commands, or of one group.
void PrintUsage(FILE* out, const std::string& group = "") {
  std::fprintf(out, "usage: pregate %s [options]\n\ncommands:\n",
               group.empty() ? "COMMAND" : (group + " COMMAND").c_str());
  for (const Command& c : kCommands) {
    if (!group.empty() && group != c.group) continue;
    const std::string name = *c.group ? std::string(c.group) + " " + c.name : c.name;
    std::fprintf(out, "  %-12s %s\n", name.c_str(), c.summary);
  }
  std::fprintf(
      out,
      "\n`pregate help COMMAND` lists a command's options; `pregate --version` says which pregate "
      "this is. Exit codes: 0 done, 1 failed, 2 wrong usage (a bad option or value, or a request "
      "or file that is refused as wrong).\n");
}

bool IsHelp(const std::string& word) { return word == "--help" || word == "-h" || word == "help"; }
bool IsVersion(const std::string& word) { return word == "--version" || word == "version"; }

// The words that may stand after `group`; with group "" the first words of all commands.
std::vector<std::string> WordsAfter(const std::string& group) {
  std::vector<std::string> words;
  for (const Command& c : kCommands) {
    if (group == c.group) {
      words.push_back(c.name);
    } else if (group.empty() && (words.empty() || words.back() != c.group)) {
      words.push_back(c.group);
    }
  }
  return words;
}

// No command was named: by mistake, or to see what there is.
int Explain(const std::string& group, const std::string& word) {
  if (IsHelp(word)) {
    PrintUsage(stdout, group);
    return kExitOk;
  }
  if (!word.empty()) {
    const std::string suggestion = Suggestion(word, WordsAfter(group));
    std::fprintf(stderr, "pregate: unknown command '%s%s'%s\n\n",
                 group.empty() ? "" : (group + " ").c_str(), word.c_str(), suggestion.c_str());
  }
  PrintUsage(stderr, group);
  return kExitUsage;
}

int Run(std::vector<const char*> args) {
  if (args.size() > 1 && std::strcmp(args[0], "help") == 0) {  // help COMMAND
    args.erase(args.begin());
    args.push_back("--help");
  }
  const std::string word = args.empty() ? "" : args[0], next = args.size() < 2 ? "" : args[1];
  if (IsVersion(word)) {
    std::printf("pregate %s\n", VersionText().c_str());
    return kExitOk;
  }
  bool is_group = false;
  for (const Command& c : kCommands) {
    const size_t num_words = *c.group ? 2 : 1;
    is_group |= num_words == 2 && word == c.group;
    if (num_words == 2 ? word == c.group && next == c.name : word == c.name) {
      return c.run(static_cast<int>(args.size() - num_words + 1), args.data() + num_words - 1);
    }
  }
  return is_group ? Explain(word, next) : Explain("", word);
}

}  // namespace
}  // namespace pregate::cli

int main(int argc, char** argv) {
  pregate::PrepareProcess();
  const int code = pregate::cli::Run({argv + 1, argv + argc});
  if (code != pregate::cli::kExitOk) return code;
  const absl::Status printed = pregate::FlushStandardOutput();
  if (printed.ok()) return pregate::cli::kExitOk;
  std::fprintf(stderr, "pregate: %s\n", std::string(printed.message()).c_str());
  return pregate::cli::kExitFailed;
}
