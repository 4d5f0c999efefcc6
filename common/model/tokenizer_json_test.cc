// Reading and writing of tokenizer.json, tokenizer_config.json and chat_template.jinja.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "common/model/testing/small_vocabulary.h"
#include "common/model/tokenizer.h"
#include "nlohmann/json.hpp"

namespace pregate {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

class TokenizerJsonTest : public ::testing::Test {
 protected:
  TokenizerJsonTest() {
    std::string pattern = ::testing::TempDir() + "/tokenizer_json_XXXXXX";
    dir_ = mkdtemp(pattern.data());
  }
  ~TokenizerJsonTest() override { std::filesystem::remove_all(dir_); }

  void Write(const std::string& name, const std::string& text) {
    std::ofstream(dir_ + "/" + name, std::ios::binary) << text;
  }
  json Read(const std::string& name) {
    std::ifstream file(dir_ + "/" + name);
    return json::parse(file);
  }
  // Saves `spec` and lets `change` edit what was written.
  void Save(const BpeTokenizerSpec& spec, const std::string& name = "",
            const std::function<void(json*)>& change = nullptr) {
    ASSERT_TRUE(SaveTokenizerJson(spec, dir_).ok());
    if (!change) return;
    json value = Read(name);
    change(&value);
    Write(name, value.dump());
  }

  std::string dir_;
};

TEST_F(TokenizerJsonTest, ReadsBackWhatItWroteForEveryPreTokenizer) {
  for (const char* name : {"smollm", "gpt2", "llama-bpe", "default"}) {
    BpeTokenizerSpec spec = SmallVocabulary();
    spec.pre_tokenizer = name;
    spec.add_bos = name == std::string("llama-bpe");
    Save(spec);
    const auto read = LoadTokenizerSpec(dir_);
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(*read, spec) << name;
  }
}

TEST_F(TokenizerJsonTest, KeepsWhatIsAbsentAbsent) {
  BpeTokenizerSpec spec = SmallVocabulary();
  spec.bos.reset();
  spec.eos.reset();
  spec.chat_template.clear();
  spec.special.clear();
  spec.tokens[0] = "qq";  // without special tokens their places are words of the alphabet
  spec.tokens[1] = "qqq";
  spec.tokens[2] = "qqqq";
  Save(spec);
  EXPECT_EQ(LoadTokenizerSpec(dir_).value(), spec);
}

TEST_F(TokenizerJsonTest, WritesAnAliasAsItsName) {
  BpeTokenizerSpec spec = SmallVocabulary();
  spec.pre_tokenizer = "gpt-2";
  Save(spec);
  EXPECT_EQ(LoadTokenizerSpec(dir_)->pre_tokenizer, "gpt2");
}

TEST_F(TokenizerJsonTest, SmollmIsDigitsThenByteLevel) {
  Save(SmallVocabulary());
  const json steps = Read("tokenizer.json")["pre_tokenizer"]["pretokenizers"];
  EXPECT_EQ(steps[0]["type"], "Digits");
  EXPECT_EQ(steps[0]["individual_digits"], true);
  EXPECT_EQ(steps[1]["type"], "ByteLevel");
}

TEST_F(TokenizerJsonTest, LoadsATokenizer) {
  Save(SmallVocabulary());
  const auto tokenizer = LoadTokenizerJson(dir_);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->Encode("hello").size(), 1u);
}

TEST_F(TokenizerJsonTest, ReadsMergesAsPairsAndSpecialTokensOutsideTheVocabulary) {
  const BpeTokenizerSpec spec = SmallVocabulary();
  Save(spec, "tokenizer.json", [&](json* root) {
    json& model = (*root)["model"];
    model["merges"] = json(spec.merges);
    for (const TokenId id : spec.special) model["vocab"].erase(spec.tokens[id]);
  });
  EXPECT_EQ(LoadTokenizerSpec(dir_).value(), spec);
}

TEST_F(TokenizerJsonTest, ReadsLlama3sPostProcessorAndNamedTokensAsObjects) {
  BpeTokenizerSpec spec = SmallVocabulary();
  spec.add_bos = true;
  Save(spec, "tokenizer.json", [](json* root) {
    const json byte_level = {{"type", "ByteLevel"}, {"trim_offsets", false}};
    (*root)["post_processor"] = {{"type", "Sequence"},
                                 {"processors", {byte_level, (*root)["post_processor"]}}};
  });
  json config = Read("tokenizer_config.json");
  config["bos_token"] = {{"content", "<|im_start|>"}, {"special", true}};
  config.erase("add_bos_token");
  Write("tokenizer_config.json", config.dump());
  EXPECT_EQ(LoadTokenizerSpec(dir_).value(), spec);
}

TEST_F(TokenizerJsonTest, AChatTemplateFileTakesTheConfigsPlace) {
  Save(SmallVocabulary());
  Write("chat_template.jinja", "{{ other }}");
  EXPECT_EQ(LoadTokenizerSpec(dir_)->chat_template, "{{ other }}");
}

TEST_F(TokenizerJsonTest, ConfigIsOptionalTheTokenizerIsNot) {
  Save(SmallVocabulary());
  std::filesystem::remove(dir_ + "/tokenizer_config.json");
  EXPECT_EQ(LoadTokenizerSpec(dir_)->eos, std::nullopt);
  std::filesystem::remove(dir_ + "/tokenizer.json");
  EXPECT_TRUE(absl::IsNotFound(LoadTokenizerSpec(dir_).status()));
}

struct BadFile {
  const char* expected;
  std::function<void(json*)> spoil;
};

TEST_F(TokenizerJsonTest, NamesWhatItRefuses) {
  const BadFile cases[] = {
      {"model", [](json* r) { r->erase("model"); }},
      {"type \"Unigram\"", [](json* r) { (*r)["model"]["type"] = "Unigram"; }},
      {"byte_fallback", [](json* r) { (*r)["model"]["byte_fallback"] = true; }},
      {"dropout", [](json* r) { (*r)["model"]["dropout"] = 0.1; }},
      {"end_of_word_suffix", [](json* r) { (*r)["model"]["end_of_word_suffix"] = "</w>"; }},
      {"ignore_merges", [](json* r) { (*r)["model"]["ignore_merges"] = true; }},
      {"merges is no list", [](json* r) { (*r)["model"]["merges"] = 3; }},
      {"merges[1]", [](json* r) { (*r)["model"]["merges"][1] = "one"; }},
      {"merges[1]",
       [](json* r) {
         (*r)["model"]["merges"][1] = {"a", "b", "c"};
       }},
      {"\"a\" is -1", [](json* r) { (*r)["model"]["vocab"]["a"] = -1; }},
      {"\"a\" is 1000000000000", [](json* r) { (*r)["model"]["vocab"]["a"] = 1000000000000; }},
      {"id 50 belongs to two", [](json* r) { (*r)["model"]["vocab"]["a"] = 50; }},
      {"no token has the id", [](json* r) { (*r)["model"]["vocab"].erase("a"); }},
      {"added_tokens is no list", [](json* r) { (*r)["added_tokens"] = "x"; }},
      {"added_tokens[0]", [](json* r) { (*r)["added_tokens"][0] = 7; }},
      {"added_tokens[1]", [](json* r) { (*r)["added_tokens"][1].erase("id"); }},
      {"normalizer",
       [](json* r) {
         (*r)["normalizer"] = {{"type", "NFC"}};
       }},
      {"pre_tokenizer",
       [](json* r) {
         (*r)["pre_tokenizer"] = {{"type", "Metaspace"}};
       }},
      {"pre_tokenizer", [](json* r) { (*r)["pre_tokenizer"] = nullptr; }},
      {"post_processor",
       [](json* r) {
         (*r)["post_processor"] = {{"type", "BertProcessing"}};
       }},
      {"post_processor", [](json* r) { (*r)["post_processor"] = 1; }},
      {"not bos",
       [](json* r) {
         (*r)["post_processor"] = json::parse(
             R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<|im_end|>"}},
                 {"Sequence": {"id": "A"}}]})");
       }},
      {"template",
       [](json* r) {
         (*r)["post_processor"] = {{"type", "TemplateProcessing"}, {"single", {1, 2}}};
       }},
  };
  for (const BadFile& c : cases) {
    Save(SmallVocabulary(), "tokenizer.json", c.spoil);
    const absl::Status status = LoadTokenizerSpec(dir_).status();
    EXPECT_FALSE(status.ok()) << c.expected;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.expected));
    EXPECT_THAT(std::string(status.message()), HasSubstr("tokenizer.json"));
  }
}

TEST_F(TokenizerJsonTest, RefusesNamedTokensThatAreNone) {
  Save(SmallVocabulary(), "tokenizer_config.json", [](json* c) { (*c)["eos_token"] = "</s>"; });
  EXPECT_THAT(std::string(LoadTokenizerSpec(dir_).status().message()),
              HasSubstr("eos_token \"</s>\" is not a token"));
}

TEST_F(TokenizerJsonTest, SavesOnlyWhatATokenizerCanBeMadeOf) {
  BpeTokenizerSpec spec = SmallVocabulary();
  spec.tokens[5] = "\xFF";
  EXPECT_TRUE(absl::IsInvalidArgument(SaveTokenizerJson(spec, dir_)));
  spec = SmallVocabulary();
  spec.chat_template = "\xFF";
  EXPECT_TRUE(absl::IsInvalidArgument(SaveTokenizerJson(spec, dir_)));
  EXPECT_FALSE(SaveTokenizerJson(SmallVocabulary(), dir_ + "/absent").ok());
}

}  // namespace
}  // namespace pregate
