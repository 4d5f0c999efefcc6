// The three files of a --tls-dir, one of which is not what it was. The first byte chooses it.
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

bool Run(std::string_view input) {
  if (input.empty()) return false;
  TlsPem pem = Good();
  pem.*kFiles[static_cast<unsigned char>(input[0]) % std::size(kFiles)] = input.substr(1);
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

const Registration registration({.name = "pem", .seeds = Seeds, .run = Run, .bytes_max = 8192});

}  // namespace
}  // namespace pregate::fuzz::pem
