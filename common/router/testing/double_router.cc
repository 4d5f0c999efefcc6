#include "common/router/testing/double_router.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"

namespace pregate {
namespace {

using Row = std::vector<double>;
using Rows = std::vector<Row>;

class DoubleRouter {
 public:
  explicit DoubleRouter(const InMemoryCheckpoint& checkpoint)
      : weights_(checkpoint.tensors), spec_(*checkpoint.spec().router) {}

  Rows Run(absl::Span<const TokenId> tokens) const {
    Rows h;
    for (TokenId token : tokens) {
      const float* row = weights_.at("router.embed.weight").data() + token * spec_.hidden;
      h.emplace_back(row, row + spec_.hidden);
    }
    for (int l = 0; l < spec_.num_layers; ++l) {
      const std::string at = absl::StrCat("router.layers.", l, ".");
      Add(h, Linear(at + "o_proj", Attend(at, Norm(at + "input_layernorm.weight", h))));
      Rows wide = Linear(at + "proj_1", Norm(at + "post_attention_layernorm.weight", h));
      for (Row& row : wide) {
        for (double& x : row) x = Activate(x);
      }
      Add(h, Linear(at + "proj_2", wide));
    }
    return Linear("router.proj_out", Norm("router.norm.weight", h));
  }

 private:
  static void Add(Rows& h, const Rows& y) {
    for (size_t t = 0; t < h.size(); ++t) {
      for (size_t i = 0; i < h[t].size(); ++i) h[t][i] += y[t][i];
    }
  }

  double Activate(double x) const {
    return spec_.activation == RouterActivation::kRelu ? std::max(x, 0.0) : x / (1 + std::exp(-x));
  }

  Rows Norm(const std::string& name, const Rows& h) const {
    const std::vector<float>& weight = weights_.at(name);
    Rows out = h;
    for (Row& row : out) {
      double sum = 0;
      for (double x : row) sum += x * x;
      const double scale = 1 / std::sqrt(sum / row.size() + spec_.rms_eps);
      for (size_t i = 0; i < row.size(); ++i) row[i] *= scale * weight[i];
    }
    return out;
  }

  Rows Linear(const std::string& name, const Rows& x) const {
    const std::vector<float>& weight = weights_.at(name + ".weight");
    const std::vector<float>& bias = weights_.at(name + ".bias");
    Rows out;
    for (const Row& row : x) {
      Row& y = out.emplace_back(bias.begin(), bias.end());
      for (size_t o = 0; o < y.size(); ++o) {
        for (size_t i = 0; i < row.size(); ++i) y[o] += row[i] * weight[o * row.size() + i];
      }
    }
    return out;
  }

  // Half-split: component i of a head turns with component i + head_dim / 2.
  void Rotate(Rows& x) const {
    const int half = spec_.head_dim() / 2;
    for (size_t position = 0; position < x.size(); ++position) {
      for (int head = 0; head < spec_.num_heads; ++head) {
        double* v = x[position].data() + head * spec_.head_dim();
        for (int i = 0; i < half; ++i) {
          const double angle =
              position * std::pow(spec_.rope_theta, -static_cast<double>(i) / half);
          const double a = v[i], b = v[i + half];
          v[i] = a * std::cos(angle) - b * std::sin(angle);
          v[i + half] = b * std::cos(angle) + a * std::sin(angle);
        }
      }
    }
  }

  Rows Attend(const std::string& at, const Rows& x) const {
    Rows q = Linear(at + "q_proj", x), k = Linear(at + "k_proj", x);
    const Rows v = Linear(at + "v_proj", x);
    Rotate(q);
    Rotate(k);
    Rows out(x.size(), Row(spec_.hidden, 0.0));
    for (size_t t = 0; t < x.size(); ++t) {
      for (int head = 0; head < spec_.num_heads; ++head) AttendHead(q, k, v, t, head, out[t]);
    }
    return out;
  }

  void AttendHead(const Rows& q, const Rows& k, const Rows& v, size_t t, int head, Row& out) const {
    const int begin = head * spec_.head_dim(), end = begin + spec_.head_dim();
    Row p(t + 1, 0.0);
    for (size_t s = 0; s <= t; ++s) {
      for (int i = begin; i < end; ++i) p[s] += q[t][i] * k[s][i] / spec_.normalizer;
    }
    const double max = *std::max_element(p.begin(), p.end());
    double sum = 0;
    for (double& x : p) sum += x = std::exp(x - max);
    for (size_t s = 0; s <= t; ++s) {
      for (int i = begin; i < end; ++i) out[i] += p[s] / sum * v[s][i];
    }
  }

  const std::map<std::string, std::vector<float>>& weights_;
  const RouterSpec spec_;
};

}  // namespace

std::vector<double> DoubleRouterLogits(const InMemoryCheckpoint& checkpoint,
                                       absl::Span<const TokenId> tokens) {
  std::vector<double> logits;
  for (const Row& row : DoubleRouter(checkpoint).Run(tokens)) {
    logits.insert(logits.end(), row.begin(), row.end());
  }
  return logits;
}

}  // namespace pregate
