#include "tests/fuzz/use_checkpoint.h"

#include "common/base/status.h"
#include "common/base/utf8.h"
#include "common/model/formats/stored_tensor.h"

namespace pregate::fuzz {
namespace {

constexpr std::string_view kTexts[] = {"", "Hello world, 123!",
                                       "  two \xC3\xA9\xF0\x9F\x99\x82\n\tlines <s> <|im_end|>",
                                       "\xFF\xC3 stray", "\xE2\x96\x81x<0x0A>"};

void CheckIds(const Tokenizer& tokenizer, absl::Span<const TokenId> ids) {
  for (const TokenId id : ids) {
    PREGATE_CHECK(id >= 0 && id < tokenizer.vocab_size(), "id ", id);
  }
}

// Rows that come as they are stored, and rows that are decoded, are the same numbers.
void UseRows(const Checkpoint& checkpoint, const TensorInfo& tensor,
             absl::Span<const float> values) {
  if (tensor.shape.size() != 2) return;
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    std::string expected, found;
    EncodeElements(values, dtype, &expected);
    const auto visit = [&](int64_t, const WeightRows& rows) {
      if (const auto* decoded = std::get_if<absl::Span<const float>>(&rows)) {
        EncodeElements(*decoded, dtype, &found);
      } else {
        const auto& bf16 = std::get<absl::Span<const uint16_t>>(rows);
        found.append(reinterpret_cast<const char*>(bf16.data()), bf16.size() * sizeof(uint16_t));
      }
      return true;
    };
    const absl::Status status =
        checkpoint.ReadRows({tensor.name, tensor.shape[0], tensor.shape[1], dtype, 3}, visit);
    PREGATE_CHECK(status.ok() ? found == expected : absl::IsInvalidArgument(status), "tensor ",
                  tensor.name, " as ", DTypeName(dtype), ": ", status.ToString());
  }
}

}  // namespace

void Use(const Checkpoint& checkpoint) {
  for (const TensorInfo& tensor : checkpoint.Tensors()) {
    int64_t size = 1;
    for (const int64_t axis : tensor.shape) size *= axis;
    std::vector<float> values(static_cast<size_t>(size));
    const absl::Status status = checkpoint.Read(tensor.name, absl::MakeSpan(values));
    if (absl::IsDataLoss(status)) return;  // not what the manifest records
    PREGATE_CHECK(status.ok(), "", status.ToString());
    UseRows(checkpoint, tensor, values);
  }
  const auto tokenizer = checkpoint.LoadTokenizer();
  if (tokenizer.ok()) Use(**tokenizer);
}

void Use(const Tokenizer& tokenizer) {
  for (const std::string_view text : kTexts) {
    const std::vector<TokenId> ids = tokenizer.EncodePrompt(text);
    CheckIds(tokenizer, ids);
    const std::string decoded = tokenizer.Decode(ids);
    PREGATE_CHECK(IsUtf8(decoded));
    IncrementalDecoder stream(tokenizer, /*starts_text=*/true);
    std::string streamed;
    for (const TokenId id : ids) streamed += stream.Add(id);
    streamed += stream.Finish();
    PREGATE_CHECK(streamed == decoded, "streaming gives \"", streamed, "\", not \"", decoded, "\"");
  }
  const ChatMessage chat[] = {{"system", "Be <|im_end|> brief."}, {"user", "Hi"}};
  const auto ids = tokenizer.ApplyChatTemplate(chat, /*add_generation_prompt=*/true);
  if (ids.ok()) CheckIds(tokenizer, *ids);
  tokenizer.StopTokens();
  for (const TokenId id : {-1, 0, tokenizer.vocab_size() - 1, tokenizer.vocab_size()}) {
    PREGATE_CHECK(!tokenizer.IsSpecial(id) || tokenizer.TokenBytes(id).empty(), "id ", id);
  }
}

}  // namespace pregate::fuzz
