// The SentencePiece library itself, for tests: it trains models, and ours are compared with it.
// Its header declares a part of Abseil's namespace otherwise than Abseil does, and its symbols
// clash with protobuf's: nothing of it shows here, and no program that links protobuf may link
// this.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace pregate {

class SentencePieceReference {
 public:
  // The bytes of a tokenizer.model; `options` as spm_train's. Empty when the library refuses.
  static std::string Train(const std::vector<std::string>& sentences,
                           const std::map<std::string, std::string>& options);

  explicit SentencePieceReference(std::string_view model);  // bytes of a tokenizer.model
  ~SentencePieceReference();

  const std::string& error() const { return error_; }  // empty: the library has loaded the model
  std::vector<int32_t> Encode(std::string_view text) const;
  std::string Decode(const std::vector<int32_t>& ids) const;

 private:
  struct Library;
  std::unique_ptr<Library> library_;
  std::string error_;
};

}  // namespace pregate
