// `pregate COMMAND ...`: finds the command and runs it.
#include <cstdio>
#include <cstring>
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

void PrintUsage(FILE* out) {
  std::fprintf(out, "usage: pregate COMMAND [options]\n\ncommands:\n");
  for (const Command& c : kCommands) {
    const std::string name = *c.group ? std::string(c.group) + " " + c.name : c.name;
    std::fprintf(out, "  %-12s %s\n", name.c_str(), c.summary);
  }
  std::fprintf(
      out,
      "\n`pregate COMMAND --help` lists a command's options. Exit codes: 0 done, 1 failed, "
      "2 wrong usage.\n");
}

int Run(int argc, const char* const* argv) {
  if (argc < 2) {
    PrintUsage(stderr);
    return kExitUsage;
  }
  const std::string word = argv[1];
  if (word == "--help" || word == "-h" || word == "help") {
    PrintUsage(stdout);
    return kExitOk;
  }
  for (const Command& c : kCommands) {
    if (*c.group == '\0' && word == c.name) return c.run(argc - 1, argv + 1);
    if (*c.group != '\0' && word == c.group && argc > 2 && std::strcmp(argv[2], c.name) == 0) {
      return c.run(argc - 2, argv + 2);
    }
  }
  std::fprintf(stderr, "pregate: unknown command '%s'\n", word.c_str());
  PrintUsage(stderr);
  return kExitUsage;
}

}  // namespace
}  // namespace pregate::cli

int main(int argc, char** argv) { return pregate::cli::Run(argc, argv); }
