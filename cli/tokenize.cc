// `pregate tokenize`: a text file as token ids; no special token is added or recognised.
#include <iostream>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/read_file.h"
#include "common/config/option_set.h"
#include "common/model/formats/checkpoint.h"
#include "common/model/tokenizer/tokenizer.h"

namespace pregate::cli {

int Tokenize(int argc, const char* const* argv) {
  std::string model, text_file;
  bool as_json = false;
  OptionSet options("pregate tokenize", "Turns a text file into token ids, one a line.");
  options.String("model", &model, "pregate or HF directory, or GGUF file").Required();
  options.String("text-file", &text_file, "UTF-8 text").Required();
  options.Switch("json", &as_json, "print {\"ids\": [...]}");
  PARSE_OPTIONS_OR_RETURN(options, "tokenize", argc, argv);

  const auto checkpoint = Checkpoint::Open(model);
  if (!checkpoint.ok()) return Fail("tokenize", checkpoint.status());
  const auto tokenizer = (*checkpoint)->LoadTokenizer();
  if (!tokenizer.ok()) return Fail("tokenize", tokenizer.status());
  const auto text = ReadTextFile("text-file", text_file);
  if (!text.ok()) return Fail("tokenize", text.status());

  const std::vector<TokenId> ids = (*tokenizer)->Encode(*text);
  if (as_json) {
    PrintJson({{"ids", ids}});
  } else {
    for (const TokenId id : ids) std::cout << id << "\n";
  }
  return kExitOk;
}

}  // namespace pregate::cli
