#include "tests/fuzz/format.h"

#include <algorithm>

namespace pregate::fuzz {
namespace {

std::vector<Format>& Formats() {
  static std::vector<Format> formats;
  return formats;
}

}  // namespace

Registration::Registration(Format format) {
  std::vector<Format>& formats = Formats();
  const auto after = std::find_if(formats.begin(), formats.end(),
                                  [&](const Format& other) { return other.name > format.name; });
  formats.insert(after, std::move(format));
}

const std::vector<Format>& AllFormats() { return Formats(); }

const Format* FindFormat(std::string_view name) {
  for (const Format& format : AllFormats()) {
    if (format.name == name) return &format;
  }
  return nullptr;
}

}  // namespace pregate::fuzz
