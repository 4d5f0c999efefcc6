// What two scrapes of one process say about the time between them. Pure.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "cli/top/exposition.h"

namespace pregate::cli {

using LabelMatch = std::map<std::string, std::string>;  // labels that a series must have

// A histogram's upper bounds and, for each, how many observations are not above it.
using Buckets = std::map<double, double>;

// The samples of one scrape by name, without those whose value is negative or not finite.
// Immutable.
class Scrape {
 public:
  explicit Scrape(std::vector<Sample> samples);

  // Over all series of `name` that match; nothing when there are none.
  std::optional<double> Sum(const std::string& name, const LabelMatch& match = {}) const;
  // The same for each value of `label`.
  std::map<std::string, double> SumBy(const std::string& name, const std::string& label,
                                      const LabelMatch& match = {}) const;
  // Of the histogram `name`, its series added up; empty when there are none.
  Buckets Histogram(const std::string& name, const LabelMatch& match = {}) const;
  // The first value that any series has for `label`; "" when none has.
  std::string AnyLabel(const std::string& label) const;

 private:
  std::multimap<std::string, Sample> by_name_;
};

// How much a counter rose. One that fell was started anew: it rose from zero.
double Increase(double before, double now);
// The same for a histogram; when its bounds differ, or its total fell, all of `now` is new.
Buckets Increase(const Buckets& before, const Buckets& now);
Buckets Add(const Buckets& a, const Buckets& b);

double Total(const Buckets& buckets);
// As Prometheus' histogram_quantile: linear within a bucket, the last finite bound beyond it.
// Nothing without observations. REQUIRES: 0 <= q <= 1.
std::optional<double> Quantile(const Buckets& buckets, double q);

}  // namespace pregate::cli
