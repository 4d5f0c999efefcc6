#include "common/model/spec/spec.h"

#include <cmath>
#include <functional>
#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

using ::testing::HasSubstr;

ModelSpec SmallMoe() {
  ModelSpec spec{.vocab_size = 24,
                 .hidden = 16,
                 .intermediate = 10,
                 .num_layers = 2,
                 .num_heads = 4,
                 .num_kv_heads = 2,
                 .head_dim = 4,
                 .max_position = 64};
  spec.num_experts = 3;
  spec.shared_width = {3, 0};
  spec.own_width = {5, 7};
  spec.router = RouterSpec{.num_heads = 2, .hidden = 12, .intermediate = 9};
  return spec;
}

TEST(SpecTest, DTypeNamesAreReadBack) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    EXPECT_EQ(*ParseDType(DTypeName(dtype)), dtype);
  }
  EXPECT_THAT(ParseDType("int8").status().message(), HasSubstr("int8"));
}

TEST(SpecTest, AcceptsOddWidthsAndLayersWithoutSharedNeurons) {
  EXPECT_TRUE(ValidateSpec(SmallMoe()).ok()) << ValidateSpec(SmallMoe());
}

TEST(SpecTest, RefusesByFieldAndValue) {
  struct Case {
    std::function<void(ModelSpec&)> breaks;
    const char* message;
  };
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Case cases[] = {
      {[](ModelSpec& s) { s.vocab_size = 0; }, "vocab_size = 0"},
      {[](ModelSpec& s) { s.hidden = 1 << 30; }, "hidden = 1073741824"},
      {[](ModelSpec& s) { s.num_layers = 1 << 20; }, "num_layers"},
      {[](ModelSpec& s) { s.num_kv_heads = 3; }, "no multiple of num_kv_heads = 3"},
      {[](ModelSpec& s) { s.head_dim = 5; }, "head_dim = 5"},
      {[=](ModelSpec& s) { s.rms_eps = nan; }, "rms_eps"},
      {[](ModelSpec& s) { s.rope_theta = 0; }, "rope_theta = 0"},
      {[](ModelSpec& s) { s.eos_tokens = {24}; }, "eos_tokens = 24"},
      {[](ModelSpec& s) { s.rope_scaling = RopeScaling{.low_freq_factor = 4}; },
       "high_freq_factor = 4"},
      {[](ModelSpec& s) {
         s.rope_scaling = RopeScaling{.kind = RopeScalingKind::kFactors, .factors = {1}};
       },
       "rope_scaling.factors"},
      {[](ModelSpec& s) {
         s.rope_scaling = RopeScaling{.kind = RopeScalingKind::kFactors, .factors = {1, 0}};
       },
       "rope_scaling.factors"},
      {[](ModelSpec& s) { s.own_width[1] = 0; }, "own_width = 0"},
      {[](ModelSpec& s) { s.shared_width.pop_back(); }, "shared_width entries = 1"},
      {[](ModelSpec& s) { s.router.reset(); }, "no router"},
      {[](ModelSpec& s) { s.num_experts = 0; }, "num_experts = 0"},
      {[](ModelSpec& s) { s.router->num_heads = 5; }, "router.num_heads = 5"},
      {[](ModelSpec& s) { s.router->num_heads = 4; }, "router.head_dim = 3"},
      {[](ModelSpec& s) { s.router->normalizer = -1; }, "router.normalizer = -1"},
  };
  for (const Case& c : cases) {
    ModelSpec spec = SmallMoe();
    c.breaks(spec);
    EXPECT_THAT(ValidateSpec(spec).message(), HasSubstr(c.message));
  }
}

TEST(SpecTest, PlainRopeFrequenciesFallGeometrically) {
  const std::vector<float> frequencies = PlainRope(8, 10000).inv_freq;
  ASSERT_EQ(frequencies.size(), 4);
  for (int i = 0; i < 4; ++i) EXPECT_FLOAT_EQ(frequencies[i], std::pow(10.0f, -i));
}

ModelSpec WithRope(int dims, float theta, const RopeScaling& scaling) {
  ModelSpec spec;
  spec.head_dim = dims;
  spec.rope_theta = theta;
  spec.rope_scaling = scaling;
  return spec;
}

// The wavelengths 2 pi / f around original / high = 2048 and original / low = 8192 decide.
TEST(SpecTest, Llama3ScalingKeepsShortWavesAndDividesLongOnes) {
  const RopeScaling scaling{
      .factor = 8, .low_freq_factor = 1, .high_freq_factor = 4, .original_max_position = 8192};
  const std::vector<float> plain = PlainRope(128, 500000).inv_freq;
  const std::vector<float> scaled = RopeOf(WithRope(128, 500000, scaling), 1).inv_freq;
  int kept = 0, divided = 0, blended = 0;
  for (int i = 0; i < 64; ++i) {
    const double wavelength = 2 * M_PI / plain[i];
    if (wavelength < 2048) {
      EXPECT_EQ(scaled[i], plain[i]) << i;
      ++kept;
    } else if (wavelength > 8192) {
      EXPECT_FLOAT_EQ(scaled[i], plain[i] / 8) << i;
      ++divided;
    } else {
      const double smooth = (8192 / wavelength - 1) / 3;
      EXPECT_NEAR(scaled[i] / plain[i], (1 - smooth) / 8 + smooth, 1e-5) << i;
      ++blended;
    }
  }
  EXPECT_EQ(kept, 29);
  EXPECT_EQ(blended, 6);
  EXPECT_EQ(divided, 29);
}

TEST(SpecTest, ExplicitFactorsDivideEachFrequency) {
  const std::vector<float> plain = PlainRope(4, 10000).inv_freq;
  const RopeScaling scaling{.kind = RopeScalingKind::kFactors, .factors = {2, 5}};
  const std::vector<float> scaled = RopeOf(WithRope(4, 10000, scaling), 1).inv_freq;
  EXPECT_FLOAT_EQ(scaled[0], plain[0] / 2);
  EXPECT_FLOAT_EQ(scaled[1], plain[1] / 5);
}

TEST(SpecTest, LongContextsTakeTheLongFactors) {
  const std::vector<float> plain = PlainRope(4, 10000).inv_freq;
  const RopeScaling scaling{.kind = RopeScalingKind::kLongRope,
                            .attention_factor = 1.25f,
                            .original_max_position = 64,
                            .factors = {1, 2},
                            .long_factors = {3, 4}};
  for (const int context : {64, 65}) {
    const RopeFrequencies rope = RopeOf(WithRope(4, 10000, scaling), context);
    EXPECT_FLOAT_EQ(rope.inv_freq[0], plain[0] / (context > 64 ? 3 : 1));
    EXPECT_FLOAT_EQ(rope.inv_freq[1], plain[1] / (context > 64 ? 4 : 2));
    EXPECT_EQ(rope.scale, 1.25f);
  }
}

// Frequencies that turn more than beta_fast times over the original context are kept, those that
// turn less than beta_slow times are divided by the factor.
TEST(SpecTest, YarnKeepsFastTurnsAndDividesSlowOnes) {
  const RopeScaling scaling{
      .kind = RopeScalingKind::kYarn, .factor = 4, .original_max_position = 4096};
  const std::vector<float> plain = PlainRope(128, 10000).inv_freq;
  const std::vector<float> scaled = RopeOf(WithRope(128, 10000, scaling), 1).inv_freq;
  for (int i = 0; i < 64; ++i) {
    const double turns = 4096 * plain[i] / (2 * M_PI);
    EXPECT_LE(scaled[i], plain[i] * 1.000001f) << i;
    EXPECT_GE(scaled[i], plain[i] / 4.000001f) << i;
    if (turns > 40) {
      EXPECT_FLOAT_EQ(scaled[i], plain[i]) << i;
    }
    if (turns < 0.8) {
      EXPECT_FLOAT_EQ(scaled[i], plain[i] / 4) << i;
    }
  }
}

}  // namespace
}  // namespace pregate
