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

constexpr const char* kSpaceInPieces = "\xE2\x96\x81";

// Llama-2's kind: characters, bytes of what is none, spaces that normalizers and decoders rewrite.
PipelineTokenizerSpec TinyCharacters() {
  PipelineTokenizerSpec spec;
  spec.tokens = {"<unk>", "<s>", "H", "e", "l", "He", "ll", kSpaceInPieces, "<0xC3>", "<0xA9>"};
  spec.merges = {{"H", "e"}};
  spec.added = {{.id = 1, .text = "<s>", .special = true},
                {.id = 10, .text = "wo", .lstrip = true, .normalized = true}};
  spec.unknown = 0;
  spec.byte_fallback = spec.fuse_unknown = true;
  spec.normalizer =
      R"({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"},
      {"type": "Replace", "pattern": {"Regex": " +"}, "content": "\u2581"}, {"type": "NFKC"}]})";
  spec.pre_tokenizer = R"json({"type": "Split", "pattern": {"Regex": "\\p{N}|(?=H)"},
      "behavior": "MergedWithNext", "invert": false})json";
  spec.decoder = R"({"type": "Sequence", "decoders": [{"type": "Replace",
      "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
      {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})";
  return spec;
}

PipelineTokenizerSpec TinyUnigram() {
  PipelineTokenizerSpec spec;
  spec.tokens = {"<unk>", "H", "e", "He", kSpaceInPieces};
  spec.scores = {0, -2, -2, -3.5, -1};
  spec.unknown = 0;
  spec.pre_tokenizer = R"({"type": "Metaspace", "replacement": "\u2581",
      "prepend_scheme": "first", "split": true})";
  spec.decoder = R"({"type": "Metaspace", "replacement": "\u2581"})";
  return spec;
}

const ReplacedFile& Files() {
  static const auto* files = [] {
    auto* out = new ReplacedFile;
    const std::string bpe = MakeDirectory(out);
    PREGATE_CHECK(SaveTokenizerJson(TinyBpe(), bpe).ok());
    for (const char* name : {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}) {
      out->Add(bpe, name);
    }
    for (const PipelineTokenizerSpec& spec : {TinyCharacters(), TinyUnigram()}) {
      const std::string dir = MakeDirectory(out);
      PREGATE_CHECK(SaveTokenizerJson(spec, dir).ok());
      out->Add(dir, "tokenizer.json");
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
