// A byte-level BPE vocabulary for tests: every byte, three special tokens and a few merges.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "common/model/tokenizer/tokenizer.h"
#include "common/model/tokenizer/tokenizer_alphabet.h"

namespace pregate {

inline constexpr TokenId kEndOfText = 0, kTurnStartId = 1, kTurnEndId = 2;
inline constexpr TokenId kFirstByteId = 3;  // byte b has the id kFirstByteId + b

// As SmolLM2's checkpoints have it.
inline constexpr const char* kSmolLmTemplate =
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' "
    "}}{% endif %}";

// Adds a merge of two tokens given as bytes, and the token that it makes unless it is there.
inline void AddMerge(const std::string& left, const std::string& right,
                     PipelineTokenizerSpec* spec) {
  spec->merges.emplace_back(AlphabetFromBytes(left), AlphabetFromBytes(right));
  const std::string merged = AlphabetFromBytes(left + right);
  for (const std::string& token : spec->tokens) {
    if (token == merged) return;
  }
  spec->tokens.push_back(merged);
}

inline PipelineTokenizerSpec SmallVocabulary() {
  PipelineTokenizerSpec spec;
  spec.tokens = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
  for (const TokenId id : {kEndOfText, kTurnStartId, kTurnEndId}) {
    spec.added.push_back({.id = id, .text = spec.tokens[id], .special = true});
  }
  for (int byte = 0; byte < 256; ++byte) {
    spec.tokens.push_back(AlphabetFromByte(static_cast<uint8_t>(byte)));
  }
  for (const auto& [left, right] :
       std::vector<std::pair<std::string, std::string>>{{"h", "e"},
                                                        {"l", "l"},
                                                        {" ", "w"},
                                                        {"he", "ll"},
                                                        {"hell", "o"},
                                                        {"o", "r"},
                                                        {" w", "or"},
                                                        {"l", "d"},
                                                        {" wor", "ld"},
                                                        {" ", " "},
                                                        {"1", "2"},
                                                        {"\xC3", "\xA9"}}) {
    AddMerge(left, right, &spec);
  }
  spec.pre_tokenizer = "smollm";
  spec.chat_template = kSmolLmTemplate;
  spec.bos = kTurnStartId;
  spec.eos = kTurnEndId;
  return spec;
}

}  // namespace pregate
