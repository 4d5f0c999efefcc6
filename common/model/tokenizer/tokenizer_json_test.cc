// Reading and writing of tokenizer.json, tokenizer_config.json and chat_template.jinja.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "common/model/tokenizer/published_regexes.h"
#include "common/model/tokenizer/testing/small_vocabulary.h"
#include "common/model/tokenizer/tokenizer.h"
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
  void Save(const PipelineTokenizerSpec& spec, const std::string& name = "",
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
  for (const NamedPreTokenizer& named : NamedPreTokenizers()) {
    PipelineTokenizerSpec spec = SmallVocabulary();
    spec.pre_tokenizer = named.name;
    spec.add_bos = spec.ignore_merges = MeansWholeWordsAndBos(named.name);
    Save(spec);
    const auto read = LoadPipelineSpec(dir_);
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(*read, spec) << named.name;
  }
}

TEST_F(TokenizerJsonTest, ReadsBackWhatNoNameStandsFor) {
  PipelineTokenizerSpec spec = SmallVocabulary();
  spec.pre_tokenizer = R"({"individual_digits":false,"type":"Digits"})";
  spec.normalizer = R"({"type":"NFC"})";
  spec.decoder = R"({"decoders":[{"type":"ByteFallback"},{"type":"Fuse"}],"type":"Sequence"})";
  spec.byte_fallback = true;
  spec.unknown = kFirstByteId;
  Save(spec);
  EXPECT_EQ(LoadPipelineSpec(dir_).value(), spec);
  spec.pre_tokenizer = "null";
  Save(spec);
  EXPECT_EQ(LoadPipelineSpec(dir_).value(), spec);
}

TEST_F(TokenizerJsonTest, ReadsBackUnigramModels) {
  PipelineTokenizerSpec spec;
  spec.tokens = {"<unk>", "<s>", "a", "ab"};
  spec.scores = {0, 0, -1.5, -2.25};
  spec.added = {{.id = 1, .text = "<s>", .special = true}};
  spec.unknown = 0;
  spec.pre_tokenizer = "null";
  spec.decoder = R"({"type":"Fuse"})";
  spec.bos = 1;
  spec.add_bos = true;
  Save(spec);
  EXPECT_EQ(LoadPipelineSpec(dir_).value(), spec);
  EXPECT_EQ(LoadTokenizerJson(dir_).value()->kind(), "unigram");
}

TEST_F(TokenizerJsonTest, KeepsWhatIsAbsentAbsent) {
  PipelineTokenizerSpec spec = SmallVocabulary();
  spec.bos.reset();
  spec.eos.reset();
  spec.chat_template.clear();
  spec.added.clear();
  Save(spec);
  EXPECT_EQ(LoadPipelineSpec(dir_).value(), spec);
}

TEST_F(TokenizerJsonTest, WritesAnAliasAsItsName) {
  PipelineTokenizerSpec spec = SmallVocabulary();
  spec.pre_tokenizer = "gpt-2";
  Save(spec);
  EXPECT_EQ(LoadPipelineSpec(dir_)->pre_tokenizer, "gpt2");
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

TEST_F(TokenizerJsonTest, ReadsMergesAsPairsAndAddedTokensOutsideTheVocabulary) {
  PipelineTokenizerSpec spec = SmallVocabulary();
  const auto next = static_cast<TokenId>(spec.tokens.size());
  spec.added.push_back({.id = next, .text = "<tool>", .lstrip = true, .normalized = true});
  spec.added.push_back({.id = next + 1, .text = "end", .single_word = true, .rstrip = true});
  Save(spec, "tokenizer.json", [&](json* root) { (*root)["model"]["merges"] = json(spec.merges); });
  EXPECT_EQ(LoadPipelineSpec(dir_).value(), spec);
}

TEST_F(TokenizerJsonTest, ReadsHolesAndWhatIsOutsideTheAlphabet) {
  PipelineTokenizerSpec spec = SmallVocabulary();
  spec.tokens.insert(spec.tokens.end(), {"", "<unused 1>", "", "\xE4\xB8\xAD"});
  spec.unknown = 5;
  spec.fuse_unknown = true;
  spec.tokens[kFirstByteId + '#'] = "";  // else there were nothing unknown
  Save(spec);
  EXPECT_EQ(LoadPipelineSpec(dir_).value(), spec);
}

// The right ids are those of `tokenizers` 0.23.3.
TEST_F(TokenizerJsonTest, AddedTokensGetTheIdsThatReadersGiveThem) {
  const std::vector<std::string> tokens = {"a", "b", "", "c"};
  const auto placed = PlaceAddedTokens(
      tokens, {{.id = 9, .text = "x"}, {.id = 3, .text = "b"}, {.id = 9, .text = "y"}});
  ASSERT_EQ(placed.size(), 3u);
  EXPECT_EQ(placed[0].text + placed[1].text + placed[2].text, "bxy");
  EXPECT_EQ(placed[0].id, 1);
  EXPECT_EQ(placed[1].id, 3);
  EXPECT_EQ(placed[2].id, 4);
  const auto repeated = PlaceAddedTokens(
      tokens, {{.id = 4, .text = "x", .special = true}, {.id = 4, .text = "x", .lstrip = true}});
  ASSERT_EQ(repeated.size(), 1u);
  EXPECT_TRUE(repeated[0].special && repeated[0].lstrip);
}

TEST_F(TokenizerJsonTest, OfEqualMergesTheLaterCounts) {
  PipelineTokenizerSpec spec = SmallVocabulary();
  Save(spec, "tokenizer.json", [](json* root) {
    json& merges = (*root)["model"]["merges"];
    merges.push_back(merges[0]);
    merges.insert(merges.begin(), "#version: 0.2");
  });
  spec.merges.push_back(spec.merges[0]);
  spec.merges.erase(spec.merges.begin());
  EXPECT_EQ(LoadPipelineSpec(dir_)->merges, spec.merges);
}

TEST_F(TokenizerJsonTest, ATemplateMayBeOneOfSeveralOrInAFileOfItsOwn) {
  const std::string default_one = "{{ default }}";
  const auto loaded = [&](const json& value) {
    json config = Read("tokenizer_config.json");
    config["chat_template"] = value;
    Write("tokenizer_config.json", config.dump());
    const auto spec = LoadPipelineSpec(dir_);
    return spec.ok() ? spec->chat_template : std::string(spec.status().message());
  };
  Save(SmallVocabulary());
  const json tool = {{"name", "tool_use"}, {"template", "{{ tool }}"}};
  const json chat = {{"name", "default"}, {"template", default_one}};
  EXPECT_EQ(loaded(json::array({tool, chat})), default_one);
  EXPECT_EQ(loaded(json::array({chat, tool})), default_one);
  EXPECT_EQ(loaded({{"default", default_one}, {"rag", "x"}}), default_one);
  EXPECT_EQ(loaded(json::array({tool})), "");
  EXPECT_EQ(loaded(nullptr), "");
  EXPECT_THAT(loaded(7), HasSubstr("tokenizer_config.json: chat_template is neither"));
  EXPECT_THAT(loaded(json::array({7})), HasSubstr("chat_template[0] is no name and template"));
  EXPECT_THAT(loaded(json::array({chat, {{"name", "x"}}})), HasSubstr("chat_template[1]"));

  Write("chat_template.json", json({{"chat_template", "{{ json }}"}}).dump());
  EXPECT_EQ(loaded(nullptr), "{{ json }}");
  EXPECT_EQ(loaded(default_one), default_one);
  Write("chat_template.jinja", "\xEF\xBB\xBF{{ jinja }}\r\n");
  EXPECT_EQ(loaded(default_one), "{{ jinja }}\r\n");
  Write("chat_template.jinja", "\xFF");
  EXPECT_THAT(loaded(default_one), HasSubstr("chat_template.jinja is not UTF-8: byte 0"));
}

TEST_F(TokenizerJsonTest, AByteOrderMarkIsNoContent) {
  Save(SmallVocabulary());
  for (const char* name : {"tokenizer.json", "tokenizer_config.json"}) {
    Write(name, "\xEF\xBB\xBF" + Read(name).dump());
  }
  EXPECT_EQ(LoadPipelineSpec(dir_).value(), SmallVocabulary());
}

TEST_F(TokenizerJsonTest, WhatThePostProcessorPutsFirstIsBos) {
  PipelineTokenizerSpec spec = SmallVocabulary();
  spec.add_bos = true;
  Save(spec);
  json config = Read("tokenizer_config.json");
  config.erase("bos_token");
  config.erase("add_bos_token");
  Write("tokenizer_config.json", config.dump());
  EXPECT_EQ(LoadPipelineSpec(dir_).value(), spec);
}

TEST_F(TokenizerJsonTest, ReadsLlama3sPostProcessorAndNamedTokensAsObjects) {
  PipelineTokenizerSpec spec = SmallVocabulary();
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
  EXPECT_EQ(LoadPipelineSpec(dir_).value(), spec);
}

TEST_F(TokenizerJsonTest, AChatTemplateFileTakesTheConfigsPlace) {
  Save(SmallVocabulary());
  Write("chat_template.jinja", "{{ other }}");
  EXPECT_EQ(LoadPipelineSpec(dir_)->chat_template, "{{ other }}");
}

TEST_F(TokenizerJsonTest, ConfigIsOptionalTheTokenizerIsNot) {
  Save(SmallVocabulary());
  std::filesystem::remove(dir_ + "/tokenizer_config.json");
  EXPECT_EQ(LoadPipelineSpec(dir_)->eos, std::nullopt);
  std::filesystem::remove(dir_ + "/tokenizer.json");
  EXPECT_TRUE(absl::IsNotFound(LoadPipelineSpec(dir_).status()));
}

struct BadFile {
  const char* expected;
  std::function<void(json*)> corrupt;
};

TEST_F(TokenizerJsonTest, NamesWhatItRefuses) {
  const BadFile cases[] = {
      {"model", [](json* r) { r->erase("model"); }},
      {"type \"WordPiece\"", [](json* r) { (*r)["model"]["type"] = "WordPiece"; }},
      {"\"continuing_subword_prefix\" is not known",
       [](json* r) { (*r)["model"]["type"] = "Unigram"; }},
      {"vocab[1] is no text and score",
       [](json* r) {
         (*r)["model"] = {{"type", "Unigram"}, {"unk_id", 0}, {"vocab", {{"a", 0}, {"b"}}}};
       }},
      {"\"unk_id\" is 7",
       [](json* r) {
         (*r)["model"] = json::parse(R"({"type": "Unigram", "unk_id": 7, "vocab": [["a", 0]]})");
       }},
      {"byte_fallback", [](json* r) { (*r)["model"]["byte_fallback"] = 3; }},
      {"dropout", [](json* r) { (*r)["model"]["dropout"] = 0.1; }},
      {"end_of_word_suffix", [](json* r) { (*r)["model"]["end_of_word_suffix"] = "</w>"; }},
      {"ignore_merges", [](json* r) { (*r)["model"]["ignore_merges"] = 1; }},
      {"version \"2.0\"", [](json* r) { (*r)["version"] = "2.0"; }},
      {"\"max_piece\" is not known", [](json* r) { (*r)["model"]["max_piece"] = 3; }},
      {"\"prefix\" is not known", [](json* r) { (*r)["added_tokens"][0]["prefix"] = true; }},
      {"decoder null", [](json* r) { (*r)["decoder"] = nullptr; }},
      {"decoder: missing key \"replacement\"",
       [](json* r) {
         (*r)["decoder"] = {{"type", "Metaspace"}};
       }},
      {"unk_token \"<u>\" is not in",
       [](json* r) {
         (*r)["model"]["unk_token"] = "<u>";
         (*r)["model"]["vocab"].erase("#");
       }},
      {"merges is no list", [](json* r) { (*r)["model"]["merges"] = 3; }},
      {"merges[1]", [](json* r) { (*r)["model"]["merges"][1] = "one"; }},
      {"merges[1]",
       [](json* r) {
         (*r)["model"]["merges"][1] = {"a", "b", "c"};
       }},
      {"\"a\" is -1", [](json* r) { (*r)["model"]["vocab"]["a"] = -1; }},
      {"\"a\" is 1000000000000", [](json* r) { (*r)["model"]["vocab"]["a"] = 1000000000000; }},
      {"id 50 belongs to two", [](json* r) { (*r)["model"]["vocab"]["a"] = 50; }},
      {"added_tokens is no list", [](json* r) { (*r)["added_tokens"] = "x"; }},
      {"added_tokens[0]", [](json* r) { (*r)["added_tokens"][0] = 7; }},
      {"added_tokens[1]", [](json* r) { (*r)["added_tokens"][1].erase("id"); }},
      {"normalizer",
       [](json* r) {
         (*r)["normalizer"] = {{"type", "Nmt"}};
       }},
      {"pre_tokenizer",
       [](json* r) {
         (*r)["pre_tokenizer"] = {{"type", "Metaspace"}};
       }},
      {"prepend_scheme \"first\" beside a normalizer",
       [](json* r) {
         (*r)["normalizer"] = {{"type", "NFC"}};
         (*r)["pre_tokenizer"] = {
             {"type", "Metaspace"}, {"replacement", "_"}, {"prepend_scheme", "first"}};
       }},
      {"post_processor",
       [](json* r) {
         (*r)["post_processor"] = {{"type", "BertProcessing"}};
       }},
      {"post_processor", [](json* r) { (*r)["post_processor"] = 1; }},
      {"not bos",
       [](json* r) {
         (*r)["post_processor"] = json::parse(
             R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<|im_end|>"}},
                 {"Sequence": {"id": "A"}}],
                 "special_tokens": {"<|im_end|>": {"ids": [2]}}})");
       }},
      {"template",
       [](json* r) {
         (*r)["post_processor"] = {{"type", "TemplateProcessing"}, {"single", {1, 2}}};
       }},
  };
  for (const BadFile& c : cases) {
    Save(SmallVocabulary(), "tokenizer.json", c.corrupt);
    const absl::Status status = LoadPipelineSpec(dir_).status();
    EXPECT_FALSE(status.ok()) << c.expected;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.expected));
    EXPECT_THAT(std::string(status.message()), HasSubstr("tokenizer.json"));
  }
}

TEST_F(TokenizerJsonTest, RefusesNamedTokensThatAreNone) {
  Save(SmallVocabulary(), "tokenizer_config.json", [](json* c) { (*c)["eos_token"] = "</s>"; });
  EXPECT_THAT(std::string(LoadPipelineSpec(dir_).status().message()),
              HasSubstr("eos_token \"</s>\" is not a token"));
}

TEST_F(TokenizerJsonTest, SavesOnlyWhatATokenizerCanBeMadeOf) {
  PipelineTokenizerSpec spec = SmallVocabulary();
  spec.tokens[5] = "\xFF";
  EXPECT_TRUE(absl::IsInvalidArgument(SaveTokenizerJson(spec, dir_)));
  spec = SmallVocabulary();
  spec.chat_template = "\xFF";
  EXPECT_TRUE(absl::IsInvalidArgument(SaveTokenizerJson(spec, dir_)));
  EXPECT_FALSE(SaveTokenizerJson(SmallVocabulary(), dir_ + "/absent").ok());
}

}  // namespace
}  // namespace pregate
