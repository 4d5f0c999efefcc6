#include "refactor/dense_forward.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "common/model/formats/safetensors.h"
#include "common/model/formats/testing/model_files.h"

namespace pregate {
namespace {

using Rows = std::vector<std::vector<double>>;

// The forward pass of one window in plain loops, all tensors read by name.
class Reference {
 public:
  explicit Reference(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  // Fills `activations` [layers][tokens][intermediate] and returns the logits.
  Rows Run(const std::vector<int32_t>& ids, std::vector<Rows>& activations) {
    const ModelSpec& s = checkpoint_.spec();
    const std::vector<float> embed = Read("model.embed_tokens.weight", s.vocab_size * s.hidden);
    Rows x;
    for (int32_t id : ids) {
      x.emplace_back(embed.begin() + id * s.hidden, embed.begin() + (id + 1) * s.hidden);
    }
    for (int l = 0; l < s.num_layers; ++l) {
      const std::string p = "model.layers." + std::to_string(l) + ".";
      Rows a = Norm(x, p + "input_layernorm.weight");
      Add(x, Linear(Attention(Linear(a, p + "self_attn.q_proj.weight"),
                              Linear(a, p + "self_attn.k_proj.weight"),
                              Linear(a, p + "self_attn.v_proj.weight")),
                    p + "self_attn.o_proj.weight"));
      a = Norm(x, p + "post_attention_layernorm.weight");
      Rows h = Linear(a, p + "mlp.gate_proj.weight");
      const Rows up = Linear(a, p + "mlp.up_proj.weight");
      for (size_t t = 0; t < h.size(); ++t) {
        for (size_t j = 0; j < h[t].size(); ++j) h[t][j] *= up[t][j] / (1 + std::exp(-h[t][j]));
      }
      activations.push_back(h);
      Add(x, Linear(h, p + "mlp.down_proj.weight"));
    }
    return Linear(Norm(x, "model.norm.weight"), "lm_head.weight");
  }

 private:
  std::vector<float> Read(const std::string& name, size_t size) {
    std::vector<float> values(size);
    EXPECT_TRUE(checkpoint_.Read(name, absl::MakeSpan(values)).ok()) << name;
    return values;
  }
  size_t Elements(const std::string& name) {
    for (const TensorInfo& info : checkpoint_.Tensors()) {
      if (info.name != name) continue;
      size_t n = 1;
      for (int64_t d : info.shape) n *= d;
      return n;
    }
    ADD_FAILURE() << "no tensor " << name;
    return 0;
  }
  Rows Linear(const Rows& x, const std::string& name) {
    const size_t inputs = x[0].size(), outputs = Elements(name) / inputs;
    const std::vector<float> w = Read(name, inputs * outputs);
    Rows y(x.size(), std::vector<double>(outputs, 0));
    for (size_t t = 0; t < x.size(); ++t) {
      for (size_t o = 0; o < outputs; ++o) {
        for (size_t i = 0; i < inputs; ++i) y[t][o] += x[t][i] * w[o * inputs + i];
      }
    }
    return y;
  }
  Rows Norm(const Rows& x, const std::string& name) {
    const std::vector<float> w = Read(name, x[0].size());
    Rows y = x;
    for (auto& row : y) {
      double square = 0;
      for (double v : row) square += v * v / row.size();
      for (size_t i = 0; i < row.size(); ++i) {
        row[i] *= w[i] / std::sqrt(square + checkpoint_.spec().rms_eps);
      }
    }
    return y;
  }
  void Rotate(std::vector<double>& row, int position) {
    const ModelSpec& s = checkpoint_.spec();
    const int half = s.head_dim / 2;
    for (size_t begin = 0; begin < row.size(); begin += s.head_dim) {
      for (int i = 0; i < half; ++i) {
        const double angle = position * std::pow(s.rope_theta, -2.0 * i / s.head_dim);
        double& u = row[begin + i];
        double& v = row[begin + half + i];
        const double rotated = u * std::cos(angle) - v * std::sin(angle);
        v = v * std::cos(angle) + u * std::sin(angle);
        u = rotated;
      }
    }
  }
  Rows Attention(Rows q, Rows k, const Rows& v) {
    const ModelSpec& s = checkpoint_.spec();
    Rows out(q.size(), std::vector<double>(q[0].size(), 0));
    for (size_t t = 0; t < q.size(); ++t) Rotate(q[t], t), Rotate(k[t], t);
    for (int head = 0; head < s.num_heads; ++head) {
      const int at = head * s.head_dim, kv = head / (s.num_heads / s.num_kv_heads) * s.head_dim;
      for (size_t t = 0; t < q.size(); ++t) {
        std::vector<double> weight(t + 1, 0);
        double sum = 0;
        for (size_t u = 0; u <= t; ++u) {
          double dot = 0;
          for (int i = 0; i < s.head_dim; ++i) dot += q[t][at + i] * k[u][kv + i];
          sum += weight[u] = std::exp(dot / std::sqrt(s.head_dim));
        }
        for (size_t u = 0; u <= t; ++u) {
          for (int i = 0; i < s.head_dim; ++i) out[t][at + i] += weight[u] / sum * v[u][kv + i];
        }
      }
    }
    return out;
  }
  static void Add(Rows& x, const Rows& y) {
    for (size_t t = 0; t < x.size(); ++t) {
      for (size_t i = 0; i < x[t].size(); ++i) x[t][i] += y[t][i];
    }
  }

  const Checkpoint& checkpoint_;
};

class DenseForwardTest : public testing::Test {
 protected:
  void SetUp() override {
    const std::string golden = SharedDir();
    if (golden.empty()) GTEST_SKIP() << "no golden cases";
    auto checkpoint = Checkpoint::Open(golden + "/golden/gqa_split/dense");
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    checkpoint_ = *std::move(checkpoint);
    auto file = SafetensorsFile::Open(golden + "/golden/gqa_split/golden.safetensors");
    ASSERT_TRUE(file.ok()) << file.status();
    ids_ = *(*file)->ReadInts("2.input_ids");
    logits_ = *(*file)->ReadFloats("2.dense_logits");
  }

  std::unique_ptr<Checkpoint> checkpoint_;
  std::vector<int32_t> ids_;
  std::vector<float> logits_;
};

TEST_F(DenseForwardTest, ActivationsAreThoseOfAReferenceThatHasTheGoldenLogits) {
  std::vector<Rows> expected;
  const Rows logits = Reference(*checkpoint_).Run(ids_, expected);
  for (size_t t = 0; t < logits.size(); ++t) {
    for (size_t i = 0; i < logits[t].size(); ++i) {
      ASSERT_NEAR(logits[t][i], logits_[t * logits[t].size() + i], 1e-3);
    }
  }

  const auto model = DenseForward::Load(*checkpoint_);
  ASSERT_TRUE(model.ok()) << model.status();
  std::vector<int32_t> twice = ids_;  // two windows, which must not see each other
  twice.insert(twice.end(), ids_.begin(), ids_.end());
  const size_t width = checkpoint_->spec().intermediate;
  int layers = 0;
  const absl::Status status = (*model)->Run(
      twice, ids_.size(), [&](int l, absl::Span<const float> h, absl::Span<const float>) {
        EXPECT_EQ(l, layers++);
        EXPECT_EQ(h.size(), twice.size() * width);
        for (size_t i = 0; i < h.size(); ++i) {
          EXPECT_NEAR(h[i], expected[l][i / width % ids_.size()][i % width], 1e-4);
        }
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(layers, checkpoint_->spec().num_layers);
}

TEST_F(DenseForwardTest, AVisitorsErrorEndsTheRun) {
  const auto model = DenseForward::Load(*checkpoint_);
  ASSERT_TRUE(model.ok()) << model.status();
  int calls = 0;
  const absl::Status status =
      (*model)->Run(ids_, ids_.size(), [&](int, absl::Span<const float>, absl::Span<const float>) {
        ++calls;
        return absl::DataLossError("disk full");
      });
  EXPECT_EQ(status, absl::DataLossError("disk full"));
  EXPECT_EQ(calls, 1);
}

TEST_F(DenseForwardTest, DownNormsAreOfColumns) {
  const auto model = DenseForward::Load(*checkpoint_);
  ASSERT_TRUE(model.ok()) << model.status();
  const auto norms = (*model)->DownNorms();
  ASSERT_TRUE(norms.ok()) << norms.status();
  const size_t width = checkpoint_->spec().intermediate, hidden = checkpoint_->spec().hidden;
  const absl::Status status = (*model)->Run(
      ids_, ids_.size(), [&](int l, absl::Span<const float>, absl::Span<const float> down) {
        EXPECT_EQ(down.size(), width * hidden);
        double sum = 0;
        for (size_t o = 0; o < hidden; ++o) sum += std::pow(down[o * width + 5], 2);
        EXPECT_NEAR((*norms)[l][5], sum, 1e-5);
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok()) << status;
}

TEST_F(DenseForwardTest, FfnsThatAreReadWhenTheyAreNeededChangeNoBit) {
  const auto kept = DenseForward::Load(*checkpoint_), read = DenseForward::Load(*checkpoint_, 0);
  ASSERT_TRUE(kept.ok() && read.ok()) << read.status();
  EXPECT_LT(DenseForward::WeightBytes(checkpoint_->spec(), 0),
            DenseForward::WeightBytes(checkpoint_->spec()));
  EXPECT_GT((*read)->windows_at_a_time(512), (*kept)->windows_at_a_time(512));
  EXPECT_EQ(*(*kept)->DownNorms(), *(*read)->DownNorms());
  std::vector<std::vector<float>> activations[2];
  for (int i = 0; i < 2; ++i) {
    const DenseForward& model = i == 0 ? **kept : **read;
    const absl::Status status =
        model.Run(ids_, ids_.size(), [&](int, absl::Span<const float> h, absl::Span<const float>) {
          activations[i].emplace_back(h.begin(), h.end());
          return absl::OkStatus();
        });
    EXPECT_TRUE(status.ok()) << status;
  }
  EXPECT_EQ(activations[0], activations[1]);
}

}  // namespace
}  // namespace pregate
