#include "common/model/tokenizer/token_decoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pregate {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

const std::string kSpace = "\xE2\x96\x81";

json Chain(std::vector<json> steps) { return {{"type", "Sequence"}, {"decoders", steps}}; }
const json kToSpace = {{"type", "Replace"}, {"pattern", {{"String", kSpace}}}, {"content", " "}};
const json kFallback = {{"type", "ByteFallback"}}, kFuse = {{"type", "Fuse"}};
const json kStrip = {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}};

// A vocabulary whose tokens' ids are their places.
std::unique_ptr<Tokenizer> TokenizerOf(std::vector<std::string> tokens, const json& decoder) {
  PipelineTokenizerSpec spec;
  spec.tokens = std::move(tokens);
  spec.added = {{.id = 0, .text = spec.tokens[0], .special = true}};
  spec.pre_tokenizer = "null";
  spec.decoder = decoder.dump();
  auto tokenizer = MakePipelineTokenizer(std::move(spec));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

// The right texts of all these are those of `tokenizers` 0.23.3.
TEST(TokenDecoderTest, SpacesOfATextAndTheOneAtItsBeginning) {
  const std::vector<std::string> tokens = {"<s>", kSpace + "a", kSpace, "b" + kSpace};
  const auto llama = TokenizerOf(tokens, Chain({kToSpace, kFallback, kFuse, kStrip}));
  EXPECT_EQ(llama->Decode({0, 1, 1}), "a a");
  EXPECT_EQ(llama->Decode({2, 2, 1}), "  a");
  EXPECT_EQ(llama->Decode({3, 1}), "b  a");
  const auto gemma = TokenizerOf(tokens, Chain({kToSpace, kFallback, kFuse}));
  EXPECT_EQ(gemma->Decode({1, 0, 1}), " a a");
  const json metaspace = {{"type", "Metaspace"}, {"replacement", kSpace}};
  const auto other = TokenizerOf(tokens, metaspace);
  EXPECT_EQ(other->Decode({0, 3, 3, 1}), "bb  a");
  EXPECT_EQ(other->Decode({2, 1}), " a");
}

TEST(TokenDecoderTest, ARunOfBytesIsTextOrReplacementCharacters) {
  const std::vector<std::string> tokens = {"<s>", "<0xC3>", "<0xa9>", "x"};
  const auto tokenizer = TokenizerOf(tokens, Chain({kFallback, kFuse}));
  const std::string r = "\xEF\xBF\xBD";
  EXPECT_EQ(tokenizer->Decode({1, 2, 3}), "\xC3\xA9x");
  EXPECT_EQ(tokenizer->Decode({1, 0, 2}), "\xC3\xA9");
  EXPECT_EQ(tokenizer->Decode({1, 2, 2, 3}), r + r + r + "x");
  EXPECT_EQ(tokenizer->Decode({1, 3, 2}), r + "x" + r);
  IncrementalDecoder decoder(*tokenizer);
  EXPECT_EQ(decoder.Add(1), "");
  EXPECT_EQ(decoder.Add(2), "");  // what follows may make it no text
  EXPECT_EQ(decoder.Add(3), "\xC3\xA9x");
}

TEST(TokenDecoderTest, WhatGoesOnWithAPromptKeepsItsSpace) {
  const auto tokenizer =
      TokenizerOf({"<s>", kSpace + "a"}, Chain({kToSpace, kFallback, kFuse, kStrip}));
  IncrementalDecoder decoder(*tokenizer, /*starts_text=*/false);
  EXPECT_EQ(decoder.Add(1), " a");
}

TEST(TokenDecoderTest, StripsEachTokenBeforeFuse) {
  const json strip = {{"type", "Strip"}, {"content", "a"}, {"start", 1}, {"stop", 2}};
  EXPECT_EQ(TokenizerOf({"<s>", "aabaaa"}, strip)->Decode({1, 1}), "abaaba");
}

TEST(TokenDecoderTest, NamesWhatItRefuses) {
  const auto error = [](const json& decoder) {
    return std::string(TokenDecoder::Make(decoder, "decoder").status().message());
  };
  EXPECT_THAT(error({{"type", "WordPiece"}}), HasSubstr("type \"WordPiece\" is not supported"));
  EXPECT_THAT(error(nullptr), HasSubstr("decoder: there is none"));
  EXPECT_THAT(error(Chain({})), HasSubstr("no steps"));
  EXPECT_THAT(error(Chain({kFuse, kToSpace})), HasSubstr("Replace is not supported at this place"));
  EXPECT_THAT(error(Chain({kFallback, kFallback})), HasSubstr("decoders[1]: ByteFallback"));
  json strip = kStrip;
  strip["stop"] = 1;
  EXPECT_THAT(error(Chain({kFuse, strip})), HasSubstr("one space at its start"));
  strip["content"] = "ab";
  EXPECT_THAT(error(strip), HasSubstr("content is not one character"));
}

}  // namespace
}  // namespace pregate
