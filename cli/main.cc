// `pregate COMMAND ...`: finds the command and runs it.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <string>
#include <vector>

#include "cli/command.h"

namespace pregate::cli {
namespace {

struct Command {
  const char* group;  // first word, or "" where the name alone is the command
  const char* name;
  const char* summary;
  CommandFn run;
};

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
    {"certs", "init", "make an authority and a certificate for each role", CertsInit},
    {"certs", "renew", "make new certificates from the same authority", CertsRenew},
    {"certs", "show", "show roles, lifetimes and fingerprints", CertsShow},
    {"", "refactor", "cut a dense model into experts", Refactor},
    {"", "import", "turn a Hugging Face, GGUF or authors' checkpoint into ours", Import},
    {"", "logits", "write logits, router logits and expert ids of token lists", Logits},
    {"", "tokenize", "turn a text file into token ids", Tokenize},
    {"eval", "ppl", "perplexity of a text file", EvalPpl},
    {"eval", "task", "accuracy on a task file", EvalTask},
    {"", "simulate", "run a trace through the scheduler in virtual time", Simulate},
    {"", "inspect", "show what a checkpoint holds", Inspect},
    {"", "synth", "make a checkpoint with random weights", Synth},
};

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
      "\n`pregate COMMAND --help` lists a command's options. Exit codes: 0 done, 1 failed, "
      "2 wrong usage (a bad option or value, or a request or file that is refused as wrong).\n");
}

bool IsHelp(const std::string& word) { return word == "--help" || word == "-h" || word == "help"; }

bool IsGroup(const std::string& word) {
  return std::any_of(std::begin(kCommands), std::end(kCommands),
                     [&](const Command& c) { return *c.group != '\0' && word == c.group; });
}

// None of the group's commands was named.
int RunGroup(const std::string& group, const std::string& word) {
  if (!IsHelp(word) && !word.empty()) {
    std::fprintf(stderr, "pregate: unknown command '%s %s'\n", group.c_str(), word.c_str());
  }
  PrintUsage(IsHelp(word) ? stdout : stderr, group);
  return IsHelp(word) ? kExitOk : kExitUsage;
}

int Run(int argc, const char* const* argv) {
  if (argc < 2) {
    PrintUsage(stderr);
    return kExitUsage;
  }
  const std::string word = argv[1];
  if (IsHelp(word)) {
    PrintUsage(stdout);
    return kExitOk;
  }
  for (const Command& c : kCommands) {
    if (*c.group == '\0' && word == c.name) return c.run(argc - 1, argv + 1);
    if (*c.group != '\0' && word == c.group && argc > 2 && std::strcmp(argv[2], c.name) == 0) {
      return c.run(argc - 2, argv + 2);
    }
  }
  if (IsGroup(word)) return RunGroup(word, argc > 2 ? argv[2] : "");
  std::fprintf(stderr, "pregate: unknown command '%s'\n", word.c_str());
  PrintUsage(stderr);
  return kExitUsage;
}

}  // namespace
}  // namespace pregate::cli

int main(int argc, char** argv) { return pregate::cli::Run(argc, argv); }
