#include "refactor/sample.h"

#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <set>

#include "common/base/status.h"
#include "common/model/formats/testing/model_files.h"
#include "common/model/tokenizer/testing/small_vocabulary.h"
#include "expert_service/testing/random_model.h"
#include "refactor/expert_model.h"

namespace pregate {
namespace {

using ::testing::HasSubstr;

constexpr int kWindow = 24, kVocab = 131;

// Three domains, of which the second has no window. Domain d's tokens are d, d + 3, d + 6 ... in any
// order.
Corpus ThreeDomains() {
  Corpus corpus{.domains = {"a", "b", "c"}, .window_tokens = kWindow};
  std::mt19937 random(1);
  for (const int d : {0, 2}) {
    for (int w = 0; w < 5; ++w) {
      for (int t = 0; t < kWindow; ++t) {
        corpus.tokens.push_back(static_cast<TokenId>(d + 3 * (random() % 40)));
      }
      corpus.window_domain.push_back(d);
    }
  }
  return corpus;
}

class SampleTest : public testing::Test {
 protected:
  SampleTest() : dense_(MakeRandomModel(TinySpec(0), 3)) {
    at::set_num_threads(1);
    options_ = {.parent_samples = 60 * kWindow, .seed = 5};
  }

  std::unique_ptr<WorkFolder> Folder(const std::string& name) {
    auto folder = WorkFolder::Open(dir_.path(name));
    PREGATE_CHECK(folder.ok(), "", folder.status().ToString());
    return *std::move(folder);
  }
  nlohmann::json Inputs() const {
    return {{"parent-samples", options_.parent_samples}, {"seed", options_.seed}};
  }
  absl::StatusOr<bool> Sample(
      WorkFolder& work, const std::function<bool()>& stop = [] { return false; }) {
    return SampleParent(*dense_, text_, chat_opening_, options_, Inputs(), work, clock_,
                        {.stop = stop, .progress = [](double, const std::string&) {}});
  }
  absl::StatusOr<Corpus> All(const WorkFolder& work) {
    return WithSamples(text_, options_, kVocab, work);
  }
  CausalModel Parent() {
    auto model = CausalModel::Load(*dense_, kWindow, at::kCPU, at::kFloat, at::kFloat);
    PREGATE_CHECK(model.ok(), "", model.status().ToString());
    return *std::move(model);
  }

  TempDir dir_;
  ManualClock clock_;
  std::unique_ptr<InMemoryCheckpoint> dense_;
  Corpus text_ = ThreeDomains();
  std::vector<TokenId> chat_opening_;
  TuneOptions options_;
};

// By whole forwards, each of them anew, and by sums in the order of ids.
TEST_F(SampleTest, EachTokenIsTheOneThatWholeForwardsGive) {
  const at::NoGradGuard no_grad;
  const CausalModel parent = Parent();
  at::manual_seed(2);
  const at::Tensor prefixes = at::randint(kVocab, {7, 9}, at::kLong);
  const at::Tensor uniforms = at::rand({7, kWindow - 9}, at::kDouble);
  const at::Tensor ids = ContinueText(parent, prefixes, uniforms, [](int) {});
  at::Tensor expected = at::zeros({7, kWindow}, at::kLong);
  expected.narrow(1, 0, 9).copy_(prefixes);
  for (int64_t t = 9; t < kWindow; ++t) {
    const at::Tensor p = parent.Logits(parent.Hidden(expected, {}))
                             .view({7, kWindow, kVocab})
                             .select(1, t - 1)
                             .to(at::kDouble)
                             .softmax(-1);
    for (int64_t w = 0; w < 7; ++w) {
      double left = uniforms[w][t - 9].item<double>();
      int64_t token = 0;
      while (token + 1 < kVocab && left >= p[w][token].item<double>()) {
        left -= p[w][token++].item<double>();
      }
      expected[w][t] = token;
    }
  }
  EXPECT_TRUE(ids.equal(expected));
}

// Windows of one token: all prefixes are the same, and so is the distribution behind them.
TEST_F(SampleTest, TokensFollowTheParentsDistribution) {
  const at::NoGradGuard no_grad;
  constexpr int kSamples = 4000;
  text_.tokens.assign(text_.tokens.size(), 7);
  options_.parent_samples = kSamples * kWindow;
  const auto work = Folder("work");
  const auto done = Sample(*work);
  ASSERT_TRUE(done.ok() && *done) << done.status();
  const auto all = All(*work);
  ASSERT_TRUE(all.ok()) << all.status();
  const int prefix = PrefixTokens(kWindow);
  ASSERT_EQ(prefix, kWindow / 2);
  const CausalModel parent = Parent();
  const at::Tensor p = parent.Logits(parent.Hidden(at::full({1, kWindow}, 7, at::kLong), {}))
                           .softmax(-1)[prefix - 1];
  std::vector<double> counts(kVocab), expected(kVocab);
  for (int n = 0; n < kSamples; ++n) ++counts[all->Window(text_.num_windows() + n)[prefix]];
  double chi_square = 0, rare_count = 0, rare = 0;
  int cells = 0;
  const auto add = [&](double count, double of) {
    chi_square += std::pow(count - of, 2) / of;
    ++cells;
  };
  for (int token = 0; token < kVocab; ++token) {
    expected[token] = kSamples * p[token].item<double>();
    if (expected[token] >= 5) {
      add(counts[token], expected[token]);
    } else {
      rare_count += counts[token];
      rare += expected[token];
    }
  }
  if (rare > 0) add(rare_count, rare);
  ASSERT_GT(cells, 20);
  EXPECT_LT(chi_square, (cells - 1) + 4 * std::sqrt(2.0 * (cells - 1)));
  EXPECT_GT(chi_square, (cells - 1) - 4 * std::sqrt(2.0 * (cells - 1)));
}

TEST_F(SampleTest, DomainsComeInTurnAndPrefixesAreTheirText) {
  options_.parent_samples = 59 * kWindow - 3;  // as many of each domain: 60
  const auto work = Folder("work");
  ASSERT_TRUE(Sample(*work).ok());
  const auto all = All(*work);
  ASSERT_TRUE(all.ok()) << all.status();
  ASSERT_EQ(all->num_windows(), 10 + 60);
  EXPECT_EQ(all->domains, text_.domains);
  std::set<std::vector<TokenId>> windows;
  for (int n = 0; n < 60; ++n) {
    const int domain = n % 2 == 0 ? 0 : 2;
    const auto window = all->Window(10 + n);
    EXPECT_EQ(all->window_domain[10 + n], domain);
    windows.insert({window.begin(), window.end()});
    const auto prefix = window.subspan(0, PrefixTokens(kWindow));
    bool found = false;
    for (int w = 0; w < 10; ++w) {
      const auto text = text_.Window(w);
      found |= text_.window_domain[w] == domain &&
               std::search(text.begin(), text.end(), prefix.begin(), prefix.end()) != text.end();
    }
    EXPECT_TRUE(found) << n;
  }
  EXPECT_EQ(windows.size(), 60u);
  options_.seed = 6;
  const auto other = Folder("other");
  ASSERT_TRUE(Sample(*other).ok());
  EXPECT_NE(ReadFile(work->File("samples.bin")), ReadFile(other->File("samples.bin")));
}

// In three lots, of which the last is smaller.
TEST_F(SampleTest, WhereARunWasStoppedDoesNotChangeAByte) {
  const int64_t lot = SampledAtATime(Parent());
  options_.parent_samples = static_cast<int32_t>((2 * lot + 50) * kWindow);
  const auto whole = Folder("whole"), pieces = Folder("pieces");
  const auto done = Sample(*whole);
  ASSERT_TRUE(done.ok() && *done) << done.status();
  for (int calls = 0;; ++calls) {
    int left = 1;
    const auto ended = Sample(*pieces, [&] { return left-- == 0; });
    ASSERT_TRUE(ended.ok()) << ended.status();
    EXPECT_EQ(*ended, calls == 2);
    if (*ended) break;
    EXPECT_FALSE(*Sample(*pieces, [] { return true; }));  // nothing in the time, nothing lost
  }
  EXPECT_EQ(ReadFile(whole->File("samples.bin")), ReadFile(pieces->File("samples.bin")));
  const auto record = whole->Read("sample.json", Inputs());
  ASSERT_TRUE(record.ok() && *record);
  EXPECT_EQ((**record)["tokens"], (2 * lot + 50) * kWindow);
}

TEST_F(SampleTest, TheLastWindowsAreConversationsThatGoOnByThemselves) {
  chat_opening_ = {5, 9, 5};
  options_.chat_share = 0.3;
  const int64_t num = SampledWindows(options_.parent_samples, text_);
  ASSERT_EQ(ChatWindows(options_, text_, chat_opening_), 18);  // of 60, as many for both domains
  EXPECT_EQ(ChatWindows(options_, text_, {}), 0);
  const auto whole = Folder("whole"), pieces = Folder("pieces");
  ASSERT_TRUE(*Sample(*whole));
  const auto all = All(*whole);
  ASSERT_TRUE(all.ok()) << all.status();
  std::set<std::vector<TokenId>> chats;
  for (int64_t n = 0; n < num; ++n) {
    const auto window = all->Window(static_cast<int>(10 + n));
    const bool opens = std::equal(chat_opening_.begin(), chat_opening_.end(), window.begin());
    EXPECT_EQ(opens, n >= num - 18) << n;
    if (opens) chats.insert({window.begin(), window.end()});
  }
  EXPECT_EQ(chats.size(), 18u);
  int left = 1;  // stopped behind the text
  EXPECT_FALSE(*Sample(*pieces, [&] { return left-- == 0; }));
  EXPECT_TRUE(*Sample(*pieces));
  EXPECT_EQ(ReadFile(whole->File("samples.bin")), ReadFile(pieces->File("samples.bin")));
}

TEST(ChatOpeningTest, IsWhatStandsBeforeAnyFirstMessage) {
  const auto tokenizer = MakePipelineTokenizer(SmallVocabulary());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const std::vector<TokenId> opening = ChatOpening(**tokenizer);
  std::string text;
  for (const TokenId id : opening) {
    text += id == kTurnStartId ? "[" : id == kTurnEndId ? "]" : (*tokenizer)->TokenBytes(id);
  }
  EXPECT_EQ(
      text,
      "[system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face]\n[user\n");
  PipelineTokenizerSpec plain = SmallVocabulary();
  plain.chat_template.clear();
  EXPECT_TRUE(ChatOpening(**MakePipelineTokenizer(plain)).empty());
}

TEST_F(SampleTest, OtherOptionsAndBrokenFilesAreRefusedByName) {
  const auto work = Folder("work");
  ASSERT_TRUE(Sample(*work).ok());
  const std::string good = ReadFile(work->File("samples.bin"));
  options_.parent_samples *= 2;
  EXPECT_THAT(Sample(*work).status().message(),
              HasSubstr("sample.json: was made with parent-samples 1440, now it is 2880"));
  EXPECT_THAT(All(*work).status().message(), HasSubstr("samples.bin: is not what was sampled"));
  options_.parent_samples /= 2;
  std::string broken = good;
  broken[3] = 1;  // far beyond the vocabulary
  WriteFile(work->File("samples.bin"), broken);
  EXPECT_THAT(All(*work).status().message(), HasSubstr("remove it"));
  ASSERT_TRUE(work->Remove("samples.bin").ok());
  ASSERT_TRUE(Sample(*work).ok());
  EXPECT_EQ(ReadFile(work->File("samples.bin")), good);
  options_.device = "cuda";
  EXPECT_TRUE(*Sample(*work));  // nothing is left to do
}

}  // namespace
}  // namespace pregate
