#include "gateway_service/core/page.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/base/hash.h"

namespace pregate::gateway {
namespace {

// "'sha256-...'" of what stands between <tag> and </tag>; 'none' without it.
std::string SourceOf(absl::string_view html, absl::string_view tag) {
  const std::string open = absl::StrCat("<", tag, ">"), close = absl::StrCat("</", tag, ">");
  const size_t found = html.find(open);
  if (found == html.npos) return "'none'";
  html.remove_prefix(found + open.size());
  const absl::string_view text = html.substr(0, html.find(close));
  const auto digest = Sha256Digest({text.data(), text.size()});
  return absl::StrCat("'sha256-",
                      absl::Base64Escape(absl::string_view(
                          reinterpret_cast<const char*>(digest.data()), digest.size())),
                      "'");
}

}  // namespace

std::string ContentSecurityPolicy(absl::string_view html) {
  return absl::StrCat("default-src 'none'; script-src ", SourceOf(html, "script"), "; style-src ",
                      SourceOf(html, "style"),
                      "; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
                      "frame-ancestors 'none'");
}

std::vector<std::pair<std::string, std::string>> PageHeaders() {
  return {{"Content-Security-Policy", ContentSecurityPolicy(PageHtml())},
          {"X-Content-Type-Options", "nosniff"},
          {"Referrer-Policy", "no-referrer"},
          {"Cache-Control", "no-cache"}};
}

}  // namespace pregate::gateway
