// Text of users: through tokenizers, stop strings, the terminal.
#include "absl/strings/str_replace.h"
#include "cli/printable.h"
#include "common/base/status.h"
#include "common/base/utf8.h"
#include "common/model/tokenizer/testing/small_sentencepiece.h"
#include "common/model/tokenizer/testing/small_vocabulary.h"
#include "scheduler_service/core/stop_scanner.h"
#include "tests/fuzz/format.h"

namespace pregate::fuzz::text {
namespace {

std::unique_ptr<Tokenizer> Made(absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer) {
  PREGATE_CHECK(tokenizer.ok(), "", tokenizer.status().ToString());
  return *std::move(tokenizer);
}

// Both have every byte: what is encoded comes back, stray bytes as U+FFFD.
void CheckTokenizers(std::string_view text) {
  static const auto* bpe =
      new std::unique_ptr<Tokenizer>(Made(MakePipelineTokenizer(SmallVocabulary())));
  static const auto* sentencepiece =
      new std::unique_ptr<Tokenizer>(Made(MakeSentencePieceTokenizer(SmallSentencePiece())));
  const std::string whole = ReplaceStrayBytes(text);
  PREGATE_CHECK(IsUtf8(whole));
  PREGATE_CHECK((*bpe)->Decode((*bpe)->Encode(text)) == whole);
  const std::string spaced = absl::StrReplaceAll(whole, {{std::string(kSpacePiece), " "}});
  PREGATE_CHECK((*sentencepiece)->Decode((*sentencepiece)->Encode(text)) == spaced);
}

// Text in a message adds no special token to those of the template.
void CheckChat(std::string_view text) {
  static const auto* tokenizer =
      new std::unique_ptr<Tokenizer>(Made(MakePipelineTokenizer(SmallVocabulary())));
  const ChatMessage chat[] = {{"system", std::string(text)}, {"user", std::string(text)}};
  const auto ids = (*tokenizer)->ApplyChatTemplate(chat, /*add_generation_prompt=*/true);
  if (!ids.ok()) return;
  int num_special = 0;
  for (const TokenId id : *ids) num_special += (*tokenizer)->IsSpecial(id);
  PREGATE_CHECK(num_special == 5, "special tokens: ", num_special);
}

struct Scanned {
  std::string text;
  std::optional<std::string> matched;
  bool operator==(const Scanned&) const = default;
};

Scanned Scan(const std::vector<std::string>& stops, std::string_view text, size_t piece_bytes) {
  scheduler::StopScanner scanner(stops);
  Scanned out;
  for (size_t at = 0; at < text.size() && !scanner.matched(); at += piece_bytes) {
    out.text += scanner.Add(text.substr(at, piece_bytes));
  }
  if (!scanner.matched()) out.text += scanner.Flush();
  out.matched = scanner.matched();
  return out;
}

// However the text is cut, the outcome is the same.
void CheckStops(const std::vector<std::string>& stops, std::string_view text) {
  const Scanned whole = Scan(stops, text, text.size() + 1);
  PREGATE_CHECK(text.substr(0, whole.text.size()) == whole.text);
  PREGATE_CHECK(whole.matched || whole.text == text);
  for (const size_t piece_bytes : {1, 3}) {
    PREGATE_CHECK(Scan(stops, text, piece_bytes) == whole, "pieces of ", piece_bytes);
  }
}

void CheckPrintable(std::string_view text) {
  const std::string shown = cli::Printable(ReplaceStrayBytes(text), cli::Layout::kCell);
  PREGATE_CHECK(IsUtf8(shown));
  for (const char c : shown) PREGATE_CHECK(static_cast<unsigned char>(c) >= ' ' && c != 0x7F);
}

// Up to two stop strings, each behind its length of one byte, then the text.
bool Run(std::string_view input) {
  std::vector<std::string> stops;
  for (int i = 0; i < 2 && !input.empty(); ++i) {
    const size_t length = static_cast<unsigned char>(input[0]) % 16;
    if (length > 0 && length < input.size()) stops.emplace_back(input.substr(1, length));
    input.remove_prefix(std::min(input.size(), length + 1));
  }
  CheckTokenizers(input);
  CheckChat(input);
  CheckStops(stops, input);
  CheckPrintable(input);
  return true;
}

std::vector<std::string> Seeds() {
  return {std::string("\2lo\4ello") + "hello world, hello <|im_end|> <s> 12 \n",
          std::string("\1x\0", 3) + "  \xE2\x96\x81 \xF0\x9F\x99\x82 \xED\xA0\x80 \xFF <0x0A>"};
}

const Registration registration({.name = "text", .seeds = Seeds, .run = Run, .bytes_max = 256});

}  // namespace
}  // namespace pregate::fuzz::text
