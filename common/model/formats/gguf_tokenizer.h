// The tokenizer that a GGUF file carries in its metadata.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/model/formats/gguf.h"
#include "common/model/tokenizer/tokenizer.h"

namespace pregate {

// tokenizer.ggml.model = "gpt2", byte-level BPE. NotFound without tokenizer keys; Unimplemented, by
// name, for other models.
absl::StatusOr<PipelineTokenizerSpec> GgufPipelineSpec(const GgufFile& file);

// tokenizer.ggml.model = "llama", SentencePiece BPE. Errors as above.
absl::StatusOr<SentencePieceTokenizerSpec> GgufSentencePieceSpec(const GgufFile& file);

// Either of them; Unimplemented names a model that is neither.
absl::StatusOr<std::unique_ptr<Tokenizer>> LoadGgufTokenizer(const GgufFile& file);
// The same as the files of a Hugging Face directory.
absl::Status SaveGgufTokenizer(const GgufFile& file, const std::string& dir);

}  // namespace pregate
