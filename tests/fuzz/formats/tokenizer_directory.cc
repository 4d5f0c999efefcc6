// The files of a tokenizer in a Hugging Face directory, one of which is not what it was.
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "tests/fuzz/input_files.h"
#include "tests/fuzz/tiny_models.h"
#include "tests/fuzz/use_checkpoint.h"

namespace pregate::fuzz::tokenizer {
namespace {

std::string MakeDirectory(ReplacedFile* files) {
  const std::string dir = files->NewDirectory();
  std::filesystem::create_directories(dir);
  return dir;
}

const ReplacedFile& Files() {
  static const auto* files = [] {
    auto* out = new ReplacedFile;
    const std::string bpe = MakeDirectory(out);
    PREGATE_CHECK(SaveTokenizerJson(TinyBpe(), bpe).ok());
    for (const char* name : {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}) {
      out->Add(bpe, name);
    }
    const std::string sentencepiece = MakeDirectory(out);
    PREGATE_CHECK(SaveSentencePieceModel(TinySentencePiece(), sentencepiece).ok());
    const size_t next = TinySentencePiece().model.pieces.size();
    WriteFile(sentencepiece + "/added_tokens.json",
              absl::StrCat(R"({"<|x|>": )", next, R"(, "<|y|>": )", next + 1, "}"));
    for (const char* name : {"tokenizer.model", "tokenizer_config.json", "added_tokens.json"}) {
      out->Add(sentencepiece, name);
    }
    return out;
  }();
  return *files;
}

bool Run(std::string_view input) {
  return Files().Read(input, [](const std::string& dir) {
    const auto tokenizer = LoadTokenizer(dir);
    if (tokenizer.ok()) Use(**tokenizer);
    return tokenizer.ok();
  });
}

const Registration registration({.name = "tokenizer_directory",
                                 .seeds = [] { return Files().Seeds(); },
                                 .run = Run,
                                 .mutate =
                                     [](std::string_view input, std::mt19937_64& random) {
                                       return Files().Mutate(input, random);
                                     },
                                 .bytes_max = 2048});

}  // namespace
}  // namespace pregate::fuzz::tokenizer
