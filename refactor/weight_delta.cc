#include "refactor/weight_delta.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "common/base/status.h"
#include "common/model/formats/float16.h"

namespace pregate {
namespace {

constexpr int kGroup = 8;  // codes at a time: as many bytes as a code has bits
constexpr float kSearchRatios[] = {1.25f, 1.1f, 1.04f};  // of a row's scale
constexpr int kLloydSteps = 2;
constexpr double kSmallestRms = 1e-18;

// Steps of the best uniform quantiser of a normal distribution, over its deviation: by bits - 1.
constexpr float kNormalSteps[kCodeBitsMax] = {1.596f,  0.9957f, 0.5860f, 0.3352f,
                                              0.1881f, 0.1041f, 0.0569f, 0.0308f};

float Middle(int bits) { return static_cast<float>((1 << bits) - 1) / 2; }

double Total(const float (&lanes)[kGroup]) {
  double sum = 0;
  for (const float lane : lanes) sum += lane;
  return sum;
}

// The code of the level next to x.
struct Quantiser {
  Quantiser(int bits, float scale)
      : inverse(1 / scale), middle(Middle(bits)), largest(2 * Middle(bits)) {}
  int32_t operator()(float x) const {
    float code = x * inverse + (middle + 0.5f);
    code = code < 0 ? 0 : code;
    code = code > largest ? largest : code;
    return static_cast<int32_t>(code);
  }
  float inverse, middle, largest;
};

// A row, of a whole number of groups: behind its values stand zeros, which count for nothing.
struct Row {
  const float* values;
  int64_t columns, padded;

  double square() const;
};

double Row::square() const {
  double squares[kGroup] = {};
  for (int64_t c = 0; c < padded; c += kGroup) {
    for (int l = 0; l < kGroup; ++l) {
      squares[l] += static_cast<double>(values[c + l]) * values[c + l];
    }
  }
  double sum = 0;
  for (const double square : squares) sum += square;
  return sum;
}

struct Trial {
  float scale = 0;
  double lost = 0;          // square of what this scale loses
  float best_for_them = 0;  // the scale that loses the least with the same codes
};

Trial Try(const Row& row, int bits, float scale) {
  const Quantiser quantise(bits, scale);
  float lost[kGroup] = {}, products[kGroup] = {}, squares[kGroup] = {};
  for (int64_t c = 0; c < row.padded; c += kGroup) {
    for (int l = 0; l < kGroup; ++l) {
      const float x = row.values[c + l];
      const float level = static_cast<float>(quantise(x)) - quantise.middle;
      const float miss = x - level * scale;
      lost[l] += miss * miss;
      products[l] += level * x;
      squares[l] += level * level;
    }
  }
  // The padding's level is half a step.
  const double padding = 0.25 * static_cast<double>(row.padded - row.columns);
  return {scale, std::max(0.0, Total(lost) - padding * scale * scale),
          static_cast<float>(Total(products) / (Total(squares) - padding))};
}

float BestScale(const Row& row, int bits, double square) {
  const double rms = std::sqrt(square / static_cast<double>(row.columns));
  if (!(rms > kSmallestRms)) return 0;
  Trial best = Try(row, bits, kNormalSteps[bits - 1] * static_cast<float>(rms));
  const auto improve = [&](float scale) {
    const Trial trial = Try(row, bits, scale);
    if (!(trial.lost < best.lost)) return false;
    best = trial;
    return true;
  };
  // Lloyd's steps are the shorter the more bits there are, so search first; but for one bit, whose
  // codes are the same for every scale.
  const auto walk = [&](float ratio) {
    bool improved = false;
    while (improve(best.scale * ratio)) improved = true;
    return improved;
  };
  for (const float ratio : kSearchRatios) {
    if (bits > 1 && !walk(ratio)) walk(1 / ratio);
  }
  for (int i = 0; i < kLloydSteps && improve(best.best_for_them); ++i) {
  }
  return BFloat16ToFloat(FloatToBFloat16(best.scale));
}

// Returns the square of what is lost. codes [padded].
double QuantiseRow(const Row& row, int bits, float scale, uint8_t* codes) {
  const Quantiser quantise(bits, scale);
  float lost[kGroup] = {};
  for (int64_t c = 0; c < row.padded; c += kGroup) {
    for (int l = 0; l < kGroup; ++l) {
      const float x = row.values[c + l];
      const int32_t code = quantise(x);
      const float miss = x - (static_cast<float>(code) - quantise.middle) * scale;
      codes[c + l] = static_cast<uint8_t>(code);
      lost[l] += miss * miss;
    }
  }
  std::fill(codes + row.columns, codes + row.padded, uint8_t{0});
  const double padding = 0.25 * static_cast<double>(row.padded - row.columns);
  return std::max(0.0, Total(lost) - padding * scale * scale);
}

// codes [a multiple of kGroup], out [row_bytes].
void Pack(const uint8_t* codes, int bits, int64_t row_bytes, int8_t* out) {
  for (int64_t at = 0; at < row_bytes; at += bits, codes += kGroup) {
    uint64_t group = 0;
    for (int i = 0; i < kGroup; ++i) group |= uint64_t{codes[i]} << (i * bits);
    const int64_t num = std::min<int64_t>(bits, row_bytes - at);
    for (int64_t b = 0; b < num; ++b) out[at + b] = static_cast<int8_t>(group >> (8 * b));
  }
}

void Unpack(const int8_t* packed, int bits, int64_t row_bytes, uint8_t* codes) {
  const uint64_t mask = (uint64_t{1} << bits) - 1;
  for (int64_t at = 0; at < row_bytes; at += bits, codes += kGroup) {
    uint64_t group = 0;
    const int64_t num = std::min<int64_t>(bits, row_bytes - at);
    for (int64_t b = 0; b < num; ++b) {
      group |= uint64_t{static_cast<uint8_t>(packed[at + b])} << (8 * b);
    }
    for (int i = 0; i < kGroup; ++i) codes[i] = static_cast<uint8_t>((group >> (i * bits)) & mask);
  }
}

int64_t Padded(int64_t columns) { return (columns + kGroup - 1) / kGroup * kGroup; }

absl::Status Bad(const std::string& name, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat("artifact: delta of ", name, ": ", what));
}

absl::Status CheckFinite(const std::string& name, const char* part,
                         const std::vector<float>& values) {
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::isfinite(values[i])) continue;
    return Bad(name, absl::StrCat(part, "[", i, "] = ", values[i], " is not finite"));
  }
  return absl::OkStatus();
}

absl::Status CheckPadding(const std::string& name, const CodedMatrix& coded) {
  const int64_t used = coded.columns * coded.bits % 8;  // bits of a row's last byte; 0: all
  if (used == 0) return absl::OkStatus();
  for (int64_t r = 0; r < coded.rows; ++r) {
    const auto last = static_cast<uint8_t>(coded.codes[(r + 1) * coded.row_bytes() - 1]);
    if (last >> used == 0) continue;
    return Bad(name, absl::StrCat("codes: row ", r, " ends in byte ", last, ", of which only ",
                                  used, " bits are codes"));
  }
  return absl::OkStatus();
}

absl::Status CheckCoded(const std::string& name, const WeightDelta& delta) {
  const CodedMatrix& coded = delta.coded;
  if (coded.bits < 1 || coded.bits > kCodeBitsMax) {
    return Bad(name, absl::StrCat("bits = ", coded.bits, " is not 1 to ", kCodeBitsMax));
  }
  if (delta.shape.size() != 2 || coded.rows != delta.shape[0] || coded.columns != delta.shape[1] ||
      coded.rows < 1 || coded.columns < 1) {
    return Bad(name, absl::StrCat("codes of ", coded.rows, " x ", coded.columns,
                                  " values are for another shape"));
  }
  // By division, as the product of what a file says may overflow.
  const auto size = static_cast<int64_t>(coded.codes.size());
  if (size % coded.rows != 0 || size / coded.rows != coded.row_bytes()) {
    return Bad(name,
               absl::StrCat("codes has ", size, " bytes, ", coded.rows, " rows of ", coded.columns,
                            " codes of ", coded.bits, " bits want ", coded.row_bytes(), " each"));
  }
  if (static_cast<int64_t>(coded.scales.size()) != coded.rows) {
    return Bad(
        name, absl::StrCat("scale has ", coded.scales.size(), " values for ", coded.rows, " rows"));
  }
  RETURN_IF_ERROR(CheckFinite(name, "scale", coded.scales));
  return CheckPadding(name, coded);
}

CodedMatrix EncodeBy(const std::function<float(int64_t row, const Row&, double square)>& scale_of,
                     absl::Span<const float> values, int64_t rows, int64_t columns, int bits,
                     double* square_lost) {
  PREGATE_CHECK(static_cast<int64_t>(values.size()) == rows * columns);
  PREGATE_CHECK(bits >= 1 && bits <= kCodeBitsMax);
  CodedMatrix out{.bits = bits, .rows = rows, .columns = columns};
  const int64_t row_bytes = out.row_bytes(), padded = Padded(columns);
  out.codes.resize(rows * row_bytes);
  out.scales.resize(rows);
  std::vector<float> copy(padded);
  std::vector<uint8_t> codes(padded);
  double lost = 0;
  for (int64_t r = 0; r < rows; ++r) {
    std::copy_n(values.data() + r * columns, columns, copy.data());
    const Row row{copy.data(), columns, padded};
    const double square = row.square();
    const float scale = scale_of(r, row, square);
    if (scale == 0) {  // its codes are 0
      lost += square;
      continue;
    }
    out.scales[r] = scale;
    lost += QuantiseRow(row, bits, scale, codes.data());
    Pack(codes.data(), bits, row_bytes, out.codes.data() + r * row_bytes);
  }
  if (square_lost != nullptr) *square_lost = lost;
  return out;
}

}  // namespace

int64_t CodedMatrix::bytes() const {
  if (bits == 0) return 0;
  const int64_t scale = sizeof(uint16_t), form = 2 * sizeof(int32_t);
  return rows * (row_bytes() + scale) + form;
}

CodedMatrix Encode(absl::Span<const float> values, int64_t rows, int64_t columns, int bits,
                   double* square_lost) {
  const auto best = [&](int64_t, const Row& row, double square) {
    return BestScale(row, bits, square);
  };
  return EncodeBy(best, values, rows, columns, bits, square_lost);
}

CodedMatrix EncodeOnGrid(absl::Span<const float> values, const CodedMatrix& grid,
                         double* square_lost) {
  const auto given = [&](int64_t r, const Row&, double) { return grid.scales[r]; };
  return EncodeBy(given, values, grid.rows, grid.columns, grid.bits, square_lost);
}

int64_t WeightDelta::bytes() const {
  return static_cast<int64_t>(exact.size() * sizeof(float)) + coded.bytes();
}

absl::Status CheckDelta(const std::string& name, const WeightDelta& delta) {
  const int forms = !delta.exact.empty() + !delta.coded.codes.empty();
  if (forms != 1) return Bad(name, absl::StrCat("has ", forms, " forms, not one"));
  if (delta.exact.empty()) return CheckCoded(name, delta);
  if (delta.shape.size() != 1 || delta.shape[0] != static_cast<int64_t>(delta.exact.size())) {
    return Bad(name, absl::StrCat("exact has ", delta.exact.size(), " values for another shape"));
  }
  return CheckFinite(name, "exact", delta.exact);
}

void AddDelta(const WeightDelta& delta, absl::Span<float> values) {
  if (!delta.exact.empty()) {
    for (size_t i = 0; i < values.size(); ++i) values[i] += delta.exact[i];
    return;
  }
  const CodedMatrix& coded = delta.coded;
  const int64_t columns = coded.columns, row_bytes = coded.row_bytes();
  const float middle = Middle(coded.bits);
  std::vector<uint8_t> codes(Padded(columns));
  for (int64_t r = 0; r < coded.rows; ++r) {
    Unpack(coded.codes.data() + r * row_bytes, coded.bits, row_bytes, codes.data());
    const float scale = coded.scales[r];
    float* row = values.data() + r * columns;
    for (int64_t c = 0; c < columns; ++c) {
      row[c] += (static_cast<float>(codes[c]) - middle) * scale;
    }
  }
}

}  // namespace pregate
