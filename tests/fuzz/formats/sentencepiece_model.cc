// tokenizer.model by itself. (In a directory of files: tokenizer_directory.cc.)
#include "common/model/tokenizer/sentencepiece_model.h"

#include "common/base/limits.h"
#include "common/base/status.h"
#include "tests/fuzz/tiny_models.h"
#include "tests/fuzz/use_checkpoint.h"

namespace pregate::fuzz::sentencepiece {
namespace {

std::vector<std::string> Seeds() {
  SentencePieceModel bpe = TinySentencePiece().model;
  SentencePieceModel unigram = bpe;
  unigram.algorithm = SentencePieceModel::Algorithm::kUnigram;
  unigram.remove_extra_whitespaces = true;
  return {SerializeSentencePieceModel(bpe), SerializeSentencePieceModel(unigram)};
}

bool Run(std::string_view input) {
  const auto model = ParseSentencePieceModel(input, "tokenizer.model");
  if (!model.ok()) return false;
  const std::string bytes = SerializeSentencePieceModel(*model);
  const auto again = ParseSentencePieceModel(bytes, "rewritten");
  PREGATE_CHECK(again.ok(), "", again.status().ToString());
  PREGATE_CHECK(SerializeSentencePieceModel(*again) == bytes);
  const auto tokenizer = MakeSentencePieceTokenizer({.model = *model});
  if (tokenizer.ok()) Use(**tokenizer);
  return tokenizer.ok();
}

// Changes what the wire format carries, and writes that.
std::string Mutate(std::string_view input, std::mt19937_64& random) {
  auto model = ParseSentencePieceModel(input, "");
  if (!model.ok() || model->pieces.empty()) return "";
  std::vector<SentencePiece>& pieces = model->pieces;
  SentencePiece& piece = pieces[random() % pieces.size()];
  const SentencePiece other = pieces[random() % pieces.size()];
  switch (random() % 8) {
    case 0:
      piece.text += other.text;
      break;
    case 1:
      piece.text.resize(random() % (piece.text.size() + 1));
      break;
    case 2:
      piece.score = random() % 2 == 0 ? other.score : static_cast<float>(random() % 7) - 9.5f;
      break;
    case 3:
      piece.type = static_cast<PieceType>(1 + random() % 6);
      break;
    case 4:
      pieces.push_back(other);
      break;
    case 5:
      model->add_dummy_prefix = !model->add_dummy_prefix;
      break;
    case 6:
      model->remove_extra_whitespaces = !model->remove_extra_whitespaces;
      break;
    default:
      model->algorithm = model->algorithm == SentencePieceModel::Algorithm::kBpe
                             ? SentencePieceModel::Algorithm::kUnigram
                             : SentencePieceModel::Algorithm::kBpe;
  }
  return SerializeSentencePieceModel(*model);
}

const Registration registration({.name = "sentencepiece_model",
                                 .seeds = Seeds,
                                 .run = Run,
                                 .mutate = Mutate,
                                 .bytes_max = 2048});

}  // namespace
}  // namespace pregate::fuzz::sentencepiece
