// The three files of a --tls-dir, one of which is not what it was. The first byte chooses it.
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/tls/testing/test_certs.h"
#include "tests/fuzz/format.h"

namespace pregate::fuzz::pem {
namespace {

const TlsPem& Good() {
  static const auto* pem = new TlsPem(testing::TestAuthority().Issue(Role::kWorker));
  return *pem;
}

constexpr std::string TlsPem::*kFiles[] = {&TlsPem::certificate, &TlsPem::key, &TlsPem::authority};

std::string TlsPem::*FileOf(std::string_view input) {
  return kFiles[static_cast<unsigned char>(input[0]) % std::size(kFiles)];
}

// What does not parse is refused before the good files that come first are parsed, which takes
// OpenSSL long.
bool Parses(std::string TlsPem::*file, absl::string_view bytes) {
  if (file == &TlsPem::key) return ParsePrivateKey(bytes).ok();
  return file == &TlsPem::certificate || ParseCertificates(bytes).ok();
}

bool Run(std::string_view input) {
  if (input.empty()) return false;
  const auto file = FileOf(input);
  if (!Parses(file, AbslView(input.substr(1)))) return false;
  TlsPem pem = Good();
  pem.*file = input.substr(1);
  TlsOptions options;
  options.dir = "tls";
  const auto material = ParseTlsMaterial(pem, options);
  if (material.ok()) PREGATE_CHECK(material->role == Role::kWorker);
  return material.ok();
}

std::vector<std::string> Seeds() {
  std::vector<std::string> seeds;
  for (size_t i = 0; i < std::size(kFiles); ++i) {
    seeds.push_back(std::string(1, static_cast<char>(i)) + Good().*kFiles[i]);
  }
  return seeds;
}

// Changes bytes of the DER within the first frame.
std::string Mutate(std::string_view input, std::mt19937_64& random) {
  const size_t begin = input.find("-----\n"), end = input.find("\n-----END");
  std::string der;
  if (begin == input.npos || end == input.npos || begin + 6 > end ||
      !absl::Base64Unescape(AbslView(input.substr(begin + 6, end - begin - 6)), &der) ||
      der.empty()) {
    return "";
  }
  for (uint64_t changes = 1 + random() % 3; changes > 0; --changes) {
    der[random() % der.size()] = static_cast<char>(random() % 2 == 0 ? random() : random() % 50);
  }
  std::string lines;
  const std::string base64 = absl::Base64Escape(der);
  for (size_t at = 0; at < base64.size(); at += 64) {
    absl::StrAppend(&lines, at == 0 ? "" : "\n", base64.substr(at, 64));
  }
  return absl::StrCat(AbslView(input.substr(0, begin + 6)), lines, AbslView(input.substr(end)));
}

const Registration registration(
    {.name = "pem", .seeds = Seeds, .run = Run, .mutate = Mutate, .bytes_max = 2048});

}  // namespace
}  // namespace pregate::fuzz::pem
