#include "common/model/tokenizer/testing/sentencepiece_reference.h"

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <unordered_map>

namespace pregate {
namespace {

class VectorIterator final : public sentencepiece::SentenceIterator {
 public:
  explicit VectorIterator(const std::vector<std::string>& sentences) : sentences_(sentences) {}
  bool done() const override { return index_ == sentences_.size(); }
  void Next() override { ++index_; }
  const std::string& value() const override { return sentences_[index_]; }
  sentencepiece::util::Status status() const override { return {}; }

 private:
  const std::vector<std::string>& sentences_;
  size_t index_ = 0;
};

}  // namespace

struct SentencePieceReference::Library {
  sentencepiece::SentencePieceProcessor processor;
};

std::string SentencePieceReference::Train(const std::vector<std::string>& sentences,
                                          const std::map<std::string, std::string>& options) {
  VectorIterator iterator(sentences);
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(
      std::unordered_map<std::string, std::string>(options.begin(), options.end()), &iterator,
      &model);
  return status.ok() ? model : "";
}

SentencePieceReference::SentencePieceReference(std::string_view model)
    : library_(std::make_unique<Library>()) {
  const auto status = library_->processor.LoadFromSerializedProto(model);
  if (!status.ok()) error_ = status.ToString();
}

SentencePieceReference::~SentencePieceReference() = default;

std::vector<int32_t> SentencePieceReference::Encode(std::string_view text) const {
  return library_->processor.EncodeAsIds(text);
}

std::string SentencePieceReference::Decode(const std::vector<int32_t>& ids) const {
  return library_->processor.DecodeIds(ids);
}

}  // namespace pregate
